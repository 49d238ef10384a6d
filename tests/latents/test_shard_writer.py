"""Shards written as a stream have the bytes that the safetensors package writes, in memory that does not grow."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.any_samples import draw_any, layouts, packaged_bytes
from tests.support.small_sets import make_spec
from walloc_cdl.errors import CallError
from walloc_cdl.latents import LabelSpec, SampleLayout, ShardWriter, open_shard, write_shard
from walloc_cdl.latents.statistics import samples_histogram

NAME = "train-00000.safetensors"
CLASSES = SampleLayout(make_spec(), (2, 2, 3), LabelSpec("class", 3))
in_one_folder = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@in_one_folder
@given(layout=layouts(), count=st.integers(0, 12), spare=st.sampled_from([0, 1, 90, 100_000]), data=st.data())
def test_bytes_are_those_of_the_safetensors_package_for_any_batches(tmp_path, layout, count, spare, data):
    drawn = draw_any(np.random.default_rng(count), layout, count)
    cuts = sorted(data.draw(st.lists(st.integers(0, count), max_size=4)))
    with ShardWriter(tmp_path, NAME, layout=layout, split="train", capacity=count + spare) as writer:
        for start, stop in zip([0, *cuts], [*cuts, count], strict=True):
            writer.append(**drawn.rows(start, stop))
        entry, histogram = writer.finish()
    expected = packaged_bytes(drawn, "train")
    assert (tmp_path / NAME).read_bytes() == expected
    assert (entry.num_samples, entry.num_bytes) == (count, len(expected))
    assert entry.sha256 == hashlib.sha256(expected).hexdigest()
    np.testing.assert_array_equal(histogram, samples_histogram(drawn.codes, layout))
    assert os.listdir(tmp_path) == [NAME]


@in_one_folder
@given(layout=layouts(), count=st.integers(0, 12))
def test_written_samples_are_read_back(tmp_path, layout, count):
    drawn = draw_any(np.random.default_rng(count), layout, count)
    entry = write_shard(tmp_path, NAME, spec=layout.spec, split="train", layout=layout, **drawn.rows(0, count))
    shard = open_shard(tmp_path / NAME, entry, layout)
    assert len(shard) == count
    assert shard.keys(range(count)) == drawn.keys
    for row in range(count):
        np.testing.assert_array_equal(shard.sample_codes(row), drawn.codes[row])
    for found, expected in ((shard.labels, drawn.labels), (shard.sizes, drawn.sizes)):
        assert (found is None) == (expected is None)
        if expected is not None:
            np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(shard.checksums(), shard.crc32c)


@pytest.mark.parametrize("spare", [0, 5000])
def test_codes_larger_than_a_chunk_are_moved_unchanged(tmp_path, spare):
    """5,000 spare samples move 2.5 MB of codes by 100 kB towards the beginning."""
    layout = SampleLayout(make_spec(), (2, 16, 16), LabelSpec("class", 3))
    drawn = draw_any(np.random.default_rng(0), layout, 5000)
    with ShardWriter(tmp_path, NAME, layout=layout, split="train", capacity=5000 + spare) as writer:
        writer.append(**drawn.rows(0, 5000))
        writer.finish()
    assert (tmp_path / NAME).read_bytes() == packaged_bytes(drawn, "train")


def test_long_keys_move_codes_towards_the_end(tmp_path):
    drawn = draw_any(np.random.default_rng(0), SampleLayout(make_spec(), (2, 64, 64)), 200)
    drawn.keys = [key * 5000 for key in drawn.keys]
    write_shard(tmp_path, NAME, spec=make_spec(), split="train", **drawn.rows(0, 200))
    assert (tmp_path / NAME).read_bytes() == packaged_bytes(drawn, "train")


def test_an_exception_or_a_missing_finish_leaves_no_file(tmp_path):
    drawn = draw_any(np.random.default_rng(0), CLASSES, 3)

    def write_half() -> None:
        with ShardWriter(tmp_path, NAME, layout=CLASSES, split="train", capacity=3) as writer:
            writer.append(**drawn.rows(0, 2))
            raise RuntimeError("the source is gone")

    with pytest.raises(RuntimeError, match="the source is gone"):
        write_half()
    assert os.listdir(tmp_path) == []
    with ShardWriter(tmp_path, NAME, layout=CLASSES, split="train", capacity=3) as writer:
        writer.append(**drawn.rows(0, 3))
        assert len(os.listdir(tmp_path)) == 1
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_no_file(tmp_path, monkeypatch):
    drawn = draw_any(np.random.default_rng(0), CLASSES, 3)

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_shard(tmp_path, NAME, spec=make_spec(), split="train", layout=CLASSES, **drawn.rows(0, 3))
    assert os.listdir(tmp_path) == []


def test_more_samples_than_planned_are_refused(tmp_path):
    drawn = draw_any(np.random.default_rng(0), CLASSES, 3)
    with ShardWriter(tmp_path, NAME, layout=CLASSES, split="train", capacity=4) as writer:
        writer.append(**drawn.rows(0, 3))
        with pytest.raises(CallError, match="more samples than its capacity of 4"):
            writer.append(**drawn.rows(0, 3))


RAGGED = SampleLayout(make_spec(), (2, None, None))
ONE = [np.ones((2, 2, 3), np.uint8)]


@pytest.mark.parametrize(
    ("labels", "values", "message"),
    [
        (LabelSpec("class", 3), np.array([3]), "label 3, expected -1 to 2"),
        (LabelSpec("multilabel", 2), np.array([[0, 2]], np.uint8), r"label \[0, 2\], expected 0 or 1"),
        (LabelSpec("multilabel", 2), np.zeros((1, 3), np.uint8), r"uint8 \[1, 3\], expected uint8 \[1, 2\]"),
        (LabelSpec("regression", 1), np.array([np.inf], np.float32), "label inf, expected a finite number, or NaN"),
        (LabelSpec("regression", 1), np.zeros((1, 1), np.float32), r"float32 \[1, 1\], expected float32 \[1\]"),
        (LabelSpec("class", 3), None, "samples without labels, expected labels of kind class"),
        (LabelSpec(), np.array([0]), "samples with labels, expected labels of kind none"),
    ],
)
def test_labels_that_their_kind_cannot_have_are_refused(tmp_path, labels, values, message):
    layout = SampleLayout(make_spec(), (2, 2, 3), labels)
    with pytest.raises(CallError, match=message):
        write_shard(
            tmp_path,
            NAME,
            spec=make_spec(),
            split="train",
            layout=layout,
            codes=ONE[0][None],
            labels=values,
            keys=["a"],
        )


@pytest.mark.parametrize(
    ("codes", "sizes", "message"),
    [
        (ONE, None, "sizes of the signals are missing, expected int32"),
        (ONE, np.array([[16, 25]]), r"a signal of \[16, 25\] does not fit its codes of \[2, 2, 3\] at a stride of 8"),
        (ONE, np.array([[0, 24]]), r"a signal of \[0, 24\] does not fit"),
        (
            [np.ones((3, 2, 3), np.uint8)],
            np.array([[16, 24]]),
            r"codes are uint8 \[3, 2, 3\], expected uint8 \[2, h, w\]",
        ),
        ([np.ones((2, 0, 3), np.uint8)], np.array([[16, 24]]), r"codes are uint8 \[2, 0, 3\]"),
    ],
)
def test_ragged_samples_that_contradict_themselves_are_refused(tmp_path, codes, sizes, message):
    with pytest.raises(CallError, match=message):
        write_shard(tmp_path, NAME, spec=make_spec(), split="train", codes=codes, labels=None, keys=["a"], sizes=sizes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_views": 2, "latent_shape": (2, None, None)}, "2 views of samples that differ in size"),
        ({"latent_shape": (2, None, 3)}, "fixed in one direction only"),
        ({"latent_shape": (3, 2, 3)}, "latent shape has 3 channels, its spec 2"),
        ({"labels": LabelSpec("regression")}, "labels of kind regression without a name for any column"),
        ({"labels": LabelSpec("words", 2)}, "label kind is 'words', expected one of none, class, multilabel"),
    ],
)
def test_layouts_that_cannot_be_stored_are_refused(tmp_path, changes, message):
    fields = {"spec": make_spec(), "latent_shape": (2, 2, 3)} | changes
    with pytest.raises(CallError, match=message):
        ShardWriter(tmp_path, NAME, layout=SampleLayout(**fields), split="train", capacity=1)


PEAK = """
import sys, resource
import numpy as np
from tests.support.small_sets import make_spec
from walloc_cdl.latents import LabelSpec, SampleLayout, ShardWriter
layout = SampleLayout(make_spec(), (2, 128, 128), LabelSpec("class", 3))
count = int(sys.argv[1])
codes, labels = np.ones((32, 2, 128, 128), np.uint8), np.zeros(32, np.int64)
with ShardWriter(sys.argv[2], "a.safetensors", layout=layout, split="train", capacity=count + 40) as writer:
    for start in range(0, count, 32):
        writer.append(codes, labels, [str(start + row) for row in range(32)])
    writer.finish()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def test_memory_does_not_grow_with_the_codes(tmp_path):
    """16 times the codes, 128 MB against 8 MB, may take at most 8 MiB more, for keys and numbers."""
    peaks = [
        int(subprocess.check_output([sys.executable, "-c", PEAK, str(count), str(tmp_path)])) for count in (256, 4096)
    ]
    assert peaks[1] - peaks[0] < 8 * 1024, peaks  # KiB

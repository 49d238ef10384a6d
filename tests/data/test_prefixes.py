"""Packed data sets: any prefix of the rows is the same data set at a lower rate, however it is read."""

import pickle

import fsspec
import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from tests.support.any_samples import draw_codes, stored_rows, write_any_set
from tests.support.planes import levels_of, plane_orders, spec_of
from tests.support.small_sets import write_small_set
from walloc_cdl.canonical import sha256_hex
from walloc_cdl.data import LatentLoader, ModelInput, open_latents
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents import (
    FileEntry,
    Manifest,
    SampleLayout,
    SplitSummary,
    code_histogram,
    write_manifest,
    write_shard,
)
from walloc_cdl.planes.rows import pack_rows, plane_bytes, unpack_rows

PLANES = (0, 1, 0, 2, 1, 0, 3, 1)
SPEC = spec_of(PLANES)
GRID = (3, 5)
COUNTS = [3, 0, 4]
in_one_folder = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_packed(folder, spec=SPEC, grid=GRID, counts=COUNTS, views=1, seed=0):
    """Write a packed data set of these shards; returns the codes of its samples."""
    layout = SampleLayout(spec, (spec.latent_channels, *grid), num_views=views)
    codes = draw_codes(np.random.default_rng(seed), spec, (sum(counts), *layout.sample_shape))
    entries, start = [], 0
    for number, count in enumerate(counts):
        name, part = f"train-{number:05d}.safetensors", codes[start : start + count]
        keys = [f"{start + row}" for row in range(count)]
        entries.append(
            write_shard(folder, name, spec=spec, split="train", layout=layout, codes=part, labels=None, keys=keys)
        )
        start += count
    data = levels_of(spec).to_bytes()
    (folder / "codec").mkdir(exist_ok=True)
    (folder / "codec/levels.safetensors").write_bytes(data)
    manifest = Manifest(
        spec=spec,
        latent_shape=layout.latent_shape,
        splits={"train": SplitSummary(sum(counts))},
        shards=entries,
        files={"codec/levels.safetensors": FileEntry(len(data), sha256_hex(data))},
        histograms={"train": code_histogram(codes.reshape(-1, *layout.latent_shape), spec.latent_channels)},
        views=[f"view {number}" for number in range(views)] if views > 1 else None,
    )
    write_manifest(folder, manifest)
    return codes


def upper_bits(codes, spec, num_planes):
    """The codes of the first planes, by the reference."""
    rows = pack_rows(codes, spec.planes)
    return unpack_rows(rows, spec.planes[:num_planes], codes.shape[2:])


@in_one_folder
@given(planes=plane_orders(), grid=st.tuples(st.integers(1, 9), st.integers(1, 9)), data=st.data())
def test_a_prefix_has_the_upper_bits_and_equals_the_set_of_that_budget(tmp_path_factory, planes, grid, data):
    spec, folder = spec_of(planes), tmp_path_factory.mktemp("sets")
    budget = data.draw(st.integers(plane_bytes(grid), len(planes) * plane_bytes(grid)))
    num_planes = budget // plane_bytes(grid)
    (folder / "whole").mkdir()
    (folder / "coarse").mkdir()
    codes = write_packed(folder / "whole", spec, grid, counts=[2, 3])
    prefix = open_latents(folder / "whole", bytes=budget)
    expected = upper_bits(codes, spec, num_planes)
    assert prefix.spec == spec.with_planes(num_planes)
    assert prefix.latent_shape == expected.shape[1:]
    batch = prefix.gather(range(5)).codes
    np.testing.assert_array_equal(batch, expected)
    rows = next(iter(LatentLoader(prefix, 5, shuffle=False, drop_last=False))).codes
    np.testing.assert_array_equal(rows, pack_rows(expected, prefix.spec.planes))
    layout = SampleLayout(prefix.spec, prefix.latent_shape)
    keys = [str(row) for row in range(5)]
    write_shard(
        folder / "coarse", "a.safetensors", spec=prefix.spec, split="train", layout=layout, codes=expected,
        labels=None, keys=keys,
    )  # fmt: skip
    written = (folder / "coarse/a.safetensors").read_bytes()
    assert rows.numpy().tobytes() in written


def test_bits_beyond_a_prefix_change_nothing(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    codes = write_packed(tmp_path / "a")
    other = codes.copy()
    other[:, 0] ^= 1  # the last plane of channel 0 is plane 5
    other[:, 3] ^= 1  # the only one of channel 3 is plane 6
    rows = [pack_rows(each, PLANES)[:, : 5 * plane_bytes(GRID)] for each in (codes, other)]
    np.testing.assert_array_equal(*rows)
    np.testing.assert_array_equal(upper_bits(codes, SPEC, 5), upper_bits(other, SPEC, 5))
    assert not np.array_equal(upper_bits(codes, SPEC, 6), upper_bits(other, SPEC, 6))


@pytest.fixture
def stored(tmp_path):
    """The folder and the codes."""
    return tmp_path, write_packed(tmp_path)


@pytest.mark.parametrize("residency", ["mmap", "ram"])
@pytest.mark.parametrize("num_planes", [len(PLANES), 4])
def test_a_loader_gives_rows_or_codes(stored, residency, num_planes):
    folder, codes = stored
    dataset = open_latents(folder, num_planes=num_planes)
    expected = upper_bits(codes, SPEC, num_planes)
    settings = {"batch_size": 3, "shuffle": True, "residency": residency, "drop_last": False}
    order = LatentLoader(dataset, **settings).batches.order(0)
    rows = np.concatenate([batch.codes for batch in LatentLoader(dataset, **settings)])
    np.testing.assert_array_equal(rows, pack_rows(expected, dataset.spec.planes)[order])
    unpacked = np.concatenate([batch.codes for batch in LatentLoader(dataset, unpack=True, **settings)])
    np.testing.assert_array_equal(unpacked, expected[order])


@pytest.mark.parametrize("num_planes", [len(PLANES), 4])
def test_prefixes_of_a_remote_set_are_those_of_the_local_one(stored, tmp_path, num_planes):
    folder, codes = stored
    files = fsspec.filesystem("memory")
    files.put(f"{folder}/", f"/{tmp_path.name}/", recursive=True)
    dataset = open_latents(f"memory://{tmp_path.name}", cache_dir=tmp_path / "cache", num_planes=num_planes)
    expected = upper_bits(codes, SPEC, num_planes)
    np.testing.assert_array_equal(np.stack([sample.codes for sample in dataset]), expected)
    (batch,) = LatentLoader(dataset, len(codes), shuffle=False)
    np.testing.assert_array_equal(batch.codes, pack_rows(expected, dataset.spec.planes))


def test_a_loader_of_another_prefix_does_not_resume(stored):
    folder, _ = stored
    state = LatentLoader(open_latents(folder, num_planes=4), 3).state_dict()
    LatentLoader(open_latents(folder, num_planes=4), 3).load_state_dict(state)
    with pytest.raises(CallError, match="loader state has num_planes 4, but this loader has 5; resume with"):
        LatentLoader(open_latents(folder, num_planes=5), 3).load_state_dict(state)
    del state["num_planes"]
    with pytest.raises(CallError, match="loader state has num_planes None, but this loader has 4; resume with"):
        LatentLoader(open_latents(folder, num_planes=4), 3).load_state_dict(state)


def test_memory_holds_only_the_prefix(stored):
    folder, _ = stored
    loader = LatentLoader(open_latents(folder, num_planes=4), 3, residency="ram")
    next(iter(loader))
    (gathered,) = loader._host_reader._gather.__self__._arrays.values()
    assert gathered.shape == (7, 4 * plane_bytes(GRID))


def test_plain_torch_gets_codes(stored):
    folder, codes = stored
    dataset = open_latents(folder, num_planes=5)
    expected = upper_bits(codes, SPEC, 5)
    np.testing.assert_array_equal(dataset[2].codes, expected[2])
    np.testing.assert_array_equal(dataset[[6, -7]].codes, expected[[6, 0]])
    np.testing.assert_array_equal(np.concatenate([batch.codes for batch in DataLoader(dataset, 2)]), expected)
    copy = pickle.loads(pickle.dumps(dataset[1:4]))
    assert copy.spec == dataset.spec
    np.testing.assert_array_equal(copy[[0, 2]].codes, expected[[1, 3]])
    assert "codes (3, 3, 5) in 5 of 8 bit planes" in repr(dataset)
    np.testing.assert_array_equal(dataset.with_planes(8)[0].codes, codes[0])


@pytest.mark.parametrize("view", [0, 1])
def test_views_have_a_row_each(tmp_path, view):
    codes = write_packed(tmp_path, views=2)
    dataset = open_latents(tmp_path, num_planes=4, view=view)
    expected = upper_bits(codes[:, view], SPEC, 4)
    np.testing.assert_array_equal(dataset[range(7)[:]].codes, expected)
    np.testing.assert_array_equal(dataset[3].codes, expected[3])
    loader = LatentLoader(dataset, 7, shuffle=False, views="random", unpack=True)
    both = np.stack([upper_bits(codes[:, each], SPEC, 4) for each in range(2)])
    (batch,) = loader
    assert all(any(np.array_equal(found, each) for each in both[:, row]) for row, found in enumerate(batch.codes))


@pytest.mark.parametrize("kind", ["image", "audio"])
@pytest.mark.parametrize("residency", ["mmap", "ram"])
@pytest.mark.parametrize("num_planes", [3, len(PLANES)])
def test_crops_of_ragged_samples_are_codes(tmp_path, kind, residency, num_planes):
    spec = spec_of(PLANES, kind=kind)
    sides = [None, None] if kind == "image" else [None]
    content = write_any_set(tmp_path, SampleLayout(spec, (spec.latent_channels, *sides)), {"train": [4, 3]})
    codes = [upper_bits(sample[None], spec, num_planes)[0] for sample in content["train"].codes]
    dataset = open_latents(tmp_path, num_planes=num_planes)
    for row, expected in enumerate(codes):
        np.testing.assert_array_equal(dataset[row].codes, expected)
    crop = (1,) * len(sides)
    (batch,) = LatentLoader(dataset, 7, shuffle=False, drop_last=False, crop=crop, residency=residency)
    for found, sample in zip(batch.codes, codes, strict=True):
        middle = tuple(slice((side - 1) // 2, (side - 1) // 2 + 1) for side in sample.shape[1:])
        np.testing.assert_array_equal(found, sample[(slice(None), *middle)])


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_a_model_takes_rows_and_codes(stored, alpha):
    folder, codes = stored
    dataset = open_latents(folder, num_planes=5)
    model_input = ModelInput(dataset.spec, dataset.statistics, alpha, levels=dataset.levels, grid=GRID)
    expected = upper_bits(codes, SPEC, 5)
    (batch,) = LatentLoader(dataset, 7, shuffle=False, drop_last=False)
    by_rows, by_codes = model_input(batch.codes), model_input(torch.from_numpy(expected))
    assert torch.equal(by_rows, by_codes)
    table = dataset.levels.values_table(dataset.spec.channel_bits)
    values = np.stack([table[channel][expected[:, channel]] for channel in range(3)], 1)
    found = by_rows.double() / model_input.scale[:, None, None] + model_input.mean[:, None, None]
    np.testing.assert_allclose(found, values, atol=1e-5)
    with pytest.raises(CallError, match=r"rows are torch.uint8 \[7, 9\], expected .* \[B, 10\] of 5 bit planes"):
        model_input(batch.codes[:, :9])
    with pytest.raises(CallError, match=r"codes are torch.uint8 \[7, 1, 3, 5\]"):
        model_input(torch.from_numpy(expected[:, :1]))


@pytest.mark.parametrize(
    ("prefix", "message"),
    [
        ({"bytes": 18}, "18 bytes a sample; these latents take 2 to 16, 2 a plane"),
        ({"bytes": 1}, "1 bytes a sample; these latents take 2 to 16"),
        ({"num_planes": 9}, "9 bit planes of latents that have 8; give 1 to that many"),
        ({"num_planes": 0}, "0 bit planes"),
        ({"num_planes": 2, "bytes": 4}, "bytes 4 and num_planes 2 both select a prefix; omit one"),
    ],
)
def test_other_prefixes_are_refused(stored, prefix, message):
    with pytest.raises(CallError, match=message):
        open_latents(stored[0], **prefix)


def test_a_budget_of_samples_that_differ_in_size_is_in_planes(tmp_path):
    write_any_set(tmp_path, SampleLayout(SPEC, (4, None, None)), {"train": [2]})
    with pytest.raises(CallError, match=r"6 bytes a sample, but the samples differ in size, .* num_planes, 1 to 8"):
        open_latents(tmp_path, bytes=6)


def test_codes_that_are_stored_as_bytes_have_one_size(tmp_path):
    write_small_set(tmp_path, {"train": [2]})
    for prefix in ({"bytes": 6}, {"num_planes": 2}):
        with pytest.raises(CallError, match="stored as bytes"):
            open_latents(tmp_path, **prefix)
    assert open_latents(tmp_path).levels is None


def test_missing_or_damaged_levels_are_named(stored):
    folder, _ = stored
    path = folder / "codec/levels.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(DamagedError, match=r"levels.safetensors: SHA-256 is"):
        _ = open_latents(folder).statistics
    path.unlink()
    with pytest.raises(DamagedError, match=r"levels.safetensors is missing"):
        _ = open_latents(folder).levels
    assert len(open_latents(folder)[0].codes) == 4


def test_rows_of_the_reference(stored):
    folder, codes = stored
    (batch,) = LatentLoader(open_latents(folder), 7, shuffle=False, drop_last=False)
    np.testing.assert_array_equal(batch.codes, stored_rows(codes, SPEC))

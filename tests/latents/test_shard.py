import json
import os
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from tests.support.small_sets import draw_samples, make_spec
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents import LabelSpec, SampleLayout, ShardEntry, open_shard, write_shard

SHAPE = (2, 2, 3)
NAME = "train-00000.safetensors"
in_one_folder = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def write_samples(folder, samples):
    return write_shard(
        folder,
        NAME,
        spec=make_spec(),
        split="train",
        codes=samples.codes,
        labels=samples.labels,
        keys=samples.keys,
    )


def open_written(folder, entry, **changes):
    fields = {"spec": make_spec(), "latent_shape": SHAPE, "labels": LabelSpec("class")} | changes
    return open_shard(folder / entry.name, entry, SampleLayout(**fields))


def entry_for(data: bytes, num_samples: int) -> ShardEntry:
    return ShardEntry(NAME, "train", num_samples, len(data), "0" * 64, "0" * 64)


@pytest.fixture(scope="module")
def good():
    return draw_samples(np.random.default_rng(3), 4)


@pytest.fixture(scope="module")
def good_bytes(good, tmp_path_factory):
    folder = tmp_path_factory.mktemp("good")
    write_samples(folder, good)
    return (folder / NAME).read_bytes()


@in_one_folder
@given(data=st.data(), count=st.integers(0, 6), labeled=st.booleans())
def test_round_trip(tmp_path, data, count, labeled):
    samples = draw_samples(np.random.default_rng(count), count, labeled=labeled)
    samples.keys = data.draw(st.lists(st.text(max_size=9), min_size=count, max_size=count))
    shard = open_written(tmp_path, write_samples(tmp_path, samples), labels=LabelSpec("class" if labeled else "none"))
    np.testing.assert_array_equal(shard.codes, samples.codes)
    assert shard.keys(range(count)) == samples.keys
    if labeled:
        np.testing.assert_array_equal(shard.labels, samples.labels)
    else:
        assert shard.labels is None


def test_keys_must_be_encodable(tmp_path):
    samples = draw_samples(np.random.default_rng(0), 1)
    samples.keys = ["\ud800"]
    with pytest.raises(CallError, match=r"key '\\ud800' cannot be written as UTF-8"):
        write_samples(tmp_path, samples)


def test_the_safetensors_package_reads_it(tmp_path, good):
    write_samples(tmp_path, good)
    with safe_open(tmp_path / NAME, framework="numpy") as file:
        assert sorted(file.keys()) == ["codes", "crc32c", "key_offsets", "keys", "labels"]
        assert json.loads(file.metadata()["walloc_cdl"])["spec"] == make_spec().to_json()
        np.testing.assert_array_equal(file.get_tensor("codes"), good.codes)
        np.testing.assert_array_equal(file.get_tensor("labels"), good.labels)
        assert file.get_tensor("keys").tobytes().decode() == "".join(good.keys)


def test_the_same_samples_give_the_same_bytes(tmp_path, good, good_bytes):
    write_samples(tmp_path, good)
    assert (tmp_path / NAME).read_bytes() == good_bytes


@pytest.mark.parametrize("kept", [0, 7, 8, 100, -1])
def test_truncation_names_shard_sizes_and_remedy(tmp_path, good, good_bytes, kept):
    entry = write_samples(tmp_path, good)
    (tmp_path / NAME).write_bytes(good_bytes[:kept])
    expected = rf"shard .*{NAME}: {len(good_bytes[:kept])} bytes, expected {len(good_bytes)}; restore the folder from a"
    with pytest.raises(DamagedError, match=expected):
        open_written(tmp_path, entry)


def test_a_missing_shard_is_damage(tmp_path, good):
    entry = write_samples(tmp_path, good)
    (tmp_path / NAME).unlink()
    with pytest.raises(DamagedError, match=rf"{NAME} cannot be read \(No such file"):
        open_written(tmp_path, entry)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"spec": make_spec(bits=7)}, "metadata .* does not match the manifest's split and spec"),
        ({"latent_shape": (2, 3, 2)}, r"codes is uint8 \[4, 2, 2, 3\], expected uint8 \[4, 2, 3, 2\]"),
    ],
)
def test_the_shard_must_agree_with_the_manifest(tmp_path, good, changes, message):
    with pytest.raises(DamagedError, match=message):
        open_written(tmp_path, write_samples(tmp_path, good), **changes)


@in_one_folder
@given(data=st.data())
def test_every_changed_byte_is_detected_or_harmless(tmp_path, good, good_bytes, data):
    """In the header it is refused or harmless; in the body it is refused or breaks a CRC32C."""
    position = data.draw(st.integers(0, len(good_bytes) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte != good_bytes[position]))
    altered = good_bytes[:position] + bytes([byte]) + good_bytes[position + 1 :]
    (tmp_path / NAME).write_bytes(altered)
    try:
        shard = open_written(tmp_path, entry_for(altered, 4))
    except DamagedError:
        return
    checksums = shard.checksums()
    if position < 8 + int.from_bytes(good_bytes[:8], "little"):
        np.testing.assert_array_equal(shard.codes, good.codes)
        np.testing.assert_array_equal(shard.labels, good.labels)
        assert shard.keys(range(4)) == good.keys
    else:
        assert (checksums != shard.crc32c).any()


@in_one_folder
@given(start=st.integers(0, 1400), removed=st.integers(0, 60), inserted=st.binary(max_size=60))
def test_a_spliced_file_is_refused_or_well_formed(tmp_path, good_bytes, start, removed, inserted):
    altered = good_bytes[:start] + inserted + good_bytes[start + removed :]
    (tmp_path / NAME).write_bytes(altered)
    try:
        shard = open_written(tmp_path, entry_for(altered, 4))
    except DamagedError:
        return
    assert shard.codes.shape == (4, *SHAPE)
    assert len(shard.encoded_keys(range(4))) == 4


tensor_entries = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["U8", "U32", "I64", "F64", "", 3, None]),
        "shape": st.lists(st.integers(-3, 2**70) | st.booleans() | st.floats() | st.none(), max_size=6),
        "data_offsets": st.lists(st.integers(-3, 2**70) | st.booleans() | st.text(max_size=2), max_size=3),
        "extra": st.none(),
    },
)
tensor_names = st.sampled_from(["codes", "labels", "keys", "key_offsets", "crc32c", "x", "__metadata__"])
hostile_headers = st.one_of(
    st.dictionaries(tensor_names, tensor_entries).map(lambda header: json.dumps(header).encode()),
    st.binary(max_size=80),
    st.sampled_from([b"[" * 30_000, b'{"a":' * 9_000, b"{}", b"[]", b"null", b'{"codes":{},"codes":{}}']),
)


@in_one_folder
@given(header=hostile_headers, body=st.binary(max_size=200), claimed=st.none() | st.integers(0, 2**64 - 1))
def test_a_hostile_header_is_refused(tmp_path, header, body, claimed):
    data = struct.pack("<Q", len(header) if claimed is None else claimed) + header + body
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(DamagedError, match=NAME):
        open_written(tmp_path, entry_for(data, 4))


def rewrite_header(data: bytes, change) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    body = change(header, data[8 + length :])
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


def overlap(header, body):
    header["labels"]["data_offsets"] = header["key_offsets"]["data_offsets"]
    header["labels"]["shape"] = header["key_offsets"]["shape"]
    return body


def leave_gap(header, body):
    header["keys"]["data_offsets"] = [offset + 8 for offset in header["keys"]["data_offsets"]]
    return body[: -header["keys"]["shape"][0]] + b"x" * 8 + body[-header["keys"]["shape"][0] :]


def append_bytes(header, body):
    return body + b"junk"


def lower_an_offset(header, body):
    return body[:8] + struct.pack("<q", 1000) + body[16:]


def negative_first_offset(header, body):
    return struct.pack("<q", -1) + body[8:]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (overlap, "begins at byte 0, expected 40"),
        (leave_gap, r"keys begins at byte \d+, expected \d+"),
        (append_bytes, r"tensors end at byte \d+ of \d+"),
        (lower_an_offset, r"key offsets do not increase from 0 to \d+"),
        (negative_first_offset, r"key offsets do not increase from 0 to \d+"),
    ],
)
def test_ranges_tile_the_file(tmp_path, good_bytes, change, message):
    data = rewrite_header(good_bytes, change)
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(DamagedError, match=message):
        open_written(tmp_path, entry_for(data, 4))


@pytest.mark.parametrize("data", [b"", b"1234567"])
def test_files_too_short_for_a_header(tmp_path, data):
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(DamagedError, match=rf"{NAME}: {len(data)} bytes are not a safetensors file; restore"):
        open_written(tmp_path, entry_for(data, 0))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_shard_without_read_permission(tmp_path, good):
    entry = write_samples(tmp_path, good)
    (tmp_path / NAME).chmod(0)
    with pytest.raises(DamagedError, match=rf"{NAME}: cannot be mapped \("):
        open_written(tmp_path, entry)


def test_a_long_header_is_not_parsed(tmp_path):
    data = struct.pack("<Q", 270_000) + b" " * 270_000
    (tmp_path / NAME).write_bytes(data)
    with pytest.raises(DamagedError, match="header of 270000 bytes, expected 2 to 262144"):
        open_written(tmp_path, entry_for(data, 0))


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_a_mapped_shard_holds_no_file_descriptor(tmp_path, good):
    entry = write_samples(tmp_path, good)
    before = len(os.listdir("/proc/self/fd"))
    shards = [open_written(tmp_path, entry) for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(shards) == 20


def test_writing_to_a_mapped_array_leaves_the_file_alone(tmp_path, good, good_bytes):
    shard = open_written(tmp_path, write_samples(tmp_path, good))
    shard.codes[...] = 77
    assert (tmp_path / NAME).read_bytes() == good_bytes

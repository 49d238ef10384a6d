"""The format, byte for byte: a change here is a new format version (docs/format.md)."""

import hashlib
import json
import struct

import numpy as np

from tests.support.small_sets import make_spec
from walloc_cdl.latents import (
    FileEntry,
    Manifest,
    SplitSummary,
    code_histogram,
    load_manifest,
    open_shard,
    write_manifest,
    write_shard,
)

CODES = np.arange(1, 25, dtype=np.uint8).reshape(2, 2, 2, 3)
LABELS = np.array([1, -1])
KEYS = ["a.jpg", "é"]

SPEC_JSON = (
    '{"bits":8,"codec_id":"' + "ab" * 32 + '","companding":"normal","extra_frames":0,"kind":"image",'
    '"latent_channels":2,"sample_rate":null,"source_channels":1,"stride":8}'
)
METADATA = '{"format_version":2,"spec":' + SPEC_JSON + ',"split":"train"}'
HEADER = (
    '{"__metadata__":{"walloc_cdl":' + json.dumps(METADATA) + "},"
    '"key_offsets":{"dtype":"I64","shape":[3],"data_offsets":[0,24]},'
    '"labels":{"dtype":"I64","shape":[2],"data_offsets":[24,40]},'
    '"crc32c":{"dtype":"U32","shape":[2],"data_offsets":[40,48]},'
    '"codes":{"dtype":"U8","shape":[2,2,2,3],"data_offsets":[48,72]},'
    '"keys":{"dtype":"U8","shape":[7],"data_offsets":[72,79]}}'
)
MANIFEST_SHA256 = "11d818000dcad67cf4a7dd9d369809a044dbde9ab1a9aa1e94a4d6a3a2f66948"


def bitwise_crc32c(data: bytes) -> int:
    """RFC 3720, appendix B.4, a bit at a time."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def write_pinned(folder):
    return write_shard(
        folder, "train-00000.safetensors", spec=make_spec(), split="train", codes=CODES, labels=LABELS, keys=KEYS
    )


def test_the_reference_checksum_is_crc32c():
    assert bitwise_crc32c(b"123456789") == 0xE3069283


def test_shard_of_two_samples(tmp_path):
    header = HEADER.encode()
    header += b" " * (-len(header) % 8)
    samples = [
        bytes(range(1, 13)) + struct.pack("<q", 1) + b"a.jpg",
        bytes(range(13, 25)) + struct.pack("<q", -1) + "é".encode(),
    ]
    expected = (
        struct.pack("<Q", len(header))
        + header
        + struct.pack("<3q", 0, 5, 7)
        + struct.pack("<2q", 1, -1)
        + struct.pack("<2I", *map(bitwise_crc32c, samples))
        + bytes(range(1, 25))
        + "a.jpgé".encode()
    )
    entry = write_pinned(tmp_path)
    assert (tmp_path / entry.name).read_bytes() == expected
    assert (entry.num_samples, entry.num_bytes) == (2, len(expected))
    assert entry.sha256 == hashlib.sha256(expected).hexdigest()
    codes = expected.index(bytes(range(1, 25)))
    assert entry.index_sha256 == hashlib.sha256(expected[:codes] + expected[codes + 24 :]).hexdigest()


def test_manifest_of_two_samples(tmp_path):
    entry = write_pinned(tmp_path)
    manifest = Manifest(
        spec=make_spec(),
        latent_shape=(2, 2, 3),
        preprocessing={"size": 16, "resize": "lanczos"},
        label_kind="class",
        class_names=["coat", "café"],
        splits={"train": SplitSummary(2, [0, 1])},
        shards=[entry],
        files={"codec/config.json": FileEntry(2, hashlib.sha256(b"{}").hexdigest())},
        histograms={"train": code_histogram(CODES, 2)},
        source={"name": "given codes", "num_samples": 2},
        ledger={"stored": 2, "quarantined": 0},
    )
    (tmp_path / "codec").mkdir()
    (tmp_path / "codec/config.json").write_bytes(b"{}")
    write_manifest(tmp_path, manifest)
    data = (tmp_path / "manifest.json").read_bytes()
    fields = json.loads(data)
    digest = fields.pop("digest")
    canonical = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert digest == hashlib.sha256(canonical).hexdigest()
    lines = data.decode().splitlines()
    assert lines[1] == ' "class_names": ["coat","café"],'
    assert ' "latent_shape": [2,2,3],' in lines
    start, size = f'  {{"index_sha256":"{entry.index_sha256}","name":"{entry.name}",', entry.num_bytes
    assert f'{start}"num_bytes":{size},"num_samples":2,"sha256":"{entry.sha256}",' in data.decode()
    assert hashlib.sha256(data).hexdigest() == MANIFEST_SHA256


RAGGED_CODES = [np.arange(1, 5, dtype=np.uint8).reshape(2, 1, 2), np.arange(5, 17, dtype=np.uint8).reshape(2, 3, 2)]
RAGGED_HEADER = (
    '{"__metadata__":{"walloc_cdl":' + json.dumps(METADATA) + "},"
    '"key_offsets":{"dtype":"I64","shape":[3],"data_offsets":[0,24]},'
    '"offsets":{"dtype":"I64","shape":[3],"data_offsets":[24,48]},'
    '"targets":{"dtype":"F32","shape":[2,2],"data_offsets":[48,64]},'
    '"crc32c":{"dtype":"U32","shape":[2],"data_offsets":[64,72]},'
    '"shapes":{"dtype":"I32","shape":[2,3],"data_offsets":[72,96]},'
    '"sizes":{"dtype":"I32","shape":[2,2],"data_offsets":[96,112]},'
    '"codes":{"dtype":"U8","shape":[16],"data_offsets":[112,128]},'
    '"keys":{"dtype":"U8","shape":[7],"data_offsets":[128,135]}}'
)
RAGGED_MANIFEST_SHA256 = "061bd6224da488a0b4a1e63343d4c7c80d5840eb196babf47b615554c4d6d319"


def test_ragged_shard_of_two_samples_with_two_targets(tmp_path):
    header = RAGGED_HEADER.encode()
    header += b" " * (-len(header) % 8)
    targets = np.array([[1.5, np.nan], [-2.0, 0.0]], np.float32)
    sizes = np.array([[8, 9], [17, 16]])
    samples = [
        bytes(range(1, 5)) + struct.pack("<5i2f", 2, 1, 2, 8, 9, 1.5, np.nan) + b"a.jpg",
        bytes(range(5, 17)) + struct.pack("<5i2f", 2, 3, 2, 17, 16, -2.0, 0.0) + "é".encode(),
    ]
    expected = (
        struct.pack("<Q", len(header))
        + header
        + struct.pack("<3q", 0, 5, 7)
        + struct.pack("<3q", 0, 4, 16)
        + struct.pack("<4f", 1.5, np.nan, -2.0, 0.0)
        + struct.pack("<2I", *map(bitwise_crc32c, samples))
        + struct.pack("<6i", 2, 1, 2, 2, 3, 2)
        + struct.pack("<4i", 8, 9, 17, 16)
        + bytes(range(1, 17))
        + "a.jpgé".encode()
    )
    entry = write_shard(
        tmp_path,
        "train-00000.safetensors",
        spec=make_spec(),
        split="train",
        codes=RAGGED_CODES,
        labels=targets,
        keys=KEYS,
        sizes=sizes,
    )
    assert (tmp_path / entry.name).read_bytes() == expected
    histogram = sum(code_histogram(sample[None], 2) for sample in RAGGED_CODES)
    manifest = Manifest(
        spec=make_spec(),
        latent_shape=(2, None, None),
        label_kind="regression",
        target_names=["age", "height"],
        splits={"train": SplitSummary(2)},
        shards=[entry],
        files={},
        histograms={"train": histogram},
    )
    write_manifest(tmp_path, manifest)
    data = (tmp_path / "manifest.json").read_bytes()
    assert ' "geometry": "ragged",\n' in data.decode()
    assert ' "latent_shape": [2,null,null],\n' in data.decode()
    assert hashlib.sha256(data).hexdigest() == RAGGED_MANIFEST_SHA256
    shard = open_shard(tmp_path / entry.name, entry, load_manifest(tmp_path).layout)
    np.testing.assert_array_equal(shard.sample_codes(1), RAGGED_CODES[1])


VIEWS_HEADER = (
    '{"__metadata__":{"walloc_cdl":' + json.dumps(METADATA) + "},"
    '"key_offsets":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},'
    '"crc32c":{"dtype":"U32","shape":[1],"data_offsets":[16,20]},'
    '"codes":{"dtype":"U8","shape":[1,2,2,1,3],"data_offsets":[20,32]},'
    '"keys":{"dtype":"U8","shape":[5],"data_offsets":[32,37]},'
    '"labels":{"dtype":"U8","shape":[1,3],"data_offsets":[37,40]}}'
)
VIEWS_MANIFEST_SHA256 = "6f511a2fd50b0bdb62b845f05d174eb6a0b836240c1352a8335eb1fa8e430424"


def test_shard_of_one_sample_of_two_views_with_several_classes(tmp_path):
    header = VIEWS_HEADER.encode()
    header += b" " * (-len(header) % 8)
    codes = np.arange(1, 13, dtype=np.uint8).reshape(1, 2, 2, 1, 3)
    labels = np.array([[1, 0, 1]], np.uint8)
    expected = (
        struct.pack("<Q", len(header))
        + header
        + struct.pack("<2q", 0, 5)
        + struct.pack("<I", bitwise_crc32c(bytes(range(1, 13)) + b"\x01\x00\x01" + b"a.jpg"))
        + bytes(range(1, 13))
        + b"a.jpg"
        + b"\x01\x00\x01"
    )
    entry = write_shard(
        tmp_path,
        "train-00000.safetensors",
        spec=make_spec(),
        split="train",
        codes=codes,
        labels=labels,
        keys=KEYS[:1],
    )
    assert (tmp_path / entry.name).read_bytes() == expected
    manifest = Manifest(
        spec=make_spec(),
        latent_shape=(2, 1, 3),
        label_kind="multilabel",
        class_names=["cat", "dog", "tree"],
        views=["center", "flip"],
        splits={"train": SplitSummary(1, [1, 0, 1])},
        shards=[entry],
        files={},
        histograms={"train": code_histogram(codes[0], 2)},
    )
    write_manifest(tmp_path, manifest)
    data = (tmp_path / "manifest.json").read_bytes()
    assert ' "views": ["center","flip"]\n' in data.decode()
    assert hashlib.sha256(data).hexdigest() == VIEWS_MANIFEST_SHA256
    open_shard(tmp_path / entry.name, entry, load_manifest(tmp_path).layout)


PACKED_SPEC = make_spec(2, bits=2, companding="levels", planes=(0, 1, 0))
PACKED_METADATA = (
    '{"format_version":2,"spec":{"bits":2,"codec_id":"' + "ab" * 32 + '","companding":"levels","extra_frames":0,'
    '"kind":"image","latent_channels":2,"planes":[0,1,0],"sample_rate":null,"source_channels":1,"stride":8},'
    '"split":"train"}'
)
PACKED_HEADER = (
    '{"__metadata__":{"walloc_cdl":' + json.dumps(PACKED_METADATA) + "},"
    '"key_offsets":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},'
    '"crc32c":{"dtype":"U32","shape":[1],"data_offsets":[16,20]},'
    '"codes":{"dtype":"U8","shape":[1,6],"data_offsets":[20,26]},'
    '"keys":{"dtype":"U8","shape":[5],"data_offsets":[26,31]}}'
)
PACKED_CODES = np.array([[[0, 1, 2], [3, 2, 1], [0, 3, 3]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]], np.uint8)
PACKED_ROW = bytes([0b10011100, 1, 0b00010001, 1, 0b10101010, 1])
"""Upper bits of channel 0, channel 1, lower bits of channel 0; the nine positions of each begin at the lowest bit."""
PACKED_MANIFEST_SHA256 = "e7a91084bb66d5c8ec47885e0626f1c4b243840e56ee29be6dc16f3821e291e1"


def test_packed_shard_of_one_sample(tmp_path):
    header = PACKED_HEADER.encode()
    header += b" " * (-len(header) % 8)
    expected = (
        struct.pack("<Q", len(header))
        + header
        + struct.pack("<2q", 0, 5)
        + struct.pack("<I", bitwise_crc32c(PACKED_ROW + b"a.jpg"))
        + PACKED_ROW
        + b"a.jpg"
    )
    entry = write_shard(
        tmp_path,
        "train-00000.safetensors",
        spec=PACKED_SPEC,
        split="train",
        codes=PACKED_CODES[None],
        labels=None,
        keys=KEYS[:1],
    )
    assert (tmp_path / entry.name).read_bytes() == expected
    manifest = Manifest(
        spec=PACKED_SPEC,
        latent_shape=(2, 3, 3),
        splits={"train": SplitSummary(1)},
        shards=[entry],
        files={},
        histograms={"train": code_histogram(PACKED_CODES[None], 2)},
    )
    write_manifest(tmp_path, manifest)
    data = (tmp_path / "manifest.json").read_bytes()
    assert '  "planes": [0,1,0],\n' in data.decode()
    assert hashlib.sha256(data).hexdigest() == PACKED_MANIFEST_SHA256
    shard = open_shard(tmp_path / entry.name, entry, load_manifest(tmp_path).layout)
    np.testing.assert_array_equal(shard.sample_codes(0), PACKED_CODES)
    assert shard.stored(0).tobytes() == PACKED_ROW

"""The format, byte for byte: a change here is a new format version (docs/format.md)."""

import hashlib
import json
import struct

import numpy as np
from small_sets import make_spec

from walloc_cdl.latents import FileEntry, Manifest, SplitSummary, code_histogram, write_manifest, write_shard

CODES = np.arange(1, 25, dtype=np.uint8).reshape(2, 2, 2, 3)
LABELS = np.array([1, -1])
KEYS = ["a.jpg", "é"]

SPEC_JSON = (
    '{"bits":8,"codec_id":"' + "ab" * 32 + '","companding":"normal","extra_frames":0,"kind":"image",'
    '"latent_channels":2,"sample_rate":null,"source_channels":1,"stride":8}'
)
METADATA = '{"format_version":1,"spec":' + SPEC_JSON + ',"split":"train"}'
HEADER = (
    '{"__metadata__":{"walloc_cdl":' + json.dumps(METADATA) + "},"
    '"key_offsets":{"dtype":"I64","shape":[3],"data_offsets":[0,24]},'
    '"labels":{"dtype":"I64","shape":[2],"data_offsets":[24,40]},'
    '"crc32c":{"dtype":"U32","shape":[2],"data_offsets":[40,48]},'
    '"codes":{"dtype":"U8","shape":[2,2,2,3],"data_offsets":[48,72]},'
    '"keys":{"dtype":"U8","shape":[7],"data_offsets":[72,79]}}'
)
MANIFEST_SHA256 = "9ef0df10bd7cafaad3735fda1ee80efcc424b56898ba0da202b2f0c89bb9e056"


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

"""For a flipped bit anywhere in a data set, `verify --full` names the file, and the sample if it is a sample's bit."""

from __future__ import annotations

import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.support.small_sets import write_small_set
from walloc_cdl.latents import load_manifest, open_shard, verify, write_provenance

SPLITS = {"train": [3, 2], "test": [2]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A small data set with a ledger; tests restore it."""
    folder = tmp_path_factory.mktemp("set")
    write_provenance(folder, {"created": "today", "flip_rate": {"batch": 1e-05}})
    content = write_small_set(folder, SPLITS)
    rows = []
    for entry in load_manifest(folder).shards:
        start = sum(SPLITS[entry.split][: int(entry.name[-17:-12])])
        keys = content[entry.split].keys[start : start + entry.num_samples]
        rows += [{"key": key, "shard": entry.name, "row": row} for row, key in enumerate(keys)]
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    files = {"ledger.parquet": sink.getvalue().to_pybytes(), "codec/config.json": b'{"a":1}'}
    write_small_set(folder, SPLITS, files=files)
    assert verify(folder, full=True).problems == []
    return folder


def sample_bytes(folder: Path) -> dict[str, dict[int, set[int]]]:
    """Return, for each shard, the rows that each byte belongs to, by its position: offsets belong to two."""
    manifest = load_manifest(folder)
    found: dict[str, dict[int, set[int]]] = {}
    for entry in manifest.shards:
        shard = open_shard(folder / entry.name, entry, manifest.layout)
        rows_of_byte = found[entry.name] = {}
        base = shard.file.__array_interface__["data"][0]
        for array in (shard.codes, shard.labels, shard.crc32c):
            begin = array.__array_interface__["data"][0] - base
            row_bytes = array.nbytes // len(shard)
            rows_of_byte |= {begin + position: {position // row_bytes} for position in range(array.nbytes)}
        begin = shard.key_bytes.__array_interface__["data"][0] - base
        for row in range(len(shard)):
            rows_of_byte |= {begin + position: {row} for position in range(*shard.key_offsets[row : row + 2])}
        begin = shard.key_offsets.__array_interface__["data"][0] - base
        for number in range(len(shard) + 1):
            rows = {number - 1, number} & set(range(len(shard)))
            rows_of_byte |= {begin + 8 * number + byte: rows for byte in range(8)}
    return found


@pytest.mark.parametrize("step", [12, pytest.param(1, marks=pytest.mark.slow)])
def test_a_flipped_bit_of_any_byte_is_detected(folder, step):
    """Flips one random bit of every byte (or of every twelfth) of every file, copies included."""
    rows_of_byte = sample_bytes(folder)
    keys = {entry.name: [] for entry in load_manifest(folder).shards}
    for row in pq.read_table(folder / "ledger.parquet").to_pylist():
        keys[row["shard"]].append(row["key"])
    draw, num_flips, num_named = random.Random(0), 0, 0
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name, original = path.relative_to(folder).as_posix(), path.read_bytes()
        positions = range(len(original))
        if name.endswith("manifest.json"):  # mostly zeros of histograms
            positions = sorted(draw.sample(positions, 400))
        for position in positions[draw.randrange(step) :: step]:
            data = bytearray(original)
            data[position] ^= 1 << draw.randrange(8)
            path.write_bytes(data)
            report = verify(folder, full=True)
            message = f"byte {position} of {name}: {report.problems}"
            assert report.damaged_files == [name], message
            assert str(path) in report.problems[0], message
            assert not any("\n" in problem for problem in report.problems), message
            num_flips += 1
            if rows := rows_of_byte.get(name, {}).get(position):
                named = {sample.row for sample in report.damaged_samples}
                assert named, message
                assert named <= rows or len(rows) == 2, message
                assert named & rows, message
                assert all(sample.key == keys[name][sample.row] for sample in report.damaged_samples), message
                num_named += 1
        path.write_bytes(original)
    assert num_flips > 5000 // step
    assert num_named > 300 // step
    assert verify(folder, full=True).problems == []

"""A record stands for a finished shard only if everything in it fits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from datasets_prep.ledger.shard_records import ShardRecord, has_record, load_record, require_record, save_record
from datasets_prep.samples.planned_shard import PlannedShard
from walloc_cdl.errors import JobError
from walloc_cdl.latents import ShardEntry
from walloc_cdl.latents.json_with_digest import encode_json_with_digest, parse_json_with_digest

NAME = "train-00000.safetensors"
SHARD = PlannedShard(NAME, "train", 0, 2)
PLAN = "a" * 64


@pytest.fixture
def folder(tmp_path) -> Path:
    """A folder with one shard of ten bytes and its record."""
    (tmp_path / "_work").mkdir()
    (tmp_path / NAME).write_bytes(bytes(10))
    entry = ShardEntry(NAME, "train", 2, 10, "b" * 64, "c" * 64)
    record = ShardRecord(entry, np.arange(512).reshape(2, 256), [1, 1], 0, 99)
    save_record(tmp_path / "_work", PLAN, record, pa.table({"key": ["x", "y"]}))
    return tmp_path


def load(folder: Path, shard: PlannedShard = SHARD, plan: str = PLAN) -> ShardRecord | None:
    return load_record(folder, folder / "_work", shard, plan)


def test_what_was_saved_is_loaded(folder):
    found = load(folder)
    assert found is not None
    assert (found.entry.name, found.class_counts, found.source_bytes) == (NAME, [1, 1], 99)
    assert found.histogram.tolist() == np.arange(512).reshape(2, 256).tolist()


def test_a_record_of_another_plan_is_none(folder):
    assert load(folder, plan="c" * 64) is None
    assert has_record(folder / "_work", SHARD)
    with pytest.raises(JobError, match=r"shard train-00000\.safetensors or its record has disappeared"):
        require_record(folder, folder / "_work", SHARD, "c" * 64)


def altered(folder: Path, **fields: object) -> None:
    """Change fields of the record, whose digest is right."""
    path = folder / "_work/train-00000.json"
    record = parse_json_with_digest(path.read_bytes(), origin="record")
    path.write_bytes(encode_json_with_digest({**record, **fields}))


@pytest.mark.parametrize("field", ["plan", "rows_sha256", "entry", "histogram"])
def test_a_record_without_a_field_is_none(folder, field):
    path = folder / "_work/train-00000.json"
    record = parse_json_with_digest(path.read_bytes(), origin="record")
    path.write_bytes(encode_json_with_digest({name: value for name, value in record.items() if name != field}))
    assert load(folder) is None


def test_other_shards_and_damage(folder):
    assert load(folder, replace(SHARD, split="test")) is None
    record = json.loads((folder / "_work/train-00000.json").read_text())
    altered(folder, entry={**record["entry"], "name": "train-00001.safetensors"})
    assert load(folder) is None
    altered(folder, entry={**record["entry"], "split": "test"})
    assert load(folder) is None
    altered(folder, entry=record["entry"])
    assert load(folder) is not None
    altered(folder, rows_sha256="d" * 64)
    assert load(folder) is None
    altered(folder, rows_sha256=record["rows_sha256"])
    (folder / NAME).write_bytes(bytes(11))
    assert load(folder) is None
    (folder / NAME).unlink()
    assert load(folder) is None

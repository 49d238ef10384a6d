"""Damaged shards from the source, by the plan that the manifest implies, or by the ledger; only identical bytes count.

The plan of a source that has grown since is another: what an extension added, and what was there before it, is found
by the keys that the ledger has for each shard.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datasets_prep.folders.copy_samples import write_rows
from datasets_prep.job.choose_preparation import stored_preparation
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.context import JobContext
from datasets_prep.job.local_engine import LocalEngine
from datasets_prep.job.output import CODEC_FOLDER, short_text
from datasets_prep.job.plan import difference_from_finished
from datasets_prep.job.plan_job import PlannedJob, choose_workers, plan_prepared
from datasets_prep.job.progress import Reporter
from datasets_prep.ledger.rewrite import ledger_parts
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.sources.core.source import Source
from datasets_prep.upkeep.edit import STAGE_NAME
from datasets_prep.upkeep.source_diff import NewSamplesSource
from walloc_cdl.canonical import differences
from walloc_cdl.codec import Codec, load_codec
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.files import sync_folder
from walloc_cdl.latents import WORK_NAME, Manifest, SampleLayout, ShardEntry, load_provenance, open_shard


@dataclass(frozen=True)
class RepairConfig:
    """Where damaged shards come from again: what the data set was made from, cut in the same way."""

    source: Source
    limit: int | None = None
    """As `PrepareConfig.limit` was."""
    workers: int | None = None


def encode_again(
    folder: Path, manifest: Manifest, damaged: Sequence[ShardEntry], config: RepairConfig
) -> tuple[list[str], list[str]]:
    """Put the damaged shards back; returns their names, and a line for each that comes out as something else.

    Call it with the data set held and a stage made. Raises `CallError` for a source that is not the one of the
    manifest, with the field that differs, and `JobError` where the source has gone.
    """
    engine = (load_provenance(folder) or {}).get("engine") or {}
    codec = load_codec(str(folder / CODEC_FOLDER))
    planned = _planned(manifest, engine, codec, config)
    _require_same_source(folder, planned, manifest)
    stored = _stored_keys(folder, manifest, damaged)
    rows, problems = _rows(folder, planned, damaged, stored)
    source, shards = _cut_out(planned, manifest, [entry for entry in damaged if entry.name in rows], rows)
    stage = folder / WORK_NAME / STAGE_NAME
    (stage / WORK_NAME).mkdir(exist_ok=True)
    num_samples = sum(shard.num_samples for shard in shards)
    context = JobContext(
        folder=stage,
        plan=planned.plan,
        plan_digest=planned.plan.digest(),
        source=source,
        preparation=planned.preparation,
        codec=codec,
        config=planned.config,
        workers=choose_workers(planned.config, num_samples),
        reporter=Reporter(num_samples, None, None),
    )
    entries = {entry.name: entry for entry in damaged}
    encoded: list[str] = []
    for record in LocalEngine().encode(context, shards):
        wanted, found = entries[record.entry.name], record.entry
        if found.sha256 != wanted.sha256:
            found = _without_left_out(stage, found, stored[found.name], manifest.layout)
        if found.sha256 == wanted.sha256:
            os.replace(stage / found.name, folder / found.name)
            sync_folder(folder)
            encoded.append(found.name)
        else:
            problems.append(f"{folder / found.name}: {_reason(found, wanted, planned.plan.engine, engine)}")
    return encoded, problems


def _stored_keys(folder: Path, manifest: Manifest, damaged: Sequence[ShardEntry]) -> dict[str, list[str]]:
    """The keys that the ledger has in each of the damaged shards, in the order of their rows; none if it is damaged."""
    found: dict[str, dict[int, str]] = {entry.name: {} for entry in damaged}
    names = pa.array(sorted(found), pa.string())
    with suppress(DamagedError):  # then the plan has to do
        for part in ledger_parts(folder, manifest):
            chosen = part.filter(pc.is_in(part["shard"], value_set=names))
            for row in chosen.select(["key", "shard", "row"]).to_pylist():
                found[row["shard"]][row["row"]] = row["key"]
    return {name: [keys[row] for row in sorted(keys)] for name, keys in found.items()}


def _rows(
    folder: Path, planned: PlannedJob, damaged: Sequence[ShardEntry], stored: dict[str, list[str]]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Of each shard the indices in the source's split, int64, of what it was made of; a line for each that lacks one.

    Those of the plan, if all that is stored is among them: what could not be used, was dropped or left out was in the
    same batches then. Else those of what is stored.
    """
    shards = {shard.name: shard for shard in planned.plan.shards}
    listings = planned.source.listing.splits
    rows: dict[str, np.ndarray] = {}
    sought: list[ShardEntry] = []
    for entry in damaged:
        shard, keys = shards.get(entry.name), stored[entry.name]
        if shard is not None and {*keys} <= {*listings[shard.split].keys[shard.start : shard.stop]}:
            rows[entry.name] = np.arange(shard.start, shard.stop)
        elif keys and entry.split in listings:
            sought.append(entry)
        else:
            raise CallError(f"{folder}: shard {entry.name} is none that `cdl prepare` makes of this source")
    problems = []
    for split in dict.fromkeys(entry.split for entry in sought):
        wanted = {key for entry in sought if entry.split == split for key in stored[entry.name]}
        places = {key: row for row, key in enumerate(listings[split].keys) if key in wanted}
        for entry in sought:
            if entry.split != split:
                continue
            if gone := [key for key in stored[entry.name] if key not in places]:
                problems.append(
                    f"{folder / entry.name}: its sample {gone[0]!r} is not in split {split!r} of the source; prepare "
                    "the data set again"
                )
            else:
                rows[entry.name] = np.array([places[key] for key in stored[entry.name]], np.int64)
    return rows, problems


def _cut_out(
    planned: PlannedJob, manifest: Manifest, damaged: Sequence[ShardEntry], rows: dict[str, np.ndarray]
) -> tuple[Source, list[PlannedShard]]:
    """Only these rows of the source, with the data set's labels, and the shards that they make."""
    parts: dict[str, list[np.ndarray]] = {split: [np.empty(0, np.int64)] for split in planned.source.split_names}
    filled = dict.fromkeys(parts, 0)
    shards = []
    for entry in damaged:
        start = filled[entry.split]
        filled[entry.split] += len(rows[entry.name])
        shards.append(PlannedShard(entry.name, entry.split, start, filled[entry.split]))
        parts[entry.split].append(rows[entry.name])
    chosen = {split: np.concatenate(found) for split, found in parts.items()}
    return NewSamplesSource(planned.source, manifest, chosen), shards


def _planned(manifest: Manifest, engine: dict[str, Any], codec: Codec, config: RepairConfig) -> PlannedJob:
    """The job that made the data set, as far as its manifest and provenance tell it."""
    preprocessing = manifest.preprocessing
    settings = PrepareConfig(
        shard_samples=preprocessing.get("shard_samples"),
        batch=int(engine.get("batch", PrepareConfig.batch)),
        limit=config.limit,
        workers=config.workers,
        drop_duplicates=preprocessing.get("duplicates") == "left out",
        device=_device(engine),
    )
    preparation = stored_preparation(config.source, codec, preprocessing)
    return plan_prepared(config.source, codec, preparation, settings)


def _device(engine: dict[str, Any]) -> str:
    return "cpu" if str(engine.get("device")).startswith("cpu") else "auto"


def _require_same_source(folder: Path, planned: PlannedJob, manifest: Manifest) -> None:
    if (difference := difference_from_finished(planned.plan, manifest)) is not None:
        name, mine, theirs = difference
        raise CallError(
            f"{folder} was made from something else: its {name} is {short_text(theirs)}, that of this source "
            f"{short_text(mine)}; give the source as it was, with the same --labels, --holdout, --seed and --limit"
        )


def _without_left_out(stage: Path, encoded: ShardEntry, keys: list[str], layout: SampleLayout) -> ShardEntry:
    """The staged shard with only those samples that the ledger has in it: others were dropped, or are duplicates."""
    shard = open_shard(stage / encoded.name, encoded, layout)
    place = {key: row for row, key in enumerate(shard.keys(range(len(shard))))}
    if not keys or any(key not in place for key in keys):
        return encoded
    return write_rows(stage, encoded, shard, np.array([place[key] for key in keys], np.int64), layout)[0]


def _reason(found: ShardEntry, wanted: ShardEntry, mine: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Why a shard came out different, as far as that can be told."""
    changed = differences(mine, {name: theirs.get(name) for name in mine})
    names = [f"{name} {now!r}, then {then!r}" for name, now, then in changed]
    why = f"now {names[0]}" if names else "a file of the source has changed at the same size"
    return (
        f"encoded again, its SHA-256 is {found.sha256[:12]}…, expected {wanted.sha256[:12]}… ({why}); it was left as "
        "it is: prepare the data set again"
    )

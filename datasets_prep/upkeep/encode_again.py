"""Damaged shards from the source, by the plan that the manifest implies; only identical bytes count."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets_prep.config import PrepareConfig
from datasets_prep.engines.base import Job
from datasets_prep.engines.local import LocalEngine
from datasets_prep.output import CODEC_FOLDER, short_text
from datasets_prep.plan import difference_from_finished
from datasets_prep.planned import PlannedJob, choose_workers, plan_job
from datasets_prep.shard_job import Done
from datasets_prep.sources.base import Source
from datasets_prep.upkeep.edit import STAGE_NAME
from datasets_prep.upkeep.ledgers import ledger_parts
from datasets_prep.upkeep.rows import write_rows
from walloc_cdl.canonical import differences
from walloc_cdl.codec import load_codec
from walloc_cdl.errors import CallError
from walloc_cdl.files import sync_folder
from walloc_cdl.latents import WORK_NAME, Manifest, ShardEntry, load_provenance, open_shard


@dataclass(frozen=True)
class RepairConfig:
    """Where damaged shards come from again: what the data set was made from, cut in the same way."""

    source: Source
    limit: int | None = None
    """As `PrepareConfig.limit` was."""
    workers: int | None = None
    report: Callable[[Done], None] | None = None
    """Told of every few samples."""


def encode_again(
    folder: Path, manifest: Manifest, damaged: Sequence[ShardEntry], config: RepairConfig
) -> tuple[list[str], list[str]]:
    """Put the damaged shards back; returns their names, and a line for each that comes out as something else.

    Call it with the data set held and a stage made. Raises `CallError` for a source that is not the one of the
    manifest, with the field that differs, and `JobError` where the source has gone.
    """
    engine = (load_provenance(folder) or {}).get("engine") or {}
    codec = load_codec(str(folder / CODEC_FOLDER))
    planned = plan_job(config.source, codec, _settings(manifest, engine, config))
    _require_same_source(folder, planned, manifest)
    by_name = {shard.name: shard for shard in planned.plan.shards}
    if unknown := [entry.name for entry in damaged if entry.name not in by_name]:
        raise CallError(f"{folder}: shard {unknown[0]} is none that `cdl prepare` makes of this source")
    stage = folder / WORK_NAME / STAGE_NAME
    (stage / WORK_NAME).mkdir(exist_ok=True)
    batch = int(engine.get("batch", PrepareConfig.batch))
    shards = [by_name[entry.name] for entry in damaged]
    workers = choose_workers(PrepareConfig(workers=config.workers), sum(shard.num_samples for shard in shards))
    job = Job(stage, planned.plan.digest(), planned.source, planned.preparation, codec, _device(engine), batch, workers)
    entries = {entry.name: entry for entry in damaged}
    encoded, problems = [], []
    for record in LocalEngine().encode(job, shards, config.report or (lambda done: None)):
        wanted, found = entries[record.entry.name], record.entry
        if found.sha256 != wanted.sha256:
            found = _without_left_out(folder, manifest, stage, found)
        if found.sha256 == wanted.sha256:
            os.replace(stage / found.name, folder / found.name)
            sync_folder(folder)
            encoded.append(found.name)
        else:
            problems.append(f"{folder / found.name}: {_reason(found, wanted, planned.plan.engine, engine)}")
    return encoded, problems


def _settings(manifest: Manifest, engine: dict[str, Any], config: RepairConfig) -> PrepareConfig:
    """The settings that the manifest's preprocessing came from."""
    done, kind, ragged = manifest.preprocessing, config.source.kind, manifest.layout.ragged
    settings: dict[str, Any] = {}
    if kind == "image" and not ragged:
        kernel = str(done.get("resize", "")).rpartition(" ")[2]
        settings = {"size": done.get("size"), "resize": kernel or None, "crop": done.get("crop")}
        settings["views"] = None if manifest.views is None else _views_text(manifest.views)
    if kind == "image":
        settings["icc"] = done.get("icc")
    if kind == "audio":
        settings["normalization"] = done.get("normalization")
    if kind == "audio" and not ragged:
        rate = done.get("sample_rate") or 1
        settings["segment_s"] = (done.get("segment_samples", 0) + 0.5) / rate  # lengths are rounded down
        settings["hop_s"] = done.get("hop_samples", 0) / rate
    return PrepareConfig(
        shard_samples=done.get("shard_samples"),
        batch=int(engine.get("batch", PrepareConfig.batch)),
        limit=config.limit,
        drop_duplicates=done.get("duplicates") == "left out",
        geometry="ragged" if ragged else "fixed",
        device=_device(engine),
        **settings,
    )


def _views_text(names: Sequence[str]) -> str:
    """What was asked for to get these views; see `datasets_prep.signals.views.parse_views`."""
    crops = sum(name.startswith("crop-") for name in names)
    return ",".join([*(["flip"] if "flip" in names else []), *([f"crops:{crops}"] if crops else [])])


def _device(engine: dict[str, Any]) -> str:
    return "cpu" if str(engine.get("device")).startswith("cpu") else "auto"


def _require_same_source(folder: Path, planned: PlannedJob, manifest: Manifest) -> None:
    if (difference := difference_from_finished(planned.plan, manifest)) is not None:
        name, mine, theirs = difference
        raise CallError(
            f"{folder} was made from something else: its {name} is {short_text(theirs)}, that of this source "
            f"{short_text(mine)}; give the source as it was, with the same --holdout, --seed and --limit"
        )


def _without_left_out(folder: Path, manifest: Manifest, stage: Path, encoded: ShardEntry) -> ShardEntry:
    """The staged shard with only those samples that the ledger has in it: others were dropped, or are duplicates."""
    kept: dict[int, str] = {}
    for part in ledger_parts(folder, manifest):
        for row in part.select(["key", "shard", "row"]).to_pylist():
            if row["shard"] == encoded.name:
                kept[row["row"]] = row["key"]
    shard = open_shard(stage / encoded.name, encoded, manifest.layout)
    place = {key: row for row, key in enumerate(shard.keys(range(len(shard))))}
    keys = [kept[row] for row in sorted(kept)]
    if not keys or any(key not in place for key in keys):
        return encoded
    rows = np.array([place[key] for key in keys], np.int64)
    return write_rows(stage, encoded, shard, rows, manifest.layout)[0]


def _reason(found: ShardEntry, wanted: ShardEntry, mine: dict[str, Any], theirs: dict[str, Any]) -> str:
    """Why a shard came out different, as far as that can be told."""
    changed = differences(mine, {name: theirs.get(name) for name in mine})
    names = [f"{name} {now!r}, then {then!r}" for name, now, then in changed]
    why = f"now {names[0]}" if names else "a file of the source has changed at the same size"
    return (
        f"encoded again, its SHA-256 is {found.sha256[:12]}…, expected {wanted.sha256[:12]}… ({why}); it was left as "
        "it is: prepare the data set again"
    )

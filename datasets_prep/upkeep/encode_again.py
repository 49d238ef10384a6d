"""Encodes damaged shards again from the source; only shards with identical bytes are accepted.

The samples of a shard follow from the plan that the manifest implies, or from the ledger. The plan of a source that has
grown assigns samples to other shards, so that the shards of an extended data set are found by the keys that the ledger
has for each. Their samples may then be in other batches than before if some were dropped or omitted as duplicates; the
SHA-256 shows whether that matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from datasets_prep.folders.copy_samples import write_rows
from datasets_prep.job.choose_preparation import stored_preparation
from datasets_prep.job.config import PrepareConfig, choose_workers
from datasets_prep.job.context import JobContext
from datasets_prep.job.local_engine import LocalEngine
from datasets_prep.job.output import CODEC_FOLDER, short_text
from datasets_prep.job.plan import UNCOMPARED_FIELDS, difference_from_finished
from datasets_prep.job.plan_job import PlannedJob, plan_prepared
from datasets_prep.job.progress import Reporter
from datasets_prep.ledger.index import LedgerIndex
from datasets_prep.ledger.rewrite import ledger_parts
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.sources.core.limits import first_samples
from datasets_prep.sources.core.source import Source
from datasets_prep.upkeep.edit import STAGE_NAME
from datasets_prep.upkeep.extension import with_known
from datasets_prep.upkeep.source_diff import NewSamplesSource
from walloc_cdl.canonical import differences
from walloc_cdl.codec import Codec, load_codec
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.fields import REMEDY, shorten
from walloc_cdl.files import make_folder, move_file, sync_folder
from walloc_cdl.latents import WORK_NAME, Manifest, SampleLayout, ShardEntry, load_provenance, open_shard
from walloc_cdl.schema import require_type


@dataclass(frozen=True)
class RepairConfig:
    """The source for encoding damaged shards again, and settings that the manifest does not have."""

    source: Source
    """The source that the data set was made from."""
    workers: int | None = None
    """Decoding processes; see `PrepareConfig.workers`."""


def encode_again(
    folder: Path, manifest: Manifest, damaged: Sequence[ShardEntry], config: RepairConfig
) -> tuple[list[str], list[str]]:
    """Encode damaged shards again; returns the names of the repaired shards, and a message for each other one.

    The caller must hold the data set's lock and have made a stage. Raises `CallError` for a source that is not the one
    of the manifest, with the field that differs, and `JobError` if the source is missing.
    """
    engine = (load_provenance(folder) or {}).get("engine") or {}
    codec = load_codec(str(folder / CODEC_FOLDER)).for_latents(manifest.spec)
    planned = planned_job(folder, manifest, engine, codec, config)
    _require_same_source(folder, planned, manifest)
    _require_same_shape(folder, planned, manifest)
    stored = _stored_keys(folder, manifest, damaged)
    rows, problems = _rows(folder, planned, damaged, stored)
    source, shards = _select_rows(planned, manifest, [entry for entry in damaged if entry.name in rows], rows)
    stage = folder / WORK_NAME / STAGE_NAME
    make_folder(stage / WORK_NAME)
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
        expected, found = entries[record.entry.name], record.entry
        if found.sha256 != expected.sha256:
            found = _without_removed(stage, found, stored[found.name], manifest.layout)
        if found.sha256 == expected.sha256:
            move_file(stage / found.name, folder / found.name)
            sync_folder(folder)
            encoded.append(found.name)
        else:
            problems.append(f"{folder / found.name}: {_difference_text(found, expected, planned.plan.engine, engine)}")
    return encoded, problems


def _stored_keys(folder: Path, manifest: Manifest, damaged: Sequence[ShardEntry]) -> dict[str, list[str]]:
    """Return the keys of each damaged shard in the order of its rows, from the ledger; none if that is damaged."""
    found: dict[str, dict[int, str]] = {entry.name: {} for entry in damaged}
    names = pa.array(sorted(found), pa.string())
    with suppress(DamagedError):  # then only the plan is used
        for part in ledger_parts(folder, manifest):
            rows = part.filter(pc.is_in(part["shard"], value_set=names))
            for row in rows.select(["key", "shard", "row"]).to_pylist():
                found[row["shard"]][row["row"]] = row["key"]
    return {name: [keys[row] for row in sorted(keys)] for name, keys in found.items()}


def _rows(
    folder: Path, planned: PlannedJob, damaged: Sequence[ShardEntry], stored: dict[str, list[str]]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Return the indices (int64) of each shard's samples in the source's split, and a message per incomplete shard.

    The samples are those of the plan if these include all stored ones, so that unusable, dropped and omitted samples
    are in the same batches as before; otherwise the stored samples.
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
            raise CallError(
                f"{folder}: shard {entry.name} is not one that `cdl prepare` makes of this source; give the source "
                "that the data set was made from"
            )
    problems = []
    for split in dict.fromkeys(entry.split for entry in sought):
        needed = {key for entry in sought if entry.split == split for key in stored[entry.name]}
        row_of = {key: row for row, key in enumerate(listings[split].keys) if key in needed}
        for entry in sought:
            if entry.split != split:
                continue
            if missing := [key for key in stored[entry.name] if key not in row_of]:
                problems.append(
                    f"{folder / entry.name}: its sample {missing[0]!r} is not in split {split!r} of the source; "
                    "prepare the data set again"
                )
            else:
                rows[entry.name] = np.array([row_of[key] for key in stored[entry.name]], np.int64)
    return rows, problems


def _select_rows(
    planned: PlannedJob, manifest: Manifest, damaged: Sequence[ShardEntry], rows: dict[str, np.ndarray]
) -> tuple[Source, list[PlannedShard]]:
    """Return a source with only these rows and the data set's labels, and its planned shards."""
    parts: dict[str, list[np.ndarray]] = {split: [np.empty(0, np.int64)] for split in planned.source.split_names}
    filled = dict.fromkeys(parts, 0)
    shards = []
    for entry in damaged:
        start = filled[entry.split]
        filled[entry.split] += len(rows[entry.name])
        shards.append(PlannedShard(entry.name, entry.split, start, filled[entry.split]))
        parts[entry.split].append(rows[entry.name])
    selected = {split: np.concatenate(indices) for split, indices in parts.items()}
    return NewSamplesSource(planned.source, manifest, selected), shards


def planned_job(
    folder: Path, manifest: Manifest, engine: dict[str, Any], codec: Codec, config: RepairConfig
) -> PlannedJob:
    """Return the job that made the data set, as far as its manifest and provenance describe it."""
    preprocessing, source, limit = manifest.preprocessing, config.source, manifest.source.get("limit")
    if limit is not None and manifest.source.get("streaming"):
        source, limit = first_samples(source, limit), None
    settings = PrepareConfig(
        shard_samples=preprocessing.get("shard_samples"),
        batch=require_type(int, engine.get("batch", PrepareConfig.batch), "the provenance's engine, batch"),
        limit=limit,
        seed=manifest.source.get("limit_seed", 0),
        workers=config.workers,
        drop_duplicates=preprocessing.get("duplicates") == "left out",
        device=_device(engine),
    )
    preparation = stored_preparation(source, codec, preprocessing)
    planned = plan_prepared(source, codec, preparation, settings)
    if manifest.source.get("streaming"):  # what says so stays in the manifest of samples that are tried again
        chosen = {name: manifest.source[name] for name in UNCOMPARED_FIELDS if name in manifest.source}
        planned = replace(planned, plan=replace(planned.plan, source={**planned.plan.source, **chosen}))
    if limit is None or difference_from_finished(planned.plan, manifest) is None:
        return planned
    # the limit of an extension counted samples that the data set had before; the ledger has all of them
    with suppress(DamagedError):
        return with_known(planned, LedgerIndex(ledger_parts(folder, manifest)), manifest)
    return planned


def _device(engine: dict[str, Any]) -> str:
    return "cpu" if str(engine.get("device")).startswith("cpu") else "auto"


def _require_same_source(folder: Path, planned: PlannedJob, manifest: Manifest) -> None:
    if (difference := difference_from_finished(planned.plan, manifest)) is not None:
        name, given, stored = difference
        raise CallError(
            f"{folder} was made from another source: its {name} is {short_text(stored)}, that of this source "
            f"{short_text(given)}; give the original source, with the same --labels, --holdout and --seed"
        )


def _without_removed(stage: Path, encoded: ShardEntry, keys: list[str], layout: SampleLayout) -> ShardEntry:
    """Rewrite the staged shard with only the samples that the ledger has in it, without dropped ones and duplicates."""
    shard = open_shard(stage / encoded.name, encoded, layout)
    row_of = {key: row for row, key in enumerate(shard.keys(range(len(shard))))}
    if not keys or any(key not in row_of for key in keys):
        return encoded
    return write_rows(stage, encoded, shard, np.array([row_of[key] for key in keys], np.int64), layout)[0]


def _require_same_shape(folder: Path, planned: PlannedJob, manifest: Manifest) -> None:
    """Raise `DamagedError` if the preprocessing makes latents of another shape, which could take any memory."""
    shape = tuple(planned.codec.latent_shape(planned.preparation.shape))
    if not manifest.layout.ragged and shape != manifest.latent_shape:
        raise DamagedError(
            f"{folder}: its preprocessing makes latents of {shorten(shape)}, its manifest lists "
            f"{shorten(manifest.latent_shape)}; {REMEDY}"
        )


def _difference_text(
    found: ShardEntry, expected: ShardEntry, engine: dict[str, Any], stored_engine: dict[str, Any]
) -> str:
    """Return a message about a shard with other bytes, with the probable cause."""
    changed = differences(engine, {name: stored_engine.get(name) for name in engine})
    causes = [f"{name} {now!r}, then {then!r}" for name, now, then in changed]
    cause = f"now {causes[0]}" if causes else "a file of the source has changed at the same size"
    return (
        f"encoded again, its SHA-256 is {found.sha256[:12]}…, expected {expected.sha256[:12]}… ({cause}); it was not "
        "changed: prepare the data set again"
    )

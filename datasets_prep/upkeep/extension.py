"""Plans an extension of a data set: compares the source with the ledger, and plans the new samples.

This module writes nothing: `extend` carries out the plan, and a dry run only reports it.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.output import extension_plan, require_same
from datasets_prep.job.plan import Plan, codec_identity, difference_from_finished, first_difference, plan_shards
from datasets_prep.job.plan_job import PlannedJob, plan_job, plan_samples
from datasets_prep.ledger.index import STORED, LedgerIndex
from datasets_prep.ledger.rewrite import ledger_parts, stored_ledger_schema
from datasets_prep.ledger.table import ledger_schema
from datasets_prep.sources.core.limits import LimitedSource
from datasets_prep.sources.core.source import Source
from datasets_prep.upkeep.source_diff import (
    NewSamplesSource,
    SourceDiff,
    diff_source,
    known_rows,
    require_same_labels,
)
from walloc_cdl.addresses import is_address, local_path
from walloc_cdl.codec import Codec
from walloc_cdl.errors import CallError
from walloc_cdl.latents import LEDGER_NAME, MANIFEST_NAME, Manifest, ShardEntry, load_manifest
from walloc_cdl.latents.manifest import SHARD_SUFFIX

SAME_SETTINGS = "give the value that it was made with, or prepare the source in another folder"
RESTART_EXTENSION = "give the same, or --restart with --extend to start the extension over"


@dataclass(frozen=True, eq=False)
class Extension:
    """A planned extension of a data set."""

    folder: Path
    job: PlannedJob
    """The job that encodes the new samples."""
    known: LedgerIndex
    diff: SourceDiff

    def notes(self) -> list[str]:
        """Return messages for users about the comparison, the number of new samples first."""
        folder, known, diff = self.folder, self.known, self.diff
        nothing = "no new samples" if diff.num_retried else "nothing to extend"
        notes = [f"{folder}: {f'{diff.num_new:,} new samples' if diff.num_new else nothing}"]
        num_gone = int(((known.states == STORED) & ~diff.seen).sum())
        if diff.num_retried:
            notes.append(f"{diff.num_retried:,} samples that could not be used before are tried again")
        if num_gone:
            notes.append(f"{num_gone:,} samples are no longer in the source; they stay in the data set")
        if diff.num_moved:
            notes.append(f"{diff.num_moved:,} samples are in another split of the source now; they stay in their split")
        if diff.num_relabeled:
            notes.append(
                f"WARNING: {diff.num_relabeled:,} samples have another label in the source now; they keep their old one"
            )
        return [*notes, *self.job.notes]


def require_folder(out: str | os.PathLike[str]) -> Path:
    """Return the folder of the data set; raises `CallError` for an address."""
    if is_address(out):
        raise CallError(f"{out} is an address; `cdl pull` the data set, extend it in a folder, and `cdl push` it")
    return local_path(out)


def plan_extension(source: Source, codec: Codec, folder: Path, config: PrepareConfig) -> PlannedJob:
    """Plan the encoding of a whole source with the codec of the data set `folder`, at its number of bit planes.

    Where the codec or the budget of this call has more bit planes, those that the data set has are stored. Raises
    `CallError` as `extend` does.
    """
    planned = plan_job(source, codec, config)
    if not (folder / MANIFEST_NAME).is_file():
        return planned
    spec, found = load_manifest(folder).spec, planned.codec.spec
    if found.codec_id != spec.codec_id or found.num_planes == spec.num_planes:
        return planned
    if found.num_planes < spec.num_planes:
        raise CallError(
            f"{folder} has {spec.num_planes} bit planes, but this call has {found.num_planes}; omit the budget, or "
            "`cdl cut` the data set first"
        )
    return plan_job(source, codec.with_planes(spec.num_planes), replace(config, bytes=None, bpp=None))


def compare(folder: Path, planned: PlannedJob, manifest: Manifest, *, only_retried: bool = False) -> Extension:
    """Plan the extension of the data set `folder` by the new samples of its source; `planned` is for the whole source.

    Samples that could not be used before are tried again; with `only_retried`, nothing else is.
    The plan of an unfinished extension is used, unless the configuration has `restart`. Raises `CallError` as `extend`
    does.
    """
    _require_compatible(folder, planned, manifest)
    known = LedgerIndex(ledger_parts(folder, manifest))
    planned = with_known(planned, known, manifest)
    diff = diff_source(planned.source, known, manifest)
    _require_unchanged(folder, diff)
    if only_retried:
        diff = diff.only_retried()
    job = replace(planned, source=NewSamplesSource(planned.source, manifest, diff.rows, diff.retried_rows))
    plan = _plan(job, manifest)
    if not planned.config.restart:
        plan = _plan_to_follow(folder, plan, planned.config)
    return Extension(folder, replace(job, plan=plan), known, diff)


def with_known(planned: PlannedJob, known: LedgerIndex, manifest: Manifest) -> PlannedJob:
    """Return the job with a limit, if it has one, that counts the samples of the data set and draws only the rest."""
    if not isinstance(planned.source, LimitedSource):
        return planned
    source = planned.source.extending(known_rows(planned.source.unlimited, known, manifest))
    return plan_samples(source, planned.codec, planned.preparation, planned.config)


def _require_compatible(folder: Path, planned: PlannedJob, manifest: Manifest) -> None:
    """Raise `CallError` unless new samples would be stored in the same way as those of the data set."""
    plan = replace(
        planned.plan,
        source={**manifest.source, "name": planned.plan.source["name"]},
        codec=codec_identity(planned.codec.spec),
    )
    require_same(folder, "a finished data set", difference_from_finished(plan, manifest), SAME_SETTINGS)
    require_same_labels(planned.source, manifest)
    if LEDGER_NAME not in manifest.files:
        raise CallError(f"{folder} has no {LEDGER_NAME}, which lists its samples; prepare it again in another folder")
    stored, new = stored_ledger_schema(folder, manifest), ledger_schema(planned.source)
    if stored.names != new.names or stored.types != new.types:
        raise CallError(
            f"the ledger of {folder} has the columns {', '.join(stored.names)}, but this call makes "
            f"{', '.join(new.names)}; keep the same columns of the source (keep=), with the same types"
        )


def _require_unchanged(folder: Path, diff: SourceDiff) -> None:
    if diff.num_changed:
        raise CallError(
            f"{diff.num_changed:,} samples of {folder} have changed in the source since they were encoded; the first "
            f"is {diff.first_changed}; restore the old ones, `cdl drop` them, which excludes them permanently, or "
            "prepare the source in another folder"
        )


def _plan(added: PlannedJob, manifest: Manifest) -> Plan:
    """Plan the new samples, in shards that are numbered after the existing ones."""
    first = {
        split: 1 + max((_number(entry) for entry in manifest.shards_of(split)), default=-1) for split in manifest.splits
    }
    shard_samples = added.plan.preprocessing["shard_samples"]
    return replace(added.plan, shards=plan_shards(added.source, shard_samples, first))


def _number(entry: ShardEntry) -> int:
    """Return the number in the name of a shard such as `train-00007.safetensors`; -1 for a name without a number."""
    number = entry.name.removeprefix(f"{entry.split}-").removesuffix(SHARD_SUFFIX)
    return int(number) if number.isascii() and number.isdecimal() else -1


def _plan_to_follow(folder: Path, plan: Plan, config: PrepareConfig) -> Plan:
    """Return the plan of an unfinished extension, or `plan`; raises `CallError` if the unfinished plan differs."""
    unfinished = extension_plan(folder)
    if unfinished is None:
        return plan
    compared = replace(plan, engine=unfinished.engine) if config.allow_drift else plan
    require_same(folder, "an unfinished extension", first_difference(compared, unfinished), RESTART_EXTENSION)
    return unfinished

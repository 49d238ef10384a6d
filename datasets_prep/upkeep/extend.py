"""`cdl prepare … --extend`: encodes the new samples of a source into additional shards of a finished data set.

An extension is a job of its own, in `_work/extension`, so that it is resumed as any job. Until its end the data set is
not changed: the old manifest is valid, and `cdl verify` finds no foreign files. Then shards, ledger, manifest and
copies are moved into place in one edit, completely or not at all. Any other command that would change the data set is
refused until the same command has completed the extension.

An extension refits nothing. Shards, codec and synthesis keep their bytes; the synthesis remains that of the first
state's train split, and only the histograms, from which a model's input takes its statistics, are updated. New classes
are numbered after the known ones, so that no stored class number changes. With several labels per sample, shards have a
column for each class, so that new classes are refused. Versions may differ from those of the first state; the
provenance records those of each extension.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from datasets_prep.encode.sample_layout import label_names, sample_layout
from datasets_prep.folders.system_errors import resumable
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.context import JobContext
from datasets_prep.job.drop_duplicates import drop_duplicate_samples
from datasets_prep.job.output import EXTENSION_NAME, extension_folder, extension_plan
from datasets_prep.job.plan import Plan, save_plan
from datasets_prep.job.plan_job import PlannedJob
from datasets_prep.job.progress import report_notes
from datasets_prep.job.run import OnProgress, encode_pending, open_context
from datasets_prep.ledger.duplicates import DuplicateFinder
from datasets_prep.ledger.index import row_hashes
from datasets_prep.ledger.rewrite import ledger_parts, stored_ledger_schema, write_edited_ledger
from datasets_prep.ledger.shard_records import load_rows, require_fitting, require_record
from datasets_prep.ledger.table import DUPLICATE, STRAY_ROWS, stray_rows
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.sources.core.source import Source
from datasets_prep.upkeep.edit import Edit, held, recover
from datasets_prep.upkeep.extension import Extension, compare, plan_extension, require_folder
from walloc_cdl.codec import Codec
from walloc_cdl.files import link_file, make_folder, move_file, remove_temporaries, remove_tree
from walloc_cdl.latents import LEDGER_NAME, WORK_NAME, Manifest, SplitSummary, load_manifest


def extend(
    source: Source, codec: Codec, out: str | os.PathLike[str], config: PrepareConfig, *, progress: OnProgress = None
) -> Manifest:
    """Encode the samples that the ledger of the data set `out` does not have, and return the new manifest.

    New shards are numbered after the existing ones. Samples that the source no longer has stay, dropped samples stay
    dropped, and quarantined samples are tried again: those that can be used now are added as new ones are, and if there
    are none, and no new samples, no file changes. The same call resumes an interrupted extension.

    Raises `CallError`, before anything is changed, for a codec, settings, labels or kept columns that differ from the
    data set's, for stored samples whose size has changed, and for an unfinished extension of another plan; `JobError`
    as `datasets_prep.prepare_local.prepare` does.
    """
    folder = require_folder(out)
    planned = plan_extension(source, codec, folder, config)
    with resumable(folder):
        return _extend(folder, planned, progress)


def _extend(folder: Path, planned: PlannedJob, progress: OnProgress) -> Manifest:
    """Carry out `extend` for a planned job."""
    if not (folder / WORK_NAME).is_dir():
        load_manifest(folder)  # raises for a folder that is no data set, before a work folder is created in it
    with held(folder):
        was_committed = recover(folder)
        manifest = load_manifest(folder)
        extension = compare(folder, planned, manifest)
        if planned.config.restart:
            remove_tree(extension_folder(folder))
        notes = ["an interrupted edit was completed"] if was_committed else []
        report_notes([*notes, *extension.notes()], extension.job.plan.num_samples, progress)
        return make_extension(folder, manifest, extension, progress)


def make_extension(folder: Path, manifest: Manifest, extension: Extension, progress: OnProgress) -> Manifest:
    """Carry out a planned extension of the data set, whose lock the caller holds, and return its new manifest.

    The data set stays as it is if there is nothing to encode, or only samples that still cannot be used.
    """
    if not extension.job.plan.num_samples:
        return manifest
    _open_extension(folder, extension.job.plan)
    plan, job_folder = extension.job.plan, extension_folder(folder)
    context = open_context(extension.job, job_folder, plan, plan.shards, progress, time.time())
    encode_pending(context, plan.shards)
    if not extension.diff.num_new and not any(_has_usable(context, shard) for shard in plan.shards):
        context.reporter.note("none of them can be used now; nothing was changed")
        remove_tree(job_folder)
        return manifest
    context.reporter.note("writing ledger and manifest")
    return _commit(Edit(folder, manifest), extension, context)


def _has_usable(context: JobContext, shard: PlannedShard) -> bool:
    """Return whether a shard has a sample that is not quarantined; it may be left out later as a duplicate."""
    reasons = load_rows(context.work, shard.name, ["reason"])["reason"].to_pylist()
    return any(reason in (None, DUPLICATE) for reason in reasons)


def _commit(edit: Edit, extension: Extension, context: JobContext) -> Manifest:
    """Commit the edit that adds the new shards, and return the data set's new manifest."""
    plan = extension.job.plan
    parts = _LedgerParts(edit, context, extension)
    num_rows = sum(part.num_rows for part in parts.all())
    if context.config.drop_duplicates:
        finder = DuplicateFinder(parts.all, num_rows)
        for part in parts.before():
            finder.mark(part)
        drop_duplicate_samples(context, finder)
    make_folder(edit.stage)
    schema = stored_ledger_schema(edit.folder, edit.manifest)
    entry, summary = write_edited_ledger(edit.stage / LEDGER_NAME, parts.all, num_rows, schema)
    manifest = replace(
        _with_shards(edit, context),
        files={**edit.manifest.files, LEDGER_NAME: entry},
        ledger=summary,
        source=plan.source,
    )
    engine = {"name": context.config.engine, **plan.engine}
    retried = {"num_retried": extension.diff.num_retried} if extension.diff.num_retried else {}
    edit.note("extend", num_samples=extension.diff.num_new, **retried, engine=engine)
    edit.commit(manifest, clear=[EXTENSION_NAME])
    return manifest


def _open_extension(folder: Path, plan: Plan) -> None:
    """Prepare the extension's folder for the job: save the plan and remove temporary files."""
    job = extension_folder(folder)
    if extension_plan(folder) is None:
        remove_tree(job)  # left by a call that was killed before it wrote its plan
        make_folder(job / WORK_NAME)
        save_plan(job / WORK_NAME, plan)
    for parent in (job, job / WORK_NAME):
        remove_temporaries(parent)


class _LedgerParts:
    """Yields the rows of the extended ledger in parts."""

    def __init__(self, edit: Edit, context: JobContext, extension: Extension) -> None:
        self._edit, self._context = edit, context
        self._known, self._diff = extension.known, extension.diff
        self._schema = stored_ledger_schema(edit.folder, edit.manifest)

    def before(self) -> Iterator[pa.Table]:
        """Yield the rows of the existing ledger, without those of samples that were tried again."""
        parts, retried = ledger_parts(self._edit.folder, self._edit.manifest), self._diff.retried
        if not retried.any():
            return parts
        return (part.filter(pa.array(~retried[self._known.find(row_hashes(part))])) for part in parts)

    def all(self) -> Iterator[pa.Table]:
        """Yield the rows of `before`, then those of the new samples, then those of the new stray files."""
        yield from self.before()
        for shard in self._context.plan.shards:
            yield load_rows(self._context.work, shard.name, num_rows=shard.num_samples)
        strays = self._diff.strays
        for start in range(0, len(strays), STRAY_ROWS):
            yield stray_rows(strays[start : start + STRAY_ROWS], self._schema)


def _with_shards(edit: Edit, context: JobContext) -> Manifest:
    """Stage the new shards, and return the manifest with the new shards, their counts and histograms."""
    manifest, source = edit.manifest, context.source
    layout = sample_layout(source, context.codec, context.preparation)
    zeros = np.zeros((layout.spec.latent_channels, 256), np.int64)
    names = [*manifest.splits, *(split for split in source.split_names if split not in manifest.splits)]
    num_samples = dict.fromkeys(names, 0) | {name: split.num_samples for name, split in manifest.splits.items()}
    histograms = {name: manifest.histograms.get(name, zeros).copy() for name in names}
    counts = {name: _padded_counts(manifest.splits.get(name), layout.labels.zero_class_counts()) for name in names}
    entries = []
    for shard in context.plan.shards:
        record = require_record(context.folder, context.work, shard, context.plan_digest)
        classes = counts[shard.split]
        require_fitting(record, len(zeros), None if classes is None else len(classes))
        if not record.entry.num_samples:  # nothing but samples that still cannot be used
            continue
        _stage(context.folder / shard.name, edit.stage / shard.name)
        entries.append(record.entry)
        histograms[shard.split] += record.histogram
        num_samples[shard.split] += record.entry.num_samples
        if classes is not None and record.class_counts is not None:
            classes += np.array(record.class_counts, np.int64)
    splits = {
        name: SplitSummary(num_samples[name], None if (classes := counts[name]) is None else classes.tolist())
        for name in names
    }
    shards = [*manifest.shards, *entries]
    return replace(manifest, **label_names(source), splits=splits, shards=shards, histograms=histograms)


def _padded_counts(split: SplitSummary | None, zero_counts: np.ndarray | None) -> np.ndarray | None:
    """Return the class counts of a split with zeros for new classes; `zero_counts` are the counts of no samples."""
    if zero_counts is None or split is None or split.class_counts is None:
        return zero_counts
    counts = zero_counts.copy()
    counts[: len(split.class_counts)] = split.class_counts
    return counts


def _stage(path: Path, target: Path) -> None:
    """Link the file, so that the shard need not be made again if the process ends before the commit."""
    try:
        link_file(path, target)
    except OSError:  # the file system does not support links
        move_file(path, target)

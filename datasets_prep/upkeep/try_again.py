"""Tries the quarantined samples of a data set again (`cdl repair --source`), and adds those that can be used now.

A sample may have been quarantined because a server was down, or its file may have been repaired since. What is added is
an extension as `cdl prepare --extend` makes it, of such samples alone: new samples are not added by a repair.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from datasets_prep.job.output import CODEC_FOLDER, extension_plan
from datasets_prep.job.plan import difference_from_finished, first_difference
from datasets_prep.upkeep.edit import STAGE_NAME
from datasets_prep.upkeep.encode_again import RepairConfig, planned_job
from datasets_prep.upkeep.extend import make_extension
from datasets_prep.upkeep.extension import compare
from walloc_cdl.codec import load_codec
from walloc_cdl.files import remove_tree
from walloc_cdl.latents import LEDGER_NAME, WORK_NAME, Manifest, load_provenance


@dataclass(frozen=True)
class TriedAgain:
    """What became of the quarantined samples of a data set."""

    num_tried: int = 0
    num_added: int = 0
    """Number of samples that could be used now."""
    hindrance: str | None = None
    """Why none was tried, if there are quarantined samples; one line for users."""


def try_again(folder: Path, manifest: Manifest, config: RepairConfig) -> TriedAgain:
    """Try the quarantined samples of the data set again; the caller holds its lock, and the data set is intact.

    Nothing is tried with a source that differs from that of the data set, in which other samples have changed, too. The
    same call resumes an interrupted one. Raises `JobError` as `datasets_prep.upkeep.extend.extend` does.
    """
    if LEDGER_NAME not in manifest.files or not manifest.ledger.get("num_quarantined"):
        return TriedAgain()
    engine = (load_provenance(folder) or {}).get("engine") or {}
    codec = load_codec(str(folder / CODEC_FOLDER)).for_latents(manifest.spec)
    planned = planned_job(folder, manifest, engine, codec, config)
    if (difference := difference_from_finished(planned.plan, manifest)) is not None:
        return TriedAgain(
            hindrance=f"not tried: the source has changed ({difference[0]}); `cdl prepare --extend` tries them"
        )
    begun_anew = replace(
        planned, config=replace(planned.config, restart=True)
    )  # compared with what is unfinished below
    extension = compare(folder, begun_anew, manifest, only_retried=True)
    extension = replace(extension, job=replace(extension.job, config=planned.config))
    unfinished = extension_plan(folder)
    if unfinished is not None and first_difference(extension.job.plan, unfinished) is not None:
        return TriedAgain(
            hindrance="not tried: an extension is unfinished; complete it by the command that started it, with --extend"
        )
    remove_tree(folder / WORK_NAME / STAGE_NAME)
    extended = make_extension(folder, manifest, extension, None)
    before, after = (sum(split.num_samples for split in each.splits.values()) for each in (manifest, extended))
    return TriedAgain(extension.diff.num_retried, after - before)

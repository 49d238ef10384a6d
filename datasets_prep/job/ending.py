"""The end of a job all of whose shards are done, whichever way they were made."""

from __future__ import annotations

from datasets_prep.job.encode_pending import Encoded
from datasets_prep.job.finish import Effort, finish, has_synthesis
from datasets_prep.job.output import remove_work
from datasets_prep.job.plan import Plan
from walloc_cdl.canonical import differences
from walloc_cdl.latents import Manifest


def end_job(encoded: Encoded, plan: Plan, asked: Plan, started_s: float, *, drop_duplicates: bool) -> Manifest:
    """Make a data set of the shards, and remove the work folder.

    `plan` is the one that they were made by, `asked` that of this call, whose device and versions may be others;
    `started_s` is in seconds since the epoch. Raises as `finish` does.
    """
    job = encoded.job
    synthesis = "fitting the linear synthesis, " if has_synthesis(job.codec, job.preparation) else ""
    encoded.reporter.note(f"{synthesis}writing ledger and manifest")
    drift = differences(plan.engine, asked.engine)
    effort = Effort(encoded.engine, started_s, encoded.num_encoded, drift)
    manifest = finish(job, plan, effort, drop_duplicates=drop_duplicates)
    remove_work(job.folder)
    return manifest

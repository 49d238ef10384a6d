"""What a task of the Ray engine does on its node: one shard, exactly as the local engine does it."""

from __future__ import annotations

import os
import platform
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets_prep.decode.pool import DecodePool
from datasets_prep.encode.devices import device_kind
from datasets_prep.encode.encoder import AnyEncoder, open_encoding
from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.context import JobContext
from datasets_prep.job.local_engine import encode_shards
from datasets_prep.job.plan import PLAN_NAME, Plan, load_plan
from datasets_prep.job.progress import Reporter
from datasets_prep.ledger.shard_records import ShardRecord
from datasets_prep.samples.preparation import Preparation
from datasets_prep.sources.core.shard_source import ShardRows, ShardSource, SourceFacts
from walloc_cdl.canonical import differences
from walloc_cdl.codec import Codec
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CdlError, JobError
from walloc_cdl.latents import WORK_NAME


@dataclass(frozen=True)
class NodeJob:
    """What all tasks of a job share; Ray sends it to each node once."""

    folder: Path
    """The data set's, absolute."""
    mark: Path
    """A file in it that is there as long as the job goes on; see `job_mark`."""
    plan_digest: str
    facts: SourceFacts
    preparation: Preparation
    codec: Codec
    config: PrepareConfig
    """Its device is the kind that was chosen where the job was started."""
    workers: int
    """Decoding processes of each task."""
    directory: str
    """Where the command was given: what relative paths of samples are relative to."""
    engine: dict[str, Any]
    """Kind of device and versions where the job was started; a node with others would make other bytes."""


@contextmanager
def job_mark(folder: Path) -> Iterator[Path]:
    """A file in the data set's work folder, absolute, that says to the tasks of this job that they are wanted."""
    mark = folder.absolute() / WORK_NAME / f"ray-{uuid.uuid4().hex}"
    mark.touch()
    try:
        yield mark
    finally:
        mark.unlink(missing_ok=True)


def make_shard(job: NodeJob, rows: ShardRows) -> ShardRecord:
    """Make one shard, file and record.

    Raises `JobError` on a node that does not see the data set's folder, or has other versions or another kind of
    device than the machine where the job was started, and when the job has stopped, after every chunk of samples.
    """
    tools = _tools_of(job)
    source = ShardSource(job.facts, rows)
    context = JobContext(
        folder=job.folder,
        plan=tools.plan,
        plan_digest=job.plan_digest,
        source=source,
        preparation=job.preparation,
        codec=job.codec,
        config=job.config,
        workers=job.workers,
        reporter=Reporter(None, None, lambda progress: _require_mark(job)),
    )
    try:
        _require_mark(job)
        (record,) = encode_shards(context, [source.shard], tools.pool, tools.encoder)
    except BaseException:
        _forget()  # a decoder may still be busy with what nobody waits for
        raise
    return record


@dataclass(frozen=True)
class _Tools:
    """What a process of Ray opens once and keeps for the shards that follow."""

    folder: Path
    plan: Plan
    plan_digest: str
    pool: DecodePool
    encoder: AnyEncoder


_kept: list[_Tools] = []


def _tools_of(job: NodeJob) -> _Tools:
    if _kept and (_kept[0].folder, _kept[0].plan_digest) == (job.folder, job.plan_digest):
        return _kept[0]
    _forget()
    plan = _require_plan(job)
    with suppress(OSError):  # where it is not there, the samples are missing, and `encode_shard` says so
        os.chdir(job.directory)
    _require_same_engine(job)
    encoding = open_encoding(
        job.codec, job.preparation, choose_device(job.config.device, allocate=True), batch=job.config.batch
    )
    pool = DecodePool(job.workers, job.preparation, encoding.in_workers)
    _kept.append(_Tools(job.folder, plan, job.plan_digest, pool, encoding.encoder))
    return _kept[0]


def _forget() -> None:
    while _kept:
        _kept.pop().pool.__exit__()


def _require_mark(job: NodeJob) -> None:
    if not job.mark.exists():
        raise JobError(f"the job in {str(job.folder)!r} has stopped; start it again to go on")


def _require_plan(job: NodeJob) -> Plan:
    """The job's plan, from the folder that it was started in, not one of the same name on the node's own disk."""
    plan = None
    with suppress(OSError, CdlError):
        plan = load_plan(job.folder / WORK_NAME)
    if plan is None or plan.digest() != job.plan_digest:
        raise JobError(
            f"node {platform.node()} does not see {str(job.folder / WORK_NAME / PLAN_NAME)!r} of this job; give an "
            "--out on storage that all nodes share"
        )
    return plan


def _require_same_engine(job: NodeJob) -> None:
    mine = {
        "device": device_kind(choose_device(job.config.device, allocate=True)),
        "versions": job.preparation.versions(),
    }
    for field, here, there in differences(mine, job.engine):
        raise JobError(
            f"node {platform.node()} has {field} {here!r}, the machine where the job was started {there!r}, and the "
            "bytes would differ; make the nodes alike, or leave this one out"
        )

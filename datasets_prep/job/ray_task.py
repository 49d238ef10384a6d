"""The task of the Ray engine on a node: makes one shard exactly as the local engine does."""

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
from walloc_cdl.confinement import confined
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CdlError, JobError
from walloc_cdl.files import remove_file, write_atomic
from walloc_cdl.latents import WORK_NAME


@dataclass(frozen=True)
class NodeJob:
    """The data that all tasks of a job share; Ray sends it to each node once."""

    folder: Path
    """Absolute path of the data set's folder."""
    marker: Path
    """A file in the folder that exists while the job runs; see `job_marker`."""
    plan_digest: str
    facts: SourceFacts
    preparation: Preparation
    codec: Codec
    config: PrepareConfig
    """Its device is the kind that was chosen on the machine where the job was started."""
    workers: int
    """Decoding processes of each task."""
    directory: str
    """Working directory of the command, to which relative paths of samples refer."""
    engine: dict[str, Any]
    """Kind of device and versions of the machine where the job was started; other ones could change the bytes."""


@contextmanager
def job_marker(folder: Path) -> Iterator[Path]:
    """Create a marker file in the data set's work folder while the block runs; tasks stop when it is gone."""
    marker = folder.absolute() / WORK_NAME / f"ray-{uuid.uuid4().hex}"
    write_atomic(marker, b"")
    try:
        yield marker
    finally:
        remove_file(marker)


def make_shard(job: NodeJob, rows: ShardRows) -> ShardRecord:
    """Write the file and the record of one shard.

    Raises `JobError` on a node that does not see the data set's folder, or whose versions or kind of device differ from
    those of the machine where the job was started, and if the job has stopped, which is checked after each chunk.
    """
    resources = _open_resources(job)
    source = ShardSource(job.facts, rows)
    context = JobContext(
        folder=job.folder,
        plan=resources.plan,
        plan_digest=job.plan_digest,
        source=source,
        preparation=job.preparation,
        codec=job.codec,
        config=job.config,
        workers=job.workers,
        reporter=Reporter(None, None, lambda progress: _require_marker(job)),
    )
    try:
        _require_marker(job)
        with confined(job.folder):
            (record,) = encode_shards(context, [source.shard], resources.pool, resources.encoder)
    except BaseException:
        _close_resources()  # a decoder may still be running, although its result is not needed
        raise
    return record


@dataclass(frozen=True)
class _Resources:
    """The objects that a process of Ray opens once and uses for all of its shards."""

    folder: Path
    plan: Plan
    plan_digest: str
    pool: DecodePool
    encoder: AnyEncoder


_opened: list[_Resources] = []


def _open_resources(job: NodeJob) -> _Resources:
    if _opened and (_opened[0].folder, _opened[0].plan_digest) == (job.folder, job.plan_digest):
        return _opened[0]
    _close_resources()
    plan = _require_plan(job)
    with suppress(OSError):  # if the directory does not exist, `encode_shard` reports missing samples
        os.chdir(job.directory)
    _require_same_engine(job)
    encoding = open_encoding(
        job.codec, job.preparation, choose_device(job.config.device, allocate=True), batch=job.config.batch
    )
    pool = DecodePool(job.workers, job.preparation, encoding.in_workers)
    _opened.append(_Resources(job.folder, plan, job.plan_digest, pool, encoding.encoder))
    return _opened[0]


def _close_resources() -> None:
    while _opened:
        _opened.pop().pool.__exit__()


def _require_marker(job: NodeJob) -> None:
    if not job.marker.exists():
        raise JobError(f"the job in {str(job.folder)!r} has stopped; start it again to continue")


def _require_plan(job: NodeJob) -> Plan:
    """Load the job's plan; raises `JobError` if the folder is not the job's, but one of the same name on the node."""
    plan = None
    with suppress(OSError, CdlError):
        plan = load_plan(job.folder / WORK_NAME)
    if plan is None or plan.digest() != job.plan_digest:
        raise JobError(
            f"node {platform.node()} does not see {str(job.folder / WORK_NAME / PLAN_NAME)!r} of this job; choose an "
            "--out on storage that all nodes share"
        )
    return plan


def _require_same_engine(job: NodeJob) -> None:
    engine = {
        "device": device_kind(choose_device(job.config.device, allocate=True)),
        "versions": job.preparation.versions(),
    }
    for field, node_value, job_value in differences(engine, job.engine):
        raise JobError(
            f"node {platform.node()} has {field} {node_value!r}, but the machine where the job was started has "
            f"{job_value!r}, and the bytes would differ; give all nodes the same, or exclude this node"
        )

"""Makes shards by tasks on a Ray cluster, one for each shard.

All nodes must see the data set's folder and the source at the paths that this machine uses.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
import ray.exceptions

from datasets_prep.encode.devices import device_kind
from datasets_prep.job.context import JobContext
from datasets_prep.job.progress import count_text
from datasets_prep.job.ray_cluster import cluster_connection, num_slots
from datasets_prep.job.ray_task import NodeJob, job_marker, make_shard
from datasets_prep.ledger.shard_records import ShardRecord
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.sources.core.shard_source import rows_of, source_facts
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CallError, CdlError, JobError
from walloc_cdl.files import remove_file

RETRIES = 5
"""How often a shard is started again when its node or process is lost."""

TASKS_PER_SLOT = 2
"""Submitted tasks for each task that can run at once, so that no task waits for this process."""

POLL_S = 1.0
STOP_TIMEOUT_S = 10.0
"""Time for tasks to notice that the job has stopped and to remove their unfinished files."""


class RayEngine:
    """Runs a task for each shard, which gets the shard's rows of the source; each node gets the codec once."""

    name = "ray"

    def __init__(self, *, address: str | None = None, cpus: float | None = None, gpus: float | None = None) -> None:
        """See `PrepareConfig.address`, `cpus_per_task` and `gpus_per_task`."""
        self._address, self._cpus, self._gpus = address, 1.0 if cpus is None else cpus, gpus

    def encode(self, context: JobContext, shards: Sequence[PlannedShard]) -> Generator[ShardRecord, None, None]:
        """See `Engine.encode`; yields shards in the order in which they finish.

        Raises `CallError` if no cluster answers or none of its nodes has the resources for a task, and `JobError` for a
        shard that could not be made.
        """
        device = choose_device(context.config.device)
        gpus = float(device.type == "cuda") if self._gpus is None else self._gpus
        if device.type == "cuda" and not gpus:
            raise CallError("gpus_per_task is 0 with a GPU as the device; give a share, such as 0.25, or device cpu")
        with cluster_connection(self._address), job_marker(context.folder) as marker:
            task = ray.remote(make_shard).options(
                num_cpus=self._cpus, num_gpus=gpus, max_retries=RETRIES, retry_exceptions=False
            )
            yield from self._run(task, self._node_job(context, device.type, marker), context, shards, gpus)

    def _node_job(self, context: JobContext, device: str, marker: Path) -> NodeJob:
        return NodeJob(
            folder=context.folder.absolute(),
            marker=marker,
            plan_digest=context.plan_digest,
            facts=source_facts(context.source),
            preparation=context.preparation,
            codec=context.codec,
            config=replace(context.config, device=device),
            workers=max(1, int(self._cpus)),
            directory=os.getcwd(),
            engine={
                "device": device_kind(choose_device(device)),
                "versions": context.preparation.versions(),
            },
        )

    def _run(
        self,
        task: Any,
        node_job: NodeJob,
        context: JobContext,
        shards: Sequence[PlannedShard],
        gpus: float,
    ) -> Iterator[ShardRecord]:
        reporter = context.reporter
        shared, waiting = ray.put(node_job), iter(shards)
        in_flight: dict[Any, PlannedShard] = {}
        try:
            while True:
                slots = num_slots(self._cpus, gpus)  # a cluster may grow or shrink
                num_submitted = TASKS_PER_SLOT * slots - len(in_flight)
                for _, shard in zip(range(num_submitted), waiting, strict=False):
                    in_flight[task.remote(shared, rows_of(context.source, shard))] = shard
                if not in_flight:
                    return
                # "up to": other jobs may use the cluster, too.
                reporter.worker_status(f"up to {count_text(min(slots, len(in_flight)), 'task')} at once")
                for done in ray.wait(list(in_flight), timeout=POLL_S)[0]:
                    shard = in_flight.pop(done)
                    record = _result(done, shard)
                    reporter.advance(shard.num_samples, record.num_quarantined, record.source_bytes)
                    yield record
        finally:
            _stop(node_job.marker, list(in_flight))


def _result(reference: Any, shard: PlannedShard) -> ShardRecord:
    """Return a task's record; raises the task's `CdlError` as it is, and any other error as `JobError`."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CdlError):
            raise error.cause from None
        raise _failure(shard, error.cause) from error
    except ray.exceptions.RayError as error:
        raise _failure(shard, error) from error


def _failure(shard: PlannedShard, error: BaseException) -> JobError:
    lines = str(error).strip().splitlines() or [""]
    return JobError(
        f"shard {shard.name} could not be made: {type(error).__name__}: {lines[0][:200]}; run the same command again "
        "to continue"
    )


def _stop(marker: Path, references: list[Any]) -> None:
    """Remove the marker and give tasks time to notice that.

    `ray.cancel` would interrupt them at once, but if a task ends at that moment, it aborts this process (Ray 2.60:
    "Check failed: it != submissible_tasks_.end()"). Tasks that take longer end with the connection, or at their next
    chunk.
    """
    remove_file(marker)
    if references and ray.is_initialized():
        ray.wait(references, num_returns=len(references), timeout=STOP_TIMEOUT_S)

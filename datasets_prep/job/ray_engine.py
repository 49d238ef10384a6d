"""Tasks on a Ray cluster, one for each shard; nodes see the data set's folder and the source as this machine does."""

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
from datasets_prep.job.progress import counted
from datasets_prep.job.ray_cluster import connected, num_slots
from datasets_prep.job.ray_task import NodeJob, job_mark, make_shard
from datasets_prep.ledger.shard_records import ShardRecord
from datasets_prep.samples.planned_shard import PlannedShard
from datasets_prep.sources.core.shard_source import rows_of, source_facts
from walloc_cdl.devices import choose_device
from walloc_cdl.errors import CallError, CdlError, JobError

RETRIES = 5
"""So often a shard is begun anew elsewhere when its node or process is lost."""

TASKS_PER_SLOT = 2
"""Tasks that are known to Ray for each that can run at once: enough that none waits for this process."""

POLL_S = 1.0
STOP_S = 10.0
"""So long tasks may take to notice that the job has stopped and to remove what they had begun."""


class RayEngine:
    """A task for each shard; it gets that shard's rows of the source, and the codec once for each node."""

    name = "ray"

    def __init__(self, *, address: str | None = None, cpus: float | None = None, gpus: float | None = None) -> None:
        """See `PrepareConfig.address`, `cpus_per_task` and `gpus_per_task`."""
        self._address, self._cpus, self._gpus = address, 1.0 if cpus is None else cpus, gpus

    def encode(self, context: JobContext, shards: Sequence[PlannedShard]) -> Generator[ShardRecord, None, None]:
        """See `Engine.encode`; whichever shard is done comes first.

        Raises `CallError` when no cluster answers or none of its nodes has what a task needs, and `JobError` for a
        shard that could not be made.
        """
        device = choose_device(context.config.device)
        gpus = float(device.type == "cuda") if self._gpus is None else self._gpus
        if device.type == "cuda" and not gpus:
            raise CallError("gpus_per_task is 0 with a GPU as the device; give a share, as 0.25, or device cpu")
        with connected(self._address), job_mark(context.folder) as mark:
            task = ray.remote(make_shard).options(
                num_cpus=self._cpus, num_gpus=gpus, max_retries=RETRIES, retry_exceptions=False
            )
            yield from self._run(task, self._node_job(context, device.type, mark), context, shards, gpus)

    def _node_job(self, context: JobContext, device: str, mark: Path) -> NodeJob:
        return NodeJob(
            folder=context.folder.absolute(),
            mark=mark,
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
                room = TASKS_PER_SLOT * slots - len(in_flight)
                for _, shard in zip(range(room), waiting, strict=False):
                    in_flight[task.remote(shared, rows_of(context.source, shard))] = shard
                if not in_flight:
                    return
                # No more than that: others may use the cluster, too.
                reporter.worker_status(f"up to {counted(min(slots, len(in_flight)), 'task')} at once")
                for done in ray.wait(list(in_flight), timeout=POLL_S)[0]:
                    shard = in_flight.pop(done)
                    record = _result(done, shard)
                    reporter.advance(shard.num_samples, record.num_quarantined, record.source_bytes)
                    yield record
        finally:
            _stop(node_job.mark, list(in_flight))


def _result(reference: Any, shard: PlannedShard) -> ShardRecord:
    """The record that a task has returned; its `CdlError` as it was raised, and anything else as a `JobError`."""
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
        f"shard {shard.name} could not be made: {type(error).__name__}: {lines[0][:200]}; run the same again to go on"
    )


def _stop(mark: Path, references: list[Any]) -> None:
    """Take the mark away and give tasks time to see it.

    `ray.cancel` would interrupt them at once, but where a task ends in that moment it ends this process with it (Ray
    2.60: "Check failed: it != submissible_tasks_.end()"). Those that take longer end with the connection, or at their
    next chunk.
    """
    mark.unlink(missing_ok=True)
    if references and ray.is_initialized():
        ray.wait(references, num_returns=len(references), timeout=STOP_S)

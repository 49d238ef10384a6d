"""Runs a training loop in a run's folder: resumes it, saves checkpoints, and writes the record."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.files import write_atomic
from walloc_cdl.threads import torch_threads
from walloc_cdl.training.checkpoint import checkpoint_to_bytes, load_checkpoint, tensors_to_bytes
from walloc_cdl.training.environment import source_commit
from walloc_cdl.training.interfaces import DivergedError
from walloc_cdl.training.loop import TrainingLoop
from walloc_cdl.training.record import MetricsT, RunRecord
from walloc_cdl.training.run_folder import RunFolder


@dataclass(frozen=True)
class SaveInterval:
    """How often checkpoints are written within an epoch; after an epoch there is always one.

    It has no influence on the weights, so a resumed run may have another one. Raises `CallError` for values out of
    range.
    """

    minutes: float | None = 10.0
    updates: int | None = None

    def __post_init__(self) -> None:
        if self.minutes is not None and not self.minutes > 0:
            raise CallError(f"minutes between checkpoints are {self.minutes}; they must be above 0, or None for never")
        if self.updates is not None and not self.updates > 0:
            raise CallError(f"updates between checkpoints are {self.updates}; they must be above 0, or None for never")

    def timer(self) -> Callable[[], bool]:
        """Returns a function that is called after each update and says whether to save now."""
        last_s, num_updates = time.monotonic(), 0

        def is_due() -> bool:
            nonlocal last_s, num_updates
            num_updates += 1
            is_late = self.minutes is not None and time.monotonic() - last_s >= 60 * self.minutes
            if not is_late and (self.updates is None or num_updates < self.updates):
                return False
            last_s, num_updates = time.monotonic(), 0
            return True

        return is_due


def run_epochs(
    loop: TrainingLoop,
    run: RunFolder,
    *,
    save: SaveInterval | None = None,
    after_epoch: Callable[[TrainingLoop], None] | None = None,
) -> None:
    """Train what the folder's checkpoint does not have yet, then load the averaged weights into the model.

    The loop uses the number of torch's threads that it was given, that of the checkpoint, or the one that is fastest
    now. `RunFolder.claim` must have been called. Of several processes, the first one writes; all must see its files.
    `after_epoch` is called after each epoch, once its checkpoint is written. Raises `DamagedError` for a checkpoint
    that is broken or belongs to another run, `CallError` for a checkpoint of another number of threads,
    `DivergedError` if the loss diverges, and at once if it did so in an earlier call.
    """
    run.require_not_diverged()
    digest = run.config_digest()
    if run.checkpoint_path.is_file():
        tensors, values = load_checkpoint(run.checkpoint_path)
        if values.get("config_sha256") != digest:
            raise DamagedError(f"{run.checkpoint_path} belongs to another run than config.json; name another folder")
        loop.restore(tensors, values, origin=str(run.checkpoint_path))
    loop.processes.wait()  # until all have read the checkpoint, before the first one replaces it

    def write() -> None:
        if loop.processes.is_main:
            tensors, values = loop.state()
            write_atomic(run.checkpoint_path, checkpoint_to_bytes(tensors, {**values, "config_sha256": digest}))

    def write_if_due() -> None:
        if is_due():
            loop.require_finite()
            write()

    with torch_threads(loop.threads if loop.is_done else loop.choose_threads()):
        is_due = (save or SaveInterval()).timer()
        while not loop.is_done:
            try:
                loop.run_epoch(write_if_due)
                write()
            except DivergedError as error:
                if loop.processes.is_main:
                    run.note_divergence(str(error))
                raise
            if after_epoch is not None:
                after_epoch(loop)
    loop.use_result()


def finish_run(
    loop: TrainingLoop, run: RunFolder, *, metrics: MetricsT | None, environment: dict[str, Any]
) -> RunRecord[MetricsT]:
    """Save the model's weights and write the record, which marks the run as finished; for the first process alone.

    `environment` is the result of `describe_environment`.
    """
    weights = tensors_to_bytes(loop.weights())
    record = RunRecord(
        config=run.load_config(),
        seeds={"train": loop.config.seed},
        commit=source_commit(),
        environment=environment,
        metrics=metrics,
        elapsed_s=loop.history.elapsed_s,
        images_per_s=statistics.median(loop.history.images_per_s),
        history=loop.history.epochs,
        epoch=loop.result_epoch,
        weights_sha256=sha256_hex(weights),
    )
    write_atomic(run.weights_path, weights)
    run.save_record(record)
    return record

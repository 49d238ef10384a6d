"""Runs a training loop in a run's folder: resumes it, saves a checkpoint after every epoch, and writes the record."""

from __future__ import annotations

import statistics
from typing import Any

from walloc_cdl.canonical import sha256_hex
from walloc_cdl.errors import DamagedError
from walloc_cdl.files import write_atomic
from walloc_cdl.threads import torch_threads
from walloc_cdl.training.checkpoint import checkpoint_to_bytes, load_checkpoint, tensors_to_bytes
from walloc_cdl.training.environment import source_commit
from walloc_cdl.training.loop import DivergedError, TrainingLoop
from walloc_cdl.training.record import MetricsT, RunRecord
from walloc_cdl.training.run_folder import RunFolder


def run_epochs(loop: TrainingLoop, run: RunFolder) -> None:
    """Train the epochs that the folder's checkpoint does not have yet, then load the averaged weights into the model.

    The loop uses the number of torch's threads that it was given, that of the checkpoint, or the one that is fastest
    now. `RunFolder.claim` must have been called. Raises `DamagedError` for a checkpoint that is broken or belongs to
    another run, `CallError` for a checkpoint of another number of threads, `DivergedError` if the loss diverges, and at
    once if it did so in an earlier call.
    """
    run.require_not_diverged()
    digest = run.config_digest()
    if run.checkpoint_path.is_file():
        tensors, values = load_checkpoint(run.checkpoint_path)
        if values.get("config_sha256") != digest:
            raise DamagedError(f"{run.checkpoint_path} belongs to another run than config.json; name another folder")
        loop.restore(tensors, values, origin=str(run.checkpoint_path))
    with torch_threads(loop.choose_threads() if loop.epoch < loop.config.epochs else loop.threads):
        while loop.epoch < loop.config.epochs:
            try:
                loop.run_epoch()
            except DivergedError as error:
                run.note_divergence(str(error))
                raise
            tensors, values = loop.state()
            write_atomic(run.checkpoint_path, checkpoint_to_bytes(tensors, {**values, "config_sha256": digest}))
    loop.use_average()


def finish_run(
    loop: TrainingLoop, run: RunFolder, *, metrics: MetricsT | None, environment: dict[str, Any]
) -> RunRecord[MetricsT]:
    """Save the model's weights and write the record, which marks the run as finished.

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
        weights_sha256=sha256_hex(weights),
    )
    write_atomic(run.weights_path, weights)
    run.save_record(record)
    return record

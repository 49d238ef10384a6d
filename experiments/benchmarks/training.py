"""`cdl bench train`: training steps of a small model on batches from `LatentLoader` and from peers.

Readers of codes feed a timm model with the synthesis stem; readers of images feed the same model with pixels of the
same grid, so that tokens and operations are equal. The limit of each is its model on one constant batch.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn.functional import cross_entropy

from classifiers import create_model
from classifiers.models.backbones import resolve_model
from experiments.benchmarks.autotune import choose_peer_settings, choose_setting
from experiments.benchmarks.machine import describe_machine
from experiments.benchmarks.reading import ReadingConfig, loader_settings, make_reading_task
from experiments.benchmarks.result import Figure, Limit, Result
from experiments.benchmarks.step_parts import measure_parts, prepare_photos
from experiments.benchmarks.synthetic import SyntheticSet, write_synthetic_set
from experiments.benchmarks.threads import choose_threads
from experiments.benchmarks.timing import OnPhase, Run, Timing, limit_time, silent, time_in_turn
from experiments.peers.catalog import choose_peers
from experiments.peers.peer import Batch, ReadEpoch
from walloc_cdl.data import open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.threads import torch_threads
from walloc_cdl.training import LoopConfig, build_optimizer

CODES, PIXELS = "codes", "pixels"
"""Inputs of a model."""
PIXEL_SIDE = 64
TRIAL_STEPS, TRIAL_S = 4, 20.0


@dataclass(frozen=True)
class TrainBenchmark:
    """Settings of `measure_training`."""

    model: str = "resnet18"
    reading: ReadingConfig = ReadingConfig(batch_size=64)  # noqa: RUF009 - frozen
    steps: int = 20
    """Updates per run."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise CallError(f"steps is {self.steps}; it must be at least 1")


def measure_training(
    config: TrainBenchmark,
    timing: Timing,
    against: str | None = None,
    *,
    folder: Path | str | None = None,
    on_phase: OnPhase = silent,
) -> Result:
    """Time training steps in float32 on the CPU, on synthetic codes and photos in a temporary folder.

    `against` names the peers, as `cdl bench train --against` does. Raises `CallError` for an unknown model.
    """
    peers, absent = choose_peers("train", against)
    resolve_model(config.model)
    threads = choose_threads(config.reading.threads)
    with tempfile.TemporaryDirectory(dir=folder, prefix="cdl-bench-") as parent, torch_threads(threads):
        machine = describe_machine(tuple(peer.package for peer in peers if peer.package))
        on_phase("writing synthetic data", 0, 0)
        task = make_reading_task(Path(parent), config.reading, peers, threads, with_synthesis=True)
        codes = _Trainer(config, task.latents)
        pixels = _Trainer(config, _write_pixels(Path(parent) / "pixels"))
        trainers = {CODES: codes, PIXELS: pixels}
        candidates = [choose_setting(name, settings, codes.trial) for name, settings in loader_settings(task).items()]
        for trainer, reads_images in ((codes, False), (pixels, True)):
            matching = [peer for peer in peers if peer.reads_images == reads_images]
            others, failed = choose_peer_settings(
                matching, lambda peer: peer.read_settings(task), [trainer.trial], on_phase
            )
            candidates += [each for (each,) in others]
            absent = [*absent, *failed]
        runs = {
            kind: trainer.steps(trainer.constant_batch, config.steps, timing.max_s)
            for kind, trainer in trainers.items()
        }
        for each in candidates:
            trainer = pixels if each.reads_images else codes
            runs[each.name] = trainer.steps(each.setting.work, config.steps, timing.max_s)
        for trainer in trainers.values():
            trainer.trial(trainer.constant_batch)(0)
        rates = time_in_turn(runs, timing.repeats, partial(on_phase, "training"))
        on_phase("parts of a step", 0, 0)
        dataset = prepare_photos(Path(parent) / "parts", 2 * config.reading.batch_size)
        parts = measure_parts(dataset, config.model, batch_size=config.reading.batch_size, steps=config.steps)
    figures = []
    for each in candidates:
        limits = rates[PIXELS if each.reads_images else CODES]
        setting = each.setting
        figures.append(Figure(each.name, setting.text, setting.documented, rates[each.name], limits, each.tried))
    return Result(
        benchmark="train",
        unit="images/s",
        work={
            "model": config.model,
            "grid": PIXEL_SIDE,
            "bytes": config.reading.num_bytes,
            "batch_size": config.reading.batch_size,
            "steps": config.steps,
            "images": config.reading.images_text,
            "repeats": timing.repeats,
        },
        machine=machine,
        limits=[
            Limit(CODES, "the model with the synthesis stem alone, on one constant batch", rates[CODES]),
            Limit(PIXELS, f"the model on one constant batch of {PIXEL_SIDE}-pixel images", rates[PIXELS]),
        ],
        figures=figures,
        absent=absent,
        parts=parts,
    )


def _write_pixels(folder: Path) -> Path:
    """Write a synthetic data set of as many pixels as the codes have values, as resolution reduction stores them."""
    shape = (3, PIXEL_SIDE, PIXEL_SIDE)
    sample_bytes = 3 * PIXEL_SIDE**2
    write_synthetic_set(
        folder, SyntheticSet(64 * sample_bytes, shape, stride=4, companding="none", with_synthesis=True)
    )
    return folder


class _Trainer:
    """A model in training, with a constant batch."""

    def __init__(self, config: TrainBenchmark, folder: Path) -> None:
        torch.manual_seed(config.reading.seed)
        dataset = open_latents(folder)
        model = create_model(config.model, dataset, grid=PIXEL_SIDE)
        self._model = model.to(memory_format=torch.channels_last).train()
        self._optimizer = build_optimizer(self._model, LoopConfig())
        rows = torch.arange(config.reading.batch_size) % len(dataset)
        self._batch: Batch = dataset.gather(rows.numpy())

    def constant_batch(self, epoch: int) -> Iterator[Batch]:
        """Yield the same batch forever."""
        del epoch
        while True:
            yield self._batch

    def trial(self, read: ReadEpoch) -> Run:
        """Returns a short run, to warm up or to choose a setting."""
        return self.steps(read, TRIAL_STEPS, TRIAL_S)

    def steps(self, read: ReadEpoch, num_steps: int, max_s: float) -> Run:
        """Returns a run of `num_steps` updates, or `max_s` seconds, over as many epochs as needed; it counts images."""

        def run(repeat: int) -> float:
            num_images = 0
            for step, (codes, labels) in enumerate(limit_time(_epochs(read, repeat), max_s), start=1):
                loss = cross_entropy(self._model(codes), labels)
                self._optimizer.zero_grad(set_to_none=True)
                loss.backward()
                self._optimizer.step()
                num_images += len(labels)
                if step == num_steps:
                    break
            return num_images

        return run


def _epochs(read: ReadEpoch, repeat: int) -> Iterator[Batch]:
    """Yield the batches of one epoch after the other."""
    epoch = 1000 * repeat
    while True:
        yield from read(epoch)
        epoch += 1

"""After how many epochs encoding once has paid for itself, against decoding the source's files in every step.

Both ways train the same model on the same grid, with the same batches. One decodes, resizes and crops the files in
worker processes while it trains, by the decoder of `cdl prepare`, so the way that it is compared with is as fast as
this package can make it. The other prepares a data set first, and then reads that.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from classifiers import LatentClassifier
from datasets_prep.decode.images import ImagePreparation
from datasets_prep.decode.pool import DecodePool
from datasets_prep.job.config import PrepareConfig, choose_workers
from datasets_prep.prepare_local import prepare
from datasets_prep.sources import Source
from datasets_prep.sources.core.limits import limit
from experiments.benchmarks.devices import synchronize
from experiments.comparison.results import BreakEven
from walloc_cdl.codec import Codec
from walloc_cdl.data import LatentDataset, LatentLoader, open_latents
from walloc_cdl.training import LoopConfig, build_optimizer

TRAIN = "train"
CHUNK_SAMPLES = 16
MAX_EPOCHS = 12
"""Epochs that are timed at most; a later crossing is extrapolated from them."""
RATE_STEPS, RATE_TURNS = 32, 5
"""Batches of which each part is timed, in turn, and how often; medians count."""

CreateModel = Callable[[LatentDataset], LatentClassifier]
Batch = tuple[Tensor, Tensor]
"""Pixels or codes, and labels."""
Work = Callable[[Tensor, Tensor], object]
OnPhase = Callable[[str, int, int], object]


@dataclass(frozen=True)
class BreakEvenConfig:
    """Settings of `measure_break_even`."""

    condition: str
    """The name of the condition, for the result."""
    size: int
    """Side of the crop that is prepared, in pixels."""
    num_bytes: int | None = None
    """Bytes that are read of each stored sample; None for all."""
    batch_size: int = 32
    max_samples: int = 2000
    """Training samples that are used; times are those of so many."""
    workers: int | None = None
    """Decoding processes of both ways; None for one for each processor."""


def measure_break_even(
    source: Source,
    codec: Codec,
    create: CreateModel,
    config: BreakEvenConfig,
    *,
    device: torch.device | None = None,
    folder: Path | str | None = None,
    on_phase: OnPhase = lambda phase, done, total: None,
) -> BreakEven:
    """Time preparing and epochs of both ways in turn, until the sums cross; also predict it from rates of the parts.

    `create` makes a classifier with the synthesis stem. The prediction takes the sum of decoding and training for an
    epoch on a CPU, where both want the same processors, and the longer of both on a GPU. The prepared data set is
    written to a temporary folder below `folder` and removed. Raises the errors of `prepare`.
    """
    device = device or torch.device("cpu")
    source = limit(source, config.max_samples)
    with tempfile.TemporaryDirectory(dir=folder, prefix="cdl-costs-") as parent:
        on_phase("preparing", 0, 0)
        start = time.perf_counter()
        prepare(source, codec, Path(parent) / "latents", PrepareConfig(size=config.size, workers=config.workers))
        elapsed_s = time.perf_counter() - start
        dataset = open_latents(Path(parent) / "latents", TRAIN, bytes=config.num_bytes)
        # Only the share of the training samples counts: epochs train on no others.
        prepare_s = elapsed_s * source.num_samples(TRAIN) / sum(map(source.num_samples, source.split_names))
        ways = _Ways(source, dataset, create(dataset), config, device)
        with ways.pool:
            on_phase("warming up", 0, 0)
            ways.warm_up()
            parts = ways.seconds_of_parts()
            source_s, stored_s = ways.predict(parts)
            saved_s = source_s - stored_s
            sums = [0.0, prepare_s]
            times: tuple[list[float], list[float]] = ([], [])
            for epoch in range(MAX_EPOCHS):
                on_phase("epochs of both ways", epoch, MAX_EPOCHS)
                for way, run in enumerate((ways.source_epoch, ways.stored_epoch)):
                    times[way].append(run(epoch))
                    sums[way] += times[way][-1]
                if sums[0] >= sums[1]:
                    break
    return BreakEven(
        condition=config.condition,
        prepare_s=prepare_s,
        source_epoch_s=float(np.mean(times[0])),
        stored_epoch_s=float(np.mean(times[1])),
        predicted_epochs=prepare_s / saved_s if saved_s > 0 else None,
        measured_epochs=crossing(prepare_s, *times),
    )


def crossing(prepare_s: float, source_s: list[float], stored_s: list[float]) -> float | None:
    """Returns after how many epochs the sum of `source_s` reaches that of `prepare_s` and `stored_s`.

    Within an epoch, and after the last one, time passes evenly. None if it is not reached at that rate.

    >>> crossing(3.0, [2.0, 2.0], [1.0, 0.0]), crossing(6.0, [2.0, 2.0], [1.0, 1.0]), crossing(1.0, [2.0], [2.0])
    (2.0, 6.0, None)
    """
    behind = prepare_s
    for epoch, (source, stored) in enumerate(zip(source_s, stored_s, strict=True)):
        saved = source - stored
        if saved >= behind:
            return epoch + behind / saved
        behind -= saved
    mean = (sum(source_s) - sum(stored_s)) / len(source_s)
    return len(source_s) + behind / mean if mean > 0 else None


class _Ways:
    """Both ways to train one model."""

    def __init__(
        self,
        source: Source,
        dataset: LatentDataset,
        model: LatentClassifier,
        config: BreakEvenConfig,
        device: torch.device,
    ) -> None:
        self.model = model.to(device, memory_format=torch.channels_last).train()
        self.optimizer = build_optimizer(self.model, LoopConfig())
        self.source, self.config, self.device = source, config, device
        self.labels = np.maximum(source.listing.splits[TRAIN].labels, 0)
        self.num_samples, self.num_usable = source.num_samples(TRAIN), len(dataset)
        self.batch_size = min(config.batch_size, self.num_usable)
        size = model.config.input_size[-1]
        self.preparation = ImagePreparation(dataset.spec.source_channels, size)
        self.workers = choose_workers(PrepareConfig(workers=config.workers), self.num_samples)
        self.pool = DecodePool(self.workers, self.preparation)
        self.loader = LatentLoader(dataset, self.batch_size, shuffle=True, drop_last=True, device=device)

    def source_epoch(self, epoch: int) -> float:
        """Train on files that are decoded meanwhile, in a new order; returns the seconds."""
        return self._timed(self._source_batches(epoch), self._on_pixels)

    def stored_epoch(self, epoch: int) -> float:
        """Train on what is stored; returns the seconds."""
        return self._timed(iter(self.loader), self._on_codes)

    def warm_up(self) -> None:
        """Start the workers, and take a step of each kind."""
        self._timed(self._source_batches(0, 2), self._on_pixels)
        self._timed(itertools.islice(iter(self.loader), 2), self._on_codes)

    def seconds_of_parts(self) -> dict[str, float]:
        """Return the seconds that an epoch takes to make pixels from files, from what is stored, and to train on them.

        The model's step is the same for both, so it is timed once: the difference of two timings of it would be noise.
        """
        num_batches = self.num_usable // self.batch_size
        steps = min(RATE_STEPS, num_batches)
        pixels = next(self._source_batches(0, 1))
        parts: dict[str, Callable[[int], tuple[Iterator[Batch], Work]]] = {
            "files": lambda turn: (self._source_batches(turn, steps), self._normalize),
            "stored": lambda turn: (itertools.islice(iter(self.loader), steps), self._synthesize),
            "training": lambda turn: (itertools.repeat(pixels, steps), self._on_pixels),
        }
        turns = [{name: self._timed(*part(turn)) for name, part in parts.items()} for turn in range(RATE_TURNS)]
        return {name: statistics.median(turn[name] for turn in turns) * num_batches / steps for name in parts}

    def predict(self, seconds: dict[str, float]) -> tuple[float, float]:
        """Return the seconds of an epoch of each way that follow from those of their parts."""
        join = max if self.device.type == "cuda" else lambda first, second: first + second
        return join(seconds["files"], seconds["training"]), join(seconds["stored"], seconds["training"])

    def _timed(self, batches: Iterator[Batch], work: Work) -> float:
        start = time.perf_counter()
        for inputs, labels in batches:
            work(inputs, labels)
        synchronize(self.device)
        return time.perf_counter() - start

    def _on_codes(self, codes: Tensor, labels: Tensor) -> None:
        self._update(self.model(codes), labels)

    def _on_pixels(self, pixels: Tensor, labels: Tensor) -> None:
        self._update(self.model.backbone(self._normalize(pixels, labels)), labels.to(self.device))

    def _normalize(self, pixels: Tensor, labels: Tensor) -> Tensor:
        del labels
        values = pixels.to(self.device).float().div_(255).sub_(0.5)
        mean, std = (value.reshape(-1, 1, 1) for value in (self.model.stem.pixel_mean, self.model.stem.pixel_std))
        return (values - mean) / std

    def _synthesize(self, codes: Tensor, labels: Tensor) -> Tensor:
        del labels
        with torch.no_grad():
            return self.model.pixels(codes)

    def _update(self, logits: Tensor, labels: Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        cross_entropy(logits, labels.clamp(min=0)).backward()
        self.optimizer.step()

    def _source_batches(self, epoch: int, num_batches: int | None = None) -> Iterator[Batch]:
        """Yield whole batches of pixels uint8 (B, C, S, S) and labels, in an order of the epoch's own."""
        order = np.random.default_rng(epoch).permutation(self.num_samples)
        if num_batches is not None:
            order = order[: num_batches * self.batch_size + self.num_samples - self.num_usable]  # some are damaged
        tasks = (
            (part, [self.source.read(TRAIN, int(index)) for index in part])
            for part in (order[start : start + CHUNK_SAMPLES] for start in range(0, len(order), CHUNK_SAMPLES))
        )
        pixels: list[np.ndarray] = []
        labels: list[int] = []
        for part, chunk in self.pool.decode(tasks):
            pixels += list(chunk.signals)
            labels += [int(self.labels[index]) for place, index in enumerate(part) if place not in chunk.reasons]
            while len(pixels) >= self.batch_size:
                yield torch.from_numpy(np.stack(pixels[: self.batch_size])), torch.tensor(labels[: self.batch_size])
                pixels, labels = pixels[self.batch_size :], labels[self.batch_size :]

"""The parts of a training step on stored latents: what comes before the model, beside the model's own step.

One run trains on a data set of bit planes that `cdl prepare` made of synthetic photos, and a clock is read between the
parts of each step, so that all parts share the disturbances of the machine. The loader has no thread of its own here:
its whole work counts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from classifiers import LatentClassifier, create_model
from classifiers.models.stems import SynthesisStem
from datasets_prep import PrepareConfig, open_source, prepare
from experiments.benchmarks.devices import synchronize
from experiments.benchmarks.synthetic import write_photos
from walloc_cdl.augment.config import PRESETS
from walloc_cdl.augment.pipeline import PixelAugmentation
from walloc_cdl.codec import load_codec
from walloc_cdl.data import LatentDataset, LatentLoader, open_latents
from walloc_cdl.training import LoopConfig, build_optimizer

LOADER, UNPACKING, SYNTHESIS, AUGMENTATION, STEP = "loader", "unpacking", "synthesis", "augmentation light", "step"
LIMIT = 0.15
"""Largest share of the model's step that all parts before it may take."""
GRID = 128
WARM_UP = 2


@dataclass(frozen=True)
class StepParts:
    """Seconds of each part in each step of one run."""

    model: str
    grid: int
    batch_size: int
    seconds: dict[str, list[float]]

    def share(self, part: str) -> float:
        """Returns the median of a part's share of the model's step, over the steps."""
        steps = self.seconds[STEP]
        return statistics.median(own / step for own, step in zip(self.seconds[part], steps, strict=True))

    @property
    def overhead(self) -> float:
        """The median share of all parts before the model's step."""
        before = zip(*(times for part, times in self.seconds.items() if part != STEP), strict=True)
        sums = [sum(times) for times in before]
        return statistics.median(own / step for own, step in zip(sums, self.seconds[STEP], strict=True))

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Returns headings and rows."""
        name = f"step of {self.model}"
        rows = [
            [part, f"{1000 * statistics.median(times):.1f}", "" if part == STEP else f"{self.share(part):.1%}"]
            for part, times in self.seconds.items()
        ]
        rows[-1][0] = name
        all_parts = [sum(times) for times in zip(*list(self.seconds.values())[:-1], strict=True)]
        rows.append(["all before the step", f"{1000 * statistics.median(all_parts):.1f}", f"{self.overhead:.1%}"])
        return [f"part, grid {self.grid}, batch {self.batch_size}", "ms", f"share of the {name}"], rows

    def note(self) -> str:
        """Returns whether the parts before the model's step keep their limit."""
        verdict = "kept" if self.overhead <= LIMIT else "exceeded"
        return f"limit of all parts before the step: {LIMIT:.0%} of it, {verdict}"

    def to_json(self) -> dict[str, Any]:
        """Returns plain values."""
        shares = {part: self.share(part) for part in self.seconds if part != STEP}
        fields = {"model": self.model, "grid": self.grid, "batch_size": self.batch_size, "seconds": self.seconds}
        return {**fields, "shares": shares, "overhead": self.overhead, "limit": LIMIT}


def prepare_photos(folder: Path, count: int, *, sample_bytes: int = 12288) -> LatentDataset:
    """Write synthetic photos and a data set of them in `folder`, rows of bit planes of `sample_bytes`."""
    write_photos(folder / "photos", num=count)
    config = PrepareConfig(bytes=sample_bytes)
    prepare(open_source(f"imagefolder:{folder / 'photos'}"), load_codec("rgb"), folder / "latents", config)
    return open_latents(folder / "latents")


def measure_parts(
    dataset: LatentDataset, model_name: str, *, batch_size: int, steps: int, grid: int = GRID
) -> StepParts:
    """Time the parts of `steps` updates of a new model, float32 on the CPU, with the augmentation `light`."""
    torch.manual_seed(0)
    model = create_model(model_name, dataset, grid=grid)
    model.augmentation = PixelAugmentation(PRESETS["light"])
    seconds = time_parts(model, dataset, batch_size=batch_size, steps=steps)
    return StepParts(model_name, grid, min(batch_size, len(dataset)), seconds)


def time_parts(
    model: LatentClassifier, dataset: LatentDataset, *, batch_size: int, steps: int, device: torch.device | None = None
) -> dict[str, list[float]]:
    """Train a classifier with the synthesis stem for `steps` updates, after `WARM_UP`; returns seconds of each part.

    The parts are `LOADER`, `UNPACKING`, `SYNTHESIS`, `AUGMENTATION` and `STEP`, in float32 on `device`, the CPU by
    default. A GPU is waited for between the parts.
    """
    device = device or torch.device("cpu")
    model = model.to(device, memory_format=torch.channels_last).train()
    size = min(batch_size, len(dataset))
    loader = LatentLoader(dataset, size, prefetch=0, shuffle=True, drop_last=True, device=device)
    optimizer = build_optimizer(model, LoopConfig())
    seconds: dict[str, list[float]] = {part: [] for part in (LOADER, UNPACKING, SYNTHESIS, AUGMENTATION, STEP)}

    def now() -> float:
        synchronize(device)
        return time.perf_counter()

    with _synthesis_clock(now) as synthesized:
        batches = _forever(loader)
        for _ in range(WARM_UP + steps):
            synthesized.clear()
            times = [now()]
            codes, labels, words = next(batches)
            times.append(now())
            x = model.input(codes)
            times.append(now())
            pixels = model.augmented_pixels(x, words)
            times.append(now())
            _update(model, optimizer, pixels, labels)
            times.append(now())
            loading, unpacking, making, step = (end - start for start, end in pairwise(times))
            synthesis = sum(synthesized)
            parts = (loading, unpacking, synthesis, making - synthesis, step)
            for part, value in zip(seconds, parts, strict=True):
                seconds[part].append(value)
    return {part: times[WARM_UP:] for part, times in seconds.items()}


def _update(
    model: LatentClassifier, optimizer: torch.optim.Optimizer, pixels: torch.Tensor, labels: torch.Tensor
) -> None:
    loss = cross_entropy(model.backbone(pixels), labels)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()


def _forever(loader: LatentLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    while True:
        yield from loader.with_words()


@contextmanager
def _synthesis_clock(now: Callable[[], float]) -> Iterator[list[float]]:
    """Give a list to which the seconds of each call of a synthesis stem are appended."""
    found: list[float] = []
    start = 0.0

    def before(module: torch.nn.Module, inputs: object) -> None:
        nonlocal start
        if isinstance(module, SynthesisStem):
            start = now()

    def after(module: torch.nn.Module, inputs: object, output: object) -> None:
        if isinstance(module, SynthesisStem):
            found.append(now() - start)

    hooks = [
        torch.nn.modules.module.register_module_forward_pre_hook(before),
        torch.nn.modules.module.register_module_forward_hook(after),
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()

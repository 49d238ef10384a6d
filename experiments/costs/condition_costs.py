"""What one condition costs: rates of loading, training and prediction, bytes, memory and operations."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from classifiers import LatentClassifier
from classifiers.models.stems import SynthesisStem
from experiments.benchmarks.devices import synchronize
from experiments.benchmarks.step_parts import time_parts
from experiments.comparison.results import Costs
from experiments.costs.memory import training_memory_bytes
from walloc_cdl.data import LatentDataset, LatentLoader
from walloc_cdl.latents import load_manifest, load_provenance
from walloc_cdl.planes.rows import row_bytes

STEPS = 5
"""Updates that are timed."""
MIN_S = 0.3
"""Loading and prediction are timed for at least so long."""


def measure_costs(
    model: LatentClassifier,
    dataset: LatentDataset,
    *,
    batch_size: int,
    num_samples: int,
    device: torch.device | None = None,
) -> Costs:
    """Measure the costs of training `model`, which is changed by some updates, on `dataset`, its train split.

    `num_samples` are the samples that are stored for the comparison, training and test. Rates are images/s in float32;
    the shares of a training step are medians over `STEPS` updates with the model's own augmentation. How fast samples
    were prepared is read from the data set's provenance: at the budget of the whole data set, of which a prefix may be
    read here.
    """
    device = device or torch.device("cpu")
    size = min(batch_size, len(dataset))
    model = model.to(device, memory_format=torch.channels_last)
    codes = dataset.gather(torch.arange(size).numpy()).codes.to(device)
    labels = torch.arange(size, device=device) % model.config.num_classes
    memory = training_memory_bytes(model.train(), lambda: cross_entropy(model(codes), labels))
    model.eval()
    predict = _rate(lambda: _predict(model, codes), size, device)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        model(codes[:1])
    has_pixels = isinstance(model.stem, SynthesisStem)
    seconds = time_parts(model, dataset, batch_size=size, steps=STEPS, device=device) if has_pixels else {}
    steps = [sum(parts) for parts in zip(*seconds.values(), strict=True)]
    with torch.inference_mode():
        tokens = model.stem(model.input(codes[:1])).shape[2:].numel()
    return Costs(
        prepare_images_per_s=_preparation_rate(dataset),
        total_bytes=num_samples * row_bytes(dataset.spec, dataset.latent_shape[1:]),
        load_images_per_s=_loading_rate(dataset, size, device),
        train_images_per_s=size / statistics.median(steps) if steps else None,
        predict_images_per_s=predict,
        step_shares={part: sum(times) / sum(steps) for part, times in seconds.items()},
        peak_memory_bytes=memory,
        flops=counter.get_total_flops(),
        num_tokens=tokens,
    )


def _predict(model: LatentClassifier, codes: torch.Tensor) -> None:
    with torch.inference_mode():
        model(codes)


def _rate(run: Callable[[], object], num_images: int, device: torch.device) -> float:
    """Returns images per second of `run`, the median over repetitions, after a first one that is not counted."""
    run()
    synchronize(device)
    seconds: list[float] = []
    while sum(seconds) < MIN_S:
        start = time.perf_counter()
        run()
        synchronize(device)
        seconds.append(time.perf_counter() - start)
    return num_images / statistics.median(seconds)


def _loading_rate(dataset: LatentDataset, batch_size: int, device: torch.device) -> float:
    """Returns the shuffled samples per second of a `LatentLoader`, over whole epochs."""
    loader = LatentLoader(dataset, batch_size, shuffle=True, device=device)
    num_samples, start = 0, time.perf_counter()
    while time.perf_counter() - start < MIN_S:
        for batch in loader:
            num_samples += len(batch.codes)
    synchronize(device)
    return num_samples / (time.perf_counter() - start)


def _preparation_rate(dataset: LatentDataset) -> float | None:
    """Returns the samples per second with which the data set was prepared; None where its provenance does not say."""
    elapsed_s = (load_provenance(dataset.folder) or {}).get("elapsed_s")
    num_samples = sum(split.num_samples for split in load_manifest(dataset.folder).splits.values())
    return num_samples / elapsed_s if isinstance(elapsed_s, (int, float)) and elapsed_s > 0 else None

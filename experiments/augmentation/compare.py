"""`python -m experiments.augmentation.compare`: does augmentation of stored latents do what it does before encoding?

One model is trained in three ways on the same photos, with the same words, boxes and flips: on stored latents, whose
pixels the stem makes and augments; on stored pixels, which are augmented, rounded and encoded in every step; and on
stored latents without augmentation. All are evaluated on the same latents of the test split.

    python -m experiments.augmentation.compare imagefolder:DATA/clothing --bytes 12288 --grid 128 --model resnet10t \
        --seeds 3 --epochs 10 --batch-size 32 --lr 2e-3 --out out/augmentation

The same command resumes. It prints a table, and writes it and the figures to --out.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import numpy as np
import torch

from classifiers import LatentClassifier, TrainConfig, create_model, train
from classifiers.evaluation.predictions import classify
from datasets_prep.job.config import PrepareConfig
from datasets_prep.prepare_local import prepare
from datasets_prep.sources import open_source
from datasets_prep.sources.core.splits import holdout
from experiments.augmentation.encoding_classifier import EncodingClassifier
from experiments.comparison.differences import METRICS, Difference, paired_difference, signed
from experiments.comparison.names import METRIC_NAMES
from walloc_cdl.augment.config import PRESETS
from walloc_cdl.augment.pipeline import PixelAugmentation
from walloc_cdl.codec import load_codec
from walloc_cdl.data import LatentDataset, LatentLoader, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.files import write_atomic
from walloc_cdl.planes.rows import planes_for_bytes
from walloc_cdl.training import RunFolder, copy_into, load_tensors, seed_torch
from walloc_cdl.training.config import PRECISIONS

COLORS = {1: "gray", 3: "rgb"}
HOLDOUT_FRACTION = 0.25
WAYS = ("stored latents", "encoded in each step", "stored latents, none")
"""The first two are augmented alike; the second is the baseline of the first."""


@dataclass(frozen=True)
class AugmentationConfig:
    """Settings of `measure`."""

    source: str
    model: str = "resnet10t"
    num_bytes: int = 12288
    grid: int | None = None
    size: int = 256
    augment: str = "light"
    num_seeds: int = 3
    test_split: str = "test"
    limit: int | None = None
    workers: int | None = None
    threads: int | None = None
    training: TrainConfig = dataclasses.field(default_factory=TrainConfig)


@dataclass(frozen=True, eq=False)
class Run:
    """One trained model on the test split."""

    answers: np.ndarray
    """Of the labeled test samples: predicted classes, int64 (N,), or, of two classes, probabilities (N, 2)."""
    score: float
    """The metric, see `_metric`."""
    images_per_s: float


def measure(
    config: AugmentationConfig, out: Path, *, say: Callable[[str], object] = lambda text: None
) -> dict[str, Any]:
    """Prepare both data sets, train all ways and seeds, and return the figures as plain values.

    Finished data sets and runs in `out` are used again. Raises `CallError` for wrong settings.
    """
    if config.num_seeds < 1:
        raise CallError(f"num_seeds is {config.num_seeds}; it must be at least 1, and 2 for an interval")
    latents, pixels = _prepare(config, out, say)
    test_set = open_latents(out / "latents", config.test_split)
    metric = _metric(test_set)
    runs: dict[str, list[Run]] = {way: [] for way in WAYS}
    for seed in range(config.num_seeds):
        for way in WAYS:
            runs[way].append(_train(config, way, seed, (latents, pixels), out))
            say(f"{way}, seed {seed}: {metric} {runs[way][-1].score:.3f}")
    known = test_set.labels >= 0
    answers = {way: [run.answers for run in runs[way]] for way in WAYS}
    pairs = [(WAYS[0], WAYS[1]), (WAYS[0], WAYS[2])]
    differences = [
        paired_difference((first, answers[first]), (second, answers[second]), test_set.labels[known], metric)
        for first, second in pairs
    ]
    return {
        "source": config.source,
        "model": config.model,
        "augment": config.augment,
        "bytes": config.num_bytes,
        "psnr_db": _likeness(config, latents, pixels),
        "metric": metric,
        "scores": {way: [run.score for run in runs[way]] for way in WAYS},
        "images_per_s": {way: [run.images_per_s for run in runs[way]] for way in WAYS},
        "differences": [difference.to_json() for difference in differences],
        "training": config.training.to_json(),
        "num_train": len(latents),
        "num_test": int(known.sum()),
    }


def markdown(figures: dict[str, Any]) -> str:
    """Returns the figures of `measure` as a table and a line about both ways' pixels."""
    rows = [f"| trained on | {METRIC_NAMES[figures['metric']]} | std | images/s |", "| --- | --- | --- | --- |"]
    for way in WAYS:
        scores, rates = figures["scores"][way], figures["images_per_s"][way]
        spread = stdev(scores) if len(scores) > 1 else 0.0
        rows.append(f"| {way} | {mean(scores):.3f} | {spread:.3f} | {mean(rates):,.0f} |")
    sentences = []
    for fields in figures["differences"]:
        found = Difference(**fields)
        interval = "" if found.low is None or found.high is None else f" [{signed(found.low)}, {signed(found.high)}]"
        sentences.append(f"{found.condition} − {found.baseline}: {signed(found.mean)}{interval}")
    rows += ["", "; ".join(sentences) + "."]
    rows += [
        "",
        f"{figures['num_train']:,} training and {figures['num_test']:,} test samples, {figures['bytes']:,} bytes each, "
        f"{figures['model']}, augmentation {figures['augment']}; the augmented pixels of both ways differ by a PSNR of "
        f"{figures['psnr_db']:.1f} dB.",
    ]
    return "\n".join(rows) + "\n"


def _prepare(
    config: AugmentationConfig, out: Path, say: Callable[[str], object]
) -> tuple[LatentDataset, LatentDataset]:
    """Return the train splits of the latents and of the whole images, prepared from the same crops."""
    source = open_source(config.source)
    channels = source.channels or 3
    if channels not in COLORS:
        raise CallError(f"{config.source} has {channels} channels; expected gray or RGB images")
    if config.test_split not in source.split_names:
        if set(source.split_names) != {"train"}:
            raise CallError(
                f"{config.source} has the splits {', '.join(source.split_names)}, but none is called "
                f"{config.test_split}; name one of them with --test-split"
            )
        source = holdout(source, HOLDOUT_FRACTION, seed=0, into=config.test_split)
    codec = load_codec(COLORS[channels])
    grid = codec.latent_shape((channels, config.size, config.size))[1:]
    codec = codec.with_planes(planes_for_bytes(codec.spec, grid, config.num_bytes))
    settings = PrepareConfig(size=config.size, workers=config.workers, limit=config.limit)
    for name, each in (("latents", codec), ("pixels", load_codec(f"resize-{COLORS[channels]}-1x"))):
        say(f"preparing {name}")
        prepare(source, each, out / name, settings)
    return open_latents(out / "latents", "train"), open_latents(out / "pixels", "train")


def _train(
    config: AugmentationConfig, way: str, seed: int, data: tuple[LatentDataset, LatentDataset], out: Path
) -> Run:
    """Train one way with one seed, or use its finished run, and predict the test split."""
    latents, pixels = data
    name = PRESETS["none"] if way == WAYS[2] else PRESETS[config.augment]
    training = dataclasses.replace(config.training, seed=seed, augment=name, val_interval=0)
    encodes = way == WAYS[1]
    folder = out / "runs" / way.replace(" ", "-").replace(",", "") / f"seed-{seed}"
    test_set = open_latents(out / ("pixels" if encodes else "latents"), config.test_split)
    model = _build(config, seed, latents, pixels if encodes else None)
    record = train(model, pixels if encodes else latents, test_set, training, folder, threads=config.threads)
    # A finished run is not trained again, so its weights are loaded in any case.
    copy_into(model.saved_weights(), load_tensors(RunFolder(folder).weights_path)[0], origin=str(folder))
    answers = classify(model, test_set)
    known, metric = answers.labels >= 0, _metric(test_set)
    kept = (answers.scores.probabilities if metric == "auc" else answers.predicted)[known]
    score = METRICS[metric](answers.labels[known], kept, np.ones((1, int(known.sum()))))
    return Run(kept, float(score[0]), record.images_per_s)


def _metric(test_set: LatentDataset) -> str:
    """Return `auc` for two classes, which may be of very different sizes, and otherwise `accuracy`."""
    return (
        "auc"
        if test_set.num_classes == 2 and len(np.unique(test_set.labels[test_set.labels >= 0])) == 2
        else "accuracy"
    )


def _build(
    config: AugmentationConfig, seed: int, latents: LatentDataset, pixels: LatentDataset | None
) -> LatentClassifier:
    """Return the classifier of a seed, of latents, or of pixels that it encodes."""
    with torch.random.fork_rng(devices=[]):
        seed_torch(seed)
        model = create_model(config.model, latents, grid=config.grid)
    return model if pixels is None else EncodingClassifier(model, pixels, latents.codec)


def _likeness(config: AugmentationConfig, latents: LatentDataset, pixels: LatentDataset, count: int = 64) -> float:
    """Return the PSNR in dB, of a range of 1, between the augmented pixels of both ways, over one batch."""
    shown = []
    for dataset, own in ((latents, None), (pixels, pixels)):
        model = _build(config, 0, latents, own).train()
        model.augmentation = PixelAugmentation(PRESETS[config.augment])
        loader = LatentLoader(dataset, min(count, len(dataset)), shuffle=True, seed=0)
        codes, _, words = next(iter(loader.with_words()))
        with torch.no_grad():
            shown.append(model.pixels(codes, words) * model.stem.pixel_std.reshape(-1, 1, 1))
    return float(-10 * (shown[0] - shown[1]).square().mean().log10())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table, and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", help="images; if there is only a split train, a quarter of it is held out")
    parser.add_argument("--out", type=Path, required=True, help="folder for data sets, runs and figures")
    parser.add_argument("--model", default="resnet10t", help="a timm model")
    parser.add_argument("--bytes", type=int, default=12288, help="bytes of a stored sample")
    parser.add_argument("--grid", type=int, help="height in pixels of the model's input")
    parser.add_argument("--size", type=int, default=256, help="side in pixels of the crop that is stored")
    parser.add_argument("--augment", default="light", choices=[name for name in PRESETS if name != "none"])
    parser.add_argument("--test-split", default="test")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--limit", type=int, help="at most this many samples of each split")
    parser.add_argument("--precision", default="auto", choices=PRECISIONS)
    parser.add_argument("--threads", type=int, help="number of torch's threads")
    options = parser.parse_args(arguments)
    config = AugmentationConfig(
        source=options.source,
        model=options.model,
        num_bytes=options.bytes,
        grid=options.grid,
        size=options.size,
        augment=options.augment,
        num_seeds=options.seeds,
        test_split=options.test_split,
        limit=options.limit,
        threads=options.threads,
        training=TrainConfig(
            epochs=options.epochs, batch_size=options.batch_size, lr=options.lr, precision=options.precision
        ),
    )
    try:
        figures = measure(config, options.out, say=lambda text: print(text, file=sys.stderr))
    except CallError as error:
        parser.error(str(error))
    table = markdown(figures)
    write_atomic(options.out / "augmentation.json", (json.dumps(figures, indent=1) + "\n").encode())
    write_atomic(options.out / "table.md", table.encode())
    print(table)


if __name__ == "__main__":
    main()

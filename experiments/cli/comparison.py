"""`cdl compare`, `report` and `demo`: latents against resolution reduction."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classifiers.cli.options import (
    BatchSize,
    Epochs,
    LearningRate,
    ModelName,
    Precision,
    Pretrained,
    pretrained_weights,
)
from datasets_prep.cli.options import ImageSource
from walloc_cdl.cli.console import PhaseProgress, show, table, write_json
from walloc_cdl.cli.options import JsonPath, Threads, out_option
from walloc_cdl.machine import wait_without_spinning_if_busy

if TYPE_CHECKING:
    from experiments.comparison.outcome import Outcome
    from experiments.training.compare import CompareConfig

OutFolder = Annotated[Path, out_option("Folder for data sets, runs, table and plot.")]
REDUNDANT_COLUMNS = ("stem", "difference [95 %]")
"""Columns that repeat the conditions' names and the sentence; without them the table fits a terminal."""
NumSeeds = Annotated[int, typer.Option("--seeds", help="Training runs of each condition.")]


def compare(
    source: ImageSource,
    out: OutFolder,
    model: ModelName = "resnet18",
    conditions: Annotated[
        str,
        typer.Option(
            help="Comma-separated: pixels-64, latents-3072, latents-16x, latents-16x@128, latents-16x:channels, …"
        ),
    ] = "pixels-64,latents-16x",
    size: Annotated[int, typer.Option(help="Side in pixels of the crop that all conditions share.")] = 256,
    num_seeds: NumSeeds = 3,
    epochs: Epochs = 15,
    batch_size: BatchSize = 64,
    lr: LearningRate = 1e-3,
    pretrained: Pretrained = None,
    augment: Annotated[
        str, typer.Option(help="Augmentation of the pixels that all conditions show: none, light (crop, flip) or timm.")
    ] = "none",
    precision: Precision = "auto",
    limit: Annotated[
        int | None, typer.Option(help="At most this many samples of each split, the same share of each class.", min=1)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding processes; default one per CPU.")] = None,
    threads: Threads = None,
    json_path: JsonPath = None,
) -> None:
    """Train one model on latents and on pixels of the same images.

    Prepares all conditions from the same crops, trains with the same recipe and seeds, and reports which
    does better. Running the same command again resumes an interrupted comparison.
    """
    wait_without_spinning_if_busy()
    from classifiers import TrainConfig
    from classifiers.runs.augmentation import preset
    from experiments.training.compare import CompareConfig

    config = CompareConfig(
        source=source,
        conditions=tuple(filter(None, (text.strip() for text in conditions.split(",")))),
        model=model,
        size=size,
        num_seeds=num_seeds,
        pretrained=pretrained_weights(pretrained),
        limit=limit,
        workers=workers,
        threads=threads,
        training=TrainConfig(
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            precision=precision,
            val_interval=0,
            augment=preset(augment, "image"),
        ),
    )
    _run_comparison(config, out, json_path)


def demo(
    out: OutFolder = Path("cdl-demo"),
    num_seeds: NumSeeds = 2,
    json_path: JsonPath = None,
) -> None:
    """Run a small comparison on photos of solar cells.

    Compares 4,096 latent values with 4,096 pixels of the same photos for classifying cells as defective or not. Takes
    a few minutes on two CPUs.
    """
    wait_without_spinning_if_busy()
    from experiments.training.demo import demo_config

    _run_comparison(demo_config(num_seeds), out, json_path)


def show_report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="--out folder of a finished comparison.")],
    json_path: JsonPath = None,
) -> None:
    """Print a finished comparison, and write its table and plot again."""
    from experiments.comparison.outcome import load_outcome
    from experiments.report.table import write_report

    outcome = load_outcome(folder)
    write_report(outcome, folder)
    _show(outcome, folder, json_path)


def _run_comparison(config: CompareConfig, out: Path, json_path: Path | None) -> None:
    from experiments.training.compare import compare as run

    with PhaseProgress("samples") as phases:
        outcome = run(
            config, out, progress=lambda state: phases.update(state.phase, state.done, state.total, state.note)
        )
    _show(outcome, out, json_path)


def _show(outcome: Outcome, folder: Path, json_path: Path | None) -> None:
    from experiments.comparison.outcome import RESULTS_NAME
    from experiments.report.table import PLOT_NAME, TABLE_NAME, table_rows

    headings, rows = table_rows(outcome)
    columns = [number for number, heading in enumerate(headings) if heading not in REDUNDANT_COLUMNS]
    table([headings[number] for number in columns], [[row[number] for number in columns] for row in rows])
    print()
    show(outcome.sentence)
    print()
    show(f"Table, plot and results: {folder / TABLE_NAME}, {folder / PLOT_NAME}, {folder / RESULTS_NAME}")
    write_json(json_path, outcome.to_json())

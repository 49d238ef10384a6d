"""`cdl crossval`: latents of sound against resampled waveforms, by cross-validation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from classifiers.cli.options import Augment, BatchSize, Epochs, LearningRate, ModelName, Precision
from experiments.cli.comparison import NumSeeds
from walloc_cdl.cli.console import PhaseProgress, show, table, write_json
from walloc_cdl.cli.options import JsonPath, Threads, out_option
from walloc_cdl.machine import wait_without_spinning_if_busy


def crossval(
    source: Annotated[str, typer.Argument(help="Sounds in class folders: audiofolder:PATH.")],
    folds: Annotated[
        str, typer.Option(help="Regular expression whose group finds the fold in a sample's key: '/(\\d)-' for ESC-10.")
    ],
    out: Annotated[Path, out_option("Folder for data sets, runs and table.")],
    model: ModelName = "test_resnet",
    conditions: Annotated[
        str, typer.Option(help="Comma-separated: waves-16x (every 16th sample), latents-13780 (bytes of a segment), …")
    ] = "waves-16x,latents-13780",
    segment_s: Annotated[float, typer.Option("--segment", help="Seconds of a segment.")] = 5.0,
    num_seeds: NumSeeds = 3,
    epochs: Epochs = 30,
    batch_size: BatchSize = 32,
    lr: LearningRate = 2e-3,
    augment: Augment = "light",
    precision: Precision = "auto",
    finished_only: Annotated[
        bool, typer.Option("--finished-only", help="Train nothing; summarize the runs that are finished.")
    ] = False,
    workers: Annotated[int | None, typer.Option(help="Decoding processes; default one per CPU.")] = None,
    threads: Threads = None,
    json_path: JsonPath = None,
) -> None:
    """Compare latents with resampled waveforms of sounds by folds.

    Each fold is tested by a model that was trained on the others. All conditions share segments, recipe and seeds.
    Running the same command again resumes an interrupted comparison.
    """
    wait_without_spinning_if_busy()
    from classifiers import TrainConfig
    from classifiers.runs.augmentation import preset
    from experiments.sound.compare import SoundCompareConfig, compare_sounds
    from experiments.sound.outcome import RESULTS_NAME, TABLE_NAME

    config = SoundCompareConfig(
        source=source,
        folds=folds,
        conditions=tuple(filter(None, (text.strip() for text in conditions.split(",")))),
        model=model,
        segment_s=segment_s,
        num_seeds=num_seeds,
        workers=workers,
        threads=threads,
        training=TrainConfig(
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            precision=precision,
            smoothing=0.1,
            val_interval=0,
            augment=preset(augment or "light", "audio"),
        ),
    )
    with PhaseProgress("samples") as phases:
        outcome = compare_sounds(config, out, finished_only=finished_only, progress=phases.update)
    table(*outcome.rows())
    print()
    show(f"Table and results: {out / TABLE_NAME}, {out / RESULTS_NAME}")
    write_json(json_path, outcome.to_json())

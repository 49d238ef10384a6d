"""`cdl compare`, `report` and `demo`: latents against resolution reduction."""

from __future__ import annotations

import shlex
import sys
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
from walloc_cdl.errors import CallError
from walloc_cdl.machine import wait_without_spinning_if_busy

if TYPE_CHECKING:
    from experiments.comparison.results import Results
    from experiments.probing.compare import ProbeConfig

OutFolder = Annotated[Path, out_option("Folder for what is stored, for runs, results and report.")]
REDUNDANT_COLUMNS = ("stored", "std")
"""Without these columns the table fits a terminal."""
NumSeeds = Annotated[int, typer.Option("--seeds", help="Training runs of each condition.")]
TRAINING_ONLY = (
    "model",
    "num_seeds",
    "epochs",
    "batch_size",
    "lr",
    "pretrained",
    "augment",
    "precision",
    "grid",
    "freeze_until",
)
PROBE_ONLY = ("features", "weights", "folds")


def compare(
    context: typer.Context,
    source: ImageSource,
    out: OutFolder,
    model: ModelName = "resnet18",
    conditions: Annotated[
        str | None,
        typer.Option(
            help="Comma-separated: full, pixels-64, latents-3072, latents-16x, latents-16x@128, latents-16x:channels, "
            "jpeg-3072, …; default the full images, and pixels and latents of 16, 32, 64, … pixels a side."
        ),
    ] = None,
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Train no network: a linear classifier on features of what is shown."),
    ] = False,
    features: Annotated[
        str | None, typer.Option(help="Of --probe, a timm model whose features are used; default an image pyramid.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(help="Safetensors file of its weights; default the published ones, downloaded.")
    ] = None,
    folds: Annotated[
        int | None, typer.Option(help="Of --probe, folds over all splits; 1 for the test split.", min=1)
    ] = None,
    size: Annotated[int, typer.Option(help="Side in pixels of the crop that all conditions share.")] = 256,
    grid: Annotated[
        int | None,
        typer.Option(help="Side in pixels of what models see; 64 for the default conditions.", min=1),
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option(help="Codec of latents-BYTES; default rgb or gray. rgb-low and gray-low suit few."),
    ] = None,
    margin: Annotated[
        float, typer.Option(help="How far below the full images is near enough; 0.01 is one point.")
    ] = 0.01,
    num_seeds: NumSeeds = 3,
    epochs: Epochs = 15,
    batch_size: BatchSize = 64,
    lr: LearningRate = 1e-3,
    pretrained: Pretrained = None,
    augment: Annotated[
        str, typer.Option(help="Augmentation of the pixels that all conditions show: none, light (crop, flip) or timm.")
    ] = "none",
    freeze_until: Annotated[
        str | None, typer.Option(help="With --pretrained, do not train the layers before this stage; head for all.")
    ] = None,
    precision: Precision = "auto",
    costs: Annotated[bool, typer.Option(help="Measure rates, memory and the break-even after training.")] = True,
    limit: Annotated[
        int | None, typer.Option(help="At most this many samples of each split, the same share of each class.", min=1)
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding processes; default one per CPU.")] = None,
    threads: Threads = None,
    json_path: JsonPath = None,
) -> None:
    """Find how many bytes your images need.

    Stores the same crops in every condition, trains one model on each with the same recipe and seeds (or fits a linear
    classifier, --probe), and reports from how many bytes on the full images' accuracy is reached. Running the same
    command again resumes an interrupted comparison; another condition computes only itself.
    """
    wait_without_spinning_if_busy()
    _require_applicable(context, TRAINING_ONLY if probe else PROBE_ONLY, probe)
    chosen = None if conditions is None else tuple(filter(None, (text.strip() for text in conditions.split(","))))
    if probe:
        from experiments.probing.compare import ProbeConfig

        _run_probe(
            ProbeConfig(
                source=source,
                conditions=chosen,
                codec=codec,
                network=features,
                weights=weights,
                size=size,
                folds=folds,
                margin=margin,
                limit=limit,
                threads=threads,
            ),
            out,
            json_path,
        )
        return
    from classifiers import TrainConfig
    from classifiers.runs.augmentation import preset
    from experiments.training.compare import CompareConfig
    from experiments.training.compare import compare as run

    config = CompareConfig(
        source=source,
        conditions=chosen,
        model=model,
        grid=grid,
        codec=codec,
        margin=margin,
        costs=costs,
        command=_command(),
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
            freeze_until=freeze_until,
            val_interval=0,
            augment=preset(augment, "image"),
        ),
    )
    with PhaseProgress("samples") as phases:
        results = run(
            config, out, progress=lambda state: phases.update(state.phase, state.done, state.total, state.note)
        )
    _show(results, out, json_path)


def demo(
    out: OutFolder = Path("cdl-demo"),
    photos: Annotated[
        Path | None, typer.Option(help="A folder of your own, with one folder of images for each class.")
    ] = None,
    json_path: JsonPath = None,
) -> None:
    """See how many bytes photos need.

    A linear classifier on features of an image pyramid tells defective solar cells from others, or the classes of
    --photos. It takes a few minutes on two CPUs, and writes report.html.
    """
    wait_without_spinning_if_busy()
    from experiments.probing.demo import demo_config

    _run_probe(demo_config(photos), out, json_path)


def show_report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="--out folder of a finished comparison.")],
    json_path: JsonPath = None,
) -> None:
    """Print a comparison, and write its report again."""
    from experiments.comparison.results import load_results
    from experiments.report.write import write_report

    results = load_results(folder)
    write_report(results, folder)
    _show(results, folder, json_path)


def _require_applicable(context: typer.Context, names: tuple[str, ...], probe: bool) -> None:
    """Raise `CallError` for an option that was given, but has no effect."""
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = "--" + {"num_seeds": "seeds"}.get(name, name).replace("_", "-")
            raise CallError(
                f"{option} is for training, and --probe trains no network; omit one of them"
                if probe
                else f"{option} is for probes; give --probe, or omit it"
            )


def _command() -> str:
    return shlex.join(["cdl", *sys.argv[1:]])


def _run_probe(config: ProbeConfig, out: Path, json_path: Path | None) -> None:
    from experiments.probing.compare import probe as run
    from experiments.report.write import write_report

    with PhaseProgress("images") as phases:
        results = run(config, out, command=_command(), on_phase=phases.update)
    write_report(results, out)
    _show(results, out, json_path)


def _show(results: Results, folder: Path, json_path: Path | None) -> None:
    from experiments.report.table import table_rows
    from experiments.report.write import CSV_NAME, PAGE_NAME, TABLE_NAME

    headings, rows = table_rows(results)
    columns = [number for number, heading in enumerate(headings) if heading not in REDUNDANT_COLUMNS]
    table([headings[number] for number in columns], [[row[number] for number in columns] for row in rows])
    print()
    show(results.answer.sentence)
    for note in results.answer.notes:
        show(note)
    print()
    show(f"Report: {folder / PAGE_NAME}; also {TABLE_NAME}, {CSV_NAME} and results.json")
    write_json(json_path, results.to_json())

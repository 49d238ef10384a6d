"""`cdl compare`, `report`, `demo` and `bench`: latents against resolution reduction, and measurements."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from walloc_cdl.cli.codec import SourceName
from walloc_cdl.cli.console import JsonPath, PhaseProgress, out_option, report, show_help, table, write_json
from walloc_cdl.cli.learning import BatchSize, Epochs, LearningRate, ModelName, Precision

if TYPE_CHECKING:
    from experiments.compare import CompareConfig
    from experiments.outcome import Outcome

OutFolder = Annotated[Path, out_option("Folder for data sets, runs, table and plot.")]
SAID_ELSEWHERE = ("stem", "difference [95 %]")
"""Columns of the table that the conditions' names and the sentence say already; without them it fits a terminal."""
NumSeeds = Annotated[int, typer.Option("--seeds", help="Training runs of each condition.")]


def compare(
    source: SourceName,
    out: OutFolder,
    model: ModelName = "resnet18",
    conditions: Annotated[
        str, typer.Option(help="Comma-separated: pixels-64, latents-16x, latents-16x@128, latents-16x:channels, …")
    ] = "pixels-64,latents-16x",
    size: Annotated[int, typer.Option(help="Pixels a side of the crop that all conditions share.")] = 256,
    num_seeds: NumSeeds = 3,
    epochs: Epochs = 15,
    batch_size: BatchSize = 64,
    lr: LearningRate = 1e-3,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Start from published weights.")] = False,
    precision: Precision = "auto",
    workers: Annotated[int | None, typer.Option(help="Decoding processes; default one for each CPU.")] = None,
    json_path: JsonPath = None,
) -> None:
    """Train one model on latents and on pixels of the same images.

    Prepares every condition from the same crops, trains with the same recipe and seeds, and says which
    does better. The same command again resumes what was interrupted.
    """
    from classifiers import TrainConfig
    from experiments.compare import CompareConfig

    config = CompareConfig(
        source=source,
        conditions=tuple(filter(None, (text.strip() for text in conditions.split(",")))),
        model=model,
        size=size,
        num_seeds=num_seeds,
        pretrained=pretrained,
        workers=workers,
        training=TrainConfig(epochs=epochs, batch_size=batch_size, lr=lr, precision=precision),
    )
    _run_comparison(config, out, json_path)


def demo(
    out: OutFolder = Path("cdl-demo"),
    num_seeds: NumSeeds = 2,
    json_path: JsonPath = None,
) -> None:
    """Go the whole way on photos of solar cells.

    Is a cell defective? 4,096 latent values against 4,096 pixels of the same photos: some minutes on two CPUs.
    """
    from experiments.demo import demo_config

    _run_comparison(demo_config(num_seeds), out, json_path)


def show_report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="--out folder of a finished comparison.")],
    json_path: JsonPath = None,
) -> None:
    """Print a finished comparison, and draw it again."""
    from experiments.outcome import load_outcome
    from experiments.report import write_report

    outcome = load_outcome(folder)
    write_report(outcome, folder)
    _show(outcome, folder, json_path)


def _run_comparison(config: CompareConfig, out: Path, json_path: Path | None) -> None:
    from experiments.compare import compare as run

    with PhaseProgress("samples") as phases:
        outcome = run(
            config, out, progress=lambda state: phases.update(state.phase, state.done, state.total, state.note)
        )
    _show(outcome, out, json_path)


def _show(outcome: Outcome, folder: Path, json_path: Path | None) -> None:
    from experiments.outcome import RESULTS_NAME
    from experiments.report import PLOT_NAME, TABLE_NAME, table_rows

    headings, rows = table_rows(outcome)
    shown = [number for number, heading in enumerate(headings) if heading not in SAID_ELSEWHERE]
    table([headings[number] for number in shown], [[row[number] for number in shown] for row in rows])
    print(f"\n{outcome.sentence}\n")
    print(f"Table, plot and results: {folder / TABLE_NAME}, {folder / PLOT_NAME}, {folder / RESULTS_NAME}")
    write_json(json_path, outcome.to_json())


bench = typer.Typer(
    help="Measure this machine.", callback=show_help, invoke_without_command=True, rich_markup_mode=None
)


@bench.command("load")
def bench_load(
    megabytes: Annotated[int, typer.Option(help="Size of the data set that is made up and read.", min=1)] = 600,
    batch_size: BatchSize = 256,
    repeats: Annotated[int, typer.Option(help="Epochs of each reader, in turn.", min=1)] = 5,
    json_path: JsonPath = None,
) -> None:
    """Measure how fast shuffled latents are read.

    Samples a second that `LatentLoader` delivers of 12×32×32 codes, beside torch.index_select on the same data.
    """
    from experiments.throughput import measure_loading

    result = measure_loading(num_bytes=megabytes * 10**6, batch_size=batch_size, repeats=repeats)
    report(result, json_path)


@bench.command("prepare")
def bench_prepare(
    source: SourceName,
    codec: Annotated[str, typer.Option("--codec", help="A name from `cdl codec list`, or a folder.")] = "rgb-16x",
    size: Annotated[int | None, typer.Option(help="Images: pixels a side; default 256.")] = None,
    workers: Annotated[int | None, typer.Option(help="Decoding processes; default one for each CPU.")] = None,
    repeats: Annotated[int, typer.Option(help="Conversions, in turn with decoding alone.", min=1)] = 3,
    json_path: JsonPath = None,
) -> None:
    """Measure how fast a source is converted.

    The whole of `cdl prepare`, beside decoding and resizing alone with the same workers.
    """
    from datasets_prep.config import PrepareConfig
    from datasets_prep.sources import open_source
    from experiments.preparation_speed import measure_preparation
    from walloc_cdl.codec import load_codec

    config = PrepareConfig(size=size, workers=workers)
    result = measure_preparation(open_source(source), load_codec(codec), config, repeats=repeats)
    (low, high), num = result.ratio_range, result.num_samples
    rows = {
        "samples": f"{num:,}, {result.workers} workers",
        "decoding and resizing alone": f"{result.decode_s:.2f} s, {num / result.decode_s:,.0f} samples/s",
        "cdl prepare": f"{result.prepare_s:.2f} s, {num / result.prepare_s:,.0f} samples/s",
        "ratio": f"{result.ratio:.3f} ({low:.3f} to {high:.3f}, {result.repeats} repeats)",
    }
    report(rows, json_path, asdict(result))


COMMANDS = {"compare": compare, "demo": demo, "report": show_report}

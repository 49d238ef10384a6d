"""`cdl compare`, `report`, `demo` and `bench`: latents against resolution reduction, and measurements."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from walloc_cdl.cli.console import JsonPath, progress, report, write_json
from walloc_cdl.cli.dataset import SourceName
from walloc_cdl.cli.learning import BatchSize, Epochs, LearningRate, ModelName, Precision

if TYPE_CHECKING:
    from experiments.compare import CompareConfig
    from experiments.outcome import Outcome

OutFolder = Annotated[Path, typer.Option("--out", help="Folder for data sets, runs, table and plot.")]
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
    """Train the same model on latents and on pixels of the same images, and say which does better."""
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
    """Go the whole way on solar cells: 4,096 latent values against 4,096 pixels of the same photos."""
    from experiments.demo import demo_config

    _run_comparison(demo_config(num_seeds), out, json_path)


def show_report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="--out folder of a finished comparison.")],
    json_path: JsonPath = None,
) -> None:
    """Print a finished comparison, and make its table and plot again."""
    from experiments.outcome import load_outcome
    from experiments.report import write_report

    outcome = load_outcome(folder)
    write_report(outcome, folder)
    _show(outcome, folder, json_path)


show_report.__name__ = "report"


def _run_comparison(config: CompareConfig, out: Path, json_path: Path | None) -> None:
    import sys
    from contextlib import ExitStack

    from experiments.compare import Progress
    from experiments.compare import compare as run

    with ExitStack() as stack:
        phase, update = "", None

        def on_progress(state: Progress) -> None:
            nonlocal phase, update
            if state.phase != phase or update is None:
                stack.close()
                phase, update = state.phase, stack.enter_context(progress(state.phase, "samples"))
                if not sys.stderr.isatty():
                    print(state.phase, file=sys.stderr, flush=True)
            update(state.done, state.total)

        outcome = run(config, out, progress=on_progress)
    _show(outcome, out, json_path)


def _show(outcome: Outcome, folder: Path, json_path: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from experiments.report import PLOT_NAME, TABLE_NAME, table_rows

    headings, rows = table_rows(outcome)
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)
    print(outcome.sentence)
    print(f"Table, plot and results: {folder / TABLE_NAME}, {folder / PLOT_NAME}, {folder / 'results.json'}")
    write_json(json_path, outcome.to_json())


bench = typer.Typer(help="Measure this machine.", no_args_is_help=True, rich_markup_mode=None)


@bench.callback()
def _bench() -> None:
    pass


@bench.command("load")
def bench_load(
    megabytes: Annotated[int, typer.Option(help="Size of the data set that is made up and read.")] = 600,
    batch_size: BatchSize = 256,
    repeats: Annotated[int, typer.Option(help="Epochs of each reader, in turn.")] = 5,
    json_path: JsonPath = None,
) -> None:
    """Measure how fast `LatentLoader` delivers shuffled 12×32×32 codes, beside torch.index_select."""
    from experiments.throughput import measure_loading

    result = measure_loading(num_bytes=megabytes * 10**6, batch_size=batch_size, repeats=repeats)
    report(result, json_path)


COMMANDS = (compare, demo, show_report)

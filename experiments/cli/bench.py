"""`cdl bench encode`, `load`, `prepare` and `train`: the same work by this package and by others, in turn."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classifiers.cli.learning import BatchSize
from walloc_cdl.cli.console import JsonPath, PhaseProgress, show_help, table, write_json
from walloc_cdl.errors import CallError

if TYPE_CHECKING:
    from experiments.benchmarks.result import Result

app = typer.Typer(
    help="Measure speed, beside other programs and limits.",
    callback=show_help,
    invoke_without_command=True,
    rich_markup_mode=None,
)

Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        help="Peers to measure beside, separated by commas; all that are known by default, none for ''.",
        metavar="NAMES",
    ),
]
Megabytes = Annotated[int, typer.Option(help="Size of what is made up and worked on.", min=1)]
Repeats = Annotated[int, typer.Option(help="Runs of each way, in turn; medians count.", min=1)]
Seconds = Annotated[float, typer.Option(help="A run ends after so long: slow ways do less.", min=0.01)]
Threads = Annotated[int | None, typer.Option(help="Threads or worker processes; default one for each CPU.", min=1)]
NumImages = Annotated[int, typer.Option("--num-images", help="Made-up photos for peers that decode images.", min=1)]
Images = Annotated[
    Path | None, typer.Option(help="Folder with a folder of images for each class, in place of made-up photos.")
]


@app.command("encode")
def bench_encode(
    against: Against = None,
    audio: Annotated[bool, typer.Option("--audio", help="Stereo sound in place of images.")] = False,
    codec: Annotated[
        str | None, typer.Option("--codec", help="A codec with a linear encoder; default rgb-16x, or stereo-5x.")
    ] = None,
    megabytes: Megabytes = 600,
    batch_size: BatchSize = 32,
    threads: Threads = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N: where signals are, and are encoded.")] = "cpu",
    repeats: Repeats = 5,
    seconds: Seconds = 10.0,
    json_path: JsonPath = None,
) -> None:
    """Measure how fast signals become codes.

    Batches of RGB images of 256 pixels, uint8, to stored codes. Peers: walloc (PyPI), torch (the same codec
    without compiled code), on the same device.
    """
    from experiments.benchmarks.encoding import EncodeBenchmark, measure_encoding
    from experiments.benchmarks.timing import Timing

    if audio and codec:
        raise CallError("--audio with --codec; the codec says what its signals are, so leave --audio out")
    name = codec or ("stereo-5x" if audio else "rgb-16x")
    config = EncodeBenchmark(name, megabytes * 10**6, batch_size, threads, device)
    with PhaseProgress("runs") as phases:
        result = measure_encoding(config, Timing(repeats, seconds), against, on_phase=phases.update)
    _show(result, json_path)


@app.command("load")
def bench_load(
    against: Against = None,
    megabytes: Megabytes = 600,
    batch_size: BatchSize = 256,
    num_images: NumImages = 2000,
    images: Images = None,
    threads: Threads = None,
    repeats: Repeats = 5,
    seconds: Seconds = 10.0,
    json_path: JsonPath = None,
) -> None:
    """Measure how fast shuffled latents are read.

    Samples a second of 12×32×32 codes, and the time that a consumer of 10 ms a batch of 256 waits. Peers:
    dataloader (torch's), imagefolder (torchvision's, decoding JPEGs), webdataset, hf (datasets), litdata.
    """
    from experiments.benchmarks.loading import measure_loading
    from experiments.benchmarks.reading import ReadingConfig
    from experiments.benchmarks.timing import Timing

    config = ReadingConfig(megabytes * 10**6, batch_size, num_images, images, threads)
    with PhaseProgress("runs") as phases:
        result = measure_loading(config, Timing(repeats, seconds), against, on_phase=phases.update)
    _show(result, json_path)


@app.command("prepare")
def bench_prepare(
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="As for `cdl prepare`; made-up photos by default.")
    ] = None,
    against: Against = None,
    codec: Annotated[str, typer.Option("--codec", help="A name from `cdl codec list`, or a folder.")] = "rgb-16x",
    size: Annotated[int | None, typer.Option(help="Images: pixels a side; default 256.")] = None,
    megabytes: Megabytes = 600,
    workers: Annotated[int | None, typer.Option(help="Decoding processes; default one for each CPU.")] = None,
    decoder: Annotated[str | None, typer.Option(help="Images: pil, the default, or pil-scaled.")] = None,
    repeats: Repeats = 3,
    json_path: JsonPath = None,
) -> None:
    """Measure how fast a source is converted.

    The whole of `cdl prepare`, beside decoding and resizing alone with the same workers. Peers: imagefolder
    (torchvision's pipeline to the same size).
    """
    from experiments.benchmarks.preparing import PrepareBenchmark, measure_preparation

    config = PrepareBenchmark(source, megabytes * 10**6, codec, size, workers, repeats, decoder)
    with PhaseProgress("runs") as phases:
        result = measure_preparation(config, against, on_phase=phases.update)
    _show(result, json_path)


@app.command("train")
def bench_train(
    against: Against = None,
    model: Annotated[str, typer.Option("--model", help="A timm model.")] = "resnet18",
    megabytes: Megabytes = 600,
    batch_size: BatchSize = 64,
    steps: Annotated[int, typer.Option(help="Updates in a run.", min=1)] = 20,
    num_images: NumImages = 2000,
    images: Images = None,
    threads: Threads = None,
    repeats: Repeats = 3,
    seconds: Seconds = 60.0,
    json_path: JsonPath = None,
) -> None:
    """Measure how fast a model trains.

    Images a second of steps on latents, beside the same model on pixels of the same grid and the model on a
    batch that stays. Peers: those of `cdl bench load`.
    """
    from experiments.benchmarks.reading import ReadingConfig
    from experiments.benchmarks.timing import Timing
    from experiments.benchmarks.training import TrainBenchmark, measure_training

    reading = ReadingConfig(megabytes * 10**6, batch_size, num_images, images, threads)
    config = TrainBenchmark(model, reading, steps)
    with PhaseProgress("runs") as phases:
        result = measure_training(config, Timing(repeats, seconds), against, on_phase=phases.update)
    _show(result, json_path)


def _show(result: Result, json_path: Path | None) -> None:
    headings, rows = result.table()
    table(headings, rows)
    print()
    for note in result.notes():
        print(note)
    write_json(json_path, result.to_json())

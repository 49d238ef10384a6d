"""`cdl bench …`: speed of this package and of peers at the same work, and size and speed of archives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from classifiers.cli.options import BatchSize
from walloc_cdl.cli.console import PhaseProgress, progress, show, table, write_json
from walloc_cdl.cli.options import JsonPath
from walloc_cdl.errors import CallError

if TYPE_CHECKING:
    from experiments.benchmarks.result import Result

Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        help="Peers to compare with, separated by commas; default all, none for ''.",
        metavar="NAMES",
    ),
]
Megabytes = Annotated[int, typer.Option(help="Size of the synthetic data.", min=1)]
Repeats = Annotated[int, typer.Option(help="Runs of each candidate, in turn; the median counts.", min=1)]
Seconds = Annotated[float, typer.Option(help="Time limit of a run; slow candidates do less.", min=0.01)]
Threads = Annotated[int | None, typer.Option(help="Threads or worker processes; default one per CPU.", min=1)]
NumImages = Annotated[int, typer.Option("--num-images", help="Synthetic photos for peers that decode images.", min=1)]
Images = Annotated[
    Path | None, typer.Option(help="Folder with a subfolder of images for each class, instead of synthetic photos.")
]


def bench_encode(
    against: Against = None,
    audio: Annotated[bool, typer.Option("--audio", help="Stereo audio instead of images.")] = False,
    codec: Annotated[
        str | None, typer.Option("--codec", help="A codec with a linear encoder; default rgb-16x, or stereo-5x.")
    ] = None,
    sample_bytes: Annotated[
        int | None, typer.Option("--bytes", help="Of a row of a codec with bit planes; default all planes.")
    ] = None,
    megabytes: Megabytes = 600,
    batch_size: BatchSize = 32,
    threads: Threads = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N: the device of signals and codec.")] = "cpu",
    repeats: Repeats = 5,
    seconds: Seconds = 10.0,
    json_path: JsonPath = None,
) -> None:
    """Measure the speed of encoding.

    Batches of RGB images of 256 pixels, uint8, are encoded to stored codes, or to rows of bit planes, and rgb-16x is
    measured beside those. Peers: walloc (PyPI), torch (the same codec without compiled code), on the same device.
    """
    from experiments.benchmarks.encoding import EncodeBenchmark, measure_encoding
    from experiments.benchmarks.timing import Timing

    if audio and codec:
        raise CallError("--audio cannot be combined with --codec, which determines the kind of signal; omit --audio")
    name = codec or ("stereo-5x" if audio else "rgb-16x")
    config = EncodeBenchmark(name, megabytes * 10**6, batch_size, threads, sample_bytes, device)
    with PhaseProgress("runs") as phases:
        result = measure_encoding(config, Timing(repeats, seconds), against, on_phase=phases.update)
    _show(result, json_path)


def bench_unpack(
    codec: Annotated[str, typer.Option("--codec", help="A codec for images with bit planes.")] = "rgb",
    sample_bytes: Annotated[int, typer.Option("--bytes", help="Of a row, for 256 pixels a side.")] = 12288,
    megabytes: Megabytes = 600,
    batch_size: BatchSize = 64,
    model: Annotated[str, typer.Option("--model", help="A timm model, for the time of a step.")] = "resnet18",
    threads: Threads = None,
    repeats: Repeats = 5,
    seconds: Seconds = 10.0,
    json_path: JsonPath = None,
) -> None:
    """Measure the speed of unpacking bit planes.

    Rows become the float input of a model. Compares this with plain torch, with filling as much memory, and with a
    training step of a model at a grid of 64.
    """
    from experiments.benchmarks.timing import Timing
    from experiments.benchmarks.unpacking import UnpackBenchmark, measure_unpacking

    config = UnpackBenchmark(codec, sample_bytes, megabytes * 10**6, batch_size, model, threads)
    with PhaseProgress("runs") as phases:
        result = measure_unpacking(config, Timing(repeats, seconds), on_phase=phases.update)
    _show(result, json_path)


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
    """Measure the speed of reading shuffled latents.

    Measures samples per second of 12×32×32 codes, and the time that a consumer of 10 ms per batch of 256 waits. Peers:
    dataloader (torch), imagefolder (torchvision, decoding JPEGs), webdataset, hf (datasets), litdata.
    """
    from experiments.benchmarks.loading import measure_loading
    from experiments.benchmarks.reading import ReadingConfig
    from experiments.benchmarks.timing import Timing

    config = ReadingConfig(megabytes * 10**6, batch_size, num_images, images, threads)
    with PhaseProgress("runs") as phases:
        result = measure_loading(config, Timing(repeats, seconds), against, on_phase=phases.update)
    _show(result, json_path)


def bench_prepare(
    source: Annotated[
        str | None, typer.Argument(metavar="SOURCE", help="As for `cdl prepare`; default synthetic photos.")
    ] = None,
    against: Against = None,
    codec: Annotated[str, typer.Option("--codec", help="A name from `cdl codec list`, or a folder.")] = "rgb-16x",
    size: Annotated[int | None, typer.Option(help="Images: side in pixels; default 256.")] = None,
    megabytes: Megabytes = 600,
    workers: Annotated[int | None, typer.Option(help="Decoding processes; default one per CPU.")] = None,
    decoder: Annotated[str | None, typer.Option(help="Images: pil or pil-scaled; default pil.")] = None,
    repeats: Repeats = 3,
    json_path: JsonPath = None,
) -> None:
    """Measure the speed of preparing a data set.

    Compares the whole of `cdl prepare` with decoding and resizing alone, with the same workers. Peers: imagefolder
    (torchvision's pipeline to the same size).
    """
    from experiments.benchmarks.preparing import PrepareBenchmark, measure_preparation

    config = PrepareBenchmark(source, megabytes * 10**6, codec, size, workers, repeats, decoder)
    with PhaseProgress("runs") as phases:
        result = measure_preparation(config, against, on_phase=phases.update)
    _show(result, json_path)


def bench_train(
    against: Against = None,
    model: Annotated[str, typer.Option("--model", help="A timm model.")] = "resnet18",
    megabytes: Megabytes = 600,
    batch_size: BatchSize = 64,
    steps: Annotated[int, typer.Option(help="Updates per run.", min=1)] = 20,
    num_images: NumImages = 2000,
    images: Images = None,
    threads: Threads = None,
    repeats: Repeats = 3,
    seconds: Seconds = 60.0,
    json_path: JsonPath = None,
) -> None:
    """Measure the speed of training.

    Compares images per second of training on latents with the same model on pixels of the same grid, and with the
    model on one constant batch. Peers: those of `cdl bench load`. Then shows what loader, unpacking, synthesis and
    augmentation take of a step at a grid of 128.
    """
    from experiments.benchmarks.reading import ReadingConfig
    from experiments.benchmarks.timing import Timing
    from experiments.benchmarks.training import TrainBenchmark, measure_training

    reading = ReadingConfig(megabytes * 10**6, batch_size, num_images, images, threads)
    config = TrainBenchmark(model, reading, steps)
    with PhaseProgress("runs") as phases:
        result = measure_training(config, Timing(repeats, seconds), against, on_phase=phases.update)
    _show(result, json_path)


def bench_archive(
    images: Annotated[Path, typer.Option(help="Folder of images, including subfolders.")],
    codecs: Annotated[str, typer.Option(help="Codecs to encode with, separated by commas.")] = (
        "rgb-16x,rgb-4x,gray-16x,gray-4x,resize-rgb-16x"
    ),
    json_path: JsonPath = None,
) -> None:
    """Measure size and speed of archives in each container."""
    from datasets_prep.codec_fit.source_signals import native_signals
    from datasets_prep.sources import open_source
    from experiments.archive_sizes import AUDIO_SPEC, audio_like_codes, image_codes, measure_containers
    from walloc_cdl.codec import load_codec

    models = [load_codec(name.strip()) for name in codecs.split(",")]
    source = open_source(f"imagefolder:{images}")
    results = []
    with progress("bench archive", "codecs") as update:
        for done, model in enumerate(models):
            update(done, len(models) + 1)
            pictures = native_signals(source, model.spec.source_channels, model.spec.stride)
            results += measure_containers(model.name, image_codes(model, pictures), model.spec)
        update(len(models), len(models) + 1)
        results += measure_containers("audio-like", audio_like_codes(), AUDIO_SPEC)
    rows = [
        [
            f"{row.codes}, {row.container}",
            *(f"{value:.3f}" for value in (row.ratio, row.bits_per_code)),
            *(f"{value:.1f}" for value in (row.encode_mb_per_s, row.decode_mb_per_s)),
        ]
        for row in results
    ]
    table(["codes, container", "ratio", "bits/code", "encode MB/s", "decode MB/s"], rows)
    write_json(json_path, [row.to_json() for row in results])


def _show(result: Result, json_path: Path | None) -> None:
    headings, rows = result.table()
    table(headings, rows)
    if result.parts is not None:
        print()
        table(*result.parts.table())
        show(result.parts.note())
    print()
    for note in result.notes():
        show(note)
    write_json(json_path, result.to_json())

"""`cdl codec encode`, `decode` and `inspect`, and `cdl bench archive`: codecs on single files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from walloc_cdl.cli.codec import CodecName, ContainerName
from walloc_cdl.cli.console import (
    JsonPath,
    out_option,
    progress,
    report,
    require_parent,
    say,
    size_text,
    table,
    write_json,
)

if TYPE_CHECKING:
    from datasets_prep.archives.single_files import FilesReport

Source = Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="A file, or a folder, sub folders included.")]
Out = Annotated[Path, out_option("The file to write, or for a folder the folder.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that are there instead of keeping them.")]


def encode(
    source: Source,
    codec: CodecName,
    out: Out,
    container: ContainerName = None,
    overwrite: Overwrite = False,
    json_path: JsonPath = None,
) -> None:
    """Encode images or sounds to entropy-coded archives.

    FILE becomes --out, whose name ends in .png, .webp, .tif or .jxl; each NAME of a folder becomes
    NAME.webp (or as --container says) in the folder --out. The same command again goes on with what is missing.
    """
    from datasets_prep.archives.single_files import encode_files
    from walloc_cdl.codec import load_codec

    model = load_codec(codec)
    with progress("encode", "files") as update:
        result = encode_files(source, out, model, container=container, overwrite=overwrite, on_file=update)
    _conclude(out, model.name, result, json_path)


def decode(
    source: Source,
    out: Out,
    codec: Annotated[
        str | None, typer.Option("--codec", help="Name or folder of the codec; by default what each archive records.")
    ] = None,
    overwrite: Overwrite = False,
    max_code_bytes: Annotated[
        int | None, typer.Option(help="Allow more codes an archive than the guard against bombs does.", min=1)
    ] = None,
    json_path: JsonPath = None,
) -> None:
    """Decode archives to images or sounds.

    They get their true size back; without --codec it is the one that each archive records.
    """
    from datasets_prep.archives.single_files import decode_files
    from walloc_cdl.codec import load_codec

    model = load_codec(codec) if codec else None
    with progress("decode", "files") as update:
        result = decode_files(source, out, model, overwrite=overwrite, max_code_bytes=max_code_bytes, on_file=update)
    _conclude(out, model.name if model else "as recorded", result, json_path)


def _conclude(out: Path, codec: str, result: FilesReport, json_path: Path | None) -> None:
    """Report what was done; exit code 1 if some files could not be used."""
    from datasets_prep.archives.single_files import describe_failures

    for line in describe_failures(result.failures):
        say(line)
    payload = {"codec": codec, **result.to_json()}
    rows: dict[str, object] = {"out": str(out), "codec": codec, "written": f"{result.num_written:,}"}
    if result.num_kept:
        rows["kept"] = f"{result.num_kept:,} that were there already"
    if result.failures:
        rows["failed"] = f"{len(result.failures):,}, named above"
    rows["archives"] = size_text(result.archive_bytes)
    if result.bits_per_sample is not None:
        rows["bpp" if result.kind == "image" else "bits/sample"] = result.bits_per_sample
    report(rows, json_path, payload)
    if result.failures:
        raise typer.Exit(1)


def inspect(
    codec: CodecName,
    out: Annotated[Path, typer.Option(help="Picture to write.", callback=require_parent)],
    image: Annotated[
        Path | None, typer.Option(help="Image to encode; by default a photo that scikit-image ships.")
    ] = None,
) -> None:
    """Draw a codec's latents and basis functions.

    One picture: the histogram of the latents, their channels on an image, the basis functions.
    """
    from experiments.codec_picture import draw_codec
    from walloc_cdl.codec import load_codec

    size = draw_codec(load_codec(codec), out, image=image)
    print(f"{out}: {size[0]}x{size[1]}")


def bench_archive(
    images: Annotated[Path, typer.Option(help="Folder of images, sub folders included.")],
    codecs: Annotated[str, typer.Option(help="Codecs to make codes with, separated by commas.")] = (
        "rgb-16x,rgb-4x,gray-16x,gray-4x,resize-rgb-16x"
    ),
    json_path: JsonPath = None,
) -> None:
    """Measure size and speed of archives in each container."""
    from datasets_prep.codec_fit.native_signals import native_signals
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


CODEC_COMMANDS = {"encode": encode, "decode": decode, "inspect": inspect}

"""`cdl codec encode` and `decode`: apply codecs to single files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from walloc_cdl.cli.console import progress, report, say, size_text
from walloc_cdl.cli.options import CodecName, ContainerName, JsonPath, out_option

if TYPE_CHECKING:
    from datasets_prep.archives.single_files import FilesReport

Source = Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="A file, or a folder with its subfolders.")]
Out = Annotated[Path, out_option("The file to write; for a folder, the folder to write to.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace existing files instead of keeping them.")]


def encode(
    source: Source,
    codec: CodecName,
    out: Out,
    container: ContainerName = None,
    overwrite: Overwrite = False,
    json_path: JsonPath = None,
) -> None:
    """Encode images or audio to entropy-coded archives.

    For a FILE, the name of --out ends in .png, .webp, .tif or .jxl; for a folder, each NAME becomes
    NAME.webp (or as --container says) in the folder --out. Running the same command again writes the missing files.
    """
    from datasets_prep.archives.single_files import encode_files
    from walloc_cdl.codec import load_codec

    model = load_codec(codec)
    with progress("encode", "files") as update:
        result = encode_files(source, out, model, container=container, overwrite=overwrite, on_file=update)
    _report_result(out, model.name, result, json_path)


def decode(
    source: Source,
    out: Out,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="Name or folder of the codec; by default the one that each archive records."),
    ] = None,
    overwrite: Overwrite = False,
    max_code_bytes: Annotated[
        int | None,
        typer.Option(help="Limit on the bytes of an archive's codes, instead of the guard against bombs.", min=1),
    ] = None,
    json_path: JsonPath = None,
) -> None:
    """Decode archives to images or audio of the original size.

    Without --codec, the codec is the one that each archive records.
    """
    from datasets_prep.archives.single_files import decode_files
    from walloc_cdl.codec import load_codec

    model = load_codec(codec) if codec else None
    with progress("decode", "files") as update:
        result = decode_files(source, out, model, overwrite=overwrite, max_code_bytes=max_code_bytes, on_file=update)
    _report_result(out, model.name if model else "as recorded", result, json_path)


def _report_result(out: Path, codec: str, result: FilesReport, json_path: Path | None) -> None:
    """Report what was done; the exit code is 1 if some files failed."""
    from datasets_prep.archives.single_files import describe_failures

    for line in describe_failures(result.failures):
        say(line)
    payload = {"codec": codec, **result.to_json()}
    rows: dict[str, object] = {"out": str(out), "codec": codec, "written": f"{result.num_written:,}"}
    if result.num_kept:
        rows["kept"] = f"{result.num_kept:,} existing files"
    if result.failures:
        rows["failed"] = f"{len(result.failures):,}, named above"
    rows["archives"] = size_text(result.archive_bytes)
    if result.bits_per_sample is not None:
        rows["bpp" if result.kind == "image" else "bits/sample"] = result.bits_per_sample
    report(rows, json_path, payload)
    if result.failures:
        raise typer.Exit(1)

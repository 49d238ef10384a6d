"""Options that commands of several packages share, and the checks of their values."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from walloc_cdl.addresses import is_collapsed_address, local_path
from walloc_cdl.errors import CallError, utf8_text

_SOURCE = re.compile("(--[a-z-]+=)?[a-z]+:")


def require_utf8(arguments: Sequence[str]) -> None:
    """Raise `CallError` for an argument that is not UTF-8, except for sources, such as `imagefolder:PATH`.

    Libraries that write files, such as Arrow, cannot open such paths.
    """
    for argument in arguments:
        if argument != utf8_text(argument) and not _SOURCE.match(argument):
            raise CallError(f"{argument!r} is not UTF-8; rename the file or folder, or name it by a link")


def require_parent(path: Path | None) -> Path | None:
    """Returns the path of a file to write; raises `CallError`, before any work is done, if it cannot be written."""
    path = None if path is None else local_path(path)
    if path is not None and not path.parent.is_dir():
        raise CallError(f"{path} cannot be written: there is no folder {path.parent}; create it first")
    if path is not None and path.is_dir():
        raise CallError(f"{path} is a folder; name a file to write")
    return path


def require_local(path: Path | None) -> Path | None:
    """Returns the path of a folder to write; raises `CallError` for an address, which would become a folder `s3:`."""
    if path is not None and is_collapsed_address(path):
        raise CallError(f"{path} looks like an address; only `cdl prepare` can write to addresses; give a folder")
    return path


def out_option(text: str) -> Any:
    """Returns the option `--out`, with its help, of a command that writes to local folders only."""
    return typer.Option("--out", "-o", help=text, callback=require_local)


LocalFolder = Annotated[Path, out_option("Folder to write to.")]
JsonPath = Annotated[
    Path | None,
    typer.Option("--json", help="Also write the report as JSON to this file.", metavar="PATH", callback=require_parent),
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", min=0)]
Threads = Annotated[
    int | None,
    typer.Option(
        help="Number of torch's threads; default the one that is fastest when the work begins, at most one per CPU.",
        min=1,
    ),
]

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the data set.")]
CodecName = Annotated[
    str, typer.Option("--codec", help="A name from `cdl codec list`, a folder, a .pth file, or hub:OWNER/REPO[/FILE].")
]
PrefixBytes = Annotated[
    int | None,
    typer.Option("--bytes", help="Read only this many bytes of each stored sample, of latents with bit planes.", min=1),
]
ContainerName = Annotated[
    str | None,
    typer.Option(
        "--container", help="Format of archives: png, webp, tiff or jxl; by default the smallest, see docs/archives.md."
    ),
]


def parse_share(text: str, option: str) -> float:
    """Parse a fraction such as `0.01` or `1%`; raises `CallError` for anything else."""
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        return float(number) / (100 if percent else 1)
    except ValueError as error:
        raise CallError(f"{option} {text!r}; expected a fraction, such as 0.01 or 1%") from error

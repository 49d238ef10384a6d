"""Options of the commands that read a source."""

from __future__ import annotations

from typing import Annotated

import typer

SourceName = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="imagefolder:PATH, or just PATH (a folder or zip); hf:NAME; sample:elpv; parquet:, webdataset:, csv:, "
        "imagenet:, torchvision:, audiofolder:, npy: or mat: followed by the location. See docs/sources.md.",
    ),
]

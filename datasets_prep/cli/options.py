"""Options of the commands that read a source."""

from __future__ import annotations

from typing import Annotated

import typer

ImageSource = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="Labeled images: imagefolder:PATH, or just PATH; hf:NAME; sample:elpv; parquet:, webdataset:, csv:, "
        "imagenet: or torchvision: followed by the location. See docs/sources.md.",
    ),
]
SourceName = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="imagefolder:PATH, or just PATH (a folder or zip); hf:NAME; sample:elpv; parquet:, webdataset:, csv:, "
        "imagenet:, torchvision:, audiofolder:, npy: or mat: followed by the location. See docs/sources.md.",
    ),
]

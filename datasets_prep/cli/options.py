"""Options that commands on sources take."""

from __future__ import annotations

from typing import Annotated

import typer

SourceName = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="imagefolder:PATH, or just PATH; hf:NAME, parquet:, webdataset:, csv:, imagenet:, torchvision:, "
        "audiofolder:, npy:, mat: and where; sample:elpv. See docs/sources.md.",
    ),
]

"""Options of the commands that read a source."""

from __future__ import annotations

from typing import Annotated, TypedDict

import typer

from walloc_cdl.errors import CallError

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


class Selection(TypedDict):
    """Arguments of `select_samples`."""

    fraction: float
    rest: bool


def fraction_and_rest(fraction: float | None, except_fraction: float | None) -> Selection:
    """Returns what `--fraction` and `--except-fraction` select, all samples without either; both are a `CallError`."""
    if fraction is not None and except_fraction is not None:
        raise CallError(
            f"--fraction {fraction:g} and --except-fraction {except_fraction:g} select samples in opposite ways; give "
            "one of them"
        )
    if except_fraction is not None:
        return {"fraction": except_fraction, "rest": True}
    return {"fraction": 1.0 if fraction is None else fraction, "rest": False}

"""The options of `cdl prepare`: one for each setting of `PrepareConfig`, and options that are not settings of a job."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from datasets_prep.job.config import PrepareConfig
from walloc_cdl.cli.options import parse_share
from walloc_cdl.cli.setting_options import option_flag
from walloc_cdl.settings import settings_of

OutAddress = Annotated[str, typer.Option(metavar="DIR", help="Folder or address (s3://…) of the data set to make.")]
CodecName = Annotated[
    str | None,
    typer.Option(
        "--codec",
        help="A name from `cdl codec list`, a folder, a .pth file, hub:…, or own, which fits one to the train split "
        "first; with --bytes or --bpp, the shipped one for the source's channels by default.",
    ),
]
FromArchives = Annotated[bool, typer.Option("--archive", help="SOURCE is a folder that `cdl export --archive` made.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print the plan and its expected size and time.")]
WorkFolder = Annotated[
    Path | None, typer.Option(help="For an address: folder for unfinished files; default in the cache.")
]


def prepare_config(values: Mapping[str, Any]) -> PrepareConfig:
    """Return the settings of a job from the command's parameters; raises `CallError` as `PrepareConfig` does."""
    settings = {}
    for name, each in settings_of(PrepareConfig).items():
        value = values[each.option or name]
        if each.is_share and value is not None:
            value = parse_share(value, option_flag(each.option or name))
        settings[name] = value
    return PrepareConfig(**settings)

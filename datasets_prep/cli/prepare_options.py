"""The options of `cdl prepare`: one for each setting of `PrepareConfig`, and options that are not settings of a job."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.settings import settings_of
from walloc_cdl.cli.options import parse_share

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


def with_settings(*, after: str, placed: Mapping[str, str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `**settings` by an option for each setting of `PrepareConfig`.

    In the signature, and so in the help, these options follow the parameter `after`. `placed` maps parameters of the
    command that are shown among the settings to the one that each follows. The command gets all settings by their
    options' names; `prepare_config` turns them into a `PrepareConfig`.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = {name: each for name, each in signature.parameters.items() if each.kind is not each.VAR_KEYWORD}
        order: list[inspect.Parameter] = []
        for name, parameter in own.items():
            if name not in placed:
                order.append(parameter)
            if name == after:
                order += _parameters()
        for name, previous in placed.items():
            index = next(number for number, each in enumerate(order, start=1) if each.name == previous)
            order.insert(index, own[name])
        command.__signature__ = signature.replace(parameters=order)  # type: ignore[attr-defined]
        return command

    return decorate


def prepare_config(values: Mapping[str, Any]) -> PrepareConfig:
    """Return the settings of a job from the command's parameters; raises `CallError` as `PrepareConfig` does."""
    settings = {}
    for name, each in settings_of(PrepareConfig).items():
        value = values[each.option or name]
        if each.is_share and value is not None:
            value = parse_share(value, _flag(each.option or name))
        settings[name] = value
    return PrepareConfig(**settings)


def _parameters() -> list[inspect.Parameter]:
    """Return a parameter of the command for each setting, with typer's annotations."""
    types, defaults = get_type_hints(PrepareConfig), PrepareConfig()
    parameters = []
    for name, each in settings_of(PrepareConfig).items():
        option = each.option or name
        kind = str | None if each.is_share else types[name]
        flags = [_flag(option)] if kind is bool else []  # otherwise typer would add a --no-… option
        annotation = Annotated[kind, typer.Option(*flags, help=each.help, metavar=each.metavar)]
        parameters.append(
            inspect.Parameter(
                option,
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                default=getattr(defaults, name),
                annotation=annotation,
            )
        )
    return parameters


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"

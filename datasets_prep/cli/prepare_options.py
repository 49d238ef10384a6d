"""The options of `cdl prepare`: one for each setting of `PrepareConfig`, and those that are no settings of a job."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer

from datasets_prep.job.config import PrepareConfig
from datasets_prep.job.settings import settings_of
from walloc_cdl.cli.options import parse_share

OutAddress = Annotated[str, typer.Option(metavar="DIR", help="Folder of the data set to make, or address, as s3://….")]
CodecName = Annotated[
    str | None, typer.Option("--codec", help="A name from `cdl codec list`, a folder, a .pth file, or hub:….")
]
FromArchives = Annotated[bool, typer.Option("--archive", help="SOURCE is a folder that `cdl export --archive` made.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only print what would be done, and what it would take.")]
WorkFolder = Annotated[
    Path | None, typer.Option(help="For an address: folder for what is unfinished; default in the cache.")
]


def with_settings(*, after: str, placed: Mapping[str, str]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command an option for each setting of `PrepareConfig` in place of its parameter `**settings`.

    In the signature, and so in the help, they follow the parameter `after`. `placed` names parameters of the command
    that stand among them, each with the one that it follows. The command gets all settings by the names of their
    options; `prepare_config` makes a `PrepareConfig` of them.
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
        for name, before in placed.items():
            place = next(number for number, each in enumerate(order, start=1) if each.name == before)
            order.insert(place, own[name])
        command.__signature__ = signature.replace(parameters=order)  # type: ignore[attr-defined]
        return command

    return decorate


def prepare_config(values: Mapping[str, Any]) -> PrepareConfig:
    """The settings of a job, by the values of their parameters; raises `CallError` as `PrepareConfig` does."""
    settings = {}
    for name, each in settings_of(PrepareConfig).items():
        value = values[each.option or name]
        if each.is_share and value is not None:
            value = parse_share(value, _flag(each.option or name))
        settings[name] = value
    return PrepareConfig(**settings)


def _parameters() -> list[inspect.Parameter]:
    """A parameter of the command for each setting, as typer reads it."""
    types, defaults = get_type_hints(PrepareConfig), PrepareConfig()
    parameters = []
    for name, each in settings_of(PrepareConfig).items():
        option = each.option or name
        kind = str | None if each.is_share else types[name]
        flags = [_flag(option)] if kind is bool else []  # else there would be a --no-… as well
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

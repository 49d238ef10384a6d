"""Options of a command from the settings of a dataclass."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, get_args, get_type_hints

import typer

from walloc_cdl.errors import CallError
from walloc_cdl.settings import settings_of


def option_flag(name: str) -> str:
    """Returns the option of a parameter, such as `--batch-size`."""
    return f"--{name.replace('_', '-')}"


def setting_parameters(cls: type, *, optional: bool = False) -> list[inspect.Parameter]:
    """Returns a parameter of the command for each setting of `cls`, with typer's annotations.

    With `optional`, an option that is not given is None, whatever its default, which the help shows.
    """
    types, defaults = get_type_hints(cls), cls()
    parameters = []
    for name, each in settings_of(cls).items():
        option, default = each.option or name, getattr(defaults, name)
        kind = str | None if each.is_share or _is_tuple(types[name]) else types[name]
        flags = [option_flag(option)] if kind is bool and not optional else []  # typer would add a --no-… option
        shown = {} if not optional or default is None else {"show_default": str(default)}
        annotation = Annotated[
            kind | None if optional else kind, typer.Option(*flags, help=each.help, metavar=each.metavar, **shown)
        ]
        kwargs = {"default": None if optional else default, "annotation": annotation}
        parameters.append(inspect.Parameter(option, inspect.Parameter.POSITIONAL_OR_KEYWORD, **kwargs))
    return parameters


def with_parameters(
    parameters: Sequence[inspect.Parameter], *, after: str, placed: Mapping[str, str] | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `**settings` by `parameters`, which follow the one called `after`.

    `placed` maps parameters of the command that are shown among these to the one that each follows. The command gets
    all by name.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = {name: each for name, each in signature.parameters.items() if each.kind is not each.VAR_KEYWORD}
        order: list[inspect.Parameter] = []
        for name, parameter in own.items():
            if name not in (placed or {}):
                order.append(parameter)
            if name == after:
                order += parameters
        for name, previous in (placed or {}).items():
            index = next(number for number, each in enumerate(order, start=1) if each.name == previous)
            order.insert(index, own[name])
        command.__signature__ = signature.replace(parameters=order)  # type: ignore[attr-defined]
        return command

    return decorate


def given_settings(cls: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings that were given as options, by the names of the fields of `cls`.

    Raises `CallError` for numbers that are not separated by commas where a setting has several.
    """
    types, found = get_type_hints(cls), {}
    for name, each in settings_of(cls).items():
        value = values.get(each.option or name)
        if value is None:
            continue
        if each.zero_is_none and value == 0:
            value = None
        elif _is_tuple(types[name]) and not (str in get_args(types[name]) and value.isalpha()):
            value = _numbers(value, option_flag(each.option or name))
        found[name] = value
    return found


def _is_tuple(hint: Any) -> bool:
    """Return whether a field has several numbers."""
    return any("tuple" in str(each) for each in (hint, *get_args(hint)))


def _numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.replace(",", " ").split())
    except ValueError as error:
        raise CallError(f"{option} {text!r}; expected numbers separated by commas, such as 10,20") from error

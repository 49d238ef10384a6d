"""Defines a job's setting once, as a dataclass field with its default, its check and its command-line option.

This module imports nothing heavy, since the command line reads the settings at its start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from walloc_cdl.errors import CallError, unknown_name

_KEY = "setting"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Metadata of a dataclass field that is a setting."""

    help: str
    """Help text of the command-line option."""
    signal: str | None = None
    """The kind of signal to which the setting applies, `image` or `audio`; None for all kinds."""
    remedy: str = ""
    """What to use with sources of other kinds: the last part of the error message."""
    determines_size: bool = False
    """Whether it determines the size of samples, and so does not apply where each sample keeps its own size."""
    choices: tuple[str, ...] = ()
    """The allowed names; () for other values."""
    minimum: int | None = None
    """The smallest number."""
    maximum: int | None = None
    """The largest number; a larger one would fill the memory."""
    maximum_remedy: str = ""
    """An alternative to values above `maximum`, for the error message."""
    check: Callable[[str, Any], None] | None = None
    """Called with the setting's name and its value, unless it is None; raises `CallError`."""
    option: str | None = None
    """Name of the command's parameter, if it is not the field's name."""
    metavar: str | None = None
    """Placeholder of the value in the help; None shows its type."""
    is_share: bool = False
    """Whether it is a share, which the command line also accepts in percent, such as `1%`."""
    zero_is_none: bool = False
    """Whether 0 on the command line and in recipes stands for None, which is not the default."""

    def require_valid(self, name: str, value: Any) -> None:
        """Raise `CallError` for an invalid value; None, the default, is always valid."""
        if value is None:
            return
        if self.minimum is not None and value < self.minimum:
            raise CallError(f"{name} is {value}; it must be at least {self.minimum}")
        if self.maximum is not None and value > self.maximum:
            remedy = self.maximum_remedy and f", or {self.maximum_remedy}"
            raise CallError(
                f"{name} is {value:,}, which would fill the memory; choose at most {self.maximum:,}{remedy}"
            )
        if self.choices and value not in self.choices:
            raise unknown_name(name, value, self.choices, f"choose one of {', '.join(self.choices)}")
        if self.check is not None:
            self.check(name, value)


def setting(default: Any, help: str, **properties: Any) -> Any:
    """Return a dataclass field for a setting; `properties` are further fields of `Setting`."""
    return field(default=default, metadata={_KEY: Setting(help=help, **properties)})


def settings_of(config: Any) -> dict[str, Setting]:
    """Return the settings of a dataclass, or of an instance of it, by field name, in the order of the fields."""
    return {each.name: each.metadata[_KEY] for each in fields(config) if _KEY in each.metadata}


def plain_values(config: Any) -> dict[str, Any]:
    """Return the fields of a dataclass as values of a recipe: those that are None are left out, or 0 if that means it.

    Fields that are dataclasses themselves become dictionaries.
    """
    values = {}
    for each in fields(config):
        value, known = getattr(config, each.name), each.metadata.get(_KEY)
        if value is None and known is not None and known.zero_is_none:
            value = 0
        if is_dataclass(value):
            value = plain_values(value)
        if value is not None:
            values[each.name] = list(value) if isinstance(value, tuple) else value
    return values

"""A setting of a job as a field of a dataclass: its default, its check and its option of the command line, once.

Nothing heavy is imported here, since the command line reads the settings before it does anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from walloc_cdl.errors import CallError, unknown_name

_KEY = "setting"


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a field of a dataclass is as a setting."""

    help: str
    """What the help of the command line says of it."""
    signal: str | None = None
    """The kind of signal whose sources have it: `image` or `audio`; None for all kinds."""
    remedy: str = ""
    """What sources of other kinds have in place of it; the end of the refusal."""
    decides_size: bool = False
    """Whether it decides the size of samples, and so means nothing where each sample keeps its own."""
    choices: tuple[str, ...] = ()
    """The names of which it is one; () for other values."""
    least: int | None = None
    """The smallest number."""
    most: int | None = None
    """The largest number; more would fill the memory."""
    most_remedy: str = ""
    """What else there is for those who want more than `most`."""
    check: Callable[[str, Any], None] | None = None
    """Called with the setting's name and its value, not None; raises `CallError`."""
    option: str | None = None
    """The name of its parameter of the command, if it is another than the field's."""
    metavar: str | None = None
    """What stands for the value in the help; None for its type."""
    is_share: bool = False
    """Whether it is a share, which the command line also takes as `1%`."""

    def require_valid(self, name: str, value: Any) -> None:
        """Raise `CallError` for a value that the setting cannot have; None, the default, is always one."""
        if value is None:
            return
        if self.least is not None and value < self.least:
            raise CallError(f"{name} is {value}; it must be at least {self.least}")
        if self.most is not None and value > self.most:
            remedy = self.most_remedy and f", or {self.most_remedy}"
            raise CallError(f"{name} is {value:,}, which would fill the memory; choose at most {self.most:,}{remedy}")
        if self.choices and value not in self.choices:
            raise unknown_name(name, value, self.choices, f"choose one of {', '.join(self.choices)}")
        if self.check is not None:
            self.check(name, value)


def setting(default: Any, help: str, **facts: Any) -> Any:
    """A dataclass field that is a setting; `facts` are further fields of `Setting`."""
    return field(default=default, metadata={_KEY: Setting(help=help, **facts)})


def settings_of(config: Any) -> dict[str, Setting]:
    """The settings of a dataclass, or of an instance of it, by the names of their fields, in their order."""
    return {each.name: each.metadata[_KEY] for each in fields(config) if _KEY in each.metadata}

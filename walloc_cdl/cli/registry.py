"""Finds the commands: each package declares a table of them in the entry-point group `walloc_cdl.commands`.

This package thus finds the commands of the packages above it without importing them, and third-party packages can add
commands to `cdl` in the same way:

    [project.entry-points."walloc_cdl.commands"]
    mine = "mine.cli.commands:COMMANDS"
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points

from walloc_cdl.errors import CallError, one_line

ENTRY_POINTS = "walloc_cdl.commands"
"""The group of entry points; the value of each is a `CommandTable`."""

NOT_INSTALLED = (
    f"this installation declares no entry points in the group {ENTRY_POINTS}, so most commands are missing; install "
    "the package again, in a checkout with `python -m pip install --editable .`"
)


@dataclass(frozen=True)
class CommandTable:
    """The commands of one package, by the words that call them.

    `commands` maps the words of a command, such as `train`, or `codec fit` in a group, to a function with typer's
    annotations. `groups` maps the name of each group that the package owns to its help text. Every call of `cdl`
    imports the module of the table, so the functions import inside themselves whatever takes long to import.
    """

    commands: Mapping[str, Callable[..., object]]
    groups: Mapping[str, str] = field(default_factory=dict)


def installed_tables(warn: Callable[[str], None]) -> Iterator[tuple[str, CommandTable]]:
    """Yield the tables that installed packages declare, each with a text that names its entry point.

    An entry point that cannot be loaded, or is not a table, is left out, and `warn` is called with a line that says
    so: the other commands must keep working.
    """
    found = sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name)
    if not found:
        warn(NOT_INSTALLED)
    for entry in found:
        try:
            table = entry.load()
            if not isinstance(table, CommandTable):
                raise CallError(f"it is of type {type(table).__name__}; expected {CommandTable.__qualname__}")
        except Exception as error:  # the import of a third-party module may raise anything
            warn(skip_warning(describe(entry), error))
        else:
            yield describe(entry), table


def describe(entry: EntryPoint) -> str:
    """Returns an entry point as its package declares it."""
    return f"the entry point `{entry.name} = {entry.value}` of {ENTRY_POINTS}"


def skip_warning(subject: str, error: Exception) -> str:
    """Returns the line that says that a declared table or command is left out, and why."""
    reason = one_line(error) if isinstance(error, CallError) else one_line(error, with_class=True)
    return f"{subject} is left out ({reason}); update or uninstall the package that declares it"

"""Commands are found here: each package declares a table of its own in the entry-point group `walloc_cdl.commands`.

So this package knows the commands of those above it without importing them, and a package of somebody else's can add
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
    f"this installation declares no entry points {ENTRY_POINTS}, so most commands are missing; install the package "
    "again, in a checkout with `python -m pip install --editable .`"
)


@dataclass(frozen=True)
class CommandTable:
    """The commands of one package, by the words that call them.

    `commands` has a function with typer's annotations for each, by `train` or, in a group, by `codec fit`. `groups`
    has the help text of each group that the package owns, by its name. Every call of `cdl` imports the module of a
    table, so what computes is imported inside the functions.
    """

    commands: Mapping[str, Callable[..., object]]
    groups: Mapping[str, str] = field(default_factory=dict)


def installed_tables(warn: Callable[[str], None]) -> Iterator[tuple[str, CommandTable]]:
    """Yield the tables that installed packages declare, each with a text that says where it comes from.

    An entry point that cannot be loaded, or is no table, is left out, and `warn` gets the line that says so: it must
    not take the other commands with it.
    """
    found = sorted(entry_points(group=ENTRY_POINTS), key=lambda entry: entry.name)
    if not found:
        warn(NOT_INSTALLED)
    for entry in found:
        try:
            table = entry.load()
            if not isinstance(table, CommandTable):
                raise CallError(f"it is of type {type(table).__name__}; expected {CommandTable.__qualname__}")
        except Exception as error:  # whatever an import of somebody else's raises
            warn(left_out(describe(entry), error))
        else:
            yield describe(entry), table


def describe(entry: EntryPoint) -> str:
    """Return an entry point as its package declares it."""
    return f"the entry point `{entry.name} = {entry.value}` of {ENTRY_POINTS}"


def left_out(what: str, error: Exception) -> str:
    """Return the line that says that something which a package declares is not among the commands."""
    reason = one_line(error) if isinstance(error, CallError) else one_line(error, with_class=True)
    return f"{what} is left out ({reason}); update or uninstall the package that declares it"

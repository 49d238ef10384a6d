"""Builds the tree of commands from the tables of all packages, in the order in which the help shows them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from walloc_cdl.addresses import local_path
from walloc_cdl.cli.commands import COMMANDS
from walloc_cdl.cli.console import show_help
from walloc_cdl.cli.optional_values import OptionalValueCommand
from walloc_cdl.cli.registry import installed_tables, skip_warning
from walloc_cdl.errors import CallError
from walloc_cdl.version import __version__

HELP = "Compressed-domain learning: encode a data set once to small latents, and train classifiers on them."

HELP_ORDER = (
    *("prepare", "inspect", "verify", "preview", "export", "push", "pull"),
    *("probe", "train", "evaluate", "predict", "compare", "crossval", "demo", "report"),
    *("repair", "drop", "merge", "split", "cut"),
    *("codec", "codec list", "codec info", "codec fit", "codec import", "codec eval"),
    *("codec encode", "codec decode", "codec inspect"),
    *("model", "model export", "model push"),
    *("weights", "weights convert"),
    *("bench", "bench encode", "bench unpack", "bench load", "bench prepare", "bench train", "bench archive"),
)
"""Commands in the order in which users need them; commands that are not listed here are shown after these."""


def build_command_tree(warn: Callable[[str], None]) -> TyperGroup:
    """Build `cdl` from the commands of this package and those that installed packages declare.

    A command that cannot be built is left out, and `warn` is called with a line that says so.
    """
    nodes: dict[str, TyperCommand | TyperGroup] = {}
    origins: dict[str, str] = {}
    for origin, table in [("walloc_cdl", COMMANDS), *installed_tables(warn)]:
        for words, target in [*table.groups.items(), *table.commands.items()]:
            try:
                if words in nodes:
                    raise CallError(f"it is declared by {origins[words]} already")
                nodes[words] = _group(words, target) if isinstance(target, str) else _command(words, target)
                origins[words] = origin
            except Exception as error:  # typer raises various errors for a function of another package
                warn(skip_warning(f"`cdl {words}` of {origin}", error))
    root = _group("cdl", HELP, _root_callback)
    for words in sorted(nodes, key=lambda words: HELP_ORDER.index(words) if words in HELP_ORDER else len(HELP_ORDER)):
        group_words, _, name = words.rpartition(" ")
        parent = nodes.get(group_words) if group_words else root
        if isinstance(parent, TyperGroup):
            parent.add_command(nodes[words], name)
        else:
            warn(skip_warning(f"`cdl {words}` of {origins[words]}", CallError(f"there is no group `{group_words}`")))
    return root


def _command(words: str, function: Callable[..., object]) -> Any:
    """Build a command from a function; raises the errors of typer for annotations that it does not support."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(words.rpartition(" ")[2], cls=OptionalValueCommand)(_with_home_folder(function))
    return typer.main.get_command(app)


def _with_home_folder(function: Callable[..., object]) -> Callable[..., object]:
    """Returns the function, called with the home folder for `~` in every path: a shell leaves `--out=~/x` as it is."""

    def expanded(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(expanded, value))
        return local_path(value) if isinstance(value, Path) else value

    @functools.wraps(function)
    def call(**values: Any) -> object:
        return function(**{name: expanded(value) for name, value in values.items()})

    return call


def _group(words: str, text: str, callback: Callable[..., None] = show_help) -> Any:
    """Build a group without commands; `callback` is called before each command that is added to it."""
    app = typer.Typer(
        name=words.rpartition(" ")[2],
        help=text,
        callback=callback,
        invoke_without_command=True,
        add_completion=False,
        rich_markup_mode=None,
    )
    return typer.main.get_command(app)


def _root_callback(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        print(__version__)
        raise typer.Exit
    show_help(context)

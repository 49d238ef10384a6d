"""Puts the commands together and turns errors into one line and an exit code.

0: done. 1: the work failed or the data are damaged. 2: the call was wrong. 130: interrupted. 143: terminated.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from classifiers.cli import learning
from datasets_prep.cli import archives, hub, prepare, upkeep
from experiments.cli import bench, comparison
from walloc_cdl.cli import codec, dataset
from walloc_cdl.cli.console import Terminated, show_help
from walloc_cdl.errors import CdlError

# typer carries its own copy of click in new versions and imports it in old ones; its errors are
# reached through what it exports in both.
_CLICK_ERRORS = {error.__name__: error for error in typer.BadParameter.__mro__}
ClickException, UsageError = _CLICK_ERRORS["ClickException"], _CLICK_ERRORS["UsageError"]

INTERRUPTED = 130
"""Exit code after an interrupt from the keyboard, as shells have it."""

TERMINATED = 143
"""The same after SIGTERM."""

app = typer.Typer(
    name="cdl",
    help="Compressed-domain learning: encode a data set once into small latents, train classifiers on them.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for name, command in archives.CODEC_COMMANDS.items():
    codec.app.command(name)(command)
app.add_typer(codec.app, name="codec")
for name, command in {
    **prepare.COMMANDS,
    **dataset.COMMANDS,
    **hub.COMMANDS,
    **learning.COMMANDS,
    **comparison.COMMANDS,
    **upkeep.COMMANDS,
}.items():
    app.command(name)(command)
bench.app.command("archive")(archives.bench_archive)
app.add_typer(bench.app, name="bench")


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from walloc_cdl import __version__

        print(__version__)
        raise typer.Exit
    show_help(context)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `cdl` with `arguments` (those of the process by default) and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run `cdl` and return the exit code; errors go to standard error, one line each."""
    os.environ.setdefault(
        "ARROW_DEFAULT_MEMORY_POOL", "system"
    )  # its own pools keep what a job has freed: 18 of 385 MB
    logging.getLogger("PIL").addHandler(logging.NullHandler())  # it would print beside the one line what it also raises
    try:
        code = app(args=arguments, prog_name="cdl", standalone_mode=False) or 0
    except UsageError as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "cdl"
        _complain(f"{path}: {error.format_message()} (`{path} --help` shows the options)")
        return 2
    except ClickException as error:
        _complain(f"cdl: {error.format_message()}")
        return error.exit_code
    except CdlError as error:
        _complain(f"cdl: {error}")
        return error.exit_code
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _complain(f"cdl: {where}{error.strerror or error}")
        return 1
    except Terminated:
        _complain("cdl: terminated; the same command again goes on where it stopped")
        return TERMINATED
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:  # which newer versions of typer return by themselves, without a word
        _complain("cdl: interrupted; the same command again goes on where it stopped")
    return code


def _complain(message: str) -> None:
    print(" ".join(message.split()), file=sys.stderr)

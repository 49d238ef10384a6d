"""Runs `cdl`, and turns errors into one line and an exit code.

0: done. 1: the work failed or the data are damaged. 2: the call was wrong. 130: interrupted. 143: terminated.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import typer

from walloc_cdl.cli.command_tree import build_command_tree
from walloc_cdl.cli.console import Terminated
from walloc_cdl.errors import CdlError, system_reason

# typer carries its own copy of click in new versions and imports it in old ones; its errors are
# reached through what it exports in both.
_CLICK_ERRORS = {error.__name__: error for error in typer.BadParameter.__mro__}
ClickException, UsageError = _CLICK_ERRORS["ClickException"], _CLICK_ERRORS["UsageError"]

INTERRUPTED = 130
"""Exit code after an interrupt from the keyboard, as shells have it."""

TERMINATED = 143
"""The same after SIGTERM."""


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
        cdl = build_command_tree(lambda text: _complain(f"cdl: {text}"))
        code = cdl(args=arguments, prog_name="cdl", standalone_mode=False) or 0
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
        _complain(f"cdl: {where}{system_reason(error)}")
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

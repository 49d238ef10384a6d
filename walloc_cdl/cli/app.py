"""Runs `cdl`, and turns errors into one line and an exit code.

Exit codes: 0, success; 1, the work failed or the data are damaged; 2, the call was wrong; 130, interrupted;
143, terminated.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Sequence

import typer

from walloc_cdl.cli.command_tree import build_command_tree
from walloc_cdl.cli.console import Terminated, interruptible, show_all_text, start_clock
from walloc_cdl.cli.options import require_utf8
from walloc_cdl.errors import CallError, CdlError, system_reason, terminal_text
from walloc_cdl.machine import is_main_process

# New versions of typer include a copy of click, old ones import it. Both export BadParameter, whose base classes are
# the errors of the click in use.
_CLICK_ERRORS = {error.__name__: error for error in typer.BadParameter.__mro__}
ClickException, UsageError = _CLICK_ERRORS["ClickException"], _CLICK_ERRORS["UsageError"]

INTERRUPTED = 130
"""Exit code after SIGINT (Ctrl-C), as in shells."""

TERMINATED = 143
"""Exit code after SIGTERM."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run `cdl` with `arguments` (those of the process by default) and exit."""
    sys.exit(run(arguments))


def run(arguments: Sequence[str] | None = None) -> int:
    """Run `cdl` and return the exit code; errors go to standard error, one line each."""
    start_clock()
    # Arrow's own pools do not return the memory that a job has freed: 18 of 385 MB.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    # Without a handler, Pillow would print the errors that it also raises.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    show_all_text()
    try:
        require_utf8(sys.argv[1:] if arguments is None else arguments)
        cdl = build_command_tree(lambda text: _print_error(f"cdl: {text}"))
        with interruptible():
            code = cdl(args=arguments, prog_name="cdl", standalone_mode=False) or 0
    except UsageError as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context else "cdl"
        _print_error(f"{path}: {error.format_message()} (`{path} --help` shows the options)")
        return 2
    except ClickException as error:
        _print_error(f"cdl: {error.format_message()}")
        return error.exit_code
    except CdlError as error:
        # Processes that were launched together refuse a call together; one says so.
        if is_main_process() or not isinstance(error, CallError):
            _print_error(f"cdl: {error}")
        return error.exit_code
    except OSError as error:
        prefix = f"{error.filename}: " if error.filename else ""
        _print_error(f"cdl: {prefix}{system_reason(error)}")
        return 1
    except Terminated:
        _print_error("cdl: terminated; run the same command again to resume")
        return TERMINATED
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:  # newer versions of typer return this code themselves, without a message
        _print_error("cdl: interrupted; run the same command again to resume")
    return code


def _print_error(message: str) -> None:
    print(terminal_text(" ".join(message.split())), file=sys.stderr)

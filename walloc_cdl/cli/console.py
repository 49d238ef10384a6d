"""Output of the commands (reports, tables and progress), and their termination by a signal."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import typer

from walloc_cdl.errors import terminal_text

_STARTED_S = [time.perf_counter()]
"""When the present call of the program began; the interpreter's start is over by then."""

PROGRESS_INTERVAL_S = 10.0
"""Seconds between two lines of progress when standard error is not a terminal."""


def report(rows: dict[str, Any], json_path: Path | None = None, payload: Any = None) -> None:
    """Print `rows` as aligned lines, and write `payload` (the rows by default) to `json_path`."""
    width = max((len(terminal_text(name)) for name in rows), default=0)
    for name, value in rows.items():
        text = f"{value:.4g}" if isinstance(value, float) else str(value)
        show(f"{terminal_text(name):<{width}}  {text}")
    write_json(json_path, rows if payload is None else payload)


def write_json(json_path: Path | None, payload: Any) -> None:
    """Write `payload` to `json_path`, unless that is None."""
    if json_path is not None:
        json_path.write_text(json.dumps(payload, indent=1, allow_nan=False) + "\n")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells in aligned columns, the first left-aligned, the others right-aligned."""
    headings, rows = [*map(terminal_text, headings)], [[*map(terminal_text, cells)] for cells in rows]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for cells in (headings, *rows):
        first, *others = (
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        print("  ".join([first, *others]))


def show(line: str) -> None:
    """Print one line to standard output; what is no plain text in it is escaped."""
    print(terminal_text(line))


def show_all_text() -> None:
    """Escape characters that the encoding of standard output does not have, in place of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def size_text(num_bytes: int) -> str:
    """Format a number of bytes, such as `13.5 kB`."""
    value, units = float(num_bytes), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:,.0f} bytes" if units[0] == "bytes" else f"{value:,.1f} {units[0]}"


def duration_text(seconds: float) -> str:
    """Format a duration, such as `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"


def start_clock() -> None:
    """Begin a call of the program, from which `seconds_since_start` counts."""
    _STARTED_S[0] = time.perf_counter()


def seconds_since_start() -> float:
    """Returns the time in seconds since the program began, without the start of the interpreter."""
    return time.perf_counter() - _STARTED_S[0]


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C: unfinished files are discarded, and the exit code is 143.

    Only the main thread of a process can; in another thread nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()

    def terminate(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:
            raise Terminated
        # a worker that was forked, such as by a DataLoader: it ends as if there were no handler
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    previous = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class Terminated(BaseException):
    """The process received SIGTERM."""


def say(note: str) -> None:
    """Print a note on a running job to standard error, above the progress bar if there is one."""
    print(terminal_text(note), file=sys.stderr, flush=True)


def show_help(context: typer.Context) -> None:
    """Callback of a group: if no subcommand was given, print the help to standard error, with exit code 2."""
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


class Update(Protocol):
    """Shows the progress of a job."""

    def __call__(
        self, done: int, total: int | None, *, num_bytes: int | None = None, details: Sequence[str] = ()
    ) -> None:
        """Show `done` of `total`, which is None if it is unknown.

        `num_bytes` is the number of bytes read so far, from which a rate is shown, followed by the `details` that are
        not empty.
        """
        ...


@contextmanager
def progress(title: str, unit: str = "images", *, lines: bool = True) -> Iterator[Update]:
    """Yield a function of (done, total) that shows the progress of a job on standard error.

    On a terminal it draws a bar. Otherwise it prints a line every `PROGRESS_INTERVAL_S` seconds, unless `lines` is
    false, for jobs that print lines of their own.
    """
    if sys.stderr.isatty():
        with _bar(title, unit) as update:
            yield update
    else:
        yield _line_printer(title, unit) if lines else _silent


def _silent(done: int, total: int | None, *, num_bytes: int | None = None, details: Sequence[str] = ()) -> None:
    """Show nothing."""


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit, markup=False),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(terminal_text(title), total=None, rate="")
        rate, byte_rate = _Rate(), _Rate()

        def update(done: int, total: int | None, *, num_bytes: int | None = None, details: Sequence[str] = ()) -> None:
            texts = [rate.text(done)]
            if num_bytes is not None:
                texts.append(f"{size_text(byte_rate.per_second(num_bytes))}/s")
            rate_text = terminal_text(", ".join([*texts, *filter(None, details)]))
            bar.update(task, completed=done, total=total, rate=rate_text)

        yield update


def _line_printer(title: str, unit: str) -> Update:
    rate, last_printed = _Rate(), time.monotonic()

    def update(done: int, total: int | None, *, num_bytes: int | None = None, details: Sequence[str] = ()) -> None:
        nonlocal last_printed
        rate_text = rate.text(done)
        if time.monotonic() - last_printed >= PROGRESS_INTERVAL_S:
            last_printed = time.monotonic()
            of_total = "" if total is None else f" of {total:,}"
            per_second = rate.per_second(done)
            left = [f"{duration_text((total - done) / per_second)} left"] if total is not None and per_second else []
            say(", ".join([f"{title}: {done:,}{of_total} {unit}", rate_text, *left, *filter(None, details)]))

    return update


class _Rate:
    """Units per second since the first report, so that the units which a resumed job found done do not count."""

    def __init__(self) -> None:
        self._first: tuple[float, int] | None = None

    def per_second(self, done: int) -> float:
        now = time.monotonic()
        if self._first is None:
            self._first = (now, done)
        start, done_at_start = self._first
        return (done - done_at_start) / max(now - start, 1e-6)

    def text(self, done: int) -> str:
        return f"{self.per_second(done):,.0f}/s"


class PhaseProgress:
    """Progress of a job in phases, with a bar, or lines, for each phase."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar = ExitStack()
        self._phase: str | None = None
        self._update: Update = _silent

    def update(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Show the progress of a phase; a new phase ends the previous one."""
        if phase != self._phase:
            self.close()
            self._phase, self._update = phase, self._bar.enter_context(progress(phase, self._unit))
            if not note and not sys.stderr.isatty():
                say(phase)
        if note:
            say(f"{phase}: {note}")
        if total:
            self._update(done, total)

    def close(self) -> None:
        """End the last phase."""
        self._bar.close()
        self._phase = None

    def __enter__(self) -> PhaseProgress:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

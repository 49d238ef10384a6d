"""What commands print: reports, tables and progress; and how they end when they are told to."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

import typer

QUIET_S = 10.0
"""Seconds between two lines of progress when the output is no terminal."""


def report(rows: dict[str, Any], json_path: Path | None = None, payload: Any = None) -> None:
    """Print `rows` as aligned lines, and write `payload` (the rows by default) to `json_path`."""
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        print(f"{name:<{width}}  {value:.4g}" if isinstance(value, float) else f"{name:<{width}}  {value}")
    write_json(json_path, rows if payload is None else payload)


def write_json(json_path: Path | None, payload: Any) -> None:
    """Write `payload` to `json_path`, unless that is None."""
    if json_path is not None:
        json_path.write_text(json.dumps(payload, indent=1, allow_nan=False) + "\n")


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows of cells in aligned columns, the first to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    for cells in (headings, *rows):
        first, *others = (
            cell.rjust(width) if number else cell.ljust(width)
            for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        print("  ".join([first, *others]))


def size_text(num_bytes: int) -> str:
    """Bytes for people: `13.5 kB`."""
    value, units = float(num_bytes), ["bytes", "kB", "MB", "GB", "TB"]
    while value >= 1000 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:,.0f} bytes" if units[0] == "bytes" else f"{value:,.1f} {units[0]}"


def duration_text(seconds: float) -> str:
    """A duration for people: `3 h 20 min`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60:,} h {minutes % 60} min"


@contextmanager
def interruptible() -> Iterator[None]:
    """Treat the signal that ends jobs (SIGTERM) like Ctrl-C: what is half-made is dropped, and the exit code is 143."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class Terminated(BaseException):
    """The process was asked to end."""


def say(note: str) -> None:
    """Print a line about the course of a job to standard error, above the progress bar if there is one."""
    print(note, file=sys.stderr, flush=True)


def show_help(context: typer.Context) -> None:
    """Callback of a command that is nothing without a sub command: without one, show its help, exit code 2."""
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


class Update(Protocol):
    """Shows how far a job is."""

    def __call__(
        self, done: int, total: int | None, *, num_bytes: int | None = None, details: Sequence[str] = ()
    ) -> None:
        """`total` is None where it is not known; `num_bytes` read so far, for a rate; `details` are shown beside it,
        empty ones not.
        """
        ...


@contextmanager
def progress(title: str, unit: str = "images", *, lines: bool = True) -> Iterator[Update]:
    """Yield a function of (done, total) that shows how far a job is.

    A bar on a terminal; otherwise, unless the job writes `lines` of its own, a line every `QUIET_S` seconds.
    Everything goes to standard error.
    """
    if sys.stderr.isatty():
        with _bar(title, unit) as update:
            yield update
    else:
        yield _line_printer(title, unit) if lines else _silent


def _silent(done: int, total: int | None, *, num_bytes: int | None = None, details: Sequence[str] = ()) -> None:
    """Shows nothing."""


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=None, rate="")
        rate, pace = _Rate(), _Rate()

        def update(done: int, total: int | None, *, num_bytes: int | None = None, details: Sequence[str] = ()) -> None:
            texts = [rate.text(done)]
            if num_bytes is not None:
                texts.append(f"{size_text(pace.per_second(num_bytes))}/s")
            bar.update(task, completed=done, total=total, rate=", ".join([*texts, *filter(None, details)]))

        yield update


def _line_printer(title: str, unit: str) -> Update:
    rate, last = _Rate(), time.monotonic()

    def update(done: int, total: int | None, *, num_bytes: int | None = None, details: Sequence[str] = ()) -> None:
        nonlocal last
        pace = rate.text(done)
        if time.monotonic() - last >= QUIET_S:
            last = time.monotonic()
            of_all = "" if total is None else f" of {total:,}"
            say(f"{title}: {done:,}{of_all} {unit}, {pace}")

    return update


class _Rate:
    """Units a second since the first report: what a resumed job found done does not count."""

    def __init__(self) -> None:
        self._begin: tuple[float, int] | None = None

    def per_second(self, done: int) -> float:
        now = time.monotonic()
        if self._begin is None:
            self._begin = (now, done)
        start, before = self._begin
        return (done - before) / max(now - start, 1e-6)

    def text(self, done: int) -> str:
        return f"{self.per_second(done):,.0f}/s"


class PhaseProgress:
    """Progress of a job in phases: a bar, or lines, for each in turn."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar = ExitStack()
        self._phase: str | None = None
        self._update: Update = _silent

    def update(self, phase: str, done: int, total: int, note: str = "") -> None:
        """Show how far the phase is, after closing the one before it."""
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

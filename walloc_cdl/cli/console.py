"""What commands share: options, progress and reports."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from walloc_cdl.errors import CallError


def require_parent(path: Path | None) -> Path | None:
    """Pass on the path of a file to write; raises `CallError`, before any work, if it cannot be written there."""
    if path is not None and not path.parent.is_dir():
        raise CallError(f"{path} cannot be written: there is no folder {path.parent}; make it first")
    if path is not None and path.is_dir():
        raise CallError(f"{path} is a folder; name a file to write")
    return path


JsonPath = Annotated[
    Path | None,
    typer.Option("--json", help="Write the report here as JSON, too.", metavar="PATH", callback=require_parent),
]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.", min=0)]

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


def say(note: str) -> None:
    """Print a line about the course of a job to standard error, above the progress bar if there is one."""
    print(note, file=sys.stderr, flush=True)


def show_help(context: typer.Context) -> None:
    """Callback of a command that is nothing without a sub command: without one, show its help, exit code 2."""
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


@contextmanager
def progress(title: str, unit: str = "images") -> Iterator[Callable[[int, int], None]]:
    """Yield a function of (done, total) that shows how far a job is.

    A bar on a terminal; otherwise a line every `QUIET_S` seconds. Everything goes to standard error.
    """
    if sys.stderr.isatty():
        with _bar(title, unit) as update:
            yield update
    else:
        yield _line_printer(title, unit)


@contextmanager
def _bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
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
        rate = _Rate()

        def update(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, rate=rate.text(done))

        yield update


def _line_printer(title: str, unit: str) -> Callable[[int, int], None]:
    rate, last = _Rate(), time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        pace = rate.text(done)
        if time.monotonic() - last >= QUIET_S:
            last = time.monotonic()
            say(f"{title}: {done:,} of {total:,} {unit}, {pace}")

    return update


class _Rate:
    """Units a second since the first report: what a resumed job found done does not count."""

    def __init__(self) -> None:
        self._begin: tuple[float, int] | None = None

    def text(self, done: int) -> str:
        now = time.monotonic()
        if self._begin is None:
            self._begin = (now, done)
        start, before = self._begin
        return f"{(done - before) / max(now - start, 1e-6):,.0f}/s"


class PhaseProgress:
    """Progress of a job in phases: a bar, or lines, for each in turn."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._bar = ExitStack()
        self._phase: str | None = None
        self._update: Callable[[int, int], None] = lambda done, total: None

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

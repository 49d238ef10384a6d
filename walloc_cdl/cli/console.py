"""What commands share: options, progress and reports."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from walloc_cdl.errors import CallError

JsonPath = Annotated[Path | None, typer.Option("--json", help="Write the report here as JSON, too.", metavar="PATH")]
Seed = Annotated[int, typer.Option(help="Seed of every random choice.")]

QUIET_S = 10.0
"""Seconds between two lines of progress when the output is no terminal."""


def report(rows: dict[str, Any], json_path: Path | None = None, payload: Any = None) -> None:
    """Print `rows` as aligned lines, and write `payload` (the rows by default) to `json_path`."""
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        print(f"{name:<{width}}  {value:.4g}" if isinstance(value, float) else f"{name:<{width}}  {value}")
    write_json(json_path, rows if payload is None else payload)


def write_json(json_path: Path | None, payload: Any) -> None:
    """Write `payload` to `json_path`, unless that is None; raises `CallError` for a folder that is not there."""
    if json_path is None:
        return
    if not json_path.parent.is_dir():
        raise CallError(f"--json {json_path}: there is no folder {json_path.parent}; make it first")
    json_path.write_text(json.dumps(payload, indent=1, allow_nan=False) + "\n")


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
        begin = time.monotonic()

        def update(done: int, total: int) -> None:
            rate = done / max(time.monotonic() - begin, 1e-6)
            bar.update(task, completed=done, total=total, rate=f"{rate:,.0f}/s")

        yield update


def _line_printer(title: str, unit: str) -> Callable[[int, int], None]:
    begin = last = time.monotonic()

    def update(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= QUIET_S:
            last = now
            print(f"{title}: {done:,} of {total:,} {unit}, {done / (now - begin):,.0f}/s", file=sys.stderr, flush=True)

    return update

"""Shows outcomes: tables for Markdown, and the JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from experiments.fidelity.outcome import FidelityOutcome
from walloc_cdl.errors import CallError, markdown_text
from walloc_cdl.files import write_atomic


def markdown(outcome: FidelityOutcome) -> str:
    """Returns both tables in Markdown, and the notes."""
    parts = []
    for headings, rows in (outcome.table(markdown_text), outcome.difference_table(markdown_text)):
        lines = [headings, ["---"] * len(headings), *rows]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    return "\n\n".join([*parts, "\n".join(markdown_text(note) for note in outcome.notes())]) + "\n"


def print_outcome(outcome: FidelityOutcome, json_path: Path | None) -> None:
    """Print the outcome as Markdown, and write its JSON."""
    print(markdown(outcome), end="")
    if json_path is not None:
        text = json.dumps(outcome.to_json(), indent=1, allow_nan=False) + "\n"
        write_atomic(json_path, text.encode())


def parse_bytes(text: str | None) -> Sequence[int] | None:
    """Returns the numbers of a list such as `3072,12288`; raises `CallError` for anything else."""
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and len(part) <= 12 and int(part) > 0 for part in parts):
        raise CallError(f"--bytes {text!r}; expected bytes of an image, such as 12288, or several, such as 3072,12288")
    return [int(part) for part in parts]

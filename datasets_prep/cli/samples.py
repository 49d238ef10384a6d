"""A source and what is done to it before its samples are encoded: what prepare and repair must do alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datasets_prep.sources import Source

LabelFile = Annotated[Path | None, typer.Option(help="A flat folder's labels: a text file of lines NAME LABEL.")]
Holdout = Annotated[
    float | None, typer.Option(help="Share of a source without splits to hold out as `test`, stratified.")
]


def open_samples(text: str, labels: Path | None, share: float | None, seed: int) -> Source:
    """The source with labels from a file and a share held out, where these are asked for."""
    from datasets_prep.sources import open_source
    from datasets_prep.sources.core.label_files import LabeledSource
    from datasets_prep.sources.core.splits import holdout

    samples = open_source(text)
    if labels is not None:
        samples = LabeledSource(samples, labels)
    return samples if share is None else holdout(samples, share, seed)

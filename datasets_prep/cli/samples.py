"""Opens a source with the options that `cdl prepare` and `cdl repair` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datasets_prep.sources import Source

LabelFile = Annotated[
    Path | None, typer.Option(help="Labels of samples that have none: a text file of lines NAME LABEL.")
]
Holdout = Annotated[
    float | None, typer.Option(help="Share of a source without splits to hold out as `test`, stratified.")
]


def open_samples(text: str, labels: Path | None, share: float | None, seed: int) -> Source:
    """Open a source; with labels from a file if `labels` is given, and a share held out if `share` is given."""
    from datasets_prep.sources import open_source
    from datasets_prep.sources.core.label_files import LabeledSource
    from datasets_prep.sources.core.splits import holdout

    samples = open_source(text)
    if labels is not None:
        samples = LabeledSource(samples, labels)
    return samples if share is None else holdout(samples, share, seed)

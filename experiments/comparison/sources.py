"""What comparisons need of a source, and the folder that they write to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from datasets_prep.samples.content import read_stored
from datasets_prep.samples.stored import BadSignalError
from datasets_prep.sources import Source
from experiments.comparison.conditions import COLORS
from experiments.comparison.results import RESULTS_NAME
from walloc_cdl.addresses import local_path
from walloc_cdl.confinement import require_no_links
from walloc_cdl.errors import CallError
from walloc_cdl.files import foreign_names

TEST_SPLITS = ("test", "validation", "valid", "val")
REPORT_NAMES = (RESULTS_NAME, "results.csv", "table.md", "report.html", "curve.svg")
"""Files that every comparison writes."""
MAX_SIZES = 200
"""Files that are read for their mean size."""


def require_images(source: Source) -> None:
    """Raise `CallError` unless a source has images, gray or RGB, of at least two classes."""
    if source.kind != "image":
        samples = {"audio": "sound", "array": "arrays of many channels"}[source.kind]
        raise CallError(
            f"{source.name} holds {samples}, but comparisons are of images, whose resolution is reduced for the "
            "baseline; give a source of images, "
            + ("or use `cdl crossval`" if source.kind == "audio" else "or encode this one with `cdl prepare`")
        )
    if not source.class_names or len(source.class_names) < 2:
        reasons = "".join(f"; {note}" for note in source.notes)
        raise CallError(f"{source.name} has fewer than two classes; give a source with labels{reasons}")
    if (source.channels or 3) not in COLORS:
        raise CallError(f"{source.name} has {source.channels} channels; comparisons need gray or RGB images")


def output_folder(out: Path | str, names: Iterable[str]) -> Path:
    """Returns the folder of a comparison; raises `CallError` unless it is new, or has nothing but its own files.

    `names` are what it may hold beside the files that every comparison writes.
    """
    out = local_path(out)
    if out.exists() and not out.is_dir():
        raise CallError(f"{out} is a file; name a folder for the comparison")
    if foreign := foreign_names(out, {*REPORT_NAMES, *names}):
        raise CallError(f"{out} holds other files ({foreign[0]}); name a new folder for the comparison")
    require_no_links(out)
    return out


def file_bytes(source: Source, samples: Sequence[tuple[str, int]]) -> float | None:
    """Returns the mean size of the source's own files, of `MAX_SIZES` that are evenly chosen; None without any."""
    places = np.unique(np.linspace(0, len(samples) - 1, min(len(samples), MAX_SIZES)).round().astype(int))
    sizes = []
    for place in places:
        try:
            sizes.append(len(read_stored(source.read(*samples[place]))))
        except (BadSignalError, TypeError):
            continue
    return float(np.mean(sizes)) if sizes else None

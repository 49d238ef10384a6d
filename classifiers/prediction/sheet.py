"""A contact sheet of predictions: each picture with its predicted class and the probability of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from classifiers.prediction.encode_files import EncodedFiles
from classifiers.prediction.table import PredictedSample, PredictionTable
from datasets_prep.preview import SheetCell, draw_sheet
from walloc_cdl.errors import CallError, utf8_text

MAX_PICTURES = 60
COLUMNS = 6
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


class PictureCollector:
    """Keeps the prepared pictures of some files, evenly spread over all, while they are classified."""

    def __init__(self, files: Sequence[Path]) -> None:
        self._wanted = {utf8_text(str(files[number])) for number in spread(len(files), MAX_PICTURES)}
        self.pictures: dict[str, np.ndarray] = {}
        """Pictures uint8 (C, S, S) by the name of the file."""

    def add(self, batch: EncodedFiles) -> None:
        """Keep the pictures of a batch that are wanted."""
        for name, signal in zip(batch.names, batch.signals, strict=True):
            if name in self._wanted:
                self.pictures[name] = signal.copy()


def spread(total: int, count: int) -> list[int]:
    """Returns at most `count` numbers from 0 to total - 1, evenly spread, the first included.

    >>> spread(8, 4)
    [0, 2, 4, 6]
    """
    count = min(count, total)
    return [number * total // count for number in range(count)]


def draw_predictions(table: PredictionTable, pictures: Sequence[tuple[PredictedSample, np.ndarray]]) -> Image.Image:
    """Draw samples with their pictures, uint8 (C, H, W), and captions; raises `CallError` if there is none."""
    if not pictures:
        raise CallError("there is no picture for the contact sheet; give photos that can be read")
    cells = [SheetCell([picture], _caption(table, sample)) for sample, picture in pictures]
    return draw_sheet(cells, columns=COLUMNS)


def require_sheet(path: Path | None) -> Path | None:
    """Returns the path; raises `CallError` for a name that does not end as one of a picture does."""
    if path is not None and path.suffix.lower() not in SUFFIXES:
        raise CallError(f"contact sheet {str(path)!r}; name a picture that ends in {', '.join(SUFFIXES)}")
    return path


def _caption(table: PredictionTable, sample: PredictedSample) -> str:
    number, share = sample.top[0]
    wrong = f"(is {table.class_name(sample.label)})" if sample.label not in (None, number) else ""
    parts = (table.class_name(number), table.share_text(share), wrong, sample.name.rpartition("/")[2])
    return "  ".join(part for part in parts if part)

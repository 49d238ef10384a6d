"""`sample:elpv`: 2,624 gray photos of solar cells, from the PyPI package `elpv-dataset`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np

from datasets_prep.sources.core.source import Listing, Source, SplitListing
from walloc_cdl.errors import CallError, DamagedError

CLASS_NAMES = ["intact", "defective"]

DEFECTIVE_ABOVE = 0.5
"""A cell above this probability is defective. Experts gave each cell a probability: 0, 1/3, 2/3 or 1."""


class ElpvSource(Source):
    """Electroluminescence images of solar cells, 300×300, in one split (Deitsch et al., arXiv:1807.02894).

    The package's own loader decodes all images into one array; this class reads the package's files instead.
    Raises `CallError` if the package is not installed.
    """

    def __init__(self) -> None:
        package = importlib.util.find_spec("elpv_dataset")
        if package is None or package.origin is None:
            raise CallError("sample:elpv needs the package elpv-dataset; install it: `pip install walloc-cdl[sample]`")
        self._folder = Path(package.origin).parent / "data"
        keys, labels = _read_labels(self._folder / "labels.csv")
        num_bytes = [(self._folder / key).stat().st_size for key in keys]
        listing = SplitListing(keys, np.array(labels, np.int64), np.array(num_bytes, np.int64))
        super().__init__("elpv", Listing({"train": listing}, CLASS_NAMES))

    def read(self, split: str, index: int) -> Path:
        """Return the path of the image's file."""
        return self._folder / self.key(split, index)


def _read_labels(table: Path) -> tuple[list[str], list[int]]:
    """Read lines of path, probability of a defect, and type of the module, separated by spaces."""
    try:
        rows = sorted(line.split()[:2] for line in table.read_text(encoding="utf-8").splitlines() if line.strip())
        return [path for path, _ in rows], [int(float(probability) > DEFECTIVE_ABOVE) for _, probability in rows]
    except (OSError, ValueError) as error:
        raise DamagedError(f"the labels of elpv-dataset cannot be read ({error}); reinstall the package") from error

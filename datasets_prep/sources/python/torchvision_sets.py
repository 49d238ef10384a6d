"""`torchvision:NAME?root=PATH`: torchvision's classification data sets.

Data sets that store image files give their paths. Pixels of data sets that store arrays are encoded as netpbm,
losslessly. torchvision reads CIFAR's files with pickle, after it has checked their MD5.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets_prep.samples.columns import RowNumbers
from datasets_prep.samples.lazy_sequence import LazySequence
from datasets_prep.samples.netpbm import encode_pixels
from datasets_prep.samples.origin import Origin
from datasets_prep.samples.stored import Stored
from datasets_prep.sources.core.label_kinds import ClassLabels
from datasets_prep.sources.core.options import flag, split_options
from datasets_prep.sources.core.source import Listing, Source, SplitListing
from walloc_cdl.errors import CallError, one_line, unknown_name

_BOTH = {"train": {"train": True}, "test": {"train": False}}
_TWO = {"train": {"split": "train"}, "test": {"split": "test"}}
_THREE = {"train": {"split": "train"}, "validation": {"split": "val"}, "test": {"split": "test"}}

SETS: dict[str, dict[str, dict[str, Any]]] = {
    "CIFAR10": _BOTH,
    "CIFAR100": _BOTH,
    "Country211": {**_TWO, "validation": {"split": "valid"}},
    "DTD": _THREE,
    "EuroSAT": {"train": {}},
    "FGVCAircraft": _THREE,
    "FashionMNIST": _BOTH,
    "Flowers102": _THREE,
    "Food101": _TWO,
    "GTSRB": _TWO,
    "Imagenette": {"train": {"split": "train"}, "validation": {"split": "val"}},
    "KMNIST": _BOTH,
    "MNIST": _BOTH,
    "OxfordIIITPet": {"train": {"split": "trainval"}, "test": {"split": "test"}},
    "RenderedSST2": _THREE,
    "STL10": _TWO,
    "SUN397": {"train": {}},
    "SVHN": _TWO,
    "StanfordCars": _TWO,
}
"""Maps supported data sets to their splits, and each split to torchvision's arguments for it."""

_FILES = ("_image_files", "_images")
"""Attributes of torchvision's data sets that list image files."""

_PAIRS = ("_samples", "samples", "imgs")
"""Attributes of torchvision's data sets that list pairs of image file and label."""


def open_torchvision(text: str) -> Source:
    """Open the source `torchvision:…`; `text` is the part after the colon."""
    name, options = split_options(text, ("root", "download"))
    known = {key.lower(): key for key in SETS}
    if name.lower() not in known:
        raise unknown_name("torchvision data set", name, SETS, f"known are {', '.join(SETS)}")
    if "root" not in options:
        raise CallError(f"torchvision:{name} without a folder; give ?root=PATH, the folder of its files")
    root = os.path.expanduser(options["root"])
    return TorchvisionSource(known[name.lower()], root, download=flag(options, "download"))


class TorchvisionSource(Source):
    """All splits of one data set; keys are paths relative to `root`, or row numbers if there are no files.

    Raises `CallError` if it is not in `root`. Nothing is downloaded unless `download` is true.
    """

    def __init__(self, name: str, root: str, *, download: bool = False) -> None:
        self._root = Path(root).resolve()
        self._splits = {split: SplitFiles(name, root, split, download=download).load() for split in SETS[name]}
        class_names = next(iter(self._splits.values())).class_names
        labels = ClassLabels(class_names)
        for split, content in self._splits.items():
            for number in content.labels:
                labels.append(split, None if number < 0 else class_names[number] if class_names else int(number))
        listings = {
            split: SplitListing(content.keys(self._root), labels.close(split), content.sizes())
            for split, content in self._splits.items()
        }
        super().__init__(name, Listing(listings, labels.names()))
        self._references = {split: SplitFiles(name, root, split) for split in SETS[name]}

    def read(self, split: str, index: int) -> Stored:
        """Return the image's path, or its pixels as an encoded file."""
        return self._splits[split].read(index)

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """See `Source.references`: paths, or the name of the data set and row numbers."""
        if self._splits[split].paths is not None:
            return super().references(split, rows)
        return _Rows(self._references[split], list(rows))

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return Origin("folder", (str(self._root),))


@dataclass(frozen=True)
class SplitFiles:
    """One split of a data set, given by its name."""

    name: str
    root: str
    split: str
    download: bool = False

    def load(self) -> _Content:
        """Open the split with torchvision; raises `CallError` if it cannot be opened."""
        from torchvision import datasets

        options = dict(SETS[self.name][self.split])
        try:
            kind = getattr(datasets, self.name)
            if self.name != "StanfordCars":  # its server no longer exists
                options["download"] = self.download
            return _Content(kind(self.root, **options))
        except (RuntimeError, OSError, ValueError, AttributeError) as error:
            cause = one_line(error)
            raise CallError(
                f"torchvision:{self.name} is not in {self.root!r}: {cause}; give its folder, or use ?download=1"
            ) from error


class _Content:
    """Paths or arrays, and labels, of a torchvision data set; torchvision's classes have no common attributes."""

    def __init__(self, dataset: Any) -> None:
        self.paths: list[Path] | None = None
        self._pixels: np.ndarray | None = None
        values = next(
            (getattr(dataset, name) for name in ("_labels", "labels", "targets") if hasattr(dataset, name)), None
        )
        if hasattr(dataset, "data"):
            data = np.asarray(dataset.data)
            self._pixels = data.transpose(0, 2, 3, 1) if data.ndim == 4 and data.shape[1] == 3 else data
        elif files := next((name for name in _FILES if hasattr(dataset, name)), None):
            self.paths = [Path(path) for path in getattr(dataset, files)]
        else:
            pairs = getattr(dataset, next(name for name in _PAIRS if hasattr(dataset, name)))
            self.paths, values = [Path(path) for path, _ in pairs], [label for _, label in pairs]
        self.labels = np.asarray(values, np.int64)
        names = getattr(dataset, "classes", None)
        joined = [str(name[0] if isinstance(name, tuple) else name) for name in names or ()]
        usable = len(set(joined)) == len(joined) > int(self.labels.max(initial=-1))
        self.class_names = joined if usable else None

    def read(self, index: int) -> Stored:
        """Return one image: its path, or its pixels as an encoded file."""
        return self.paths[index] if self.paths is not None else encode_pixels(self._pixels[index])

    def keys(self, root: Path) -> Sequence[str]:
        """Return paths relative to `root`, or row numbers."""
        if self.paths is None:
            return RowNumbers(len(self.labels))
        return [os.path.relpath(path.resolve(), root).replace(os.sep, "/") for path in self.paths]

    def sizes(self) -> np.ndarray:
        """Return the sizes of the files or of the pixels in bytes, int64 (N,)."""
        if self.paths is None:
            return np.full(len(self.labels), self._pixels[0].nbytes, np.int64)
        return np.array([path.stat().st_size if path.is_file() else 0 for path in self.paths], np.int64)


class _Rows(LazySequence[Stored]):
    """Selected rows of arrays. The data set is opened when the first item is accessed."""

    def __init__(self, files: SplitFiles, rows: list[int]) -> None:
        self._files, self._rows = files, rows
        self._content: _Content | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": self._files, "_rows": self._rows, "_content": None}

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, position: int) -> Stored:
        self._content = self._content or self._files.load()
        return self._content.read(self._rows[position])

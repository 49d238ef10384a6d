"""`imagenet:PATH`: ImageNet-1k (ILSVRC2012) as distributed, without unpacking.

Train: `ILSVRC2012_img_train.tar`, a tar of class tars; or `train/` with class tars or class folders. Validation:
`ILSVRC2012_img_val.tar`, or `val/`, flat or with class folders; flat images need `?val_labels=FILE`. Classes are
synsets (`n01440764`) in sorted order, which is the order that all pretrained models use.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets_prep.samples.origin import Origin
from datasets_prep.samples.stored import FileSlice
from datasets_prep.sources.archives.imagenet_labels import readable_names, validation_synsets
from datasets_prep.sources.archives.slices import WHOLE_FILE, SliceColumns
from datasets_prep.sources.archives.tars import DamagedTarError, members, require_tar
from datasets_prep.sources.core.label_kinds import ClassLabels
from datasets_prep.sources.core.options import split_options
from datasets_prep.sources.core.source import Listing, Source, Stray
from datasets_prep.sources.core.strays import StrayColumn
from datasets_prep.sources.folders.imagefolder import IMAGE_SUFFIXES
from walloc_cdl.errors import CallError

TRAIN_TAR, VALIDATION_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"

SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class _ImageFile:
    key: bytes
    path: bytes
    """Path of the image or of its tar, relative to the root."""
    num_bytes: int
    offset: int = WHOLE_FILE
    synset: str | None = None


def open_imagenet(text: str) -> Source:
    """Open the source `imagenet:…`; `text` is the part after the colon."""
    path, options = split_options(text, ("val_labels", "meta"))
    files = {name: Path(value).expanduser() for name, value in options.items()}
    return ImageNet(Path(path), val_labels=files.get("val_labels"), meta=files.get("meta"))


class ImageNet(Source):
    """The splits `train` and `validation`, or the one that exists.

    Raises `CallError` for a folder that has neither, for a class that exists twice, and for a flat validation set
    without any label.
    """

    def __init__(self, root: Path, *, val_labels: Path | None = None, meta: Path | None = None) -> None:
        """`meta`: the devkit's `meta.mat`, needed for its ground truth; the default is the one beside `val_labels`."""
        if not root.is_dir():
            raise CallError(f"ImageNet folder {str(root)!r} does not exist; give the folder of its tars or of train/")
        self._root = root
        self._strays = StrayColumn()
        self._splits = {"train": SliceColumns(), "validation": SliceColumns()}
        labels = ClassLabels()
        validation_labels: dict[str, str] | None = None
        num_flat, unlabeled = 0, []
        for split, found in (("train", self._train()), ("validation", self._validation())):
            for sample in found:
                synset = sample.synset
                if synset is None:
                    if validation_labels is None:
                        validation_labels = _read_validation_labels(val_labels, meta)
                    stem, num_flat = Path(os.fsdecode(sample.key)).stem, num_flat + 1
                    synset = validation_labels.get(stem)
                    if synset is None:
                        unlabeled.append(stem)
                self._splits[split].append(sample.key, sample.path, sample.num_bytes, sample.offset)
                labels.append(split, synset)
        if num_flat and len(unlabeled) == num_flat:
            raise CallError(f"?val_labels has no synset for image {unlabeled[0]!r} and all others; give their file")
        names = labels.names()
        if names is None:
            raise CallError(
                f"{str(root)!r} has neither {TRAIN_TAR}, {VALIDATION_TAR}, train/ nor val/ with images; "
                "give the folder that contains them"
            )
        notes = []
        if unlabeled:
            first = f"{unlabeled[0]} is the first"
            notes = [
                f"?val_labels has no synset for {len(unlabeled):,} of the {num_flat:,} validation images ({first})"
            ]
        listings = {split: rows.listing(labels.close(split)) for split, rows in self._splits.items()}
        listings = {split: listing for split, listing in listings.items() if len(listing.keys)}
        readable = readable_names(root)
        class_names = [f"{name} {readable[name]}" if name in readable else name for name in names]
        super().__init__("imagenet", Listing(listings, class_names, self._strays.strays(), notes=notes))

    def read(self, split: str, index: int) -> Path | FileSlice:
        """Return the location of the image."""
        return self._splits[split].stored(self._root, index)

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return Origin("folder", (str(self._root),))

    def _train(self) -> Iterator[_ImageFile]:
        folder = self._root / "train"
        if (self._root / TRAIN_TAR).is_file():
            yield from self._class_tars(self._root / TRAIN_TAR)
        elif folder.is_dir():
            entries = sorted(folder.iterdir())
            _require_unique_classes(entries)
            for entry in entries:
                if entry.is_dir() and SYNSET.fullmatch(entry.name):
                    yield from self._files(entry, "train", entry.name)
                elif entry.suffix == ".tar" and SYNSET.fullmatch(entry.stem):
                    below = os.fsencode(entry.relative_to(self._root))
                    yield from self._images(entry, below, "train", entry.stem, 0, None)
                elif not entry.name.startswith("."):
                    self._stray("train", f"train/{entry.name}", "no class of ImageNet by its name")

    def _validation(self) -> Iterator[_ImageFile]:
        folder = self._root / "val"
        if (self._root / VALIDATION_TAR).is_file():
            path = self._root / VALIDATION_TAR
            yield from self._images(path, os.fsencode(path.name), "validation", None, 0, None)
        elif folder.is_dir():
            classes = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and SYNSET.fullmatch(entry.name)]
            for entry in classes:
                yield from self._files(entry, "validation", entry.name)
            yield from self._files(folder, "validation", None)

    def _class_tars(self, path: Path) -> Iterator[_ImageFile]:
        """Yield the images of the class tars in a tar, with offsets in the outer tar."""
        with path.open("rb") as file:
            require_tar(file, str(path))
            try:
                inner = list(members(file))  # 1,000
            except DamagedTarError as error:
                raise CallError(f"{str(path)!r} {error}; restore it") from error
        for member in sorted(inner, key=lambda member: member.name):
            synset = Path(os.fsdecode(member.name)).stem
            if not SYNSET.fullmatch(synset):
                self._stray("train", os.fsdecode(member.name), "no class of ImageNet by its name")
                continue
            yield from self._images(path, os.fsencode(path.name), "train", synset, member.offset, member.num_bytes)

    def _images(
        self, path: Path, below: bytes, split: str, synset: str | None, start: int, num_bytes: int | None
    ) -> Iterator[_ImageFile]:
        with path.open("rb") as file:
            if num_bytes is None:
                require_tar(file, str(path))
            try:
                for member in members(file, start, num_bytes):
                    name = member.name.rpartition(b"/")[2]
                    key = (synset.encode() + b"/" if synset else b"") + name
                    if os.path.splitext(os.fsdecode(name))[1].lower() not in IMAGE_SUFFIXES:
                        self._stray(split, key.decode("utf-8", "backslashreplace"), "not an image file name")
                        continue
                    yield _ImageFile(key, below, member.num_bytes, member.offset, synset)
            except DamagedTarError as error:
                self._stray(split, f"{synset or path.stem}.tar", f"the tar {error}")

    def _files(self, folder: Path, split: str, synset: str | None) -> Iterator[_ImageFile]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.startswith(".") or entry.is_dir():
                continue
            below = Path(entry.path).relative_to(self._root)
            key = f"{synset}/{entry.name}" if synset else entry.name
            if os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES:
                self._stray(split, key, "not an image file name")
                continue
            num_bytes = entry.stat().st_size if entry.is_file() else 0
            yield _ImageFile(os.fsencode(key), os.fsencode(below), num_bytes, synset=synset)

    def _stray(self, split: str, key: str, reason: str) -> None:
        self._strays.append(Stray(split, key, 0, reason))


def _require_unique_classes(entries: list[Path]) -> None:
    """Raise `CallError` if an unpacked class lies beside its tar, since its images would count twice."""
    names = {entry.name for entry in entries}
    for entry in entries:
        if SYNSET.fullmatch(entry.name) and f"{entry.name}.tar" in names:
            raise CallError(f"class {str(entry)!r} exists as a folder and as a tar; remove one of them")


def _read_validation_labels(val_labels: Path | None, meta: Path | None) -> dict[str, str]:
    if val_labels is None:
        raise CallError(
            "the validation images of ImageNet are not in class folders; give ?val_labels=FILE: lines of NAME SYNSET, "
            "Kaggle's LOC_val_solution.csv, or the devkit's ILSVRC2012_validation_ground_truth.txt with its meta.mat"
        )
    return validation_synsets(val_labels, meta)

"""`imagenet:PATH`: ImageNet-1k (ILSVRC2012) as it is distributed, without unpacking it.

Train: `ILSVRC2012_img_train.tar`, a tar of class tars; or `train/` with class tars or class folders. Validation:
`ILSVRC2012_img_val.tar`, or `val/` with class folders or flat; flat ones need `?val_labels=FILE`. Classes are
synsets (`n01440764`), in their order, which is that of all pretrained models.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from datasets_prep.samples.origin import Origin
from datasets_prep.samples.stored import FileSlice
from datasets_prep.sources.archives.imagenet_labels import human_names, validation_synsets
from datasets_prep.sources.archives.slices import WHOLE, SliceColumns
from datasets_prep.sources.archives.tars import TarEndError, members, require_tar
from datasets_prep.sources.core.label_kinds import ClassLabels
from datasets_prep.sources.core.options import split_options
from datasets_prep.sources.core.source import Listing, Source, Stray
from datasets_prep.sources.core.strays import StrayColumn
from datasets_prep.sources.folders.imagefolder import IMAGE_SUFFIXES
from walloc_cdl.errors import CallError

TRAIN_TAR, VALIDATION_TAR = "ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar"

SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class _Found:
    key: bytes
    place: bytes
    num_bytes: int
    offset: int = WHOLE
    synset: str | None = None


def open_imagenet(text: str) -> Source:
    """The source `imagenet:…`, `text` being what stands behind the colon."""
    path, options = split_options(text, ("val_labels", "meta"))
    given = {name: Path(value).expanduser() for name, value in options.items()}
    return ImageNet(Path(path), val_labels=given.get("val_labels"), meta=given.get("meta"))


class ImageNet(Source):
    """Splits `train` and `validation`, whichever are there.

    Raises `CallError` for a folder that has neither, for a class that is there twice, and for a flat validation set
    without labels.
    """

    def __init__(self, root: Path, *, val_labels: Path | None = None, meta: Path | None = None) -> None:
        """`meta`: the devkit's `meta.mat`, without which its ground truth says nothing; sought beside `val_labels`."""
        if not root.is_dir():
            raise CallError(f"ImageNet folder {str(root)!r} does not exist; give the folder of its tars, or of train/")
        self._root = root
        self._strays = StrayColumn()
        self._splits = {"train": SliceColumns(), "validation": SliceColumns()}
        labels = ClassLabels()
        wanted: dict[str, str] | None = None
        for split, found in (("train", self._train()), ("validation", self._validation())):
            for sample in found:
                synset = sample.synset
                if synset is None:
                    if wanted is None:
                        wanted = _labels_of(val_labels, meta)
                    synset = _synset(wanted, sample)
                self._splits[split].append(sample.key, sample.place, sample.num_bytes, sample.offset)
                labels.append(split, synset)
        names = labels.names()
        if names is None:
            raise CallError(
                f"{str(root)!r} has neither {TRAIN_TAR}, {VALIDATION_TAR}, train/ nor val/ with images; "
                "give the folder that they lie in"
            )
        listings = {split: rows.listing(labels.close(split)) for split, rows in self._splits.items()}
        listings = {split: listing for split, listing in listings.items() if len(listing.keys)}
        human = human_names(root)
        shown = [f"{name} {human[name]}" if name in human else name for name in names]
        super().__init__("imagenet", Listing(listings, shown, self._strays.strays()))

    def read(self, split: str, index: int) -> Path | FileSlice:
        """Where the image lies."""
        return self._splits[split].stored(self._root, index)

    @property
    def origin(self) -> Origin:
        """See `Source.origin`."""
        return Origin("folder", (str(self._root),))

    def _train(self) -> Iterator[_Found]:
        folder = self._root / "train"
        if (self._root / TRAIN_TAR).is_file():
            yield from self._class_tars(self._root / TRAIN_TAR)
        elif folder.is_dir():
            entries = sorted(folder.iterdir())
            _refuse_doubles(entries)
            for entry in entries:
                if entry.is_dir() and SYNSET.fullmatch(entry.name):
                    yield from self._files(entry, "train", entry.name)
                elif entry.suffix == ".tar" and SYNSET.fullmatch(entry.stem):
                    place = os.fsencode(entry.relative_to(self._root))
                    yield from self._images(entry, place, "train", entry.stem, 0, None)
                elif not entry.name.startswith("."):
                    self._stray("train", f"train/{entry.name}", "no class of ImageNet by its name")

    def _validation(self) -> Iterator[_Found]:
        folder = self._root / "val"
        if (self._root / VALIDATION_TAR).is_file():
            path = self._root / VALIDATION_TAR
            yield from self._images(path, os.fsencode(path.name), "validation", None, 0, None)
        elif folder.is_dir():
            classes = [entry for entry in sorted(folder.iterdir()) if entry.is_dir() and SYNSET.fullmatch(entry.name)]
            for entry in classes:
                yield from self._files(entry, "validation", entry.name)
            yield from self._files(folder, "validation", None)

    def _class_tars(self, path: Path) -> Iterator[_Found]:
        """Images of the class tars in a tar: their places are in the outer one."""
        with path.open("rb") as file:
            require_tar(file, str(path))
            try:
                inner = list(members(file))  # 1,000
            except TarEndError as error:
                raise CallError(f"{str(path)!r} {error}; restore it") from error
        for member in sorted(inner, key=lambda member: member.name):
            synset = Path(os.fsdecode(member.name)).stem
            if not SYNSET.fullmatch(synset):
                self._stray("train", os.fsdecode(member.name), "no class of ImageNet by its name")
                continue
            yield from self._images(path, os.fsencode(path.name), "train", synset, member.offset, member.num_bytes)

    def _images(
        self, path: Path, place: bytes, split: str, synset: str | None, start: int, num_bytes: int | None
    ) -> Iterator[_Found]:
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
                    yield _Found(key, place, member.num_bytes, member.offset, synset)
            except TarEndError as error:
                self._stray(split, f"{synset or path.stem}.tar", f"the tar {error}")

    def _files(self, folder: Path, split: str, synset: str | None) -> Iterator[_Found]:
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if entry.name.startswith(".") or entry.is_dir():
                continue
            below = Path(entry.path).relative_to(self._root)
            key = f"{synset}/{entry.name}" if synset else entry.name
            if os.path.splitext(entry.name)[1].lower() not in IMAGE_SUFFIXES:
                self._stray(split, key, "not an image file name")
                continue
            num_bytes = entry.stat().st_size if entry.is_file() else 0
            yield _Found(os.fsencode(key), os.fsencode(below), num_bytes, synset=synset)

    def _stray(self, split: str, key: str, reason: str) -> None:
        self._strays.append(Stray(split, key, 0, reason))


def _refuse_doubles(entries: list[Path]) -> None:
    """Raise `CallError` where a class lies unpacked beside its tar: its images would count twice."""
    names = {entry.name for entry in entries}
    for entry in entries:
        if SYNSET.fullmatch(entry.name) and f"{entry.name}.tar" in names:
            raise CallError(f"class {str(entry)!r} is there as a folder and as a tar; remove one of them")


def _labels_of(val_labels: Path | None, meta: Path | None) -> dict[str, str]:
    if val_labels is None:
        raise CallError(
            "the validation images of ImageNet lie in no class folders; give ?val_labels=FILE: lines of NAME SYNSET, "
            "Kaggle's LOC_val_solution.csv, or the devkit's ILSVRC2012_validation_ground_truth.txt with its meta.mat"
        )
    return validation_synsets(val_labels, meta)


def _synset(wanted: dict[str, str], sample: _Found) -> str:
    stem = Path(os.fsdecode(sample.key)).stem
    if stem not in wanted:
        raise CallError(f"?val_labels has no synset for image {stem!r}; give the file of all validation images")
    return wanted[stem]

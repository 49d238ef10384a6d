"""`npy:PATH` and `mat:PATH`: arrays with any number of channels, from one file or a folder, whole or in patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from datasets_prep.decode.arrays import ArrayLayout, ArrayPreparation, open_array
from datasets_prep.samples.stored import ArrayWindow, BadSignalError, ReadFailure, UnreadableError
from datasets_prep.sources.core.options import number_range, optional_flag, positive_integer, split_options
from datasets_prep.sources.core.source import Listing, Source, SplitListing
from datasets_prep.sources.folders.catalog import FileKind
from datasets_prep.sources.folders.local_folder import FileFolder
from walloc_cdl.errors import CallError, JobError
from walloc_cdl.latents import UNKNOWN_LABEL

OPTIONS = ("layout", "height", "range", "patch", "hop", "splits")


@dataclass(frozen=True)
class ArrayOptions:
    """Options for reading the files of a source and for cutting their arrays into patches."""

    layout: ArrayLayout = field(default_factory=ArrayLayout)
    variable: str | None = None
    """Name of the variable in .mat files."""
    range: tuple[float, float] | None = None
    """The values that are mapped to -0.5 and 0.5."""
    patch: int | None = None
    """Side of the square patches, in pixels; None for whole arrays."""
    hop: int | None = None
    """Distance between adjacent patches, in pixels; None for the patch's side."""
    splits: bool | None = None
    """Whether the direct subfolders of a folder are splits; None to decide by their names."""

    def __post_init__(self) -> None:
        if self.hop is not None and self.patch is None:
            raise CallError(f"source option hop={self.hop} without patch; give both or neither")


@dataclass(frozen=True)
class _Sample:
    key: str
    group: str
    label: int
    num_bytes: int
    window: ArrayWindow


def open_npy(text: str) -> Source:
    """Open the source `npy:…`; `text` is the part after the colon."""
    return open_arrays("npy", text)


def open_mat(text: str) -> Source:
    """Open the source `mat:…`; `text` is the part after the colon."""
    return open_arrays("mat", text)


def open_arrays(scheme: str, text: str) -> Source:
    """Open the source `npy:…` or `mat:…`; `text` is the part after the colon."""
    known = (*OPTIONS, "variable") if scheme == "mat" else OPTIONS
    path, options = split_options(text, known)
    parsed = ArrayOptions(
        layout=ArrayLayout(options.get("layout"), positive_integer(options, "height")),
        variable=options.get("variable"),
        range=number_range(options, "range"),
        patch=positive_integer(options, "patch"),
        hop=positive_integer(options, "hop"),
        splits=optional_flag(options, "splits"),
    )
    return ArraySource(Path(path), f".{scheme}", parsed)


class _ArrayFolder(FileFolder):
    """The files of a folder; `ArraySource` reads their content."""

    def __init__(self, folder: Path, suffix: str, *, splits: bool | None) -> None:
        self.file_kind = FileKind("an" if suffix == ".npy" else "a", f"{suffix[1:]} array", "FILE", frozenset({suffix}))
        super().__init__(folder, splits=splits)


class ArraySource(Source):
    """Every array (C, H, W) of a file or a folder of files, or every patch of these arrays.

    A folder has the layout of an image folder. Keys are `FILE[#INDEX][@TOP,LEFT]`. Patches lie on a grid with spacing
    `hop`; a remainder at the right and bottom is dropped. Overlapping patches form a group, which a holdout does not
    divide. A file that cannot be read counts as one sample, whose preparation records the reason.

    Raises `CallError` if there is no such file, or none that can be read.
    """

    kind = "array"

    def __init__(self, path: Path, suffix: str, options: ArrayOptions) -> None:
        self.options = options
        self._facts: list[tuple[int, np.dtype]] = []
        self._first_failure = ""
        self._num_cut = self._pixels_cut = self._pixels = 0
        """Numbers of arrays of which a rest is in no patch, of the pixels of these rests, and of all pixels."""
        splits: dict[str, list[_Sample]] = {}
        class_names, strays = None, []
        notes: Sequence[str] = [f"no labels: {path.name} is one file; labels come from class folders (PATH/CLASS/FILE)"]
        if path.is_dir():
            files = _ArrayFolder(path, suffix, splits=options.splits)
            class_names, strays, name, notes = files.class_names, files.strays, files.name, files.notes
            for split in files.split_names:
                rows = range(files.num_samples(split))
                splits[split] = [
                    sample
                    for row in rows
                    for sample in self._samples(files.read(split, row), files.key(split, row), files.label(split, row))
                ]
        elif path.is_file():
            name = path.name
            splits["train"] = list(self._samples(path, path.name, UNKNOWN_LABEL))
        else:
            raise CallError(f"{str(path)!r} does not exist; give a {suffix} file or a folder of them")
        if not self._facts:
            raise CallError(f"no array of {str(path)!r} can be used: {self._first_failure}")
        self._windows = {split: [sample.window for sample in samples] for split, samples in splits.items()}
        listings = {split: _listing(samples) for split, samples in splits.items()}
        super().__init__(name, Listing(listings, class_names, strays, notes=notes))

    def read(self, split: str, index: int) -> ArrayWindow:
        """Return the location of the sample."""
        return self._windows[split][index]

    @cached_property
    def channels(self) -> int:
        """The channel count of the first array that can be read."""
        return self._facts[0][0]

    def preparation(self, *, multiple: int) -> ArrayPreparation:
        """Return a preparation for windows of the first sample's size, cut to a multiple of the codec's stride.

        Raises `CallError` for arrays smaller than the stride, and for multiple integer types without a range.
        """
        height, width = self._size()
        if min(height, width) < multiple:
            raise CallError(
                f"arrays of {height}×{width} pixels, smaller than the codec's stride {multiple}; use fewer levels"
            )
        low, high, origin = self.value_range
        return ArrayPreparation(
            channels=self.channels,
            height=height - height % multiple,
            width=width - width % multiple,
            low=low,
            high=high,
            range_origin=origin,
            layout=self.options.layout,
            variable=self.options.variable,
        )

    def cut_notes(self, preparation: ArrayPreparation) -> list[str]:
        """Return messages for users about pixels that are in no sample, each with the option that changes it."""
        notes, (height, width) = [], (preparation.height, preparation.width)
        if self._num_cut:
            notes.append(
                f"{self._num_cut:,} arrays are no whole number of patches of {self.options.patch} pixels: "
                f"{self._pixels_cut / self._pixels:.1%} of all pixels, at the right and bottom, are in no patch; "
                "choose ?patch and ?hop that divide their sides"
            )
        sizes = [
            window.rectangle[2:]
            for windows in self._windows.values()
            for window in windows
            if window.rectangle is not None and min(window.rectangle[2] - height, window.rectangle[3] - width) >= 0
        ]
        larger = [size for size in sizes if size != (height, width)]
        if larger:
            lost = sum(rows * columns - height * width for rows, columns in larger)
            share = lost / sum(rows * columns for rows, columns in sizes)
            notes.append(
                f"{len(larger):,} of {len(sizes):,} arrays or patches are larger than {height}×{width} pixels, the "
                f"size of the first as a multiple of the codec's stride, and are cut to it: {share:.1%} of the pixels "
                "are dropped; ?patch=SIDE with a multiple of the stride cuts patches"
            )
        return notes

    @cached_property
    def value_range(self) -> tuple[float, float, str]:
        """The values that are mapped to -0.5 and 0.5, and their origin. For floats, every array is read."""
        if self.options.range is not None:
            return *self.options.range, "given"
        types = {dtype for _, dtype in self._facts}
        if any(dtype.kind == "f" for dtype in types):
            return *self._measured(), "measured"
        if len(types) > 1:
            names = " and ".join(sorted(map(str, types)))
            raise CallError(f"arrays of {names} in {self.name} have different ranges; give ?range=LOW,HIGH")
        (dtype,) = types
        info = np.iinfo(dtype)
        return float(info.min), float(info.max), f"full range of {dtype.name}"

    @property
    def num_pixels(self) -> int:
        """Total number of pixels of all samples."""
        return sum(
            window.rectangle[2] * window.rectangle[3]
            for windows in self._windows.values()
            for window in windows
            if window.rectangle
        )

    def _size(self) -> tuple[int, int]:
        for windows in self._windows.values():
            for window in windows:
                if window.rectangle is not None:
                    return window.rectangle[2:]
        raise AssertionError("a source without a readable array is refused when it is opened")

    def _samples(self, path: Path, key: str, label: int) -> Iterator[_Sample]:
        """Yield the arrays or patches of one file."""
        options = self.options
        try:
            arrays = options.layout.arrange(open_array(path, options.variable))
            rectangles = list(_rectangles(arrays.shape[2], arrays.shape[3], options))
        except BadSignalError as error:
            if isinstance(error, UnreadableError) and (error.failure is ReadFailure.FAILED or not path.is_file()):
                raise CallError(f"{str(path)!r}: {error}; check the source, and try again") from error
            self._first_failure = self._first_failure or str(error)
            size = path.stat().st_size if path.is_file() else 0
            yield _Sample(key, key, label, size, ArrayWindow(path, 0, None))
            return
        self._facts.append((arrays.shape[1], arrays.dtype))
        self._count_rest(arrays.shape, rectangles)
        for index in range(len(arrays)):
            name = f"{key}#{index:05d}" if len(arrays) > 1 else key
            for rectangle in rectangles:
                top, left, height, width = rectangle
                sample_key = f"{name}@{top},{left}" if options.patch else name
                num_bytes = arrays.dtype.itemsize * arrays.shape[1] * height * width
                overlapping = options.patch and (options.hop or options.patch) < options.patch
                group = name if overlapping else sample_key
                yield _Sample(sample_key, group, label, num_bytes, ArrayWindow(path, index, rectangle))

    def _count_rest(self, shape: tuple[int, ...], rectangles: list[tuple[int, int, int, int]]) -> None:
        """Count the pixels of arrays (N, C, H, W) that lie beyond the last patches."""
        number, _, height, width = shape
        top, left, rows, columns = rectangles[-1]
        hop = self.options.hop or 0
        inside = min(height, top + max(rows, hop)) * min(width, left + max(columns, hop))
        self._pixels += number * height * width
        self._pixels_cut += number * (height * width - inside)
        self._num_cut += number * (inside < height * width)

    def _measured(self) -> tuple[float, float]:
        """Return the smallest and the largest finite value of all arrays; raises `JobError` if they are equal."""
        low, high = np.inf, -np.inf
        for path in dict.fromkeys(window.path for windows in self._windows.values() for window in windows):
            try:
                values = open_array(path, self.options.variable)
            except UnreadableError as error:
                raise JobError(
                    f"the range of {self.name} needs {str(path)!r}: {error}; restore it, or give ?range=LOW,HIGH"
                ) from error
            except BadSignalError:
                continue
            finite = values if np.isfinite(values).all() else values[np.isfinite(values)]
            if finite.size:
                low, high = min(low, float(finite.min())), max(high, float(finite.max()))
        if not low < high:
            raise JobError(f"all values of {self.name} are equal, so they define no range; give ?range=LOW,HIGH")
        return low, high


def _rectangles(height: int, width: int, options: ArrayOptions) -> Iterator[tuple[int, int, int, int]]:
    side = options.patch
    if side is None:
        yield 0, 0, height, width
        return
    if min(height, width) < side:
        raise BadSignalError(f"{height}×{width} pixels, smaller than a patch of {side}")
    hop = options.hop or side
    for top in range(0, height - side + 1, hop):
        for left in range(0, width - side + 1, hop):
            yield top, left, side, side


def _listing(samples: list[_Sample]) -> SplitListing:
    groups = [sample.group for sample in samples]
    keys = [sample.key for sample in samples]
    return SplitListing(
        keys=keys,
        labels=np.array([sample.label for sample in samples], np.int64),
        num_bytes=np.array([sample.num_bytes for sample in samples], np.int64),
        groups=None if groups == keys else groups,
    )

"""`npy:PATH` and `mat:PATH`: arrays with any number of channels, from one file or a folder, whole or in patches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from datasets_prep.decode.arrays import ArrayLayout, ArrayPreparation, finite_range, open_array, require_window
from datasets_prep.samples.stored import ArrayWindow, BadSignalError, ReadFailure, UnreadableError
from datasets_prep.sources.core.options import number_range, optional_flag, positive_integer, split_options
from datasets_prep.sources.core.source import Listing, Source
from datasets_prep.sources.folders.catalog import FileKind
from datasets_prep.sources.folders.local_folder import FileFolder
from datasets_prep.sources.signals.windows import FileWindows, SplitWindows, WindowGrid
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
        splits: dict[str, SplitWindows] = {}
        class_names, strays = None, []
        notes: Sequence[str] = [f"no labels: {path.name} is one file; labels come from class folders (PATH/CLASS/FILE)"]
        if path.is_dir():
            files = _ArrayFolder(path, suffix, splits=options.splits)
            class_names, strays, name, notes = files.class_names, files.strays, files.name, files.notes
            for split in files.split_names:
                rows = range(files.num_samples(split))
                splits[split] = SplitWindows(
                    [self._file(files.read(split, row), files.key(split, row), files.label(split, row)) for row in rows]
                )
        elif path.is_file():
            name = path.name
            splits["train"] = SplitWindows([self._file(path, path.name, UNKNOWN_LABEL)])
        else:
            raise CallError(f"{str(path)!r} does not exist; give a {suffix} file or a folder of them")
        if not self._facts:
            raise CallError(f"no array of {str(path)!r} can be used: {self._first_failure}")
        self._splits = splits
        listings = {split: windows.listing() for split, windows in splits.items()}
        super().__init__(name, Listing(listings, class_names, strays, notes=notes))

    def read(self, split: str, index: int) -> ArrayWindow:
        """Return the location of the sample."""
        return self._splits[split].windows[index]

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
            (len(file), file.grid.height, file.grid.width)
            for file in self._files()
            if file.grid is not None and min(file.grid.height - height, file.grid.width - width) >= 0
        ]
        larger = [size for size in sizes if size[1:] != (height, width)]
        if larger:
            lost = sum(count * (rows * columns - height * width) for count, rows, columns in larger)
            share = lost / sum(count * rows * columns for count, rows, columns in sizes)
            num_larger, num_windows = (sum(count for count, *_ in group) for group in (larger, sizes))
            notes.append(
                f"{num_larger:,} of {num_windows:,} arrays or patches are larger than {height}×{width} pixels, the "
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
        return sum(len(file) * file.grid.height * file.grid.width for file in self._files() if file.grid is not None)

    def _size(self) -> tuple[int, int]:
        for file in self._files():
            if file.grid is not None:
                return file.grid.height, file.grid.width
        raise AssertionError("a source without a readable array is refused when it is opened")

    def _files(self) -> Iterator[FileWindows]:
        for windows in self._splits.values():
            yield from windows.files

    def _file(self, path: Path, key: str, label: int) -> FileWindows:
        """Return the arrays or patches of one file."""
        options = self.options
        try:
            arrays = options.layout.arrange(open_array(path, options.variable))
            grid = _grid(arrays.shape, options)
            grid.require_listable()
            require_window(arrays.shape[1] * grid.height * grid.width)
        except BadSignalError as error:
            if isinstance(error, UnreadableError) and (error.failure is ReadFailure.FAILED or not path.is_file()):
                raise CallError(f"{str(path)!r}: {error}; check the source, and try again") from error
            self._first_failure = self._first_failure or str(error)
            return FileWindows(path, key, label, path.stat().st_size if path.is_file() else 0, None)
        self._facts.append((arrays.shape[1], arrays.dtype))
        self._count_rest(arrays.shape, grid)
        num_bytes = arrays.dtype.itemsize * arrays.shape[1] * grid.height * grid.width
        return FileWindows(path, key, label, num_bytes, grid)

    def _count_rest(self, shape: tuple[int, ...], grid: WindowGrid) -> None:
        """Count the pixels of arrays (N, C, H, W) that lie beyond the last patches."""
        number, _, height, width = shape
        hop = self.options.hop or 0
        top, left, rows, columns = grid.rectangle(grid.rows * grid.columns - 1)
        inside = min(height, top + max(rows, hop)) * min(width, left + max(columns, hop))
        self._pixels += number * height * width
        self._pixels_cut += number * (height * width - inside)
        self._num_cut += number * (inside < height * width)

    def _measured(self) -> tuple[float, float]:
        """Return the smallest and the largest finite value of all arrays; raises `JobError` if they are equal."""
        low, high = np.inf, -np.inf
        for path in dict.fromkeys(file.path for file in self._files()):
            try:
                lowest, highest = finite_range(open_array(path, self.options.variable))
            except UnreadableError as error:
                raise JobError(
                    f"the range of {self.name} needs {str(path)!r}: {error}; restore it, or give ?range=LOW,HIGH"
                ) from error
            except BadSignalError:
                continue
            low, high = min(low, lowest), max(high, highest)
        if not low < high:
            raise JobError(f"all values of {self.name} are equal, so they define no range; give ?range=LOW,HIGH")
        return low, high


def _grid(shape: tuple[int, ...], options: ArrayOptions) -> WindowGrid:
    """Return the windows of arrays of shape (N, C, H, W); raises `BadSignalError` if they are smaller than a patch."""
    num_arrays, _, height, width = shape
    side = options.patch
    if side is None:
        return WindowGrid(num_arrays, height, width)
    if min(height, width) < side:
        raise BadSignalError(f"{height}×{width} pixels, smaller than a patch of {side}")
    hop = options.hop or side
    rows, columns = ((length - side) // hop + 1 for length in (height, width))
    return WindowGrid(num_arrays, side, side, rows, columns, hop, patches=True)

"""Reads arrays of any number of channels: hyperspectral cubes and stacks of cubes in .npy and MATLAB v5 .mat files.

- Integers are mapped to [-0.5, 0.5] by the full range of their type or by a given range; floats require a range.
  Values beyond the range are clipped.
- A layout names a file's axes: N (the index of the array), C, H, W in any order. H and W in parentheses are one axis
  of pixels, the last of the two varying fastest: `C(WH)` is the result of MATLAB's reshape of a cube.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datasets_prep.decode.mat_files import load_mat_array
from datasets_prep.samples.preparation import Preparation, centered
from datasets_prep.samples.stored import BadSignalError, Stored, sample_error
from walloc_cdl.errors import CallError

NPY_SIGNATURE = b"\x93NUMPY"

MAX_WINDOW_VALUES = 2**28
"""Limit for the values of a window: 1 GiB as float32. A .npy file may be sparse, and state any size."""

BLOCK_VALUES = 2**20
"""Values that are converted at a time, as float64."""

_LAYOUT = re.compile(r"(?:[NCHW]|\((?:HW|WH)\))+")


@dataclass(frozen=True)
class ArrayLayout:
    """The order of the axes of a stored array.

    >>> ArrayLayout("C(WH)", height=2).arrange(np.arange(6).reshape(1, 6))[0, 0].tolist()
    [[0, 2, 4], [1, 3, 5]]
    """

    axes: str | None = None
    """The axes, such as `HWC`; None is CHW for three axes and NCHW for four."""
    height: int | None = None
    """Rows of the image, if H and W are one axis."""

    def __post_init__(self) -> None:
        if self.axes is None:
            if self.height is not None:
                raise CallError(f"height {self.height} without a layout that needs it; give one, such as layout=C(WH)")
            return
        letters = re.sub(r"[()]", "", self.axes)
        if not _LAYOUT.fullmatch(self.axes) or sorted(letters.replace("N", "")) != ["C", "H", "W"] or len(letters) > 4:
            raise CallError(
                f"layout {self.axes!r}; expected C, H, W and optionally N once each, such as HWC, NCHW or C(WH)"
            )
        if ("(" in self.axes) != (self.height is not None):
            wanted = "?height=ROWS" if "(" in self.axes else "no height"
            raise CallError(f"layout {self.axes} with height {self.height}; it needs {wanted}")

    def arrange(self, values: np.ndarray) -> np.ndarray:
        """Return a view (N, C, H, W) of an array; raises `BadSignalError` if its axes do not match the layout."""
        axes = self.axes or {3: "CHW", 4: "NCHW"}.get(values.ndim, "CHW")
        parts = re.findall(r"\(..\)|.", axes)
        if len(parts) != values.ndim:
            raise BadSignalError(f"an array of {values.ndim} axes; layout {axes} has {len(parts)}")
        for number, part in enumerate(parts):
            if len(part) > 1:
                count = values.shape[number]
                rest, uneven = divmod(count, self.height)
                if uneven:
                    raise BadSignalError(f"{count} pixels are not a multiple of the height {self.height}")
                sides = (self.height, rest) if part == "(HW)" else (rest, self.height)
                values = values.reshape(*values.shape[:number], *sides, *values.shape[number + 1 :])
        letters = re.sub(r"[()]", "", axes)
        if "N" not in letters:
            letters, values = "N" + letters, values[None]
        return values.transpose([letters.index(letter) for letter in "NCHW"])


def open_array(path: os.PathLike[str], variable: str | None) -> np.ndarray:
    """Open the numeric array of a file; a .npy file is memory-mapped. Raises `BadSignalError` if that fails.

    `variable` names the array of a .mat file; None selects the only array that has at least two axes longer than one.
    """
    try:
        status = Path(path).stat()
        return _cached_array(os.fspath(path), variable, status.st_mtime_ns, status.st_size)
    except (BadSignalError, MemoryError):
        raise
    except Exception as error:  # NumPy and SciPy raise exceptions of any type for broken files
        raise sample_error(error) from error


def _cached_array(path: str, variable: str | None, mtime_ns: int, num_bytes: int) -> np.ndarray:
    """Cache the last array, because its windows are requested in sequence."""
    key = path, variable, mtime_ns, num_bytes
    values = _LAST_ARRAY.get(key)
    if values is None:
        _LAST_ARRAY.clear()  # before the next one is read, so that memory never holds two
        values = _LAST_ARRAY[key] = _require_numbers(_read_array(path, variable))
    return values


_LAST_ARRAY: dict[tuple[str, str | None, int, int], np.ndarray] = {}


def _read_array(path: str, variable: str | None) -> np.ndarray:
    if Path(path).suffix.lower() == ".mat":
        return load_mat_array(path, variable)
    with Path(path).open("rb") as file:
        if file.read(len(NPY_SIGNATURE)) != NPY_SIGNATURE:  # NumPy would advise to unpickle it
            raise BadSignalError("neither a .npy file nor, by its name, a .mat file")
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(values, np.ndarray):
        raise BadSignalError("no .npy file of one array")
    return values


def _require_numbers(values: np.ndarray) -> np.ndarray:
    if values.dtype.kind not in "iuf":
        raise BadSignalError(f"values of type {values.dtype}; expected integers or real floats")
    if values.size == 0:
        raise BadSignalError(f"an array of shape {values.shape} without values")
    return values


def require_window(num_values: int) -> None:
    """Raise `BadSignalError` for a window of more than `MAX_WINDOW_VALUES` values."""
    if num_values > MAX_WINDOW_VALUES:
        raise BadSignalError(f"{num_values:,} values, more than {MAX_WINDOW_VALUES:,}; cut it with ?patch=SIDE")


def finite_range(values: np.ndarray) -> tuple[float, float]:
    """Return the smallest and the largest finite value of an array of any size, read in blocks; (inf, -inf) if there
    are none.
    """
    low, high, flat = np.inf, -np.inf, values.ravel(order="K")
    for start in range(0, len(flat), BLOCK_VALUES):
        block = flat[start : start + BLOCK_VALUES]
        finite = block if np.isfinite(block).all() else block[np.isfinite(block)]
        if finite.size:
            low, high = min(low, float(finite.min())), max(high, float(finite.max()))
    return low, high


@dataclass(frozen=True)
class ArrayPreparation(Preparation):
    """Prepares windows of arrays as float32 in [-0.5, 0.5]: (v - low) / (high - low) - 0.5, clipped and center-cropped
    to the size."""

    channels: int
    height: int
    width: int
    low: float
    high: float
    range_origin: str = "given"
    """Origin of the range: `given`, `full range of uint16` or `measured`."""
    layout: ArrayLayout = field(default_factory=ArrayLayout)
    variable: str | None = None

    kind: ClassVar[str] = "array"
    dtype: ClassVar[np.dtype] = np.dtype(np.float32)
    packages: ClassVar[tuple[str, ...]] = ("numpy", "scipy")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return self.channels, self.height, self.width

    def load(self, stored: Stored) -> np.ndarray:
        """See `Preparation.load`."""
        values = self._window(stored)
        height, width = values.shape[1:]
        if height < self.height or width < self.width:
            raise BadSignalError(f"{height}×{width} pixels, smaller than {self.height}×{self.width}")
        top, left = (height - self.height) // 2, (width - self.width) // 2
        return self._scaled(values[:, top : top + self.height, left : left + self.width])

    def load_native(self, stored: Stored, multiple: int) -> np.ndarray:
        """See `Preparation.load_native`."""
        values = self._window(stored)
        if min(values.shape[1:]) < multiple:
            raise BadSignalError(f"{values.shape[1]}×{values.shape[2]} pixels, smaller than the stride {multiple}")
        rows, columns = (centered(side, multiple) for side in values.shape[1:])
        return self._scaled(values[:, rows, columns])

    def to_json(self) -> dict[str, Any]:
        """See `Preparation.to_json`."""
        return {
            "kind": self.kind,
            "channels": self.channels,
            "height": self.height,
            "width": self.width,
            "crop": "center",
            "range": [self.low, self.high],
            "range_origin": self.range_origin,
            "layout": self.layout.axes,
            "layout_height": self.layout.height,
            "variable": self.variable,
        }

    def _window(self, window: Stored) -> np.ndarray:
        """Return the window (C, h, w) in the file's own type."""
        arrays = self.layout.arrange(open_array(window.path, self.variable))
        if window.index >= len(arrays) or arrays.shape[1] != self.channels:
            raise BadSignalError(f"{len(arrays)} arrays of {arrays.shape[1]} channels, expected {self.channels}")
        values = arrays[window.index]
        if window.rectangle is None:
            return values
        top, left, height, width = window.rectangle
        if top + height > values.shape[1] or left + width > values.shape[2]:
            raise BadSignalError(f"{values.shape[1]}×{values.shape[2]} pixels, fewer than when they were listed")
        return values[:, top : top + height, left : left + width]

    def _scaled(self, values: np.ndarray) -> np.ndarray:
        """Convert values (C, h, w), in blocks of rows: an array of them as float64 would take twice the result."""
        require_window(values.size)
        # row-major for every layout: NumPy would keep the order of the file, and the hash is of rows
        scaled = np.empty(values.shape, np.float32)
        rows = max(1, BLOCK_VALUES // (values.shape[0] * values.shape[2]))
        for top in range(0, values.shape[1], rows):
            block = values[:, top : top + rows]
            if block.dtype.kind == "f" and not np.isfinite(block).all():
                raise BadSignalError("values that are not finite")
            unit = block.astype(np.float64)
            unit -= self.low
            unit /= self.high - self.low
            unit -= 0.5
            scaled[:, top : top + rows] = np.clip(unit, -0.5, 0.5, out=unit)
        return scaled

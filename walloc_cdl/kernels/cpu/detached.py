"""The encoder of a codec with a linear encoder, for processes that do not import torch.

This module does not import numba, which takes 0.3 s: a process that only passes an encoder on to its workers does not
need it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from walloc_cdl.kernels.cpu.fused import FusedEncoder


class DetachedEncoder:
    """Makes a `FusedEncoder` of the same arguments when it encodes for the first time. Pickles hold the arguments."""

    def __init__(
        self,
        weight: np.ndarray,
        bias: np.ndarray,
        *,
        levels: int,
        dimensions: int,
        bits: int,
        thresholds: np.ndarray | None = None,
        planes: tuple[int, ...] = (),
    ) -> None:
        """`thresholds` and `planes` are those of `LevelCodes`; without them, codes are companded to `bits`."""
        self._arrays = weight.copy(), bias.copy()
        self._settings = {"levels": levels, "dimensions": dimensions}
        self._bits, self._planes = bits, planes
        self._thresholds = None if thresholds is None else thresholds.copy()
        self._encoder: FusedEncoder | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_encoder": None}

    @property
    def has_planes(self) -> bool:
        """Whether its codes have bit planes, which are stored as rows: see `encode_rows`."""
        return bool(self._planes)

    def encode(self, signal: np.ndarray, num_threads: int = 1) -> np.ndarray:
        """Return codes of a signal; see `FusedEncoder.encode`."""
        return self._compiled().encode(signal, num_threads)

    def encode_rows(self, signal: np.ndarray, num_threads: int = 1) -> np.ndarray:
        """Return stored rows of a signal; see `FusedEncoder.encode_rows`."""
        return self._compiled().encode_rows(signal, num_threads)

    def _compiled(self) -> FusedEncoder:
        if self._encoder is None:
            from walloc_cdl.kernels.cpu.fused import CompandedCodes, FusedEncoder, LevelCodes

            levels = self._thresholds
            codes = CompandedCodes(self._bits) if levels is None else LevelCodes(levels, self._planes)
            self._encoder = FusedEncoder(*self._arrays, **self._settings, codes=codes)
        return self._encoder

    def load_code(self, dtype: np.dtype) -> None:
        """Import the kernels for signals of this type, and compile them if they are not cached."""
        from walloc_cdl.kernels.cpu.compiling import compiling_once
        from walloc_cdl.kernels.cpu.quantize import quantize_image, quantize_sequence

        levels, dimensions = self._settings["levels"], self._settings["dimensions"]
        channels = self._arrays[0].shape[1] // 2 ** (levels * dimensions)
        side = 8 * 2**levels if dimensions == 2 else 512 * 2**levels
        with compiling_once(quantize_image if dimensions == 2 else quantize_sequence):  # what is compiled last
            encode = self.encode_rows if self.has_planes else self.encode
            encode(np.zeros((1, channels, *[side] * dimensions), dtype))

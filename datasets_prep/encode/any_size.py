"""Signals of any size to codes and back, in memory that does not grow with them."""

from __future__ import annotations

import math

import numpy as np

from walloc_cdl.codec import Codec
from walloc_cdl.codec.tiles import decode_tiled, encode_tiled, is_global

WHOLE_LATENTS = 16_384
"""Latent positions that a network with attention is given at once: a megapixel at a stride of 8."""


def encode_bounded(codec: Codec, signal: np.ndarray) -> np.ndarray:
    """Stored codes (K, …) of a signal (C, …) of any size, in memory that does not grow with it.

    Tile by tile, which gives the codes of the whole; a codec that looks at the whole image sees up to
    `WHOLE_LATENTS` positions at once, and tiles with some overlap beyond.
    """
    positions = math.prod(length // codec.stride for length in signal.shape[1:])
    tile = _whole_tile(codec, "encoder", positions)
    return encode_tiled(codec, signal, tile=tile, approximate=True).numpy()


def decode_bounded(codec: Codec, codes: np.ndarray) -> np.ndarray:
    """The signal, uint8 (C, H, W) or int16 (C, T), of stored codes of any size; likewise."""
    tile = _whole_tile(codec, "decoder", math.prod(codes.shape[1:]))
    return decode_tiled(codec, codes, tile=tile, approximate=True).numpy()


def _whole_tile(codec: Codec, side: str, positions: int) -> int | None:
    """A tile that holds all positions where a global network can take them at once; None for the usual tiles."""
    return positions if is_global(codec, side) and positions <= WHOLE_LATENTS else None


def pad_to_stride(signal: np.ndarray, stride: int) -> np.ndarray:
    """The signal (C, …) with its last values repeated at the right and bottom up to multiples of `stride`.

    >>> pad_to_stride(np.array([[1, 2, 3]]), 4)
    array([[1, 2, 3, 3]])
    """
    return np.pad(signal, [(0, 0), *((0, -size % stride) for size in signal.shape[1:])], mode="edge")

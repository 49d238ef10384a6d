"""Encodes and decodes signals of any size, in memory that does not grow with them."""

from __future__ import annotations

import math

import numpy as np

from walloc_cdl.codec import Codec
from walloc_cdl.codec.tiles import decode_tiled, encode_tiled, is_global

MAX_GLOBAL_POSITIONS = 16_384
"""Maximum number of latent positions that a network with attention gets at once: a megapixel at a stride of 8."""


def encode_bounded(codec: Codec, signal: np.ndarray) -> np.ndarray:
    """Encode a signal (C, …) of any size to stored codes (K, …), in memory that does not grow with the signal.

    Encoding by tiles gives the codes of the whole signal, except for a codec with a global receptive field: it encodes
    up to `MAX_GLOBAL_POSITIONS` positions at once, and larger signals in overlapping tiles.
    """
    positions = math.prod(length // codec.stride for length in signal.shape[1:])
    tile = _global_tile(codec, "encoder", positions)
    return encode_tiled(codec, signal, tile=tile, approximate=True).numpy()


def decode_bounded(codec: Codec, codes: np.ndarray) -> np.ndarray:
    """Decode stored codes of any size to a signal, uint8 (C, H, W) or int16 (C, T); see `encode_bounded`."""
    tile = _global_tile(codec, "decoder", math.prod(codes.shape[1:]))
    return decode_tiled(codec, codes, tile=tile, approximate=True).numpy()


def _global_tile(codec: Codec, side: str, positions: int) -> int | None:
    """Return a tile of all positions if a global network can process them at once, or None for the default tiles."""
    return positions if is_global(codec, side) and positions <= MAX_GLOBAL_POSITIONS else None


def pad_to_stride(signal: np.ndarray, stride: int) -> np.ndarray:
    """Pad a signal (C, …) to multiples of `stride` by repeating its last values at the right and bottom.

    >>> pad_to_stride(np.array([[1, 2, 3]]), 4)
    array([[1, 2, 3, 3]])
    """
    return np.pad(signal, [(0, 0), *((0, -size % stride) for size in signal.shape[1:])], mode="edge")

"""Entropy-coded archives: the codes of one image as a lossless picture file.

The K channels are laid out as a mosaic. With K a multiple of three the mosaic is the three planes of
a lossless WebP, whose color prediction also serves neighboring latent channels; any other K is one
gray plane in a PNG.
"""

from __future__ import annotations

import io
import math

import numpy as np
from einops import rearrange
from PIL import Image

from walloc_cdl.errors import CallError

WEBP_LIMIT = 16_383
"""Largest width and height of a WebP, in pixels."""


def container(num_channels: int) -> str:
    """`webp` or `png`: what codes of so many channels are archived as."""
    return "webp" if num_channels % 3 == 0 else "png"


def _mosaic_rows(tiles: int) -> int:
    """Rows of the most nearly square arrangement of `tiles` equal tiles without a gap."""
    return next(rows for rows in range(math.isqrt(tiles), 0, -1) if tiles % rows == 0)


def archive_to_bytes(codes: np.ndarray) -> bytes:
    """The file of stored codes uint8 (K, h, w); raises `CallError` for a mosaic beyond the container's size."""
    num_channels = codes.shape[0]
    planes = 3 if container(num_channels) == "webp" else 1
    rows = _mosaic_rows(num_channels // planes)
    mosaic = rearrange(codes, "(r c p) h w -> (r h) (c w) p", r=rows, p=planes)
    if planes == 3 and max(mosaic.shape) > WEBP_LIMIT:
        raise CallError(
            f"a mosaic of {mosaic.shape[1]}x{mosaic.shape[0]} is beyond WebP's {WEBP_LIMIT} pixels a side; use tiles"
        )
    buffer = io.BytesIO()
    if planes == 3:
        Image.fromarray(np.ascontiguousarray(mosaic)).save(buffer, "WEBP", lossless=True, quality=100, method=4)
    else:
        Image.fromarray(np.ascontiguousarray(mosaic[..., 0])).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def archive_from_bytes(data: bytes, num_channels: int) -> np.ndarray:
    """Inverse of `archive_to_bytes`: codes uint8 (K, h, w)."""
    planes = 3 if container(num_channels) == "webp" else 1
    rows = _mosaic_rows(num_channels // planes)
    with Image.open(io.BytesIO(data)) as picture:
        mosaic = np.asarray(picture.convert("RGB" if planes == 3 else "L")).reshape(*picture.size[::-1], planes)
    columns = num_channels // planes // rows
    return rearrange(mosaic, "(r h) (c w) p -> (r c p) h w", r=rows, c=columns)

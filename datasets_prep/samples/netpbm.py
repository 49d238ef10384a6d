"""Encodes pixels that a Python data set gives as arrays or PIL images, for their transfer to the workers.

The format is netpbm if it can hold the pixels. It has no compression: the bytes of a PNG, and with them the hash in
the ledger, depend on the version of zlib.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from walloc_cdl.errors import CallError

_CONVERTED = {"HSV": "RGB", "YCbCr": "RGB", "RGBX": "RGB", "RGBa": "RGBA", "La": "LA", "PA": "RGBA"}
"""Maps PIL modes that no file format has to the modes that they are converted to."""


def encode_pixels(image: Any) -> bytes | Path:
    """Encode a PIL image, or uint8 (H, W), (H, W, 1) or (H, W, 3); returns encoded bytes and paths unchanged.

    Gray and RGB images become netpbm. PIL images of other modes become PNG, or TIFF if PNG has no such mode (CMYK, LAB,
    floats); modes that no file format has (HSV, YCbCr, premultiplied alpha) are converted first. Raises `CallError`
    for anything else.
    """
    if isinstance(image, bytes):
        return image
    if isinstance(image, (str, os.PathLike)):
        return Path(image)
    if hasattr(image, "getbands") and hasattr(image, "save"):
        if image.mode in _CONVERTED:
            image = image.convert(_CONVERTED[image.mode])
        if image.mode not in ("L", "RGB"):
            stream = io.BytesIO()
            image.save(stream, "TIFF" if image.mode in ("CMYK", "LAB", "F", "I") else "PNG")
            return stream.getvalue()
        image = np.asarray(image)
    return _netpbm(image)


def _netpbm(pixels: Any) -> bytes:
    values = np.asarray(pixels)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    is_image = values.ndim == 2 or (values.ndim == 3 and values.shape[2] == 3)
    if values.dtype != np.uint8 or not is_image or not values.size:
        raise CallError(
            f"an image of type {type(pixels).__name__}, {values.dtype} {values.shape}; expected a PIL image, "
            "uint8 (H, W) or (H, W, 3), encoded bytes or a path; give to_sample to convert it"
        )
    kind = 5 if values.ndim == 2 else 6
    return f"P{kind}\n{values.shape[1]} {values.shape[0]}\n255\n".encode() + values.tobytes()

"""Refuses files that PIL decodes to wrong pixels without an error.

PIL defines the meaning of a file, except where it is wrong. It was compared with tifffile on 720 kinds of TIFF (90 of
which it does not open), with OpenJPEG, and with the PNG and EXIF specifications. `datasets_prep.decode.color` corrects
what can be corrected (16-bit white-is-zero and 12-bit TIFF, a transparent 16-bit gray). docs/pixels.md has a row for
every kind of file.
"""

from __future__ import annotations

from PIL import Image

from datasets_prep.samples.stored import BadSignalError

_PLANAR_CONFIGURATION_TAG, _SEPARATE = 284, 2
_BITS_PER_SAMPLE_TAG = 258

_CODESTREAM_START = b"\xff\x4f\xff\x51"
"""The markers SOC and SIZ, with which every JPEG 2000 codestream begins (ITU-T T.800, annex A)."""
_FIRST_DEPTH = 42
"""Offset from there of the first component's depth in SIZ: the lower 7 bits hold the depth minus 1."""


def refuse_pil_quirks(image: Image.Image, encoded: bytes) -> None:
    """Raise `BadSignalError` for such a file; `image` is the image that PIL has opened, not yet decoded.

    - TIFF with channels in separate planes: PIL reads uncompressed 16-bit planes as 8-bit planes, and loses the alpha
      plane of gray images.
    - JPEG 2000 in color with more than 8 bits: PIL rounds white up to black.
    """
    if image.format == "TIFF" and image.tag_v2.get(_PLANAR_CONFIGURATION_TAG) == _SEPARATE:
        deep = max(image.tag_v2.get(_BITS_PER_SAMPLE_TAG, (1,))) > 8
        uncompressed = any(tile[0] == "raw" for tile in image.tile)
        if (deep and uncompressed) or image.mode in ("LA", "La", "PA"):
            raise BadSignalError("TIFF with channels in separate planes, of 16 bits or with alpha; interleave them")
    if image.format == "JPEG2000" and image.mode in ("LA", "RGB", "RGBA", "YCbCr", "CMYK"):
        start = encoded.find(_CODESTREAM_START)
        depths = encoded[start + _FIRST_DEPTH : start + _FIRST_DEPTH + 1]
        if start >= 0 and depths and (depths[0] & 0x7F) + 1 > 8:
            raise BadSignalError("JPEG 2000 color of more than 8 bits; store it as 16-bit PNG or TIFF")

"""Decodes ordinary JPEG files with `simplejpeg` in place of PIL, where both give the same bytes.

PIL and `simplejpeg` bundle libjpeg-turbo, whose decoded pixels are the same from version 2.0 on. PIL copies them twice
(into its own rows of four bytes a pixel, and out of them), and passes the file on in blocks of 64 kB; `simplejpeg`
decodes from memory to memory. docs/performance.md has the times.

PIL remains the judge: it opens the file first, so whatever it refuses is refused with its words, and `simplejpeg` gets
only what is surely decoded alike:

- 8 bits, Huffman coding, baseline or progressive;
- one component (gray), or three that are marked as YCbCr: by a JFIF header, by Adobe's marker, or by the numbers 1, 2
  and 3. RGB, CMYK and YCCK stay with PIL.

`simplejpeg` is told to stop at libjpeg's first warning. So damaged scans, missing ends, and whatever else it refuses
stay with PIL, too, which decodes some of them and refuses others. Before the first file, both decode small files of all
supported kinds; if any byte differs, as another version of libjpeg may decode, PIL decodes everything.
"""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import simplejpeg
from PIL import Image, ImageDraw

_START, _END = 0xD8, 0xD9
_SCAN = 0xDA
_HUFFMAN_FRAMES = (0xC0, 0xC1, 0xC2)
"""The markers of frames, SOF, that are baseline, extended sequential and progressive (ITU-T T.81, table B.1)."""
_OTHER_FRAMES = (0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_STANDALONE = (0x01, *range(0xD0, 0xD8))
"""Markers without a length: TEM and RST."""

_MIN_REDUCED_SIDE = 16
"""`simplejpeg` chooses the smallest number of eighths whose size is large enough. On sides smaller than this, fewer
eighths than PIL's may be rounded to the same size."""


def decode_jpeg(image: Image.Image, encoded: bytes) -> np.ndarray | None:
    """Decode a JPEG file to pixels uint8 (H, W, 1 or 3), gray or RGB, not oriented; PIL's bytes.

    `image` is the file as PIL has opened it, not yet decoded; after `image.draft`, the pixels have the reduced size
    that it has chosen. Returns None if PIL must decode the file.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("L", "RGB") or not same_bytes_as_pil():
        return None
    if not _is_ordinary(encoded, len(image.getbands()), "jfif" in image.info, image.info.get("adobe_transform")):
        return None
    width, height = image.size
    limits = {}
    if image.decoderconfig and image.decoderconfig[0] > 1:
        if min(width, height) < _MIN_REDUCED_SIDE:
            return None
        limits = {"min_height": height, "min_width": width}
    try:
        pixels = simplejpeg.decode_jpeg(encoded, "GRAY" if image.mode == "L" else "RGB", strict=True, **limits)
    except ValueError:  # a warning or an error of libjpeg, or an unusual subsampling
        return None
    return pixels if pixels.shape[:2] == (height, width) else None


def _is_ordinary(encoded: bytes, components: int, jfif: bool, adobe_transform: int | None) -> bool:
    """Return whether the headers before the first scan describe a file of the kinds above."""
    at = 2
    ordinary = False
    while at + 4 <= len(encoded):
        if encoded[at] != 0xFF:
            return False  # decoders skip such bytes with a warning
        marker = encoded[at + 1]
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        if marker == _SCAN:
            return ordinary
        if marker in (_START, _END, *_STANDALONE, *_OTHER_FRAMES):
            return False
        length = int.from_bytes(encoded[at + 2 : at + 4], "big")
        if marker in _HUFFMAN_FRAMES:
            # precision, height (2), width (2), number of components, then for each its number, sampling and table
            frame = encoded[at + 4 : at + 2 + length]
            if ordinary or len(frame) != 6 + 3 * components or frame[0] != 8 or frame[5] != components:
                return False
            marked = jfif or adobe_transform == 1 or frame[6::3] == b"\1\2\3"
            ordinary = components == 1 or (marked and adobe_transform in (None, 1))
        at += 2 + length
    return False


@lru_cache(maxsize=1)
def same_bytes_as_pil() -> bool:
    """Return whether `simplejpeg` gives PIL's bytes for small files of all supported kinds."""
    return all(_same_bytes(encoded) for encoded in _examples())


def _same_bytes(encoded: bytes) -> bool:
    with Image.open(io.BytesIO(encoded)) as image:
        image.load()
        expected = np.asarray(image)
        try:
            found = simplejpeg.decode_jpeg(encoded, "GRAY" if image.mode == "L" else "RGB", strict=True)
        except ValueError:
            return False
    return np.array_equal(found.reshape(expected.shape), expected)


def _examples() -> list[bytes]:
    """Return JPEG files of a colored drawing, with every subsampling, baseline and progressive, in gray and color."""
    drawing = Image.new("RGB", (45, 37), (200, 30, 60))
    pen = ImageDraw.Draw(drawing)
    for number in range(12):
        color = (number * 83 % 256, number * 151 % 256, number * 211 % 256)
        pen.ellipse((number * 7 % 40, number * 11 % 30, number * 7 % 40 + 13, number * 11 % 30 + 9), fill=color)
    examples = []
    for picture in (drawing, drawing.convert("L")):
        for subsampling in ("4:4:4", "4:2:2", "4:2:0") if picture.mode == "RGB" else (None,):
            for progressive in (False, True):
                file = io.BytesIO()
                options = {"subsampling": subsampling} if subsampling else {}
                picture.save(file, "JPEG", quality=85, progressive=progressive, **options)
                examples.append(file.getvalue())
    return examples

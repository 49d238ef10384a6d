"""JPEG files of many kinds, and damage to them."""

from __future__ import annotations

import random

import numpy as np
import simplejpeg
from PIL import Image

from tests.support.pictures import encoded, picture

SUBSAMPLINGS = ("444", "422", "420", "440", "411")


def jpeg_files(width: int = 90, height: int = 75) -> list[bytes]:
    """Return JPEG files of one size: every subsampling, baseline and progressive, gray, CMYK, restarts, EXIF."""
    color, gray = picture(1, width, height), picture(2, width, height, "L")
    files = []
    for quality in (30, 75, 95):
        for progressive in (False, True):
            options = {"quality": quality, "progressive": progressive}
            files += [encoded(color, "JPEG", subsampling=each, **options) for each in ("4:4:4", "4:2:2", "4:2:0")]
            files.append(encoded(gray, "JPEG", **options))
            files.append(encoded(color, "JPEG", restart_marker_blocks=3, **options))
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        files.append(encoded(color, "JPEG", exif=exif, comment=b"a comment"))
    files.append(encoded(color.convert("CMYK"), "JPEG"))
    files.append(encoded(color, "JPEG", keep_rgb=True))
    return files + [simplejpeg.encode_jpeg(np.array(color), colorsubsampling=each) for each in SUBSAMPLINGS]


def mutated(random_: random.Random, encoded: bytes) -> bytes:
    """Return a damaged file: flipped bits, other bytes, markers exchanged, pieces lost, doubled or added."""
    data = bytearray(encoded)
    markers = [at for at in range(len(data) - 1) if data[at] == 0xFF and data[at + 1] not in (0x00, 0xFF)]
    at = random_.randrange(len(data))
    match random_.randrange(9):
        case 0:
            for _ in range(random_.randint(1, 4)):
                data[random_.randrange(len(data))] ^= 1 << random_.randrange(8)
        case 1:
            for _ in range(random_.randint(1, 3)):
                data[random_.randrange(min(len(data), 700))] = random_.randrange(256)
        case 2:
            del data[at:]
        case 3:
            del data[at : at + random_.randint(1, 8)]
        case 4:
            data[at:at] = random_.randbytes(random_.randint(1, 8))
        case 5 if markers:
            kinds = [
                0xC0,
                0xC1,
                0xC2,
                0xC3,
                0xC4,
                0xC9,
                0xD0,
                0xD8,
                0xD9,
                0xDA,
                0xDB,
                0xDC,
                0xDD,
                0xE0,
                0xE1,
                0xEE,
                0xFE,
            ]
            data[random_.choice(markers) + 1] = random_.choice([*kinds, random_.randrange(256)])
        case 6 if len(markers) > 1:
            first, last = sorted(random_.sample(markers, 2))
            where = random_.choice(markers)
            data[where:where] = data[first:last]
        case 7:
            data[random_.randrange(max(0, len(data) - 40), len(data))] = random_.randrange(256)
        case _:
            data += random_.randbytes(random_.randint(1, 300))
    return bytes(data)

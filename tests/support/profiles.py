"""Color profiles written by hand (ICC.1:2001-04), so that what they mean is known without LittleCMS."""

from __future__ import annotations

import struct

import numpy as np

WHITE = (0.9642, 1.0, 0.8249)
"""D50, the profile connection space's white."""

ADOBE_RGB = np.array([[0.60974, 0.20528, 0.14919], [0.31111, 0.62567, 0.06322], [0.01947, 0.06087, 0.74457]])
"""Linear Adobe RGB (1998) to XYZ, adapted to D50."""

SRGB = np.array([[0.43607, 0.38515, 0.14307], [0.22249, 0.71687, 0.06061], [0.01392, 0.09708, 0.71410]])
"""The same of sRGB."""

GAMMA = 2.2


def adobe_rgb() -> bytes:
    columns = zip((b"rXYZ", b"gXYZ", b"bXYZ"), ADOBE_RGB.T, strict=True)
    curves = {name: _curve() for name in (b"rTRC", b"gTRC", b"bTRC")}
    return _profile(b"mntr", b"RGB ", b"XYZ ", {**{name: _xyz(column) for name, column in columns}, **curves})


def gray() -> bytes:
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"kTRC": _curve()})


def ink(colors: np.ndarray) -> bytes:
    """A printer whose 16 mixtures of full inks, K changing fastest, have these colors: Lab, scaled to 0…255."""
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + struct.pack(">BBBx", 4, 3, 2)
    table += struct.pack(">9i", *(65536 * np.eye(3, dtype=int)).ravel())
    table += ramp * 4 + colors.astype(np.uint8).tobytes() + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"A2B0": table, b"A2B1": table})


def adobe_to_srgb(pixels: np.ndarray) -> np.ndarray:
    """By hand: uint8 (H, W, 3) of Adobe RGB in sRGB, clipped."""
    linear = (pixels / 255) ** GAMMA @ (np.linalg.inv(SRGB) @ ADOBE_RGB).T
    return srgb_curve(linear)


def gray_to_srgb(pixels: np.ndarray) -> np.ndarray:
    return srgb_curve((pixels / 255) ** GAMMA)


def srgb_curve(linear: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, 0…255."""
    linear = linear.clip(0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"by hand\0"
    described = b"desc" + struct.pack(">II", 0, len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    tags = {b"desc": described, b"cprt": b"text" + bytes(4) + b"none\0", b"wtpt": _xyz(WHITE), **tags}
    offset = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags.items():
        padded = body + bytes(-len(body) % 4)
        table += struct.pack(">4sII", name, offset + len(bodies), len(body))
        bodies += padded
    size = offset + len(bodies)
    header = struct.pack(">I4sI4s4s4s", size, bytes(4), 0x02400000, kind, space, connection)
    header += struct.pack(">6H4s28x", 2026, 1, 1, 0, 0, 0, b"acsp")
    header += struct.pack(">3i", *_fixed(WHITE))
    return header + bytes(128 - len(header)) + table + bodies


def _xyz(values: np.ndarray | tuple[float, ...]) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *_fixed(values))


def _fixed(values: np.ndarray | tuple[float, ...]) -> list[int]:
    return [round(65536 * float(value)) for value in values]


def _curve() -> bytes:
    return b"curv" + struct.pack(">IIH", 0, 1, round(256 * GAMMA))

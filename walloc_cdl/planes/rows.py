"""Stored rows: a sample's bit planes in the order of their importance, and budgets of bytes in whole planes.

A plane is one bit of each position of the latent grid, row by row, position n in bit n mod 8 (the least significant
first) of byte n // 8; unused bits of its last byte are zero. A row is the planes one after the other.

These functions are the reference; `walloc_cdl.kernels.cpu.planes` has the fast ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from walloc_cdl.errors import CallError
from walloc_cdl.spec import LatentSpec, count_planes


def plane_bytes(grid: Sequence[int]) -> int:
    """Return the bytes of one plane of a latent grid, (h, w) or (t,).

    >>> plane_bytes((32, 32)), plane_bytes((3, 3))
    (128, 2)
    """
    return -(-math.prod(grid) // 8)


def row_bytes(spec: LatentSpec, grid: Sequence[int]) -> int:
    """Return the bytes of one stored view of a sample: whole planes, or one byte for each code."""
    if spec.planes is None:
        return spec.latent_channels * math.prod(grid)
    return spec.num_planes * plane_bytes(grid)


def planes_for_bytes(spec: LatentSpec, grid: Sequence[int], num_bytes: int) -> int:
    """Return the number of planes that fit into `num_bytes`.

    Raises `CallError` for latents without bit planes, for less than a plane, and for more than all planes.
    """
    size = plane_bytes(grid)
    count, most = num_bytes // size, spec.num_planes
    if spec.planes is None:
        raise CallError(
            f"{num_bytes:,} bytes a sample of codes that are stored as bytes, which have one size only, "
            f"{row_bytes(spec, grid):,}; omit the number of bytes, or use a codec with bit planes"
        )
    if not 1 <= count <= most:
        raise CallError(
            f"{num_bytes:,} bytes a sample; these latents take {size:,} to {most * size:,}, {size:,} a plane"
        )
    return count


def planes_for_rate(spec: LatentSpec, bits_per_point: float) -> int:
    """Return the number of planes that fit into a rate in bits per pixel, or per time step of audio.

    Raises `CallError` for latents without bit planes, for less than a plane, and for more than all planes.
    """
    points = spec.stride ** (len(spec.axes) - 1)
    count, most = math.floor(bits_per_point * points + 1e-9), spec.num_planes
    point = "pixel" if spec.kind == "image" else "time step"
    if spec.planes is None:
        raise CallError(
            f"{bits_per_point:g} bits a {point} of codes that are stored as bytes, which have one size only; omit the "
            "rate, or use a codec with bit planes"
        )
    if not 1 <= count <= most:
        raise CallError(
            f"{bits_per_point:g} bits a {point}; these latents take {1 / points:.3g} to {most / points:.3g}"
        )
    return count


def plane_shifts(planes: tuple[int, ...], stored: int | None = None) -> np.ndarray:
    """Return which bit of its channel's code each of the first `stored` planes is, int64 (p,): 0 is the lowest.

    >>> plane_shifts((0, 0, 1, 0))
    array([2, 1, 0, 0])
    """
    shown = planes[:stored]
    left = list(count_planes(shown)[1])
    shifts = []
    for channel in shown:
        left[channel] -= 1
        shifts.append(left[channel])
    return np.array(shifts, np.int64)


def pack_rows(codes: np.ndarray, planes: tuple[int, ...]) -> np.ndarray:
    """Return the rows, uint8 (N, R), of codes uint8 (N, K, …) of 0 to 2^b - 1."""
    flat = codes.reshape(*codes.shape[:2], math.prod(codes.shape[2:]))
    size = -(-flat.shape[2] // 8)
    rows = np.empty((len(codes), len(planes), size), np.uint8)
    for number, (channel, shift) in enumerate(zip(planes, plane_shifts(planes).tolist(), strict=True)):
        rows[:, number] = np.packbits(flat[:, channel] >> shift & 1, axis=-1, bitorder="little")
    return rows.reshape(len(codes), len(planes) * size)


def unpack_rows(rows: np.ndarray, planes: tuple[int, ...], grid: Sequence[int]) -> np.ndarray:
    """Return the codes, uint8 (N, K, *grid), of the first bytes of rows, uint8 (N, at least R)."""
    size, positions = plane_bytes(grid), math.prod(grid)
    codes = np.zeros((len(rows), count_planes(planes)[0], positions), np.uint8)
    for number, (channel, shift) in enumerate(zip(planes, plane_shifts(planes).tolist(), strict=True)):
        plane = rows[:, number * size : (number + 1) * size]
        codes[:, channel] |= np.unpackbits(plane, axis=-1, count=positions, bitorder="little") << shift
    return codes.reshape(*codes.shape[:2], *grid)

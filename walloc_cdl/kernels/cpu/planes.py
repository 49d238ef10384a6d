"""Packing and unpacking of bit planes on the CPU, and unpacking straight to the values of the codes.

Positions are processed in groups of 32, a word of each plane (`simd.planes`); the last few of a plane, whose last
byte is incomplete, and grids of fewer positions, one by one.

Reference: `walloc_cdl.planes.rows`, which describes a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from walloc_cdl.errors import CallError
from walloc_cdl.kernels.cpu.compiling import compiled
from walloc_cdl.kernels.cpu.lifting import address_of
from walloc_cdl.kernels.cpu.simd.loads import prefetch
from walloc_cdl.kernels.cpu.simd.planes import (
    GROUP_BYTES,
    MAX_BITS,
    byte_at,
    join_planes,
    look_up_planes,
    separate_planes,
)
from walloc_cdl.planes.rows import plane_bytes
from walloc_cdl.spec import count_planes


def pack(codes: np.ndarray, planes: tuple[int, ...]) -> np.ndarray:
    """Return the rows, uint8 (N, R), of codes uint8 (N, K, …) of 0 to 2^b - 1.

    Raises `CallError` for codes of another type or number of channels.
    """
    bits, numbers = _channels(planes)
    if codes.dtype != np.uint8 or codes.ndim < 2 or codes.shape[1] != len(bits):
        raise CallError(f"codes {codes.dtype} {list(codes.shape)}; expected uint8 [N, {len(bits)}, …]")
    positions = math.prod(codes.shape[2:])
    flat = np.ascontiguousarray(codes).reshape(len(codes), len(bits), positions)
    rows = np.empty((len(codes), len(planes), plane_bytes((positions,))), np.uint8)
    _pack(flat, bits, numbers, rows)
    return rows.reshape(len(codes), rows.shape[1] * rows.shape[2])


def unpack(rows: np.ndarray, planes: tuple[int, ...], grid: Sequence[int]) -> np.ndarray:
    """Return the codes, uint8 (N, K, *grid), of the first bytes of rows, uint8 (N, at least R).

    Raises `CallError` for rows of another type, and for shorter ones.
    """
    bits, numbers = _channels(planes)
    rows = _checked(rows, planes, grid)
    codes = np.empty((len(rows), len(bits), math.prod(grid)), np.uint8)
    _unpack(rows.ctypes.data, rows.strides[0], plane_bytes(grid), bits, numbers, codes)
    return codes.reshape(*codes.shape[:2], *grid)


def unpack_values(rows: np.ndarray, table: np.ndarray, planes: tuple[int, ...], grid: Sequence[int]) -> np.ndarray:
    """Return the values of codes, float32 (N, K, *grid), of the first bytes of rows, uint8 (N, at least R).

    `table` has the value of each byte as a code of each channel, float32 (K, 256). Raises `CallError` as `unpack` does,
    and for a table of another shape.
    """
    bits, numbers = _channels(planes)
    rows = _checked(rows, planes, grid)
    if table.shape != (len(bits), 256):
        raise CallError(f"a table of shape {list(table.shape)}; expected [{len(bits)}, 256], a value for each byte")
    values = np.empty((len(rows), len(bits), math.prod(grid)), np.float32)
    _unpack_values(
        rows.ctypes.data,
        rows.strides[0],
        plane_bytes(grid),
        np.ascontiguousarray(table, np.float32),
        bits,
        numbers,
        values,
    )
    return values.reshape(*values.shape[:2], *grid)


def row_histogram(rows: np.ndarray, planes: tuple[int, ...], grid: Sequence[int]) -> np.ndarray:
    """Return how often each byte is a code of each channel, int64 (K, 256), in rows uint8 (N, at least R).

    Raises `CallError` as `unpack` does.
    """
    bits, numbers = _channels(planes)
    rows = _checked(rows, planes, grid)
    counts = np.empty((len(bits), 256), np.int64)
    _count(rows.ctypes.data, rows.strides[0], plane_bytes(grid), len(rows), math.prod(grid), bits, numbers, counts)
    return counts


def _checked(rows: np.ndarray, planes: tuple[int, ...], grid: Sequence[int]) -> np.ndarray:
    """Return rows whose bytes are neighbors; the rows themselves may have any distance."""
    num_bytes = len(planes) * plane_bytes(grid)
    if rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] < num_bytes:
        raise CallError(f"rows {rows.dtype} {list(rows.shape)}; expected uint8 [N, {num_bytes} or more]")
    return rows if rows.strides[1] == 1 else np.ascontiguousarray(rows)


@lru_cache(maxsize=64)
def _channels(planes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Return the bits of each channel, int64 (K,), and the numbers of its planes, int64 (K, 8), the highest first."""
    bits = np.array(count_planes(planes)[1], np.int64)
    numbers, found = np.zeros((len(bits), MAX_BITS), np.int64), [0] * len(bits)
    for number, channel in enumerate(planes):
        numbers[channel, found[channel]] = number
        found[channel] += 1
    return bits, numbers


CACHE_LINE = 64
"""Bytes."""


@compiled()
def _prefetch_share(row: int, num_bytes: int, part: int, parts: int) -> None:
    """Prefetch one of `parts` equal shares of the row at an address, counted from 0.

    The planes of a channel lie anywhere in a row, in an order that processors don't foresee: without it, a row that is
    in no cache is waited for line by line, which takes three times as long as unpacking.
    """
    lines = (num_bytes + CACHE_LINE - 1) // CACHE_LINE
    for line in range(part * lines // parts, (part + 1) * lines // parts):
        prefetch(row + CACHE_LINE * line)


@compiled()
def _vector_bytes(positions: int) -> int:
    """Return how many bytes of a plane are processed in groups; the other positions are processed one by one."""
    whole = positions // 8
    return whole if whole >= GROUP_BYTES else 0


@compiled()
def _code_at(row: int, numbers: np.ndarray, size: int, bits: int, position: int) -> int:
    """Return the code of a channel at one position of the row at an address."""
    code = 0
    for place in range(bits):
        byte = byte_at(row + numbers[place] * size + (position >> 3))
        code = code << 1 | (byte >> (position & 7) & 1)
    return code


@compiled()
def _pack(codes: np.ndarray, bits: np.ndarray, numbers: np.ndarray, rows: np.ndarray) -> None:
    """Write rows (N, P, plane bytes) of codes (N, K, positions)."""
    positions, size = codes.shape[2], rows.shape[2]
    num_bytes = _vector_bytes(positions)
    for i in range(codes.shape[0]):
        for k in range(bits.size):
            channel, places = codes[i, k], numbers[k]
            if num_bytes > 0:
                separate_planes(bits[k], address_of(channel), address_of(rows[i]), address_of(places), size, num_bytes)
            for place in range(bits[k]):
                plane, shift = rows[i, places[place]], bits[k] - 1 - place
                for byte in range(num_bytes, size):
                    value = 0
                    for position in range(8 * byte, min(8 * byte + 8, positions)):
                        value |= (channel[position] >> shift & 1) << (position & 7)
                    plane[byte] = value


@compiled()
def _unpack(row: int, pitch: int, size: int, bits: np.ndarray, numbers: np.ndarray, codes: np.ndarray) -> None:
    """Write codes (N, K, positions) of rows, `pitch` bytes apart, of planes of `size` bytes, the first at `row`."""
    positions = codes.shape[2]
    num_bytes = _vector_bytes(positions)
    num_planes = bits.sum()
    for i in range(codes.shape[0]):
        place = row + i * pitch
        for k in range(bits.size):
            if i + 1 < codes.shape[0]:
                _prefetch_share(place + pitch, num_planes * size, k, bits.size)
            channel = codes[i, k]
            if num_bytes > 0:
                join_planes(bits[k], place, address_of(numbers[k]), size, num_bytes, address_of(channel))
            for position in range(8 * num_bytes, positions):
                channel[position] = _code_at(place, numbers[k], size, bits[k], position)


@compiled()
def _unpack_values(
    row: int, pitch: int, size: int, table: np.ndarray, bits: np.ndarray, numbers: np.ndarray, values: np.ndarray
) -> None:
    """Write the values (N, K, positions) of these codes."""
    positions = values.shape[2]
    num_bytes = _vector_bytes(positions)
    num_planes = bits.sum()
    for i in range(values.shape[0]):
        place = row + i * pitch
        for k in range(bits.size):
            if i + 1 < values.shape[0]:
                _prefetch_share(place + pitch, num_planes * size, k, bits.size)
            channel, entries = values[i, k], table[k]
            if num_bytes > 0:
                look_up_planes(
                    bits[k],
                    place,
                    address_of(numbers[k]),
                    size,
                    num_bytes,
                    address_of(entries),
                    address_of(channel),
                )
            for position in range(8 * num_bytes, positions):
                channel[position] = entries[_code_at(place, numbers[k], size, bits[k], position)]


@compiled()
def _count(
    row: int,
    pitch: int,
    size: int,
    num_rows: int,
    positions: int,
    bits: np.ndarray,
    numbers: np.ndarray,
    counts: np.ndarray,
) -> None:
    """Write to `counts` (K, 256) how often each code occurs in these rows."""
    codes = np.empty((1, 1, positions), np.uint8)
    # Equal codes often follow each other, and a count waits for the one before it, so neighbors have separate counts.
    separate = np.empty((4, 256), np.int64)
    for k in range(bits.size):
        separate[:] = 0
        for i in range(num_rows):
            _unpack(row + i * pitch, pitch, size, bits[k : k + 1], numbers[k : k + 1], codes)
            channel = codes[0, 0]
            whole = positions // 4 * 4
            for position in range(0, whole, 4):
                separate[0, channel[position]] += 1
                separate[1, channel[position + 1]] += 1
                separate[2, channel[position + 2]] += 1
                separate[3, channel[position + 3]] += 1
            for position in range(whole, positions):
                separate[0, channel[position]] += 1
        for code in range(256):
            counts[k, code] = separate[:, code].sum()

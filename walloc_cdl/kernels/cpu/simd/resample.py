"""The inner parts of exact resizing, as vector instructions: pairs of bytes, their weighted sums, and transposition.

A weight has 22 fractional bits and a byte 8, so that products need 32 bits; but vector units multiply numbers of 16
bits far faster: one instruction (`pmaddwd` on x86, `smlal` on ARM) multiplies pairs of neighbors, and adds the two
products of a pair to an int32. So a weight k is split into 256 · high + low, with high = k >> 8, a signed number of 16
bits, and low = k & 255, and two such instructions give the sums of both parts for two taps in each lane. They are put
together at the end, total = 256 · Σ high · byte + Σ low · byte, in integers, hence exactly.

Terms of this module and of `resample`:

- A *unit* is a pair of neighbors along the filtered axis, two numbers of 16 bits in one word of 32.
- A *vector* is eight units; the lanes are samples that are filtered with the same weights.
- Weights of one output are stored tap pair by tap pair: a unit of both high parts, and one of both low parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from walloc_cdl.kernels.cpu.simd.vectors import (
    BYTE,
    VECTOR_BYTES,
    WIDTH,
    WORD,
    WORDS,
    integer,
    intrinsic_of_integers,
    load,
    store,
    transposed_vectors,
)

PIXELS_PER_GROUP = 2 * WIDTH
"""Pixels of a row that are loaded at a time: eight pairs of each channel."""
LOW_BITS = 8
"""Bits of the low part of a weight."""
FRACTION_BITS = 22
"""Fractional bits of a weight, as in Pillow."""

_HALF = ir.IntType(16)
_PAIRS = ir.VectorType(_HALF, 2 * WIDTH)
_PRODUCTS = ir.VectorType(WORD, 2 * WIDTH)


def make_pair_load(channels: int) -> Callable[..., Any]:
    """Return an intrinsic that loads `PIXELS_PER_GROUP` interleaved pixels of eight rows as vectors of units.

    `addresses` points to the int64 addresses of the eight rows' first byte. Unit (pair · channels + channel) of all
    eight rows becomes one vector, stored at target + number · `stride`.
    """
    kind = ir.VectorType(BYTE, PIXELS_PER_GROUP * channels)

    @intrinsic
    def load_pairs(context: Any, addresses: Any, offset: Any, target: Any, stride: Any) -> Any:
        def generate(builder: Any, arguments: list[Any]) -> None:
            addresses, offset, target, stride = arguments
            rows = []
            for row in range(WIDTH):
                address = load(builder, builder.add(addresses, integer(8 * row)), ir.IntType(64), align=8)
                rows.append(load(builder, builder.add(address, offset), kind, align=1))
            for block in range(channels):
                numbers = range(WIDTH * block, WIDTH * (block + 1))
                # The first byte of unit n, and that of the same channel of the next pixel.
                firsts = [2 * (number // channels) * channels + number % channels for number in numbers]
                mask = [at for first in firsts for at in (first, first + channels)]
                shuffle = ir.Constant(ir.VectorType(WORD, len(mask)), mask)
                units = []
                for row in rows:
                    chosen = builder.shuffle_vector(row, ir.Constant(kind, ir.Undefined), shuffle)
                    units.append(builder.bitcast(builder.zext(chosen, _PAIRS), WORDS))
                for number, values in zip(numbers, transposed_vectors(builder, units), strict=True):
                    store(builder, values, builder.add(target, builder.mul(stride, integer(number))))

        return intrinsic_of_integers(4, generate)

    return load_pairs


def make_weighted_sums(num_vectors: int, finish: Callable[[Any, list[Any], list[Any]], None]) -> Callable[..., Any]:
    """Return an intrinsic that sums `num_vectors` neighboring vectors of units over tap pairs, in registers.

    Vector v of a tap pair is at source + pair · `stride` + v · 32. `weights` points to the units of the tap pairs.
    `finish` receives the builder, the sums rounded to bytes, as vectors of int32, and the remaining arguments (target
    and its stride).
    """

    @intrinsic
    def weighted_sums(
        context: Any, source: Any, stride: Any, weights: Any, num_pairs: Any, target: Any, target_stride: Any
    ) -> Any:
        def generate(builder: Any, arguments: list[Any]) -> None:
            source, stride, weights, num_pairs, *rest = arguments
            # Variables on the stack, which LLVM turns into registers.
            zero = ir.Constant(WORDS, [0] * WIDTH)
            half = ir.Constant(WORDS, [1 << (FRACTION_BITS - 1)] * WIDTH)  # the shift at the end rounds
            highs = [cgutils.alloca_once_value(builder, zero) for _ in range(num_vectors)]
            lows = [cgutils.alloca_once_value(builder, half) for _ in range(num_vectors)]
            with cgutils.for_range(builder, num_pairs) as loop:
                place = builder.add(source, builder.mul(stride, loop.index))
                unit = builder.add(weights, builder.mul(loop.index, integer(8)))
                high = _splat(builder, load(builder, unit, WORD))
                low = _splat(builder, load(builder, builder.add(unit, integer(4)), WORD))
                for vector in range(num_vectors):
                    values = load(builder, builder.add(place, integer(VECTOR_BYTES * vector)), WORDS)
                    for factors, total in ((high, highs[vector]), (low, lows[vector])):
                        builder.store(_multiply_pairs(builder, builder.load(total), values, factors), total)
            bits = ir.Constant(WORDS, [LOW_BITS] * WIDTH)
            sums = []
            for high, low in zip(highs, lows, strict=True):
                total = builder.add(builder.shl(builder.load(high), bits), builder.load(low))
                sums.append(_clamped(builder, builder.ashr(total, ir.Constant(WORDS, [FRACTION_BITS] * WIDTH))))
            finish(builder, sums, rest)

        return intrinsic_of_integers(6, generate)

    return weighted_sums


def _splat(builder: Any, value: Any) -> Any:
    single = builder.insert_element(ir.Constant(WORDS, ir.Undefined), value, ir.Constant(WORD, 0))
    return builder.shuffle_vector(single, single, ir.Constant(WORDS, [0] * WIDTH))


def _multiply_pairs(builder: Any, total: Any, left: Any, right: Any) -> Any:
    """Emit total + the sum of both products of each unit, in a form that LLVM knows as one instruction."""
    a, b = (builder.sext(builder.bitcast(each, _PAIRS), _PRODUCTS) for each in (left, right))
    products = builder.mul(a, b)
    even, odd = (
        builder.shuffle_vector(products, products, ir.Constant(WORDS, list(range(start, 2 * WIDTH, 2))))
        for start in (0, 1)
    )
    return builder.add(total, builder.add(even, odd))


def _clamped(builder: Any, values: Any) -> Any:
    low, high = ir.Constant(WORDS, [0] * WIDTH), ir.Constant(WORDS, [255] * WIDTH)
    values = builder.select(builder.icmp_signed("<", values, low), low, values)
    return builder.select(builder.icmp_signed(">", values, high), high, values)


def store_units(builder: Any, sums: list[Any], arguments: list[Any]) -> None:
    """Emit stores of rows 0 … 15 of each channel, two vectors of sums, as one vector of eight units of two rows."""
    target, stride = arguments
    for channel in range(len(sums) // 2):
        halves = [builder.trunc(each, ir.VectorType(_HALF, WIDTH)) for each in sums[2 * channel : 2 * channel + 2]]
        both = builder.shuffle_vector(*halves, ir.Constant(ir.VectorType(WORD, 2 * WIDTH), list(range(2 * WIDTH))))
        store(builder, both, builder.add(target, builder.mul(stride, integer(channel))))


def store_bytes(builder: Any, sums: list[Any], arguments: list[Any]) -> None:
    """Emit stores of all sums as neighboring bytes."""
    for vector, values in enumerate(sums):
        place = builder.add(arguments[0], integer(WIDTH * vector))
        packed = builder.trunc(values, ir.VectorType(BYTE, WIDTH))
        builder.store(packed, builder.inttoptr(place, packed.type.as_pointer()), align=1)

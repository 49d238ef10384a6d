"""Vectors of 32-bit numbers in LLVM IR, the building blocks of the instructions of the encoder and of resizing.

Why not numba's loops alone: if a loop reads and writes many arrays, LLVM cannot prove that they do not overlap, and
processes one number at a time. So these inner parts are numba *intrinsics*: Python functions that run once, when a
kernel is compiled, and append instructions to its code through a `builder`. A call such as `builder.fadd(a, b)` does
not add; it emits the instruction that will add, and returns a handle of its result. Loops and conditions in Python
unroll what is emitted (`for sample in range(8)` emits eight times), `cgutils.for_range` emits a loop, and
`builder.select` emits a choice without a branch.

Five modules emit the parts and explain them:

- `simd.loads` brings samples of eight lines into vectors, one line in each lane, and transposes 8 × 8 numbers;
- `simd.lifting` is one level of the wavelet transform, four lifting steps at once;
- `simd.mix` multiplies bands by the encoder's weights;
- `simd.resample` multiplies pairs of bytes by the weights of a resizing filter;
- `simd.planes` joins and separates bit planes, and looks up numbers in tables that registers hold.

Why eight lanes: they are one register with AVX, and two with SSE and NEON; LLVM translates a vector of eight for the
processor at hand. Eight bytes are also one word of 64 bits, by which the samples of a line are loaded. With sixteen
lanes, the values of a pass would not fit the registers.

Addresses are int64, so that byte offsets can be added to them. Nothing is checked: callers ensure that all addresses,
and seven numbers beyond the last one used, can be read and written. numba caches compiled kernels by the dates of
`lifting`, `fused`, `resample`, `planes` and `quantize_levels`, which call the intrinsics: after a change of these
modules, delete the folder `__pycache__` next to them. A function that numba compiles must not hold an intrinsic in a
closure, since it would then be compiled anew by every process.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types

WIDTH = 8
"""Numbers in a vector, its lanes."""
VECTOR_BYTES = 4 * WIDTH

FLOAT, BYTE, WORD, INTEGER = ir.FloatType(), ir.IntType(8), ir.IntType(32), ir.IntType(64)
VECTOR = ir.VectorType(FLOAT, WIDTH)
WORDS = ir.VectorType(WORD, WIDTH)

_CONTRACT = ("contract",)
"""The flag that lets a product and a sum become one fused multiply-add, which rounds once. Nothing else is relaxed: the
order of sums is kept."""

Generator = Callable[[Any, list[Any]], None]
"""Emits an intrinsic's instructions, given a builder and the handles of the arguments."""


def intrinsic_of_integers(num_arguments: int, generate: Generator) -> tuple[Any, Callable[..., Any]]:
    """Return signature and code, as numba requires, of an intrinsic that takes int64 arguments and returns nothing."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        generate(builder, list(arguments))
        return context.get_dummy_value()

    return types.void(*[types.int64] * num_arguments), code


def integer(value: int) -> ir.Constant:
    """Return a constant int64."""
    return ir.Constant(INTEGER, value)


def splat(value: float) -> ir.Constant:
    """Return a constant vector with the same number in all lanes."""
    return ir.Constant(VECTOR, [value] * WIDTH)


def load(builder: Any, address: Any, kind: Any = VECTOR, align: int = 4) -> Any:
    """Emit a load of one `kind` from an address that is a multiple of `align` bytes."""
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=align)


def store(builder: Any, value: Any, address: Any) -> None:
    """Emit a store of a value to an address that is a multiple of four bytes."""
    builder.store(value, builder.inttoptr(address, value.type.as_pointer()), align=4)


def add(builder: Any, left: Any, right: Any) -> Any:
    """Emit left + right."""
    return builder.fadd(left, right, flags=_CONTRACT)


def multiply_add(builder: Any, total: Any, factor: Any, other: Any) -> Any:
    """Emit total + factor · other, one instruction if the processor has it."""
    return builder.fadd(total, builder.fmul(factor, other, flags=_CONTRACT), flags=_CONTRACT)


def transposed_vectors(builder: Any, rows: list[Any]) -> list[Any]:
    """Emit the transposition of eight vectors of 32-bit numbers: lane j of vector i becomes lane i of vector j."""
    # Recursively: the matrix is four blocks of 4 × 4, of which the two off the diagonal are exchanged; then each block
    # is four of 2 × 2, and these four of 1 × 1. An exchange of blocks of size `distance` concerns pairs of rows at that
    # distance, `first` and `second`. The new first row has the lanes of the left blocks of both rows, and the new
    # second row those of the right blocks.
    rows = list(rows)
    for distance in (4, 2, 1):
        left = [at for block in range(0, 8, 2 * distance) for at in range(block, block + distance)]
        # A shuffle's mask numbers the first operand's lanes 0 … 7, and the second's 8 … 15.
        both_left = [at if at in left else at - distance + WIDTH for at in range(8)]
        both_right = [at + distance if at in left else at + WIDTH for at in range(8)]
        for first in left:  # rows are paired like lanes
            second = first + distance
            rows[first], rows[second] = (
                builder.shuffle_vector(rows[first], rows[second], ir.Constant(WORDS, mask))
                for mask in (both_left, both_right)
            )
    return rows

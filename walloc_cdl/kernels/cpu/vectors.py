"""Vectors of eight float32 numbers in LLVM IR, the building blocks of the encoder's instructions.

Why not numba's loops alone: if a loop reads and writes many arrays, LLVM cannot prove that they do not overlap, and
processes one number at a time. So the inner parts of the encoder are numba *intrinsics*: Python functions that run
once, when a kernel is compiled, and append instructions to its code through a `builder`. A call such as
`builder.fadd(a, b)` does not add; it emits the instruction that will add, and returns a handle of its result. Loops
and conditions in Python unroll what is emitted (`for sample in range(8)` emits eight times), `cgutils.for_range` emits
a loop, and `builder.select` emits a choice without a branch.

Three modules emit the parts and explain them:

- `vector_loads` brings samples of eight lines into vectors, one line in each lane, and transposes 8 × 8 numbers;
- `vector_lifting` is one level of the wavelet transform, four lifting steps at once;
- `vector_mix` multiplies bands by the encoder's weights.

Why eight lanes: they are one register with AVX, and two with SSE and NEON; LLVM translates a vector of eight for the
processor at hand. Eight bytes are also one word of 64 bits, by which the samples of a line are loaded. With sixteen
lanes, the values of a pass would not fit the registers.

Addresses are int64, so that byte offsets can be added to them. Nothing is checked: callers ensure that all addresses,
and seven numbers beyond the last one used, can be read and written. numba caches compiled kernels by the dates of
`lifting` and `fused`, which call the intrinsics: after a change of these modules, delete the folder `__pycache__` next
to them.
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

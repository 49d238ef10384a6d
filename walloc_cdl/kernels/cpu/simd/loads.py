"""Loading of samples of eight lines into vectors with one line in each lane, and 8 × 8 transposition.

Neighboring samples of a line are adjacent in memory, but a vector holds the same sample of eight lines. So both kinds
of load are transpositions: of bytes by shifts, of float32 numbers by shuffles.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from walloc_cdl.kernels.cpu.simd.vectors import (
    BYTE,
    VECTOR,
    WIDTH,
    WORD,
    WORDS,
    integer,
    intrinsic_of_integers,
    load,
    splat,
    store,
    transposed_vectors,
)


@intrinsic
def prefetch(context: Any, address: Any) -> Any:
    """Prefetch the cache line at an address without waiting for it; an invalid address is harmless."""

    def generate(builder: Any, arguments: list[Any]) -> None:
        kind = ir.FunctionType(ir.VoidType(), [cgutils.voidptr_t, WORD, WORD, WORD])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        to_read, keep, data = WORD(0), WORD(3), WORD(1)
        builder.call(function, [builder.inttoptr(arguments[0], cgutils.voidptr_t), to_read, keep, data])

    return intrinsic_of_integers(1, generate)


def _make_byte_load(count: int) -> Callable[..., Any]:
    """Return an intrinsic that loads `count` neighboring uint8 samples of eight lines and stores `count` vectors.

    Line l is `step` bytes after line l - 1, and goes to lane l; sample s goes to target + s · `target_stride`. Values
    become float32, v - 127.5, which is exact and centered at 0: (v - 127.5) / 255 is a pixel in [-0.5, 0.5], and the
    weights include the factor 1 / 255.
    """

    @intrinsic
    def load_bytes(context: Any, source: Any, step: Any, target: Any, target_stride: Any) -> Any:
        def generate(builder: Any, arguments: list[Any]) -> None:
            source, step, target, target_stride = arguments
            # All samples of a line are one integer of 2, 4 or 8 bytes, and the eight lines a vector of such integers.
            whole = ir.IntType(8 * count)
            lines = ir.Constant(ir.VectorType(whole, WIDTH), ir.Undefined)
            for lane in range(WIDTH):
                address = builder.add(source, builder.mul(step, integer(lane)))
                lines = builder.insert_element(lines, load(builder, address, whole, align=1), ir.Constant(WORD, lane))
            # Sample s is byte s of each, because the processor is little-endian.
            for sample in range(count):
                shifted = builder.lshr(lines, ir.Constant(lines.type, [8 * sample] * WIDTH))
                lowest = builder.trunc(shifted, ir.VectorType(BYTE, WIDTH))
                values = builder.uitofp(builder.zext(lowest, WORDS), VECTOR)
                address = builder.add(target, builder.mul(target_stride, integer(sample)))
                store(builder, builder.fsub(values, splat(127.5)), address)

        return intrinsic_of_integers(4, generate)

    return load_bytes


load_two, load_four, load_eight = _make_byte_load(2), _make_byte_load(4), _make_byte_load(8)


@intrinsic
def transpose_8x8(context: Any, source: Any, step: Any, target: Any, target_stride: Any) -> Any:
    """Transpose eight vectors of float32: lane j of vector i becomes lane i of vector j.

    Vector i is read from source + i · `step` and written to target + i · `target_stride`, both in bytes. All are read
    before the first is written.
    """

    def generate(builder: Any, arguments: list[Any]) -> None:
        source, step, target, target_stride = arguments
        rows = [load(builder, builder.add(source, builder.mul(step, integer(row)))) for row in range(WIDTH)]
        for row, values in enumerate(transposed_vectors(builder, rows)):
            store(builder, values, builder.add(target, builder.mul(target_stride, integer(row))))

    return intrinsic_of_integers(4, generate)

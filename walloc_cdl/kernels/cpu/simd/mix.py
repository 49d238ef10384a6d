"""The encoder's linear layer, a block of latents and positions at a time, as vector instructions.

A latent at a position is the sum of weights times the bands at that position: a matrix product of (K, bands) and
(bands, positions). As in any fast matrix product, a block of the result stays in registers during the summation:
`LATENTS_PER_BLOCK` latents at sixteen positions are eight sums of one vector each. For each band there are two loads
of its positions and four of weights, each copied to all lanes, and eight multiply-adds.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from walloc_cdl.kernels.cpu.simd.vectors import (
    FLOAT,
    VECTOR,
    VECTOR_BYTES,
    WIDTH,
    WORD,
    WORDS,
    integer,
    intrinsic_of_integers,
    load,
    multiply_add,
    store,
)

LATENTS_PER_BLOCK = 4
"""Two vectors of each latent are eight sums; with two vectors of the band and one for a weight they take eleven of the
sixteen registers of AVX."""


@intrinsic
def mix_block(
    context: Any,
    source: Any,
    stride: Any,
    count: Any,
    weight: Any,
    weight_stride: Any,
    target: Any,
    latent_stride: Any,
    second: Any,
) -> Any:
    """Add to `LATENTS_PER_BLOCK` latents, at sixteen positions, the products of their weights and `count` bands.

    The sixteen positions of a band are two neighboring vectors, `stride` bytes after those of the previous band. The
    weights of a band for the latents are neighboring float32 numbers, `weight_stride` bytes after those of the
    previous band. The sums of a latent are `latent_stride` bytes after those of the previous latent, in two vectors,
    which are `second` bytes apart.
    """

    def generate(builder: Any, arguments: list[Any]) -> None:
        source, stride, count, weight, weight_stride, target, latent_stride, second = arguments
        # Variables on the stack, which LLVM turns into registers: sums[2 · latent + half].
        places, sums = [], []
        for latent in range(LATENTS_PER_BLOCK):
            address = builder.add(target, builder.mul(latent_stride, integer(latent)))
            for place in (address, builder.add(address, second)):
                places.append(place)
                sums.append(cgutils.alloca_once_value(builder, load(builder, place)))
        with cgutils.for_range(builder, count) as loop:  # over bands
            address = builder.add(source, builder.mul(stride, loop.index))
            halves = [load(builder, address), load(builder, builder.add(address, integer(VECTOR_BYTES)))]
            row = builder.add(weight, builder.mul(weight_stride, loop.index))
            for latent in range(LATENTS_PER_BLOCK):
                # LLVM's idiom for one number in all lanes: into lane 0, then a shuffle that takes lane 0 eight times.
                factor = load(builder, builder.add(row, integer(4 * latent)), FLOAT)
                single = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), factor, ir.Constant(WORD, 0))
                factors = builder.shuffle_vector(single, single, ir.Constant(WORDS, [0] * WIDTH))
                for half, values in enumerate(halves):
                    total = sums[2 * latent + half]
                    builder.store(multiply_add(builder, builder.load(total), factors, values), total)
        for place, total in zip(places, sums, strict=True):
            store(builder, builder.load(total), place)

    return intrinsic_of_integers(8, generate)

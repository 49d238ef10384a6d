"""Rows of bit planes to byte codes, or to their values in a table of 256 for each channel, in Triton.

Reference: `plain_unpack` in `walloc_cdl.kernels.gpu.unpack`, which also launches this kernel.
"""

# No postponed annotations in this module: Triton evaluates the annotation `tl.constexpr`.
# ruff: noqa: ANN001

import triton
import triton.language as tl


@triton.jit
def unpack(
    rows,
    bits,
    numbers,
    table,
    out,
    pitch,
    size,
    channels,
    positions,
    blocks,
    HAS_TABLE: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """Unpack BLOCK positions of one channel of one sample: rows uint8, `pitch` bytes apart, to `out` (N, K, positions).

    A plane has `size` bytes. Channel k has `bits[k]` planes, whose numbers, int32 (K, 8), are the most significant
    first. `out` has the type of the table, whose lines of 256 values stay in the first-level cache, or is uint8.
    """
    number = tl.program_id(0)
    block, line = number % blocks, number // blocks
    channel, row = line % channels, (line // channels).to(tl.int64)
    position = block * BLOCK + tl.arange(0, BLOCK)
    inside = position < positions
    # Eight neighboring threads load the same byte, which is one access.
    first = rows + row * pitch + position // 8
    code = tl.full((BLOCK,), 0, tl.int32)
    for place in range(tl.load(bits + channel)):
        plane = tl.load(numbers + channel * 8 + place)
        byte = tl.load(first + plane * size, mask=inside, other=0).to(tl.int32)
        code = code * 2 + (byte >> position % 8 & 1)
    target = out + (row * channels + channel) * positions + position
    if HAS_TABLE:
        tl.store(target, tl.load(table + channel * 256 + code, mask=inside, other=0.0), mask=inside)
    else:
        tl.store(target, code.to(tl.uint8), mask=inside)

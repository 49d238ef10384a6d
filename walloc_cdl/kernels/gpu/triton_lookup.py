"""Lookup of stored codes in a table of 256 values per channel, with selection of samples, in Triton.

Reference: `plain_lookup` in `walloc_cdl.kernels.gpu.lookup`, which also launches this kernel.
"""

# No postponed annotations in this module: Triton evaluates the annotation `tl.constexpr`.
# ruff: noqa: ANN001

import triton
import triton.language as tl


@triton.jit
def lookup(
    codes, rows, table, values, channels, plane, blocks, table_pitch, HAS_ROWS: tl.constexpr, BLOCK: tl.constexpr
) -> None:
    """Look up BLOCK values of one channel of one sample: codes uint8 (N, K, plane) to values (B, K, plane) of the
    table's type.

    The table of a channel, 1 KiB or less, stays in the first-level cache.
    """
    number = tl.program_id(0)
    block, line = number % blocks, number // blocks
    channel, row = line % channels, (line // channels).to(tl.int64)
    stored = row
    if HAS_ROWS:
        stored = tl.load(rows + row).to(tl.int64)
    place = block * BLOCK + tl.arange(0, BLOCK)
    inside = place < plane
    code = tl.load(codes + (stored * channels + channel) * plane + place, mask=inside, other=0)
    value = tl.load(table + channel * table_pitch + code.to(tl.int32), mask=inside, other=0.0)
    tl.store(values + (row * channels + channel) * plane + place, value, mask=inside)

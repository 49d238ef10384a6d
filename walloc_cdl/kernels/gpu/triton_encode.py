"""From pixels or samples to stored codes on a GPU in one kernel: the fast path of `encode`, in Triton.

A packet transform of all levels along one axis is a banded matrix (`walloc_cdl.kernels.filters`), so a tile of an image
is two products with one small matrix, and the channel mix a third. They run on the tensor cores at the accuracy of
float32: a factor is the sum of two float16 numbers, 22 bits; products of float16 are exact in the float32 sums; of the
four partial products only that of the two small parts is omitted. Pixels of a byte are integers in ±128, which one
float16 represents exactly. docs/performance-gpu.md counts the arithmetic.

The transform does not use lifting: a lifting step needs its neighbors, which are in other threads, and tensor cores
only multiply matrices. The 4 J steps of `walloc_cdl.kernels.cpu.lifting` become the matrix A of all levels, and a tile
X of 64 × 64 coefficients is A · window · Aᵀ. The window is the tile with half a tile or more around it, as far as the
filters reach; at periodic edges, positions are taken modulo the sides. A program computes one tile of an image:

1. `_add_down`: A · window, for 64 columns of the window at a time, block by block along the height;
2. `_add_across`: this product · Aᵀ, summed over the window's blocks of columns;
3. the coefficients are reordered from (row, column) to (position, band), and multiplied by the weights of the bands;
4. `_codes`: scale, bias, companding and rounding; or, for latents with levels, `_searched_codes`.

For audio, whose bands are many and short, the mix is folded into the filters beforehand, 8 · 2^J taps for each latent,
and the whole encoder is one product.

Reference: `walloc_cdl.kernels.packets` and `walloc_cdl.kernels.packets_1d`, then companding and rounding. The operators
come from `walloc_cdl.kernels.gpu.operators`; `walloc_cdl.kernels.gpu.encode` launches the kernels. Only this module,
`triton_lookup` and `triton_planes` are written in Triton.
"""

# No postponed annotations in this module: Triton evaluates the annotation `tl.constexpr`.
# ruff: noqa: ANN001, ANN202

import triton
import triton.language as tl

from walloc_cdl.kernels.gpu.operators import TILE_SAMPLES

TILE = tl.constexpr(TILE_SAMPLES)

ROUNDING = tl.constexpr(12582912.0)
"""1.5 · 2^23: a float32 sum with this number has no fractional bits, so that it is rounded, half to even."""


@triton.jit
def _split(x):
    """Return a float32 tensor as the sum of two float16 tensors."""
    high = x.to(tl.float16)
    return high, (x - high.to(tl.float32)).to(tl.float16)


@triton.jit
def _split_samples(raw, SCALE: tl.constexpr, LIMIT: tl.constexpr):
    """Return samples as such a sum: int16 exactly, floats times SCALE and clamped to ±LIMIT; NaN is preserved."""
    x = raw.to(tl.float32) * SCALE
    x = tl.where(x > LIMIT, LIMIT, tl.where(x < -LIMIT, -LIMIT, x))
    return _split(x)


@triton.jit
def _add_product(left_high, left_low, right_high, right_low, total):
    """Return total + left · right, added from the smallest part on."""
    total = tl.dot(left_low, right_high, total)
    total = tl.dot(left_high, right_low, total)
    return tl.dot(left_high, right_high, total)


@triton.jit
def _codes(total, scale, shift, limit, lowest):
    """Return the stored codes of sums (positions, latents): m erf(scale · sum + shift), rounded."""
    companded = limit * tl.erf(total * scale[None, :] + shift[None, :])
    return ((companded + ROUNDING) - ROUNDING + lowest).to(tl.int32).to(tl.uint8)


@triton.jit
def _searched_codes(total, scale, shift, heaps, k, SEARCH: tl.constexpr):
    """Return the codes of sums (positions, latents) with levels: how many thresholds are not above scale · sum + shift.

    `heaps` are those of `GpuOperators`, of 2^SEARCH thresholds for each latent; the search finds a bit at a time.
    """
    latent = total * scale[None, :] + shift[None, :]
    lines = heaps + k[None, :] * (1 << SEARCH)
    code = tl.full(total.shape, 0, tl.int32)
    for step in tl.static_range(SEARCH):
        code = 2 * code + (latent >= tl.load(lines + (1 << step) + code)).to(tl.int32)
    return code.to(tl.uint8)


@triton.jit
def _add_down(
    down,
    plane,
    y,
    x,
    width,
    axis,
    row,
    WINDOW: tl.constexpr,
    ALIGN: tl.constexpr,
    SCALE: tl.constexpr,
    LIMIT: tl.constexpr,
):
    """Add to `down` (TILE, TILE) the product of the filters along the height with one block of the samples."""
    side = tl.arange(0, TILE)
    matrix = axis + row * TILE + side[:, None] * (WINDOW * TILE) + side[None, :]
    high, low = tl.load(matrix), tl.load(matrix + TILE * WINDOW * TILE)  # TILE filters (rows) on TILE samples
    start = tl.multiple_of(y * width, ALIGN)
    raw = tl.load(plane + start[:, None] + x[None, :])
    if raw.dtype == tl.uint8:
        # 0x6400 | v is 1024 + v in float16, so that a byte costs no conversion; v - 128 is exact in one float16, so
        # there is no low part. The offset of 128 instead of 127.5 is corrected in the bias (`operators`).
        samples = (raw.to(tl.int16) | 0x6400).to(tl.float16, bitcast=True) - 1152.0
        samples = samples.to(tl.float16)
        down = tl.dot(low, samples, down)
        return tl.dot(high, samples, down)
    samples_high, samples_low = _split_samples(raw, SCALE, LIMIT)
    return _add_product(high, low, samples_high, samples_low, down)


@triton.jit
def _add_across(
    across,
    plane,
    top,
    left,
    column,
    height,
    width,
    wrap_y,
    wrap_x,
    axis,
    WINDOW: tl.constexpr,
    ALIGN: tl.constexpr,
    SCALE: tl.constexpr,
    LIMIT: tl.constexpr,
):
    """Add the contribution of one column of the window's blocks to `across` (TILE, TILE), a channel's coefficients."""
    side = tl.arange(0, TILE)
    start: tl.constexpr = -(TILE * (WINDOW - 1) // 2)  # of the window, relative to the tile
    x = (left + start + column * TILE + side + wrap_x) % width
    x = tl.max_contiguous(tl.multiple_of(x, ALIGN), ALIGN)
    down = tl.full((TILE, TILE), 0.0, tl.float32)
    if WINDOW == 2:  # up to three levels: unrolled
        for row in tl.static_range(WINDOW):
            y = (top + start + row * TILE + side + wrap_y) % height
            down = _add_down(down, plane, y, x, width, axis, row, WINDOW, ALIGN, SCALE, LIMIT)
    else:
        for row in range(WINDOW):
            y = (top + start + row * TILE + side + wrap_y) % height
            down = _add_down(down, plane, y, x, width, axis, row, WINDOW, ALIGN, SCALE, LIMIT)
    down_high, down_low = _split(down)
    matrix = axis + column * TILE + side[:, None] + side[None, :] * (WINDOW * TILE)  # transposed
    return _add_product(down_high, down_low, tl.load(matrix), tl.load(matrix + TILE * WINDOW * TILE), across)


@triton.jit
def encode_image(
    pixels,
    codes,
    axis,
    mix,
    scale,
    shift,
    heaps,
    channels,
    height,
    width,
    latents,
    tiles_y,
    tiles_x,
    wrap_y,
    wrap_x,
    limit,
    lowest,
    LEVELS: tl.constexpr,
    WINDOW: tl.constexpr,
    BANDS: tl.constexpr,
    LATENTS: tl.constexpr,
    MIX_PITCH: tl.constexpr,
    ALIGN: tl.constexpr,
    SCALE: tl.constexpr,
    LIMIT: tl.constexpr,
    SEARCH: tl.constexpr,
) -> None:
    """Encode one tile of TILE² pixels: pixels (B, C, H, W) of uint8 or float to codes uint8 (B, K, h, w).

    axis (2, TILE, WINDOW · TILE) and mix (2, C, BANDS, MIX_PITCH) hold high and low parts of filters and weights. One
    program computes LATENTS of the K latents. `wrap_*` are multiples of a side, larger than the window's reach
    (`encode._wrap_offset`). Both sides are multiples of 2^LEVELS, and the width is a multiple of ALIGN.
    """
    FILTERS: tl.constexpr = 2**LEVELS
    SIDE: tl.constexpr = TILE // FILTERS
    tile = tl.program_id(0)
    image = (tile // (tiles_y * tiles_x)).to(tl.int64)
    tile_y, tile_x = tile // tiles_x % tiles_y, tile % tiles_x
    k = tl.program_id(1) * LATENTS + tl.arange(0, LATENTS)
    band = tl.arange(0, BANDS)
    mixing = mix + band[:, None] * MIX_PITCH + k[None, :]
    mix_low = channels * (BANDS * MIX_PITCH)

    total = tl.full((SIDE * SIDE, LATENTS), 0.0, tl.float32)
    for channel in range(channels):
        plane = pixels + tl.multiple_of((image * channels + channel) * height * width, ALIGN)
        across = tl.full((TILE, TILE), 0.0, tl.float32)
        top, left = tile_y * TILE, tile_x * TILE
        if WINDOW == 2:
            for column in tl.static_range(WINDOW):
                across = _add_across(
                    across, plane, top, left, column, height, width, wrap_y, wrap_x, axis, WINDOW, ALIGN, SCALE, LIMIT
                )
        else:
            for column in range(WINDOW):
                across = _add_across(
                    across, plane, top, left, column, height, width, wrap_y, wrap_x, axis, WINDOW, ALIGN, SCALE, LIMIT
                )
        # Coefficient (FILTERS · i + f, FILTERS · j + g) is band (f, g) at position (i, j).
        grid = tl.permute(tl.reshape(across, (SIDE, FILTERS, SIDE, FILTERS)), (0, 2, 1, 3))
        bands = tl.reshape(grid, (SIDE * SIDE, FILTERS * FILTERS))
        if LEVELS == 1:
            # A product needs 16 terms: each of the four bands is followed by three zeros.
            bands = tl.join(bands, tl.full((SIDE * SIDE, 4), 0.0, tl.float32))
            bands = tl.join(bands, tl.full((SIDE * SIDE, 4, 2), 0.0, tl.float32))
            bands = tl.reshape(bands, (SIDE * SIDE, 16))
        bands_high, bands_low = _split(bands)
        total = _add_product(bands_high, bands_low, tl.load(mixing), tl.load(mixing + mix_low), total)
        mixing += BANDS * MIX_PITCH

    # Tiles at the lower and right borders have positions beyond the image, and the last program latents beyond K.
    if SEARCH:
        found = _searched_codes(total, tl.load(scale + k), tl.load(shift + k), heaps, k, SEARCH)
    else:
        found = _codes(total, tl.load(scale + k), tl.load(shift + k), limit, lowest)
    position = tl.arange(0, SIDE * SIDE)
    i, j = tile_y * SIDE + position // SIDE, tile_x * SIDE + position % SIDE
    h, w = height // FILTERS, width // FILTERS
    plane_of_k = (image * latents + k) * (h * w)
    inside = (i < h) & (j < w)
    tl.store(codes + plane_of_k[None, :] + (i * w + j)[:, None], found, mask=inside[:, None] & (k < latents)[None, :])


@triton.jit
def encode_sequence(
    samples,
    codes,
    taps,
    scale,
    shift,
    heaps,
    channels,
    frames,
    latents,
    tiles,
    wrap,
    limit,
    lowest,
    FRAME: tl.constexpr,
    POSITIONS: tl.constexpr,
    LATENTS: tl.constexpr,
    PITCH: tl.constexpr,
    CHUNK: tl.constexpr,
    SCALE: tl.constexpr,
    LIMIT: tl.constexpr,
    SEARCH: tl.constexpr,
) -> None:
    """Encode POSITIONS frames: samples (B, C, FRAME · frames) of int16 or float to codes uint8 (B, K, frames).

    taps (2, C, 8 · FRAME, PITCH): high and low parts of the filter of each latent, from 4 frames before its own
    on. `wrap` is a multiple of `frames`, at least 4. CHUNK taps are processed at a time.
    """
    number = tl.program_id(0)
    sequence, first = (number // tiles).to(tl.int64), number % tiles * POSITIONS
    position = first + tl.arange(0, POSITIONS)
    k = tl.program_id(1) * LATENTS + tl.arange(0, LATENTS)
    tap = tl.arange(0, CHUNK)
    low = channels * (8 * FRAME * PITCH)
    total = tl.full((POSITIONS, LATENTS), 0.0, tl.float32)
    for channel in range(channels):
        line = samples + (sequence * channels + channel) * frames * FRAME
        matrix = taps + channel * (8 * FRAME * PITCH) + tap[:, None] * PITCH + k[None, :]
        # A row of the product's left factor is one frame's 8 · FRAME samples, which overlap with the next frame's.
        for start in range(0, 8 * FRAME, CHUNK):
            if CHUNK <= FRAME:  # all taps of the chunk meet the same frame
                frame = (position + (start // FRAME - 4 + wrap)) % frames
                place = (frame * FRAME + start % FRAME)[:, None] + tap[None, :]
            else:
                after = (start + tap) // FRAME - 4 + wrap
                frame = (position[:, None] + after[None, :]) % frames
                place = frame * FRAME + (tap % FRAME)[None, :]
            high_part, low_part = _split_samples(tl.load(line + place), SCALE, LIMIT)
            weights = matrix + start * PITCH
            total = _add_product(high_part, low_part, tl.load(weights), tl.load(weights + low), total)

    if SEARCH:
        found = _searched_codes(total, tl.load(scale + k), tl.load(shift + k), heaps, k, SEARCH)
    else:
        found = _codes(total, tl.load(scale + k), tl.load(shift + k), limit, lowest)
    line_of_k = (sequence * latents + k) * frames
    inside = (position < frames)[:, None] & (k < latents)[None, :]
    tl.store(codes + line_of_k[None, :] + position[:, None], found, mask=inside)

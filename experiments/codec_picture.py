"""Draws a codec: the histogram of its latents, the channels of an encoded image, and the basis functions."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from datasets_prep.decode.images import load_native
from walloc_cdl.codec import Codec
from walloc_cdl.errors import CallError, plot_text
from walloc_cdl.latents import code_histogram
from walloc_cdl.spec import LatentSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

BASIS_GRID = 7
"""Side in latents of the grid in whose center a basis function is drawn; it covers the support of three wavelet
levels."""

BASIS_STEP = 16
"""Code above zero for which a basis function is computed; companding is nearly linear up to there."""

MAX_CHANNELS = 64
"""Largest number of channels that are drawn."""


def draw_codec(codec: Codec, out: Path, *, image: Path | None = None) -> tuple[int, int]:
    """Write the picture to `out` and return its width and height in pixels.

    `image` is encoded at its own size, center-cropped to a multiple of the stride; by default a photo that
    scikit-image ships is drawn. Raises `CallError` for a codec that is not for images and a file extension that is not
    a picture's, `DamagedError` for an image that cannot be read.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    spec = codec.spec
    if spec.kind != "image":
        raise CallError(f"codec {codec.name} is for {spec.kind}; only codecs for images can be drawn")
    if out.suffix.lower().removeprefix(".") not in FigureCanvasAgg.get_supported_filetypes():
        raise CallError(f"{out} has no file extension of an image format; use one such as .png, .pdf or .svg")
    pixels = load_native(image, spec.source_channels, spec.stride) if image else _sample_photo(codec)
    with torch.inference_mode():
        codes = codec.encode(torch.from_numpy(pixels)[None])[0].numpy()
        basis = basis_functions(codec).numpy()
    num = min(len(codes), MAX_CHANNELS)
    columns = math.ceil(math.sqrt(num * 4))  # fills the width with tiles of about 1 inch
    rows = math.ceil(num / columns)
    figure = Figure(figsize=(14, 3.2 + 2 * 1.1 * rows + 1.2), dpi=100, layout="constrained")
    heights = [3.2, 1.1 * rows + 0.6, 1.1 * rows + 0.6]
    top, middle, bottom = figure.subfigures(3, 1, squeeze=False, height_ratios=heights)[:, 0]
    sizes = f"channels {spec.source_channels} to {spec.latent_channels}, stride {spec.stride}"
    figure.suptitle(f"{plot_text(codec.name)}: {sizes}, {spec.bits} bits, companding {spec.companding}")
    _draw_histogram(top, codes, 1 << (spec.bits - 1) if spec.companding != "none" else 0)
    subject = f"the first {num} of {len(codes)} channels" if num < len(codes) else "channels"
    _draw_tiles(middle, f"{subject} of the latent", list(codes[:num]), (rows, columns), _gray_scale(codes, spec))
    largest = np.abs(basis[:num]).max(axis=(1, 2, 3), keepdims=True)
    tiles = (basis[:num] / np.maximum(largest, 1e-12) + 1) / 2
    functions = [tile[0] if len(tile) == 1 else tile[:3].transpose(1, 2, 0) for tile in tiles]
    title = f"basis functions, {basis.shape[-1]} × {basis.shape[-1]} pixels, each scaled to its own range"
    _draw_tiles(bottom, title, functions, (rows, columns), (0, 1))
    figure.savefig(out)
    width, height = figure.canvas.get_width_height()
    return width, height


def basis_functions(codec: Codec) -> Tensor:
    """Returns the contribution of each latent channel to the pixels: float (K, C, S, S), S = `BASIS_GRID` strides.

    It is the difference between decoding a code of `BASIS_STEP` above zero in one channel, at the center of a grid of
    zeros, and decoding zeros only, divided by the value of the code. For a linear decoder these are its columns.
    """
    spec = codec.spec
    zero = 1 << (spec.bits - 1)
    step = min(BASIS_STEP, spec.byte_range[1] - zero)
    codes = torch.full(
        (spec.latent_channels + 1, spec.latent_channels, BASIS_GRID, BASIS_GRID), zero, dtype=torch.uint8
    )
    for channel in range(spec.latent_channels):
        codes[channel, channel, BASIS_GRID // 2, BASIS_GRID // 2] = zero + step
    decoded = codec.decode(codes)
    values = spec.byte_values()
    return (decoded[:-1] - decoded[-1]) / (values[zero + step] - values[zero])


def _sample_photo(codec: Codec) -> np.ndarray:
    from skimage import data

    photo = data.astronaut()
    gray = np.rint(photo @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)  # luma of ITU-R 601
    channels = codec.spec.source_channels
    if channels not in (1, 3):
        raise CallError(f"codec {codec.name} takes {channels} channels; only gray and RGB codecs can be drawn")
    pixels = gray[None] if channels == 1 else photo.transpose(2, 0, 1)
    height, width = (side - side % codec.stride for side in pixels.shape[1:])
    return np.ascontiguousarray(pixels[:, :height, :width])


def _gray_scale(codes: np.ndarray, spec: LatentSpec) -> tuple[float, float]:
    """Returns the bytes that are drawn as black and white, symmetric around zero; 1 % of the codes lie beyond them."""
    if spec.companding == "none":
        return 0, 255
    zero = 1 << (spec.bits - 1)
    reach = max(float(np.percentile(np.abs(codes.astype(int) - zero), 99)), 1.0)
    return zero - reach, zero + reach


def _draw_histogram(area: SubFigure, codes: np.ndarray, offset: int) -> None:
    axes = area.subplots()
    histogram = code_histogram(codes[None], len(codes)) / codes[0].size
    values = np.arange(256) - offset
    for channel in histogram:
        axes.plot(values, channel, color="0.7", linewidth=0.6)
    axes.plot(values, histogram.mean(0), color="C0", linewidth=1.5, label="all channels")
    axes.set_yscale("log")
    axes.set_xlabel("code")
    axes.set_ylabel("share")
    axes.set_xlim(values[0], values[-1])
    axes.legend(loc="upper right", frameon=False)
    area.suptitle("histogram of the latent, each channel in gray")


def _draw_tiles(
    area: SubFigure | Figure,
    title: str,
    tiles: list[np.ndarray],
    grid: tuple[int, int],
    limits: tuple[float, float],
) -> None:
    area.suptitle(title)
    for number, axes in enumerate(area.subplots(*grid, squeeze=False).flat):
        axes.set_axis_off()
        if number < len(tiles):
            axes.imshow(tiles[number], cmap="gray", vmin=limits[0], vmax=limits[1], interpolation="nearest")
            axes.set_title(str(number), fontsize=7, pad=2)

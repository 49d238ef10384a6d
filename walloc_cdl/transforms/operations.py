"""Operations on batches of latents x, float (B, K, h, w), each sample with its own amount.

x are the values of latents (inverse-companded, or levels), or an affine function of each channel, such as the model
input; `operators` are in the same
units (`LatentOperators.in_units`). Pixels are from 0 to 1 here. "Exact" means equal
to the values of `encode(transformed pixels)` but for the rounding of codes; signal-to-error ratios are those of
docs/transforms.md, of the 24 photos of Kodak.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from walloc_cdl.linear.operators import REACH
from walloc_cdl.transforms.cells import Cells
from walloc_cdl.transforms.operators import Operators

LUMA = (0.2989, 0.587, 0.114)
"""Weights of R, G and B, as in torchvision."""


def horizontal_flip(x: Tensor, operators: Operators) -> Tensor:
    """Flip left and right: approximate, 17.3 to 25.7 dB where mirroring the array has 2.9 to 6.3 dB.

    Exact for latents that are pixels.
    """
    return _flip(x, operators.hflip_weight, operators.hflip_bias, axis=-1)


def vertical_flip(x: Tensor, operators: Operators) -> Tensor:
    """Flip upside down: approximate, 17.2 to 25.3 dB where mirroring the array has 2.1 to 5.5 dB."""
    return _flip(x, operators.vflip_weight, operators.vflip_bias, axis=-2)


def _flip(x: Tensor, weight: Tensor, bias: Tensor, *, axis: int) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    sides = (REACH // 2,) * 2
    with torch.autocast(x.device.type, enabled=False):
        taps, offset = _as(weight, x).to(dtype), _as(bias, x).to(dtype)
        taps = taps[:, :, None] if axis == -1 else taps[:, :, :, None]
        padded = pad(x.flip(axis).to(dtype), (*sides, 0, 0) if axis == -1 else (0, 0, *sides), mode="circular")
        return conv2d(padded, taps, offset).to(x.dtype)


def shift(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Shift content down and right by whole latents, int64 (B,) each, around the border.

    Exact for a shift of the pixels by as many strides around the border, since the packet transform is periodic.
    """
    height, width = x.shape[-2:]
    down = (torch.arange(height, device=x.device) - rows[:, None]) % height
    across = (torch.arange(width, device=x.device) - columns[:, None]) % width
    sample = torch.arange(len(x), device=x.device)[:, None, None]
    return x[sample, :, down[:, :, None], across[:, None]].movedim(-1, 1)


def crop(x: Tensor, top: Tensor, left: Tensor, height: int, width: int) -> Tensor:
    """Crop (B, K, height, width) at whole latents, int64 (B,) each.

    Approximate: exact inside, but the outer four latents differ, because a crop of pixels continues periodically: 10 to
    14 dB for three quarters of the height and the width.
    """
    return shift(x, -top, -left)[..., :height, :width]


def brightness(x: Tensor, factor: Tensor, operators: Operators) -> Tensor:
    """Multiply pixels by a factor (B,): exact, but that values above 1 are not clipped; 11 to 12.5 dB for 1.3."""
    return _scaled(x, _as(operators.black, x)[None], factor)


def contrast(x: Tensor, factor: Tensor, operators: Operators) -> Tensor:
    """Scale the distance of pixels from the image's mean luma by a factor (B,), as torchvision does.

    Exact, but that values beyond 0 and 1 are not clipped, and that the mean is estimated from the latents: 16 to 21 dB
    for a factor of 1.3.
    """
    means = x.mean((-2, -1)) @ _as(operators.mean_weight, x).T + _as(operators.mean_bias, x)
    colors = means.shape[1]
    weights = x.new_tensor(LUMA) if colors == 3 else x.new_full((colors,), 1 / colors)
    return _scaled(x, constant_latent(means @ weights, operators), factor)


def constant_latent(value: Tensor, operators: Operators) -> Tensor:
    """Return the latents (B, K) of images of one value (B,) in all pixels and channels: exact."""
    black, white = _as(operators.black, value), _as(operators.white, value)
    return black + value[:, None] * (white - black)


def _scaled(x: Tensor, center: Tensor, factor: Tensor) -> Tensor:
    center = center[:, :, None, None]
    return center + factor.to(x.dtype)[:, None, None, None] * (x - center)


def mixup(x: Tensor, partner: Tensor, share: Tensor) -> Tensor:
    """Mix each sample with another one, int64 (B,), of which it keeps a share (B,) from 0 to 1.

    Exact: an affine function of a mean is the mean of its values.
    """
    kept = share.to(x.dtype)[:, None, None, None]
    return kept * x + (1 - kept) * x[partner]


def erase(x: Tensor, boxes: Tensor, operators: Operators, value: float = 0.5) -> Tensor:
    """Erase boxes of whole latents, int64 (B, 4) of top, left, height and width, to an image of one pixel value.

    Approximate: latents within a box are those of the constant image, those around it stay, though both see pixels on
    the other side: 12 to 17 dB over the whole image for a box of a quarter of its area.
    """
    top, left, height, width = boxes.T[:, :, None]
    rows, columns = (torch.arange(side, device=x.device) for side in x.shape[-2:])
    inside_rows = (rows >= top) & (rows < top + height)
    inside_columns = (columns >= left) & (columns < left + width)
    erased = (inside_rows[:, :, None] & inside_columns[:, None])[:, None]
    return torch.where(erased, constant_latent(x.new_full((1,), value), operators)[:, :, None, None], x)


def quantization_noise(x: Tensor, uniform: Tensor, cells: Cells) -> Tensor:
    """Replace each value by one drawn evenly from those that have its code; `uniform` is (B, K, h, w) from 0 to 1.

    Exact: the codes of the result are those of x. `cells` are in the units of x.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    low, high = cells.around(x.to(dtype))
    drawn = low + uniform.to(dtype) * (high - low)
    return torch.minimum(drawn, torch.nextafter(high, low)).to(x.dtype)  # rounding may reach the next interval


def _as(values: Tensor, like: Tensor) -> Tensor:
    return values.to(like.device, like.dtype)

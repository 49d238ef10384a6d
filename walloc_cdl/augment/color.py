"""Operations on colors, each with its own amount for each sample, by kornia.

Pixels are float (B, C, H, W) from 0 to 1, C = 3, or 1 for gray, whose hue and saturation stay as they are. Amounts are
float (B,). Results agree with those of `torchvision.transforms.v2.functional` on float images.
"""

from __future__ import annotations

import torch
from torch import Tensor

LUMA = (0.2989, 0.587, 0.114)
"""Weights of R, G and B, as in torchvision."""


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    """Multiply all values: 0 makes black, 1 changes nothing."""
    return (x * _each(factor)).clamp(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance from the mean luma: 0 makes gray, 1 changes nothing."""
    return _blend(x, gray(x).mean((1, 2, 3), keepdim=True), factor)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    """Scale the distance from the pixel's luma: 0 makes a gray image, 1 changes nothing."""
    return x if x.shape[1] == 1 else _blend(x, gray(x), factor)


def hue(x: Tensor, turns: Tensor) -> Tensor:
    """Turn the hue by -0.5 to 0.5 turns."""
    if x.shape[1] == 1:
        return x
    from kornia.enhance import adjust_hue  # kornia takes seconds to import

    return adjust_hue(x, 2 * torch.pi * turns)


def invert(x: Tensor) -> Tensor:
    """Return 1 - x."""
    return 1 - x


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    """Invert values from the threshold on."""
    return torch.where(x >= _each(threshold), 1 - x, x)


def solarize_add(x: Tensor, addition: Tensor) -> Tensor:
    """Add to values below one half."""
    return torch.where(x < 0.5, (x + _each(addition)).clamp(0, 1), x)


def posterize(x: Tensor, bits: Tensor) -> Tensor:
    """Keep the upper bits, int64 (B,) from 0 to 8, of values as bytes."""
    step = _each(2.0 ** (8 - bits))
    return ((x * 255).round() / step).floor() * step / 255


def autocontrast(x: Tensor) -> Tensor:
    """Stretch each channel to the range from 0 to 1; channels of one value stay as they are."""
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    spread = high - low
    return torch.where(spread > 0, (x - low) / spread.clamp_min(1e-12), x)


def equalize(x: Tensor) -> Tensor:
    """Equalize the histogram of each channel, in 256 steps."""
    from kornia.enhance import equalize as kornia_equalize

    return kornia_equalize(x)


def sharpness(x: Tensor, factor: Tensor) -> Tensor:
    """Blend with a smoothed image: 0 is smoothed, 1 changes nothing, 2 is sharpened."""
    if min(x.shape[2:]) < 3:
        return x
    kernel = torch.ones(3, 3, dtype=x.dtype, device=x.device)
    kernel[1, 1] = 5
    kernel = (kernel / 13).expand(x.shape[1], 1, 3, 3)
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = torch.nn.functional.conv2d(x, kernel, groups=x.shape[1])
    return _blend(x, smooth, factor)


def gray(x: Tensor) -> Tensor:
    """Return the luma, (B, 1, H, W)."""
    if x.shape[1] == 1:
        return x
    weights = torch.tensor(LUMA, dtype=x.dtype, device=x.device)
    return torch.einsum("bchw,c->bhw", x, weights)[:, None]


def _blend(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """Return other + factor · (x - other), clamped."""
    return torch.lerp(other.expand_as(x), x, _each(factor)).clamp(0, 1)


def _each(amount: Tensor) -> Tensor:
    """Return amounts (B,) as (B, 1, 1, 1)."""
    return amount.reshape(-1, 1, 1, 1)

"""The two stems: what stands between the model input on the latent grid and a timm model."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, pixel_shuffle

from walloc_cdl.data import ModelInput
from walloc_cdl.synthesis import NEIGHBORHOOD, LinearSynthesis


class SynthesisStem(nn.Module):
    """Model input (B, K, h, w) to normalized pixels (B, C, h b, w b): one fixed linear layer.

        pixels = shuffle(W ∗ v + bias),  v = x / scale + mean;   output = (pixels - μ) / σ

    The undoing of the model input's scaling and the normalization are folded into the layer. It is not
    trained: its weights are buffers. It always computes in float32, as a few million operations in
    front of a network are cheaper than the rounding of its input.
    """

    weight: Tensor
    """float32 (C b², K, n, n), n = `NEIGHBORHOOD`."""
    bias: Tensor
    """float32 (C b²,)."""

    def __init__(self, weight: Tensor, bias: Tensor, block: int) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)

    @classmethod
    def fold(
        cls, layer: LinearSynthesis, model_input: ModelInput, pixel_mean: np.ndarray, pixel_std: np.ndarray
    ) -> SynthesisStem:
        """The stem for a synthesis, the input that it follows, and the normalization (C,) that it ends with.

        `pixel_mean` and `pixel_std` are in the synthesis' units: pixels in [-0.5, 0.5].
        """
        scale, mean = (part.double().numpy() for part in (model_input.scale, model_input.mean))
        weight = layer.weight.astype(np.float64)
        bias = layer.bias + np.einsum("okij,k->o", weight, mean)
        positions = layer.block**2
        center = np.repeat(np.asarray(pixel_mean, np.float64), positions)
        spread = np.repeat(np.asarray(pixel_std, np.float64), positions)
        weight = weight / scale[:, None, None] / spread[:, None, None, None]
        bias = (bias - center) / spread
        return cls(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), layer.block)

    @classmethod
    def blank(cls, source_channels: int, latent_channels: int, block: int) -> SynthesisStem:
        """A stem of zeros with the right shapes, to load weights into."""
        rows = source_channels * block**2
        shape = (rows, latent_channels, NEIGHBORHOOD, NEIGHBORHOOD)
        return cls(torch.zeros(shape), torch.zeros(rows), block)

    def forward(self, x: Tensor) -> Tensor:
        """Normalized pixels, float32 (B, C, h b, w b)."""
        with torch.autocast(x.device.type, enabled=False):
            padded = pad(x.float(), (self.weight.shape[-1] // 2,) * 4, mode="circular")
            return pixel_shuffle(conv2d(padded, self.weight, self.bias), self.block)


class ChannelsStem(nn.Module):
    """Model input (B, K, h, w) to the first feature map of a timm model: a trained convolution.

    Every output position is where one of the pixel model's own stem would be; see `classifiers.adapt`.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """What the layer behind the model's first convolution expects."""
        return self.conv(x)

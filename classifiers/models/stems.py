"""The two stems, which connect the model input on the latent grid to a timm model."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad, pixel_shuffle

from walloc_cdl.data import ModelInput
from walloc_cdl.linear.synthesis import NEIGHBORHOOD, LinearSynthesis


class SynthesisStem(nn.Module):
    """Computes normalized pixels (B, C, h b, w b) from the model input (B, K, h, w) by one fixed linear layer.

        pixels = shuffle(W ∗ v + bias),  v = x / scale + mean;   output = (pixels - μ) / σ

    The inverse of the model input's scaling and the normalization are folded into the layer. It is not
    trained: its weights are buffers. It always computes in float32 or, after `model.double()`, in float64: the
    operations are few compared with those of the network, whose input would be rounded otherwise.
    """

    weight: Tensor
    """(C b², K, n, n), n = `NEIGHBORHOOD`; float32, or the type to which the model was converted."""
    bias: Tensor
    """(C b²,), of the same type."""
    pixel_mean: Tensor
    """(C,): mean of the pixels' normalization, of pixels from 0 to 1."""
    pixel_std: Tensor
    """(C,): its standard deviation."""

    def __init__(self, weight: Tensor, bias: Tensor, block: int, pixel_mean: Tensor, pixel_std: Tensor) -> None:
        super().__init__()
        self.block = block
        self.register_buffer("weight", weight)
        self.register_buffer("bias", bias)
        self.register_buffer("pixel_mean", pixel_mean)
        self.register_buffer("pixel_std", pixel_std)

    @classmethod
    def fold(
        cls, layer: LinearSynthesis, model_input: ModelInput, pixel_mean: np.ndarray, pixel_std: np.ndarray
    ) -> SynthesisStem:
        """Build the stem from a synthesis, the model input before it, and the normalization (C,) of the pixels.

        `pixel_mean` and `pixel_std` are in the units of the synthesis: pixels in [-0.5, 0.5].
        """
        scale, mean = (part.double().numpy() for part in (model_input.scale, model_input.mean))
        weight = layer.weight.astype(np.float64)
        bias = layer.bias + np.einsum("okij,k->o", weight, mean)
        positions = layer.block**2
        center = np.repeat(np.asarray(pixel_mean, np.float64), positions)
        spread = np.repeat(np.asarray(pixel_std, np.float64), positions)
        weight = weight / scale[:, None, None] / spread[:, None, None, None]
        bias = (bias - center) / spread
        normalization = (torch.tensor(np.asarray(part, np.float32)) for part in (pixel_mean + 0.5, pixel_std))
        return cls(torch.from_numpy(weight).float(), torch.from_numpy(bias).float(), layer.block, *normalization)

    @classmethod
    def zeros(cls, source_channels: int, latent_channels: int, block: int) -> SynthesisStem:
        """Build a stem of zeros with the right shapes, to load weights into."""
        rows = source_channels * block**2
        shape = (rows, latent_channels, NEIGHBORHOOD, NEIGHBORHOOD)
        normalization = torch.zeros(source_channels), torch.ones(source_channels)
        return cls(torch.zeros(shape), torch.zeros(rows), block, *normalization)

    def forward(self, x: Tensor) -> Tensor:
        """Returns normalized pixels (B, C, h b, w b), of the type of the weights."""
        dtype = torch.promote_types(self.weight.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            padded = pad(x.to(dtype), (self.weight.shape[-1] // 2,) * 4, mode="circular")
            pixels = conv2d(padded, self.weight.to(dtype), self.bias.to(dtype))
            return pixel_shuffle(pixels, self.block).to(self.weight.dtype)


class ChannelsStem(nn.Module):
    """Computes the first feature map of a timm model from the model input (B, K, h, w) by a trained convolution.

    Its output has the size of the feature map that the stem of the pixel model has; see `classifiers.models.adapt`.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        """Returns the input of the layer after the model's first convolution."""
        return self.conv(x)

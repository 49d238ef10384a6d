"""The audio networks: Oobleck, dilated residual units with snake activations and normalized weights.

They are the autoencoder of Stable Audio (Evans et al., arXiv:2402.04825) without its down- and upsampling: two blocks
of stride 1, whose convolutions of two taps and one frame of padding make the output of the encoder two frames longer
than its input, and the output of the decoder two frames shorter. Weights are named as in `AutoencoderOobleck` of
Hugging Face diffusers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv1d, conv_transpose1d

REACH = 86
"""Frames to each side in the receptive field of either network: 39 in each block, and those of the convolutions."""


class NormalizedConv1d(nn.Module):
    """A convolution whose kernels are `weight_v` scaled to the norms `weight_g` (Salimans and Kingma, 2016).

    The parameters are those of `torch.nn.utils.weight_norm`, without its hooks, so that copying and casting are safe.
    """

    convolution = nn.Conv1d

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        padding: int,
        dilation: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        # For the default initial values and the shapes of weights, which differ in a transposed convolution.
        initial = self.convolution(in_channels, out_channels, kernel_size, bias=bias)
        self.register_parameter("bias", initial.bias)
        self.weight_g = nn.Parameter(_kernel_norms(initial.weight.detach()))
        self.weight_v = initial.weight
        self.padding, self.dilation = padding, dilation

    @property
    def weight(self) -> Tensor:
        """Kernels, of the shape of `weight_v`."""
        return self.weight_v * (self.weight_g / _kernel_norms(self.weight_v))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, t) to (B, out_channels, t + 2 · padding - dilation · (kernel_size - 1))."""
        return conv1d(x, self.weight, self.bias, padding=self.padding, dilation=self.dilation)


class NormalizedConvTranspose1d(NormalizedConv1d):
    """The transposed convolution of `NormalizedConv1d`, whose norms are those of each input channel."""

    convolution = nn.ConvTranspose1d

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, t) to (B, out_channels, t - 2 · padding + dilation · (kernel_size - 1))."""
        return conv_transpose1d(x, self.weight, self.bias, padding=self.padding, dilation=self.dilation)


def _kernel_norms(weight: Tensor) -> Tensor:
    return torch.linalg.vector_norm(weight, dim=(1, 2), keepdim=True)


class Snake(nn.Module):
    """x + sin²(a x) / b with a and b for each channel, stored as logarithms (Ziyin et al., arXiv:2006.08195)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha, self.beta = (nn.Parameter(torch.zeros(1, channels, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the activation to x (B, C, t)."""
        return x + torch.sin(self.alpha.exp() * x).square() / (self.beta.exp() + 1e-9)


class ResidualUnit(nn.Module):
    """A dilated convolution of 7 taps and one of 1 tap, each after a snake activation, added to the input."""

    def __init__(self, channels: int, dilation: int) -> None:
        super().__init__()
        self.snake1 = Snake(channels)
        self.conv1 = NormalizedConv1d(channels, channels, 7, padding=3 * dilation, dilation=dilation)
        self.snake2 = Snake(channels)
        self.conv2 = NormalizedConv1d(channels, channels, 1, padding=0)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the unit to x; the shape is preserved."""
        return x + self.conv2(self.snake2(self.conv1(self.snake1(x))))


class EncoderBlock(nn.Module):
    """Three residual units and a convolution that adds a frame."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.res_unit1, self.res_unit2, self.res_unit3 = (ResidualUnit(in_channels, d) for d in (1, 3, 9))
        self.snake1 = Snake(in_channels)
        self.conv1 = NormalizedConv1d(in_channels, out_channels, 2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, t) to (B, out_channels, t + 1)."""
        return self.conv1(self.snake1(self.res_unit3(self.res_unit2(self.res_unit1(x)))))


class DecoderBlock(nn.Module):
    """A convolution that removes a frame, and three residual units."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.snake1 = Snake(in_channels)
        self.conv_t1 = NormalizedConvTranspose1d(in_channels, out_channels, 2, padding=1)
        self.res_unit1, self.res_unit2, self.res_unit3 = (ResidualUnit(out_channels, d) for d in (1, 3, 9))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, t) to (B, out_channels, t - 1)."""
        return self.res_unit3(self.res_unit2(self.res_unit1(self.conv_t1(self.snake1(x)))))


class OobleckEncoder(nn.Module):
    """Maps packet coefficients (B, bands, t) to latents (B, K, t + 2) before the companding."""

    reach = REACH

    def __init__(self, in_channels: int, latent_channels: int, width: int) -> None:
        super().__init__()
        inner = width // latent_channels * latent_channels  # the published code rounds the width down like this
        self.conv1 = NormalizedConv1d(in_channels, latent_channels, 7, padding=3)
        self.block = nn.ModuleList([EncoderBlock(latent_channels, inner), EncoderBlock(inner, inner)])
        self.snake1 = Snake(inner)
        self.conv2 = NormalizedConv1d(inner, latent_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, t) to (B, latent_channels, t + 2)."""
        return self.conv2(self.snake1(self.block[1](self.block[0](self.conv1(x)))))


class OobleckDecoder(nn.Module):
    """Maps inverse-companded latents (B, K, t + 2) to packet coefficients (B, bands, t)."""

    reach = REACH

    def __init__(self, latent_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        inner = width // latent_channels * latent_channels
        self.conv1 = NormalizedConv1d(latent_channels, inner, 7, padding=3)
        self.block = nn.ModuleList([DecoderBlock(inner, inner), DecoderBlock(inner, latent_channels)])
        self.snake1 = Snake(latent_channels)
        self.conv2 = NormalizedConv1d(latent_channels, out_channels, 7, padding=3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, latent_channels, t + 2) to (B, out_channels, t)."""
        return self.conv2(self.snake1(self.block[1](self.block[0](self.conv1(x)))))

"""The image networks: residual blocks with group normalization, and attention over all positions.

They are one resolution of the autoencoder of latent diffusion (Rombach et al., arXiv:2112.10752), on the latent grid.
Weights are named as in `AutoencoderKL` of Hugging Face diffusers, with which the published codecs were trained.
Normalization and attention are global: the output at each position depends on the whole image, and attention costs
(h · w)² multiply-adds for each channel.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

NORM_GROUPS = 32
NORM_EPSILON = 1e-6


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(NORM_GROUPS, channels, eps=NORM_EPSILON)


def _conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


class ResidualBlock(nn.Module):
    """Normalization, SiLU and a 3 × 3 convolution, twice, added to the input; maps (B, C, h, w) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = _norm(channels), _conv(channels, channels)
        self.norm2, self.conv2 = _norm(channels), _conv(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x; the shape is preserved."""
        return x + self.conv2(silu(self.norm2(self.conv1(silu(self.norm1(x))))))


class ResidualBlocks(nn.Module):
    """A sequence of residual blocks."""

    def __init__(self, channels: int, count: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(ResidualBlock(channels) for _ in range(count))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x; the shape is preserved."""
        for block in self.resnets:
            x = block(x)
        return x


class Attention(nn.Module):
    """Self-attention of one head over all positions, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.group_norm = _norm(channels)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels) for _ in range(3))
        # A list, because the published weights are named `to_out.0`.
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        """Apply the attention to x (B, C, h, w); the shape is preserved."""
        tokens = self.group_norm(x).flatten(2).transpose(1, 2).unsqueeze(1)  # (B, heads = 1, h · w, C)
        attended = scaled_dot_product_attention(self.to_q(tokens), self.to_k(tokens), self.to_v(tokens))
        return x + self.to_out[0](attended.squeeze(1)).transpose(1, 2).reshape(x.shape)


class MiddleBlock(nn.Module):
    """A residual block, attention, and a residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Attention(channels)])
        self.resnets = nn.ModuleList(ResidualBlock(channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to x; the shape is preserved."""
        return self.resnets[1](self.attentions[0](self.resnets[0](x)))


class ImageEncoder(nn.Module):
    """Maps packet coefficients (B, bands, h, w) to latents (B, K, h, w) before the companding."""

    reach = None  # the whole image

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        self.conv_in = _conv(in_channels, width)
        self.down_blocks = nn.ModuleList([ResidualBlocks(width, count=2)])
        self.mid_block = MiddleBlock(width)
        self.conv_norm_out = _norm(width)
        self.conv_out = _conv(width, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, h, w)."""
        x = self.mid_block(self.down_blocks[0](self.conv_in(x)))
        return self.conv_out(silu(self.conv_norm_out(x)))


class ImageDecoder(nn.Module):
    """Maps inverse-companded latents (B, K, h, w) to packet coefficients (B, bands, h, w)."""

    reach = None  # the whole image

    def __init__(self, in_channels: int, out_channels: int, width: int) -> None:
        super().__init__()
        self.conv_in = _conv(in_channels, width)
        self.mid_block = MiddleBlock(width)
        self.up_blocks = nn.ModuleList([ResidualBlocks(width, count=3)])
        self.conv_norm_out = _norm(width)
        self.conv_out = _conv(width, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, h, w) to (B, out_channels, h, w)."""
        x = self.up_blocks[0](self.mid_block(self.conv_in(x)))
        return self.conv_out(silu(self.conv_norm_out(x)))

"""The `channels` stem for each family of timm models: a convolution on the latents instead of the model's first one.

A latent covers b × b pixels of the grid, so a stem of stride s on the pixels becomes one of stride
s / b on the latents, and all later layers see feature maps of the same size. A new row of `FAMILIES` consists of a
predicate and such a replacement; one contract test runs over all rows.

A model with pretrained weights keeps them: its first convolution and the synthesis of pixels are both linear, so their
composition (`compose`) is one convolution on latents, and the weights that follow see what they were trained on. The
two differ at the border only: the convolution of pixels continues them by zeros, and the latents go on periodically, as
the codec has them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.models import ConvNeXt, ResNet
from torch import nn
from torch.nn.functional import pad

from classifiers.models.backbones import token_embedding
from classifiers.models.stems import ChannelsStem, SynthesisStem
from walloc_cdl.errors import CallError
from walloc_cdl.linear.synthesis import NEIGHBORHOOD


@dataclass(frozen=True)
class StemFamily:
    """How the models of one family are adapted to latents."""

    name: str
    matches: Callable[[nn.Module], bool]
    first: Callable[[nn.Module], nn.Conv2d]
    """Returns the model's first convolution."""
    adapt: Callable[[nn.Module, int, int], nn.Conv2d]
    """Called with (model, K, b). Removes the first convolution from the model and returns a new one that
    maps (B, K, h, w) to the input of the model's next layer."""


def adapt_to_latents(backbone: nn.Module, name: str, latent_channels: int, block: int) -> nn.Conv2d:
    """Remove the first convolution of `backbone` in place, and return the one that takes latents.

    `block` is b, the side in pixels that one latent covers on the grid. Raises `CallError` for a model of an unknown
    family, and for a stem whose stride is not a multiple of b.
    """
    for family in FAMILIES:
        if family.matches(backbone):
            return family.adapt(backbone, latent_channels, block)
    raise CallError(
        f"{name} has no `channels` stem; only {', '.join(family.name for family in FAMILIES)} models have one; "
        "use stem `synthesis`"
    )


def first_convolution(backbone: nn.Module) -> nn.Conv2d | None:
    """Returns the convolution that `adapt_to_latents` removes; None for a model of an unknown family."""
    return next((family.first(backbone) for family in FAMILIES if family.matches(backbone)), None)


def _latent_stride(stride: int, block: int) -> int:
    if stride % block:
        divisors = [size for size in range(1, stride + 1) if stride % size == 0]
        raise CallError(
            f"a stem of {stride} pixels is not a whole number of latents of {block} pixels; choose a grid of "
            f"{', '.join(map(str, divisors))} pixels per latent, or stem `synthesis`"
        )
    return stride // block


def _is_resnet(backbone: nn.Module) -> bool:
    return isinstance(backbone, ResNet) and _first_resnet_conv(backbone).stride == (2, 2)


def _first_resnet_conv(backbone: nn.Module) -> nn.Conv2d:
    return backbone.conv1[0] if isinstance(backbone.conv1, nn.Sequential) else backbone.conv1


def _adapt_resnet(backbone: nn.Module, latent_channels: int, block: int) -> nn.Conv2d:
    """Replace the stem of total stride 4, a convolution of stride 2 and a pooling of stride 2.

    With b = 2 a 3 × 3 convolution of stride 1 on the latents yields a feature map of the size that the 7 × 7 one of
    stride 2 yields on the pixels; normalization, activation and pooling stay. With b = 4 the pooling
    is removed, too.
    """
    total = _latent_stride(4, block)
    first = _first_resnet_conv(backbone)
    stride = max(1, 2 // block)
    kernel = first.kernel_size[0] if block == 1 else 3
    conv = nn.Conv2d(latent_channels, first.out_channels, kernel, stride, kernel // 2, bias=first.bias is not None)
    nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
    if isinstance(backbone.conv1, nn.Sequential):
        backbone.conv1[0] = nn.Identity()
    else:
        backbone.conv1 = nn.Identity()
    if total == stride:
        backbone.maxpool = nn.Identity()
    return conv


def _is_token_model(backbone: nn.Module) -> bool:
    embedding = token_embedding(backbone)
    return embedding is not None and isinstance(embedding.proj, nn.Conv2d)


def _first_token_conv(backbone: nn.Module) -> nn.Conv2d:
    return token_embedding(backbone).proj


def _adapt_token_model(backbone: nn.Module, latent_channels: int, block: int) -> nn.Conv2d:
    """Replace patches of p pixels by patches of p / b latents; the token grid of the embedding stays."""
    embedding = token_embedding(backbone)
    patch = _latent_stride(embedding.patch_size[0], block)
    width, bias = embedding.proj.out_channels, embedding.proj.bias is not None
    # Its input has one position per token already; timm annotates `proj` as a convolution.
    embedding.proj = nn.Identity()  # pyrefly: ignore[bad-assignment]
    embedding.img_size, embedding.patch_size = embedding.grid_size, (1, 1)
    return nn.Conv2d(latent_channels, width, patch, patch, bias=bias)


def _is_patch_convnext(backbone: nn.Module) -> bool:
    if not isinstance(backbone, ConvNeXt):
        return False
    first = backbone.stem[0]
    return first.kernel_size == first.stride and len(backbone.stem) == 2


def _first_convnext_conv(backbone: nn.Module) -> nn.Conv2d:
    return backbone.stem[0]


def _adapt_convnext(backbone: nn.Module, latent_channels: int, block: int) -> nn.Conv2d:
    """Replace patches of 4 pixels by patches of 4 / b latents."""
    first = backbone.stem[0]
    patch = _latent_stride(first.stride[0], block)
    conv = nn.Conv2d(latent_channels, first.out_channels, patch, patch, bias=first.bias is not None)
    nn.init.trunc_normal_(conv.weight, std=0.02)
    if conv.bias is not None:
        torch.nn.init.zeros_(conv.bias)
    backbone.stem[0] = nn.Identity()
    return conv


FAMILIES = (
    StemFamily("ResNet", _is_resnet, _first_resnet_conv, _adapt_resnet),
    StemFamily("ViT", _is_token_model, _first_token_conv, _adapt_token_model),
    StemFamily("ConvNeXt", _is_patch_convnext, _first_convnext_conv, _adapt_convnext),
)


def composes(conv: nn.Conv2d, block: int) -> bool:
    """Returns whether steps of the convolution are whole latents of `block` pixels, and it is a plain one."""
    is_plain = type(conv) is nn.Conv2d and conv.groups == 1 and conv.dilation == (1, 1)
    if not is_plain or not isinstance(conv.padding, tuple) or conv.padding_mode != "zeros":
        return False
    is_square = all(len(set(sides)) == 1 for sides in (conv.kernel_size, conv.stride, conv.padding))
    return is_square and conv.stride[0] % block == 0


@torch.no_grad()
def compose(conv: nn.Conv2d, synthesis: SynthesisStem) -> ChannelsStem:
    """Returns the stem that computes `conv` of the pixels of `synthesis`, from the model input (B, K, h, w).

    `composes` must hold. It has kernels of all latents that a step depends on, and a bias.
    """
    block, size, padding = synthesis.block, conv.kernel_size[0], int(conv.padding[0])
    reach = NEIGHBORHOOD // 2
    low = -padding // block - reach
    width = (size - 1 - padding) // block + reach - low + 1
    channels, latent_channels = conv.in_channels, synthesis.weight.shape[1]
    pixels = synthesis.weight.double().unflatten(0, (channels, block, block))  # (C, b, b, K, n, n)
    offsets = synthesis.bias.double().unflatten(0, (channels, block, block))
    weight = torch.zeros(conv.out_channels, latent_channels, width, width, dtype=torch.float64, device=pixels.device)
    bias = torch.zeros(conv.out_channels, dtype=torch.float64, device=pixels.device)
    if conv.bias is not None:
        bias += conv.bias.double()
    kernel = conv.weight.double()
    for row in range(size):
        down, in_row = divmod(row - padding, block)
        top = down - reach - low
        for column in range(size):
            across, in_column = divmod(column - padding, block)
            left = across - reach - low
            part = torch.einsum("oc,ckij->okij", kernel[:, :, row, column], pixels[:, in_row, in_column])
            weight[:, :, top : top + NEIGHBORHOOD, left : left + NEIGHBORHOOD] += part
            bias += kernel[:, :, row, column] @ offsets[:, in_row, in_column]
    step = conv.stride[0] // block
    composed = nn.Conv2d(latent_channels, conv.out_channels, width, step, device=pixels.device)
    composed.weight.copy_(weight)
    composed.bias.copy_(bias)
    return ComposedStem(composed, -low, width - 1 + low)


class ComposedStem(ChannelsStem):
    """A `ChannelsStem` whose latents go on periodically, by `before` ones above and left, `after` below and right."""

    def __init__(self, conv: nn.Conv2d, before: int, after: int) -> None:
        super().__init__(conv)
        self._padding = (before, after, before, after)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Returns the input of the layer after the model's first convolution."""
        return self.conv(pad(x, self._padding, mode="circular"))

"""The `channels` stem for each family of timm models: a convolution on the latents in place of the model's first.

A latent stands for b × b pixels of the grid, so a stem of stride s on the pixels becomes one of stride
s / b on the latents, and everything behind it sees maps of the same size. A new row of `FAMILIES` is a
predicate and such a replacement; one contract test runs over all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from timm.models import ConvNeXt, ResNet
from torch import nn

from classifiers.backbones import token_embedding
from walloc_cdl.errors import CallError


@dataclass(frozen=True)
class StemFamily:
    """How the models of one family are put on latents."""

    name: str
    matches: Callable[[nn.Module], bool]
    adapt: Callable[[nn.Module, int, int], nn.Conv2d]
    """From (model, K, b): takes the first convolution out of the model, and returns a fresh one, which
    maps (B, K, h, w) to what the model's next layer expects."""


def adapt_to_latents(backbone: nn.Module, name: str, latent_channels: int, block: int) -> nn.Conv2d:
    """Replace the first convolution of `backbone`, in place, and return the one that takes latents.

    `block` is b, the pixels of the grid for each latent. Raises `CallError` for a model of no known
    family and for a stem that is not a whole number of latents.
    """
    for family in FAMILIES:
        if family.matches(backbone):
            return family.adapt(backbone, latent_channels, block)
    raise CallError(
        f"{name} has no `channels` stem, which {', '.join(family.name for family in FAMILIES)} models have; "
        "use stem `synthesis`"
    )


def _latent_stride(stride: int, block: int) -> int:
    if stride % block:
        fitting = [size for size in range(1, stride + 1) if stride % size == 0]
        raise CallError(
            f"a stem of {stride} pixels is not a whole number of latents of {block} pixels; choose a grid of "
            f"{', '.join(map(str, fitting))} pixels a latent or stem `synthesis`"
        )
    return stride // block


def _is_resnet(backbone: nn.Module) -> bool:
    return isinstance(backbone, ResNet) and _first_resnet_conv(backbone).stride == (2, 2)


def _first_resnet_conv(backbone: nn.Module) -> nn.Conv2d:
    return backbone.conv1[0] if isinstance(backbone.conv1, nn.Sequential) else backbone.conv1


def _adapt_resnet(backbone: nn.Module, latent_channels: int, block: int) -> nn.Conv2d:
    """Stride 4 on the pixels is a convolution of 2 and a pooling of 2; the convolution gives way first.

    With b = 2 a 3 × 3 convolution of stride 1 on the latents yields the very map that the 7 × 7 one of
    stride 2 yields on the pixels; normalization, activation and pooling stay. With b = 4 the pooling
    goes as well.
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


def _adapt_token_model(backbone: nn.Module, latent_channels: int, block: int) -> nn.Conv2d:
    """Patches of p pixels become patches of p / b latents; the embedding's token grid stays."""
    embedding = token_embedding(backbone)
    patch = _latent_stride(embedding.patch_size[0], block)
    width, bias = embedding.proj.out_channels, embedding.proj.bias is not None
    # What comes in has one position a token; timm's annotation knows convolutions only.
    embedding.proj = nn.Identity()  # pyrefly: ignore[bad-assignment]
    embedding.img_size, embedding.patch_size = embedding.grid_size, (1, 1)
    return nn.Conv2d(latent_channels, width, patch, patch, bias=bias)


def _is_patch_convnext(backbone: nn.Module) -> bool:
    if not isinstance(backbone, ConvNeXt):
        return False
    first = backbone.stem[0]
    return first.kernel_size == first.stride and len(backbone.stem) == 2


def _adapt_convnext(backbone: nn.Module, latent_channels: int, block: int) -> nn.Conv2d:
    """Patches of 4 pixels become patches of 4 / b latents."""
    first = backbone.stem[0]
    patch = _latent_stride(first.stride[0], block)
    conv = nn.Conv2d(latent_channels, first.out_channels, patch, patch, bias=first.bias is not None)
    nn.init.trunc_normal_(conv.weight, std=0.02)
    if conv.bias is not None:
        torch.nn.init.zeros_(conv.bias)
    backbone.stem[0] = nn.Identity()
    return conv


FAMILIES = (
    StemFamily("ResNet", _is_resnet, _adapt_resnet),
    StemFamily("ViT", _is_token_model, _adapt_token_model),
    StemFamily("ConvNeXt", _is_patch_convnext, _adapt_convnext),
)

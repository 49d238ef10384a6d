"""The precision in which a model computes."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from walloc_cdl.errors import unknown_name

PRECISIONS = ("auto", "bf16", "fp32")


def choose_precision(requested: str, device: torch.device) -> str:
    """Returns `bf16` or `fp32`; `auto` is bf16 on GPUs with instructions for it, and fp32 on every CPU.

    On CPUs with AVX2 only, where bf16 is emulated, training under bf16 autocast takes 15 times as long as in fp32
    (measured). With AVX512-BF16 it is fast but wrong: oneDNN leaves the weight gradients of a convolution's outer taps
    uninitialized where they see only padding (torch 2.14, 3 × 3 at stride 2 on 1 × 1, as at the end of a ResNet on a
    small grid: NaN, or any number), and the forward results of small convolutions can be wrong
    (https://github.com/pytorch/pytorch/issues/163347).
    """
    if requested not in PRECISIONS:
        raise unknown_name("precision", requested, PRECISIONS, f"choose one of {', '.join(PRECISIONS)}")
    if requested != "auto":
        return requested
    is_native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if is_native else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Returns the autocast context for a `precision` that `choose_precision` returned."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

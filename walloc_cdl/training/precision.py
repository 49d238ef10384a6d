"""Which precision to compute in."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from walloc_cdl.errors import unknown_name

PRECISIONS = ("auto", "bf16", "fp32")


def choose_precision(asked: str, device: torch.device) -> str:
    """`bf16` or `fp32`; `auto` is bf16 on a GPU with instructions for it.

    On CPUs it is fp32. With AVX512-BF16, oneDNN leaves the weight gradients of a convolution's outer taps uninitialized
    where the feature map is smaller than they reach (torch 2.14, 3 × 3 at stride 2 on 1 × 1: NaN, or any number), and
    small convolutions can be wrong (https://github.com/pytorch/pytorch/issues/163347); with AVX2 only, where it is
    emulated, bf16 takes some 15 times as long as fp32.
    """
    if asked not in PRECISIONS:
        raise unknown_name("precision", asked, PRECISIONS, f"choose one of {', '.join(PRECISIONS)}")
    if asked != "auto":
        return asked
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if fast else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context to run a model in, for a `precision` from `choose_precision`."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")

"""How a model computes: its precision, and whether it is compiled."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.training.config import PRECISIONS

_LAUNCHED = "ACCELERATE_MIXED_PRECISION"
"""Set by `accelerate launch --mixed_precision`."""


def choose_precision(requested: str, device: torch.device) -> str:
    """Returns `bf16`, `fp16` or `fp32`; `auto` is what `accelerate launch --mixed_precision` chose, if it did.

    Otherwise `auto` is bf16 on GPUs with instructions for it, and fp32 on every CPU.
    On CPUs with AVX2 only, where bf16 is emulated, training under bf16 autocast takes 15 times as long as in fp32
    (measured). With AVX512-BF16 it is fast but wrong: oneDNN leaves the weight gradients of a convolution's outer taps
    uninitialized where they see only padding (torch 2.14, 3 × 3 at stride 2 on 1 × 1, as at the end of a ResNet on a
    small grid: NaN, or any number), and the forward results of small convolutions can be wrong
    (https://github.com/pytorch/pytorch/issues/163347). Raises `CallError` for fp16 on a CPU.
    """
    if requested not in PRECISIONS:
        raise unknown_name("precision", requested, PRECISIONS, f"choose one of {', '.join(PRECISIONS)}")
    if requested == "auto" and os.environ.get(_LAUNCHED, "no") != "no":
        requested = os.environ[_LAUNCHED]
        if requested not in PRECISIONS:
            raise unknown_name("precision", requested, PRECISIONS, "launch with --mixed_precision no, bf16 or fp16")
    if requested == "fp16" and device.type != "cuda":
        raise CallError(f"precision fp16 needs a GPU, but the device is {device}; choose bf16 or fp32")
    if requested != "auto":
        return requested
    is_native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return "bf16" if is_native else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Returns the autocast context for a `precision` that `choose_precision` returned."""
    dtype = torch.float16 if precision == "fp16" else torch.bfloat16
    return torch.autocast(device.type, dtype, enabled=precision != "fp32")


def require_backend(backend: str | None) -> None:
    """Raise `CallError` for a backend of `torch.compile` that torch does not have; None is no compilation."""
    if backend is None:
        return
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise unknown_name("torchcompile", backend, known, f"choose one of {', '.join(known)}")


@contextmanager
def compiled(module: nn.Module, backend: str | None) -> Iterator[None]:
    """Let `torch.compile` compile the module's calls with this backend while the block runs; None for no change.

    The module and its state keep their names.
    """
    if backend is None:
        yield
        return
    module.compile(backend=backend)
    try:
        yield
    finally:
        module._compiled_call_impl = None

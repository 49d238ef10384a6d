"""A kernel's self-test: its first call on a device is compared with the plain path.

So a GPU that the kernels were never run on gives no wrong codes, but a warning and the plain path.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

TIES = 0.01
"""Share of codes that may be off by one: those that lie near the middle of two."""


def passes_self_test(
    kernel: Callable[[], Tensor], plain: Callable[[], Tensor], *, what: str, device: torch.device
) -> bool:
    """Whether both give the same, codes but for ties; a `RuntimeWarning` where not, or where the kernel cannot run."""
    try:
        found = kernel()
        expected = plain()
        reason = _difference(found, expected)
    except Exception as error:  # Triton, its compiler and the driver have errors of their own
        reason = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
    if not reason:
        return True
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
    warnings.warn(
        f"{what} does not work on {name} ({reason}); the plain path is taken, which is slower. Please report it.",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def _difference(found: Tensor, expected: Tensor) -> str:
    """What is wrong, or nothing."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"{found.dtype} {tuple(found.shape)} in place of {expected.dtype} {tuple(expected.shape)}"
    if found.dtype != torch.uint8:
        return "" if torch.equal(found, expected) else "other values than the plain path's"
    differences = (found.int() - expected.int()).abs()
    off, most = float((differences > 0).double().mean()), int(differences.max()) if differences.numel() else 0
    return f"{off:.2%} of the codes differ, by up to {most}" if off > TIES or most > 1 else ""

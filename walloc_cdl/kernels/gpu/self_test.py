"""Self-test of a kernel: its first result on a device is compared with the plain path.

A GPU on which the kernels were never tested thus gives a warning and uses the plain path instead of giving wrong codes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

MAX_TIE_FRACTION = 0.01
"""Maximum fraction of codes that may differ by one, because their latents are close to halfway between two codes."""


def passes_self_test(
    kernel: Callable[[], Tensor], plain: Callable[[], Tensor], *, what: str, device: torch.device
) -> bool:
    """Return whether both give the same result, codes except for ties; issue a `RuntimeWarning` if not.

    A kernel that raises an error fails the test as well.
    """
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
        f"{what} does not work on {name} ({reason}); the plain path is used, which is slower. Please report it.",
        RuntimeWarning,
        stacklevel=2,
    )
    return False


def _difference(found: Tensor, expected: Tensor) -> str:
    """Describe the difference; an empty string if there is none."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"{found.dtype} {tuple(found.shape)} instead of {expected.dtype} {tuple(expected.shape)}"
    if found.dtype != torch.uint8:
        return "" if torch.equal(found, expected) else "the values differ from those of the plain path"
    differences = (found.int() - expected.int()).abs()
    off, most = float((differences > 0).double().mean()), int(differences.max()) if differences.numel() else 0
    return f"{off:.2%} of the codes differ, by up to {most}" if off > MAX_TIE_FRACTION or most > 1 else ""

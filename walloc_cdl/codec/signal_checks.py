"""Checks of the signals given to `encode` that need their values or may not be tensors."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from walloc_cdl.errors import CallError

LARGEST = 0.75
"""Magnitude of float signals up to which they are encoded: the range is ±0.5, and resizing overshoots a little."""

REMEDIES = {
    "image": ((0.0, 1.0, "subtract 0.5"), (0.0, 255.0, "convert to uint8, or divide by 255 and subtract 0.5")),
    "audio": ((-1.0, 1.0, "divide by 2"), (-32768.0, 32768.0, "convert to int16, or divide by 65536")),
}
"""What to do with signals of common ranges, from the narrowest on."""
LAST_REMEDY = {
    "image": "undo their normalization, and map black to -0.5 and white to 0.5",
    "audio": "map full scale to ±0.5, and clip what is beyond it",
}


def require_tensor(value: object, what: str, axes: tuple[str, ...], channels: int) -> None:
    """Raise `CallError`, saying how to convert arrays and images of that many channels, for what is not a tensor."""
    if isinstance(value, Tensor):
        return
    kind = type(value)
    if kind.__module__.partition(".")[0] == "numpy":
        remedy = "convert it by torch.from_numpy"
    elif kind.__module__.partition(".")[0] == "PIL":
        mode, rest = ("L", "[None, None]") if channels == 1 else ("RGB", ".permute(2, 0, 1)[None]")
        remedy = f"convert it by torch.from_numpy(np.array(image.convert({mode!r}))){rest}"
    else:
        remedy = "convert it to a tensor"
    raise CallError(f"{what} as {kind.__module__}.{kind.__qualname__}; expected a tensor ({', '.join(axes)}); {remedy}")


def require_range(signal: Tensor, kind: str) -> None:
    """Raise `CallError`, with the range and the remedy, for float signals with NaN or values beyond ±`LARGEST`.

    On a GPU, and where torch is compiling, the check does not wait for the values: it is an assertion on the device,
    after which CUDA requires a new process.
    """
    if not signal.is_floating_point() or not signal.numel() or signal.device.type == "meta":
        return
    values = signal.detach()
    if values.element_size() == 1:  # torch has no minimum of float8
        values = values.float()
    low, high = torch.aminmax(values)  # both are NaN if one value is
    content = "pixels" if kind == "image" else "samples"
    if signal.device.type == "cuda" or torch.compiler.is_compiling():
        valid = (low >= -LARGEST) & (high <= LARGEST)
        torch._assert_async(valid, f"{content} with NaN or beyond ±{LARGEST}; expected [-0.5, 0.5]")
        return
    least, greatest = low.item(), high.item()
    if least >= -LARGEST and greatest <= LARGEST:
        return
    if math.isnan(least):
        count = int(values.isnan().sum())
        raise CallError(
            f"{content} of which {count:,} of {values.numel():,} are NaN; expected values in [-0.5, 0.5]; "
            "correct them, or replace them by torch.nan_to_num"
        )
    fitting = [remedy for low, high, remedy in REMEDIES[kind] if low <= least and greatest <= high]
    raise CallError(
        f"{content} from {least:.4g} to {greatest:.4g}; expected float in [-0.5, 0.5], and at most ±{LARGEST}; "
        f"{[*fitting, LAST_REMEDY[kind]][0]}"
    )

"""What torchvision's functionals do to a `Latent`, and why the others raise.

torchvision passes tensor types that it does not know through unsupported operations unchanged, in silence, so each
functional has an entry here. Kernels get plain tensors (…, K, h, w) and the latent whose `operators` they use.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from walloc_cdl.errors import CallError
from walloc_cdl.transforms import operations
from walloc_cdl.transforms.operators import Operators

PIXELS = "augment the pixels of the `synthesis` stem (walloc_cdl.augment), or do it before encoding"
WHOLE = "crop or shift by whole latents, or " + PIXELS
SIZES = "crop by whole latents; a model chooses its own grid of pixels (create_model with grid=)"
COLORS = "use brightness and contrast, or " + PIXELS
SCALES = "ModelInput standardizes latents by the statistics of the train split"

REFUSED = {
    **dict.fromkeys(("affine", "rotate", "perspective", "elastic", "pad"), WHOLE),
    **dict.fromkeys(("resize", "resized_crop", "five_crop", "ten_crop"), SIZES),
    **dict.fromkeys(("adjust_gamma", "adjust_hue", "adjust_saturation", "adjust_sharpness", "autocontrast"), COLORS),
    **dict.fromkeys(("equalize", "invert", "posterize", "solarize", "permute_channels", "gaussian_blur"), COLORS),
    **dict.fromkeys(("rgb_to_grayscale", "grayscale_to_rgb", "gaussian_noise", "jpeg"), PIXELS),
    "normalize": SCALES,
    **dict.fromkeys(("uniform_temporal_subsample", "get_num_frames"), "latents of images have no frames"),
}
"""The functionals that raise, and what to use instead."""

Kernel = Callable[..., Tensor]


def horizontal_flip(x: Tensor, operators: Operators | None) -> Tensor:
    """See `operations.horizontal_flip`: approximate."""
    return _batched(x, operations.horizontal_flip, _required(operators, "a flip"))


def vertical_flip(x: Tensor, operators: Operators | None) -> Tensor:
    """See `operations.vertical_flip`: approximate."""
    return _batched(x, operations.vertical_flip, _required(operators, "a flip"))


def crop(x: Tensor, operators: Operators | None, top: int, left: int, height: int, width: int) -> Tensor:
    """Crop at whole latents; all numbers are in latents. See `operations.crop`."""
    rows, columns = x.shape[-2:]
    if min(top, left) < 0 or min(height, width) < 1 or top + height > rows or left + width > columns:
        raise CallError(
            f"a crop of {height} × {width} at ({top}, {left}) of {rows} × {columns} latents; sizes are in latents, and "
            "what lies outside is not known"
        )
    return x[..., top : top + height, left : left + width]


def center_crop(x: Tensor, operators: Operators | None, output_size: Any) -> Tensor:
    """Crop the middle, as `crop`; the size is in latents."""
    sizes = [output_size] if isinstance(output_size, int) else list(output_size)
    height, width = sizes * 2 if len(sizes) == 1 else sizes
    rows, columns = x.shape[-2:]
    return crop(x, operators, (rows - height) // 2, (columns - width) // 2, height, width)


def adjust_brightness(x: Tensor, operators: Operators | None, brightness_factor: float) -> Tensor:
    """See `operations.brightness`: exact but for clipping."""
    return _batched(x, operations.brightness, _required(operators, "brightness"), brightness_factor)


def adjust_contrast(x: Tensor, operators: Operators | None, contrast_factor: float) -> Tensor:
    """See `operations.contrast`: exact but for clipping."""
    return _batched(x, operations.contrast, _required(operators, "contrast"), contrast_factor)


def erase(
    x: Tensor, operators: Operators | None, i: int, j: int, h: int, w: int, v: Any, inplace: bool = False
) -> Tensor:
    """Erase a box of latents to an image of the value `v`, one number from 0 to 1; see `operations.erase`."""
    values = torch.as_tensor(v, dtype=torch.float32)
    if values.numel() != 1 or inplace:
        raise CallError("latents are erased to one value of all pixels, from 0 to 1, and not in place")
    box = torch.tensor([[i, j, h, w]], device=x.device)
    flat = x.flatten(0, -4) if x.ndim > 3 else x[None]
    return operations.erase(flat, box, _required(operators, "erasing"), float(values)).reshape(x.shape)


def to_dtype(x: Tensor, operators: Operators | None, dtype: torch.dtype = torch.float32, scale: bool = False) -> Tensor:
    """Convert to another float type; integers are refused, since they would be no codes."""
    if not dtype.is_floating_point:
        raise CallError(f"latents as {dtype}; choose a float type, or read codes from the data set")
    return x.to(dtype)


KERNELS: dict[str, Kernel] = {
    "horizontal_flip": horizontal_flip,
    "vertical_flip": vertical_flip,
    "crop": crop,
    "center_crop": center_crop,
    "adjust_brightness": adjust_brightness,
    "adjust_contrast": adjust_contrast,
    "erase": erase,
    "to_dtype": to_dtype,
}
"""The functionals that are right; each returns latents of the same kind."""


def get_size(x: Tensor) -> list[int]:
    """Return [h, w], in latents."""
    return list(x.shape[-2:])


def get_num_channels(x: Tensor) -> int:
    """Return K."""
    return x.shape[-3]


def get_dimensions(x: Tensor) -> list[int]:
    """Return [K, h, w]."""
    return list(x.shape[-3:])


QUERIES = {"get_size": get_size, "get_num_channels": get_num_channels, "get_dimensions": get_dimensions}
"""The functionals that return numbers."""


def _required(operators: Operators | None, what: str) -> Operators:
    if operators is None:
        raise CallError(
            f"{what} needs the operators of the data set; make latents with Latent.of_codes, or pass operators="
        )
    return operators


def _batched(x: Tensor, operation: Callable[..., Tensor], operators: Operators, factor: float | None = None) -> Tensor:
    """Apply an operation on batches to latents (…, K, h, w)."""
    flat = x.flatten(0, -4) if x.ndim > 3 else x[None]
    amounts = () if factor is None else (flat.new_full((len(flat),), factor),)
    return operation(flat, *amounts, operators).reshape(x.shape)

"""Forms in which images can be stored within a number of bytes: a codec, smaller pixels, and files of other formats."""

from __future__ import annotations

import io
import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor
from torch.nn.functional import interpolate

from walloc_cdl.codec import Codec, to_bytes
from walloc_cdl.codec.base import to_unit_range
from walloc_cdl.codec.families.resize import shrink
from walloc_cdl.errors import CallError, unknown_name
from walloc_cdl.planes.rows import plane_bytes, planes_for_bytes, row_bytes

FILE_FORMATS = {
    "jpeg": ("JPEG", {"optimize": True}),
    "webp": ("WEBP", {"method": 4}),
    "avif": ("AVIF", {"speed": 6}),
}
"""Pillow's name and its settings, besides the quality, of each file format."""

MAX_QUALITY = 95
"""Largest quality that is tried; Pillow advises against more for JPEG."""

NUM_HALVINGS = 6
"""A codec with bit planes is measured at this many numbers of bytes, unless others are given: all planes, a half, …"""


class StoredForm(ABC):
    """A way to store images."""

    name: str

    @abstractmethod
    def restore(self, images: Tensor, num_bytes: int) -> tuple[Tensor, list[int]]:
        """Store each of the images uint8 (N, C, S, S) within `num_bytes`, and restore it.

        Returns the restored images, uint8 of the same shape, and the bytes that each one took.
        """


class CodecForm(StoredForm):
    """A codec: the longest prefix of its bit planes that fits, or all bytes of a codec without bit planes."""

    def __init__(self, codec: Codec) -> None:
        self.name = codec.name
        self._codec = codec
        self._prefixes: dict[int, Codec] = {}

    def restore(self, images: Tensor, num_bytes: int) -> tuple[Tensor, list[int]]:
        """See `StoredForm.restore`; raises `CallError` for a number of bytes that the codec does not have."""
        codec, grid = self._codec, self._codec.latent_shape(tuple(images.shape[1:]))[1:]
        if codec.spec.planes is not None:
            count = planes_for_bytes(codec.spec, grid, num_bytes)
            if count not in self._prefixes:
                self._prefixes[count] = codec.with_planes(count)
            codec = self._prefixes[count]
        with torch.inference_mode():
            return to_bytes(codec.decode(codec.encode(images))), [row_bytes(codec.spec, grid)] * len(images)


class PixelsForm(StoredForm):
    """The image shrunk to the largest square of uint8 pixels that fits, and enlarged again, with bicubic filters."""

    name = "pixels"

    def restore(self, images: Tensor, num_bytes: int) -> tuple[Tensor, list[int]]:
        """See `StoredForm.restore`; raises `CallError` for less than one pixel."""
        channels, side = images.shape[1], images.shape[2]
        small = min(math.isqrt(num_bytes // channels), side)
        if not small:
            raise CallError(f"{num_bytes} bytes an image are less than one pixel; give at least {channels}")
        size = channels * small**2
        if small == side:
            return images, [size] * len(images)
        stored = to_bytes(shrink(to_unit_range(images), (small, small)))
        return to_bytes(interpolate(to_unit_range(stored), size=(side, side), mode="bicubic")), [size] * len(images)


class FileForm(StoredForm):
    """A file for each image, of the highest quality whose file fits, or of the lowest if none does."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._format, self._settings = FILE_FORMATS[name]
        if name != "jpeg" and not features.check(name):
            raise CallError(f"this installation of Pillow has no {self._format}; omit {name}")

    def restore(self, images: Tensor, num_bytes: int) -> tuple[Tensor, list[int]]:
        """See `StoredForm.restore`. A file of the lowest quality may be larger than `num_bytes`."""
        files = [self._smaller_file(_to_pil(image), num_bytes) for image in images]
        mode = "L" if images.shape[1] == 1 else "RGB"
        restored = [np.asarray(Image.open(io.BytesIO(data)).convert(mode)) for data in files]
        pixels = torch.from_numpy(np.stack(restored))
        pixels = pixels[:, None] if mode == "L" else pixels.permute(0, 3, 1, 2)
        return pixels.contiguous(), [len(data) for data in files]

    def _smaller_file(self, image: Image.Image, num_bytes: int) -> bytes:
        """Returns the file of the highest quality that fits, by bisection: sizes grow with the quality."""
        low, high = 1, MAX_QUALITY
        best = self._encoded(image, low)
        while low < high:
            quality = (low + high + 1) // 2
            data = self._encoded(image, quality)
            if len(data) <= num_bytes:
                low, best = quality, data
            else:
                high = quality - 1
        return best

    def _encoded(self, image: Image.Image, quality: int) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, self._format, quality=quality, **self._settings)
        return buffer.getvalue()


def parse_forms(names: str) -> list[StoredForm]:
    """Returns the forms of a list such as `pixels,jpeg`; raises `CallError` for an unknown one."""
    known = {"pixels": PixelsForm, **{name: lambda name=name: FileForm(name) for name in FILE_FORMATS}}
    forms: list[StoredForm] = []
    for name in dict.fromkeys(filter(None, (part.strip() for part in names.split(",")))):
        if name not in known:
            raise unknown_name("form to compare with", name, known, f"there are {', '.join(known)}")
        forms.append(known[name]())
    return forms


def choose_budgets(codec: Codec, shape: Sequence[int], budgets: Sequence[int] | None) -> list[int]:
    """Returns the numbers of bytes to measure at, in ascending order, for images of `shape`, (C, S, S).

    The default is all bytes of the codec, and a half, a quarter, … for one with bit planes. Raises `CallError` for
    numbers that the codec does not have.
    """
    spec, grid = codec.spec, codec.latent_shape(tuple(shape))[1:]
    largest = row_bytes(spec, grid)
    if budgets is None:
        halvings = range(NUM_HALVINGS if spec.planes is not None else 1)
        budgets = [largest >> halving for halving in halvings if largest >> halving >= plane_bytes(grid)]
    elif not budgets:
        raise CallError("no number of bytes to measure at; give some, such as 3072,12288")
    elif spec.planes is not None or set(budgets) != {largest}:
        for number in budgets:
            planes_for_bytes(spec, grid, number)
    return sorted(set(budgets))


def _to_pil(image: Tensor) -> Image.Image:
    pixels = image.permute(1, 2, 0).numpy()
    return Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))

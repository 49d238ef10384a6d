"""Stored views of an image: the evaluation crop, its mirror image, and random resized crops.

A random crop is determined by the SHA-256 of the sample's key and the view's name, and by no generator's state, so that
slices, workers, resumption and another division into splits give a sample the same crops. They follow torchvision's
`RandomResizedCrop`, with an area from 0.08 to 1.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np

from datasets_prep.decode.images import Box, ImagePreparation, resized, square, upright_pixels
from datasets_prep.samples.stored import KeyedSample
from walloc_cdl.errors import CallError

AREA = (0.08, 1.0)
"""Range of the share of the image's area that a random crop covers, drawn uniformly."""

ASPECT = (3 / 4, 4 / 3)
"""Range of width over height of a random crop, whose logarithm is drawn uniformly."""

ATTEMPTS = 10
"""Crops that are drawn until one lies in the image; after that the central crop with the nearest aspect is used."""

MAX_CROPS = 64

GRAMMAR = "flip and crops:N, such as flip,crops:4"


def parse_views(text: str) -> tuple[str, ...]:
    """Return the names of the views that `flip,crops:N` requests, the evaluation crop first; raises `CallError`.

    >>> parse_views("flip,crops:2")
    ('center', 'flip', 'crop-1', 'crop-2')
    """
    names = ["center"]
    for part in text.split(","):
        word, _, count = part.strip().partition(":")
        if word == "flip" and not count:
            names.append("flip")
        elif word == "crops" and count.isdecimal() and 1 <= int(count) <= MAX_CROPS:
            names += [f"crop-{number}" for number in range(1, int(count) + 1)]
        else:
            raise CallError(
                f"views {text!r}: {part.strip()!r} is not a view; choose from {GRAMMAR}, with N from 1 to {MAX_CROPS}"
            )
    if len(set(names)) != len(names):
        raise CallError(f"views {text!r}: each kind may be given once; choose from {GRAMMAR}")
    return tuple(names)


@dataclass(frozen=True)
class ViewedImagePreparation(ImagePreparation):
    """Makes several views of each image, all of one size; samples must have their keys."""

    view_names: tuple[str, ...] = field(default=("center",), kw_only=True)
    """`center`, then any of `flip` and `crop-N`."""

    chunk_samples: ClassVar[int] = 4

    def load(self, stored: KeyedSample) -> np.ndarray:  # type: ignore[override]
        """Return pixels uint8 (V, C, S, S): the crop of `ImagePreparation`, its mirror image, and random resized crops,
        half of which are mirrored. Raises `BadImageError` as `load_pixels` does.
        """
        pixels = upright_pixels(stored.stored, self.channels, self.icc)
        center = square(pixels, self.size, self.resize, self.crop)
        return np.stack([self._view(name, pixels, center, stored.key) for name in self.view_names])

    def evaluation_signals(self, signals: np.ndarray | list[np.ndarray]) -> np.ndarray:
        """See `Preparation.evaluation_signals`; returns the first view."""
        return np.asarray(signals)[:, 0]

    def to_json(self) -> dict[str, Any]:
        """See `Preparation.to_json`."""
        fields = {**super().to_json(), "views": list(self.view_names)}
        if any(name.startswith("crop-") for name in self.view_names):
            fields["random_crops"] = {
                "area": list(AREA),
                "aspect": [round(limit, 6) for limit in ASPECT],
                "mirrored": 0.5,
                "seed": "SHA-256 of key and view",
            }
        return fields

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ViewedImagePreparation:
        """Inverse of `to_json`; see `ImagePreparation.from_json`."""
        image = ImagePreparation.from_json(values)
        settings = {each.name: getattr(image, each.name) for each in fields(ImagePreparation)}
        return ViewedImagePreparation(**settings, view_names=tuple(values["views"]))

    def _view(self, name: str, pixels: np.ndarray, center: np.ndarray, key: str) -> np.ndarray:
        if name == "center":
            return center
        if name == "flip":
            return center[..., ::-1]
        crop = draw_crop(key, name, *pixels.shape[1::-1])
        view = resized(pixels, (self.size, self.size), self.resize, box=crop.box)
        return view[..., ::-1] if crop.mirrored else view


@dataclass(frozen=True)
class RandomCrop:
    """A rectangle of an image, which may be mirrored."""

    box: Box
    mirrored: bool


def draw_crop(key: str, view: str, width: int, height: int) -> RandomCrop:
    """Return the random resized crop for an image's key and size in pixels, and the view's name."""
    numbers = _uniform_numbers(f"{view}\0{key}")
    mirrored = next(numbers) < 0.5
    for _ in range(ATTEMPTS):
        area = width * height * _between(AREA, next(numbers))
        aspect = math.exp(_between((math.log(ASPECT[0]), math.log(ASPECT[1])), next(numbers)))
        wide, high = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < wide <= width and 0 < high <= height:
            left, top = (int(next(numbers) * (side - part + 1)) for side, part in ((width, wide), (height, high)))
            return RandomCrop((left, top, left + wide, top + high), mirrored)
    wide, high = min(width, round(height * ASPECT[1])), min(height, round(width / ASPECT[0]))
    left, top = (width - wide) // 2, (height - high) // 2
    return RandomCrop((left, top, left + wide, top + high), mirrored)


def _between(limits: tuple[float, float], share: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * share


def _uniform_numbers(text: str) -> Iterator[float]:
    """Yield numbers in [0, 1) that a text determines, the same on every machine: SHA-256 in counter mode."""
    encoded = text.encode("utf-8", "surrogatepass")
    for block in itertools.count():
        digest = hashlib.sha256(block.to_bytes(4, "little") + encoded).digest()
        yield from (int.from_bytes(digest[at : at + 8], "little") / 2**64 for at in range(0, 32, 8))

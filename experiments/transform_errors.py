"""Measures each transform of latents against encoding the transformed pixels, for the shipped codecs of images.

    python -m experiments.transform_errors --fit DATA/imagenet-sample --images DATA/kodak

Prints the tables of docs/transforms.md. Operators are fitted as `cdl prepare` fits them, to images of `--fit`, and
measured on all of `--images`, both resized and cropped to squares of `--size` pixels.

A figure is a signal-to-error ratio in dB: the variance of the values of `encode(transformed pixels)` about the mean of
each channel, to their mean squared difference from the transformed values, over all channels and images.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets_prep.decode.images import load_pixels
from experiments.signal_distortion import decibels
from walloc_cdl.codec import Codec, load_codec
from walloc_cdl.codec.fit.operators import fit_operators, unrounded_values
from walloc_cdl.errors import CallError
from walloc_cdl.transforms import operations
from walloc_cdl.transforms.cells import Cells
from walloc_cdl.transforms.operators import Operators

CODECS = {
    "rgb-16x": (None,),
    "rgb-4x": (None,),
    "rgb": (0.375, 0.75, 1.5, 3, 6),
    "rgb-low": (0.1875, 0.375, 0.75, 1.5),
    "gray-16x": (None,),
    "gray-4x": (None,),
    "gray": (0.375, 0.75, 1.5, 3, 6),
    "gray-low": (0.1875, 0.375, 0.75, 1.5),
}
"""The shipped codecs of images, and the rates in bits a pixel at which rows of bit planes are measured."""

FIT_IMAGES = 256
"""Images that are read for the fit, of which it uses as many as it needs."""

SIDE = 0.75
"""Height and width of a crop, as a share of those of the image."""


@dataclass(frozen=True)
class Subject:
    """A codec at a rate, its operators, and images to transform."""

    codec: Codec
    operators: Operators
    images: Tensor
    """uint8 (N, C, S, S)."""

    def values(self, signal: Tensor) -> Tensor:
        """Return the values of the codes of images, float32 (N, K, h, w)."""
        return self.codec.values(self.codec.encode(signal))[:, : self.codec.latent_channels]

    @property
    def pixels(self) -> Tensor:
        """The images from 0 to 1."""
        return self.images.float() / 255

    def of_pixels(self, pixels: Tensor) -> Tensor:
        """Return the values of pixels from 0 to 1."""
        return self.values(pixels - 0.5)

    def all(self, value: float) -> Tensor:
        """Return the same amount for every image."""
        return torch.full((len(self.images),), value)


@dataclass(frozen=True)
class Measured:
    """A transform of latents, what it should equal, and how both are made."""

    name: str
    compared_with: str
    run: Callable[[Subject], tuple[Tensor, Tensor]]
    """Returns the values that encoding gives, and those that the transform gives."""


def _flips(subject: Subject, axis: int, *, mirrored: bool) -> tuple[Tensor, Tensor]:
    values = subject.values(subject.images)
    flip = operations.horizontal_flip if axis == -1 else operations.vertical_flip
    return (
        subject.values(subject.images.flip(axis)),
        values.flip(axis) if mirrored else flip(values, subject.operators),
    )


def _shift(subject: Subject) -> tuple[Tensor, Tensor]:
    rows, columns = (torch.full((len(subject.images),), count) for count in (3, -2))
    stride = subject.codec.stride
    rolled = subject.images.roll((3 * stride, -2 * stride), (-2, -1))
    return subject.values(rolled), operations.shift(subject.values(subject.images), rows, columns)


def _crop(subject: Subject, margin: int = 0) -> tuple[Tensor, Tensor]:
    values, stride = subject.values(subject.images), subject.codec.stride
    size = round(SIDE * values.shape[-1])
    start = (values.shape[-1] - size) // 2
    begin = torch.full((len(values),), start)
    cropped = subject.images[..., start * stride : (start + size) * stride, start * stride : (start + size) * stride]
    inside = (..., slice(margin, size - margin), slice(margin, size - margin))
    return subject.values(cropped)[inside], operations.crop(values, begin, begin, size, size)[inside]


def _brightness(subject: Subject, factor: float) -> tuple[Tensor, Tensor]:
    changed = operations.brightness(subject.values(subject.images), subject.all(factor), subject.operators)
    return subject.of_pixels((subject.pixels * factor).clamp(0, 1)), changed


def _contrast(subject: Subject, factor: float) -> tuple[Tensor, Tensor]:
    pixels = subject.pixels
    weights = torch.tensor(operations.LUMA if pixels.shape[1] == 3 else [1.0])
    mean = torch.einsum("nchw,c->nhw", pixels, weights).mean((1, 2))[:, None, None, None]
    changed = operations.contrast(subject.values(subject.images), subject.all(factor), subject.operators)
    return subject.of_pixels((mean + factor * (pixels - mean)).clamp(0, 1)), changed


def _mixup(subject: Subject) -> tuple[Tensor, Tensor]:
    partner = torch.arange(len(subject.images)).roll(1)
    mixed = 0.7 * subject.pixels + 0.3 * subject.pixels[partner]
    return subject.of_pixels(mixed), operations.mixup(subject.values(subject.images), partner, subject.all(0.7))


def _erase(subject: Subject) -> tuple[Tensor, Tensor]:
    values, stride = subject.values(subject.images), subject.codec.stride
    side = values.shape[-1] // 2
    box = torch.tensor([[side // 2, side // 2, side, side]]).expand(len(values), 4)
    pixels = subject.pixels
    inside = slice(side // 2 * stride, (side // 2 + side) * stride)
    pixels[..., inside, inside] = 0.5
    return subject.of_pixels(pixels), operations.erase(values, box, subject.operators)


def _noise(subject: Subject) -> tuple[Tensor, Tensor]:
    values = subject.values(subject.images)
    uniform = torch.rand(values.shape, generator=torch.Generator().manual_seed(0))
    cells = Cells.of(subject.codec.spec, subject.codec.level_tables)
    return values, operations.quantization_noise(values, uniform, cells)


def _rounding(subject: Subject) -> tuple[Tensor, Tensor]:
    return unrounded_values(subject.codec, subject.images), subject.values(subject.images)


FLIPS = (
    Measured("horizontal flip", "pixels flipped", lambda s: _flips(s, -1, mirrored=False)),
    Measured("array mirrored", "pixels flipped", lambda s: _flips(s, -1, mirrored=True)),
    Measured("vertical flip", "pixels flipped", lambda s: _flips(s, -2, mirrored=False)),
    Measured("array mirrored", "pixels flipped", lambda s: _flips(s, -2, mirrored=True)),
)
OTHERS = (
    Measured("shift by 3 and -2 latents", "pixels shifted around the border", _shift),
    Measured("crop of 3/4", "pixels cropped", _crop),
    Measured("crop of 3/4, without its outer 4 latents", "pixels cropped", lambda s: _crop(s, 4)),
    Measured("brightness 0.7", "pixels times 0.7", lambda s: _brightness(s, 0.7)),
    Measured("brightness 1.3", "pixels times 1.3, clipped", lambda s: _brightness(s, 1.3)),
    Measured("contrast 0.7", "contrast of pixels", lambda s: _contrast(s, 0.7)),
    Measured("contrast 1.3", "contrast of pixels, clipped", lambda s: _contrast(s, 1.3)),
    Measured("mixup 0.7", "pixels mixed", _mixup),
    Measured("erasing a quarter", "pixels of the box gray", _erase),
    Measured("noise of a quantization step", "the values without it", _noise),
    Measured("none: rounding alone", "the same pixels, codes not rounded", _rounding),
)
OTHERS_AT = {"rgb": 1.5, "rgb-low": 0.375, "gray": 1.5, "gray-low": 0.375}
"""The rates at which the other transforms are measured."""


def signal_to_error(expected: Tensor, found: Tensor) -> float:
    """Return the ratio in dB; infinite for equal values."""
    expected, found = expected.double(), found.double()
    signal = (expected - expected.mean((0, 2, 3), keepdim=True)).square().sum()
    error = (expected - found).square().sum()
    return decibels(float(signal), float(error)) if error > 0 else float("inf")


def subjects(name: str, rates: Sequence[float | None], fit: Tensor, images: Tensor) -> Iterator[tuple[str, Subject]]:
    """Yield a label and the codec at each rate, with operators fitted to images uint8 (N, C, S, S)."""
    whole = load_codec(name)
    for rate in rates:
        codec = whole if rate is None else whole.with_planes(round(rate * whole.stride**2))
        operators = fit_operators(codec, [fit])
        assert operators is not None
        yield name if rate is None else f"{name} {rate:g}", Subject(codec, Operators(operators), images)


def load_squares(folder: Path, channels: int, size: int, count: int | None = None) -> Tensor:
    """Return pictures of a folder, uint8 (N, channels, size, size), prepared as for a data set; raises `CallError`."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".webp"))
    if count is not None:
        paths = paths[:: max(1, len(paths) // count)][:count]
    if not paths:
        raise CallError(f"{folder} has no pictures; name a folder with PNG, JPEG or WebP files")
    return torch.from_numpy(np.stack([load_pixels(path.read_bytes(), size, channels) for path in paths]))


@torch.no_grad()
def main() -> None:
    """Measure all codecs and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit", type=Path, required=True, help="folder of images that operators are fitted to")
    parser.add_argument("--images", type=Path, required=True, help="folder of images to measure on")
    parser.add_argument("--size", type=int, default=256, help="side in pixels of the squares")
    options = parser.parse_args()
    flips = ["| codec, bits a pixel | horizontal flip | mirrored | gain | vertical flip | mirrored | gain |"]
    labels: list[str] = []
    others: list[list[float]] = []
    for name, rates in CODECS.items():
        channels = 1 if name.startswith("gray") else 3
        fit = load_squares(options.fit, channels, options.size, FIT_IMAGES)
        images = load_squares(options.images, channels, options.size)
        for label, subject in subjects(name, rates, fit, images):
            found = [signal_to_error(*each.run(subject)) for each in FLIPS]
            across, mirrored, down, mirrored_down = (f"{value:.1f}" for value in found)
            gains = f"{found[0] - found[1]:.1f}", f"{found[2] - found[3]:.1f}"
            flips.append(f"| {label} | {across} | {mirrored} | {gains[0]} | {down} | {mirrored_down} | {gains[1]} |")
            if name not in OTHERS_AT or label == f"{name} {OTHERS_AT[name]:g}":
                labels.append(label)
                others.append([signal_to_error(*each.run(subject)) for each in OTHERS])
    flips.insert(1, "| --- " * 7 + "|")
    print("\n".join(flips), end="\n\n")
    print("| transform | compared with encoding | " + " | ".join(labels) + " |")
    print("| --- " * (2 + len(labels)) + "|")
    for number, each in enumerate(OTHERS):
        figures = (f"{row[number]:.1f}" if np.isfinite(row[number]) else "equal" for row in others)
        print(f"| {each.name} | {each.compared_with} | " + " | ".join(figures) + " |")


if __name__ == "__main__":
    main()

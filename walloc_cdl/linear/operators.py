"""`LatentOperators`: what flips, brightness and contrast do to latents, as linear maps that a data set stores.

Training needs no codec for them. `walloc_cdl.codec.fit.operators` fits them, `walloc_cdl.transforms` applies them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from walloc_cdl.errors import DamagedError
from walloc_cdl.spec import LatentSpec

REACH = 3
"""Latents that a flipped latent is computed from, along the axis that is flipped: itself and its two neighbors. The
grid is extended periodically, because the packet transform is periodic."""

FILE_NAME = "operators.safetensors"
FILE_PATH = f"codec/{FILE_NAME}"
"""Where a data set has its operators."""

MAX_OPERATORS_BYTES = 2**26
"""Maximum size in bytes of both flips; latents with more channels, above 1,672, have no operators."""

MAX_FILE_BYTES = 2 * MAX_OPERATORS_BYTES
"""More than the operators take with the header; no larger file is fetched or read."""


@dataclass(frozen=True, eq=False)
class LatentOperators:
    """Linear maps of latents z (K, h, w), in the units of inverse-companded values or of the levels.

    The horizontal flip mirrors the array and convolves it with `hflip_weight` along the width; the vertical flip does
    so along the height. Brightness and contrast scale the distance from the latent of a constant image.
    """

    hflip_weight: np.ndarray
    """float32 (K, K, 3): to a channel, from a channel, of the left neighbor, the latent and the right neighbor."""
    hflip_bias: np.ndarray
    """float32 (K,)."""
    vflip_weight: np.ndarray
    """float32 (K, K, 3): the same, from the upper to the lower neighbor."""
    vflip_bias: np.ndarray
    """float32 (K,)."""
    black: np.ndarray
    """float32 (K,): the latent of an image of zeros; pixels are from 0 to 1 here."""
    white: np.ndarray
    """float32 (K,): the latent of an image of ones."""
    mean_weight: np.ndarray
    """float32 (C, K): the mean of each source channel, from 0 to 1, follows from the mean of each latent channel."""
    mean_bias: np.ndarray
    """float32 (C,)."""

    def with_channels(self, num_channels: int, means: np.ndarray) -> LatentOperators:
        """Return the operators of the first channels of these latents; each other one has its mean everywhere.

        `means` has the value of each channel, in the units of the latents z.
        """
        values = np.asarray(means, np.float64)[num_channels : self.black.shape[0]]

        def cut(weight: np.ndarray, bias: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
            missing = weight[:rows, num_channels:].astype(np.float64)
            constant = (missing.sum(2) if missing.ndim == 3 else missing) @ values
            return np.ascontiguousarray(weight[:rows, :num_channels]), (bias[:rows] + constant).astype(np.float32)

        hflip = cut(self.hflip_weight, self.hflip_bias, num_channels)
        vflip = cut(self.vflip_weight, self.vflip_bias, num_channels)
        mean = cut(self.mean_weight, self.mean_bias, len(self.mean_bias))
        return LatentOperators(*hflip, *vflip, self.black[:num_channels], self.white[:num_channels], *mean)

    def in_units(self, scale: np.ndarray, mean: np.ndarray) -> LatentOperators:
        """Return the operators of x = scale (z - mean), such as the model input; both are (K,)."""
        scale, mean = np.asarray(scale, np.float64), np.asarray(mean, np.float64)

        def of_x(weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            constant = weight.astype(np.float64).sum(2) @ mean + bias - mean
            return (weight * (scale[:, None] / scale)[:, :, None]).astype(np.float32), (scale * constant).astype(
                np.float32
            )

        hflip, vflip = of_x(self.hflip_weight, self.hflip_bias), of_x(self.vflip_weight, self.vflip_bias)
        return replace(
            LatentOperators(*hflip, *vflip, self.black, self.white, self.mean_weight, self.mean_bias),
            black=(scale * (self.black - mean)).astype(np.float32),
            white=(scale * (self.white - mean)).astype(np.float32),
            mean_weight=(self.mean_weight / scale).astype(np.float32),
            mean_bias=(self.mean_bias + self.mean_weight @ mean).astype(np.float32),
        )


def operators_to_bytes(operators: LatentOperators) -> bytes:
    """Serialize operators as one safetensors file; the same operators give the same bytes."""
    return save({name: np.ascontiguousarray(getattr(operators, name), np.float32) for name in _NAMES})


def operators_from_bytes(data: bytes, *, spec: LatentSpec, origin: str) -> LatentOperators:
    """Return the operators of an untrusted file that `operators_to_bytes` wrote.

    Raises `DamagedError`, naming `origin`, unless all are finite and have the shapes for latents of `spec`.
    """
    try:
        tensors, shapes = load(data), operator_shapes(spec)
        if differing := sorted(shapes.keys() ^ tensors.keys()):
            raise ValueError(f"{differing[0][:60]!r} is {'missing' if differing[0] in shapes else 'unknown'}")
        for name, shape in shapes.items():
            tensor = tensors[name]
            if tensor.dtype != np.float32 or tensor.shape != shape:
                raise ValueError(f"{name} is {tensor.dtype} {list(tensor.shape)}, expected float32 {list(shape)}")
            if not np.isfinite(tensor).all():
                raise ValueError(f"{name} has values that are not finite")
    except (SafetensorError, ValueError) as error:
        raise DamagedError(
            f"{origin}: not operators of these latents ({error}); "
            "restore the file from a copy or prepare the data set again"
        ) from error
    return LatentOperators(**tensors)


def operator_shapes(spec: LatentSpec) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of the tensors in the file, in the order of the fields of `LatentOperators`."""
    channels, sources = spec.latent_channels, spec.source_channels
    shapes = ((channels, channels, REACH), (channels,)) * 2 + ((channels,),) * 2 + ((sources, channels), (sources,))
    return dict(zip(_NAMES, shapes, strict=True))


_NAMES = tuple(LatentOperators.__dataclass_fields__)

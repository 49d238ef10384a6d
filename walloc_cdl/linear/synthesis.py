"""`LinearSynthesis`: the fixed linear layer from a small neighborhood of latents to a block of pixels.

A data set has one for each block size, so that a classifier can run on a pixel grid of any multiple of the latent
grid without a decoder. `walloc_cdl.codec.fit.synthesis` fits it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.spec import LatentSpec

NEIGHBORHOOD = 5
"""Side, in latents, of the neighborhood that a block of pixels is computed from. The grid is extended periodically,
because the packet transform is periodic: latents at one border hold detail of the opposite one."""

FILE_NAME = "synthesis.safetensors"

MAX_BANK_BYTES = 2**26
"""Maximum size of the weights of all block sizes in bytes. RGB at a reduction of 16 takes 0.7 MB; 198 channels with 198
latent channels get blocks up to 3 pixels."""

MAX_FILE_BYTES = 2 * MAX_BANK_BYTES
"""More than the weights take with biases, statistics and the header; no larger file is fetched or read."""


@dataclass(frozen=True)
class LinearSynthesis:
    """A matrix from 5 × 5 latents to a block of b × b pixels.

    For inverse-companded latents z of shape (K, h, w), padded circularly by two on each side, the
    convolution `weight * z + bias` has the shape (C b², h, w), channels ordered
    (c, row, column) as `torch.nn.functional.pixel_shuffle(…, b)` expects; shuffling it gives the image
    (C, h b, w b) in [-0.5, 0.5].
    """

    weight: np.ndarray
    """float32 (C b², K, 5, 5)."""
    bias: np.ndarray
    """float32 (C b²,)."""
    pixel_mean: np.ndarray
    """float32 (C,): mean of the pixels on this grid over the train split, in [-0.5, 0.5]."""
    pixel_std: np.ndarray
    """float32 (C,): standard deviation of these pixels."""

    @property
    def block(self) -> int:
        """Side of the block of one latent in pixels, b."""
        return round((self.weight.shape[0] / self.pixel_mean.shape[0]) ** 0.5)

    def with_channels(self, num_channels: int, means: np.ndarray) -> LinearSynthesis:
        """Return the layer for the first channels of these latents; each other one has its mean everywhere.

        `means` has the value of each channel, in the units of the latents z.
        """
        missing = self.weight[:, num_channels:].astype(np.float64).sum((2, 3))
        constant = missing @ np.asarray(means, np.float64)[num_channels : self.weight.shape[1]]
        bias = (self.bias + constant).astype(np.float32)
        return replace(self, weight=np.ascontiguousarray(self.weight[:, :num_channels]), bias=bias)


SynthesisBank = dict[int, LinearSynthesis]
"""A `LinearSynthesis` for every block size that a data set offers."""


def synthesis_to_bytes(bank: SynthesisBank) -> bytes:
    """Serialize a bank as one safetensors file; the same bank gives the same bytes."""
    tensors = {}
    for block, layer in sorted(bank.items()):
        for name in ("weight", "bias", "pixel_mean", "pixel_std"):
            tensors[f"{block:02d}.{name}"] = np.ascontiguousarray(getattr(layer, name), dtype=np.float32)
    return save(tensors)


def synthesis_from_bytes(data: bytes, *, spec: LatentSpec, origin: str) -> SynthesisBank:
    """Return the bank of an untrusted file that `synthesis_to_bytes` wrote.

    Raises `DamagedError`, naming `origin`, unless all layers are finite and have the shapes for latents of `spec`.
    """
    try:
        tensors = load(data)
        blocks = sorted({int(name.partition(".")[0]) for name in tensors})
        shapes = {name: shape for block in blocks for name, shape in _shapes(block, spec).items()}
        if differing := sorted(shapes.keys() ^ tensors.keys()):
            raise ValueError(f"{differing[0]!r} is {'missing' if differing[0] in shapes else 'unknown'}")
        for name, tensor in sorted(tensors.items()):  # safetensors returns them in random order
            if tensor.dtype != np.float32 or tensor.shape != shapes[name]:
                raise ValueError(
                    f"{name} is {tensor.dtype} {list(tensor.shape)}, expected float32 {list(shapes[name])}"
                )
            if not np.isfinite(tensor).all() or (name.endswith("pixel_std") and not (tensor > 0).all()):
                raise ValueError(f"{name} has values that are not finite, or deviations that are not positive")
    except (SafetensorError, ValueError) as error:
        raise DamagedError(
            f"{origin}: not a linear synthesis of these latents ({error}); "
            "restore the file from a copy or prepare the data set again"
        ) from error
    return {block: LinearSynthesis(*(tensors[name] for name in _shapes(block, spec))) for block in blocks}


def _shapes(block: int, spec: LatentSpec) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of one layer's tensors in the file, in the order of `LinearSynthesis`."""
    channels = spec.source_channels
    rows = channels * block**2
    return {
        f"{block:02d}.weight": (rows, spec.latent_channels, NEIGHBORHOOD, NEIGHBORHOOD),
        f"{block:02d}.bias": (rows,),
        f"{block:02d}.pixel_mean": (channels,),
        f"{block:02d}.pixel_std": (channels,),
    }


def choose_block(bank: SynthesisBank, block: int) -> LinearSynthesis:
    """Return the layer for blocks of `block` pixels a side; raise `CallError`, with the available sizes, if missing."""
    if block not in bank:
        raise CallError(f"no linear synthesis for blocks of {block} pixels a latent; this data set has {sorted(bank)}")
    return bank[block]

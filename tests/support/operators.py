"""Operators of random numbers, and photos that are smooth like real ones."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from walloc_cdl.latents import load_manifest, write_manifest
from walloc_cdl.linear.operators import FILE_PATH, LatentOperators, operator_shapes
from walloc_cdl.spec import LatentSpec


def random_operators(spec: LatentSpec, seed: int = 0) -> LatentOperators:
    rng = np.random.default_rng(seed)
    return LatentOperators(*(rng.standard_normal(shape).astype(np.float32) for shape in operator_shapes(spec).values()))


def remove_operators(folder: Path) -> None:
    """Make a data set one that an earlier version has made."""
    manifest = load_manifest(folder)
    write_manifest(folder, replace(manifest, files={n: entry for n, entry in manifest.files.items() if n != FILE_PATH}))
    for parent in (folder, folder / "copy"):
        (parent / FILE_PATH).unlink()


def photos(count: int = 24, channels: int = 3, side: int = 64, seed: int = 0) -> torch.Tensor:
    """Images uint8 (N, C, side, side) whose spectrum falls as that of photos does, within 0 to 255."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.fft.rfft2(torch.randn(count, channels, 2 * side, 2 * side, generator=generator))
    down, across = torch.fft.fftfreq(2 * side)[:, None], torch.fft.rfftfreq(2 * side)
    radius = (down.square() + across.square()).sqrt().clamp_min(1 / side)
    smooth = torch.fft.irfft2(noise / radius**1.5)[..., :side, :side]
    return (128 + 40 * smooth / smooth.std()).round().clamp(0, 255).to(torch.uint8)

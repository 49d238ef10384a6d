"""A table of prefixes of bit planes: bytes, bits and the PSNR that the fit expects."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from walloc_cdl.planes.rows import plane_bytes

if TYPE_CHECKING:
    from walloc_cdl.spec import LatentSpec

HALVINGS = 5
"""Prefixes that are shown besides all planes: half of them, a quarter, …"""


def prefixes(num_planes: int) -> list[int]:
    """Return the numbers of planes that reports show, ascending: all of them, half, …, each at least one.

    >>> prefixes(384), prefixes(5)
    ([12, 24, 48, 96, 192, 384], [1, 2, 5])
    """
    return sorted({num_planes >> halving for halving in range(HALVINGS + 1)} - {0})


def plane_table(
    spec: LatentSpec, fit: dict[str, Any], grid: Sequence[int] | None = None, counts: Sequence[int] | None = None
) -> list[dict[str, Any]]:
    """Return for prefixes of a spec's planes their number, channels, bits for each pixel or time step, and more.

    `psnr_db` is the PSNR that the fit expects, from `fit`, its description in the codec's `config.json`, if that has
    it. `bytes` are those of a sample with the latent grid `grid`, if that is given; for audio of a known rate,
    `bytes_per_s` are those of a second. `counts` chooses the prefixes.
    """
    curve = fit.get("psnr_db")
    points = spec.stride ** (len(spec.axes) - 1)
    rows = []
    for count in counts or prefixes(spec.num_planes):
        row: dict[str, Any] = {"planes": count}
        if grid is not None:
            row["bytes"] = count * plane_bytes(grid)
        elif spec.sample_rate:
            row["bytes_per_s"] = count / points * spec.sample_rate / 8
        row |= {"channels": spec.with_planes(count).latent_channels, "bits": count / points}
        if isinstance(curve, list) and count < len(curve) and isinstance(curve[count], (int, float)):
            row["psnr_db"] = float(curve[count])
        rows.append(row)
    return rows

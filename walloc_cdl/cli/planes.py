"""The bit planes of a codec or a data set in reports: bytes, bits and the fit's expected PSNR of some prefixes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from walloc_cdl.planes.table import plane_table

if TYPE_CHECKING:
    from walloc_cdl.spec import LatentSpec

SHOWN_SIDE = 256
"""Pixels a side of the images to which the bytes of a codec refer: the default of `cdl prepare`."""


def plane_texts(spec: LatentSpec, table: Sequence[dict[str, Any]], *, of: str = "") -> dict[str, object]:
    """Return the rows of a report for `plane_table`; `of` says to what the bytes refer."""
    point = "pixel" if spec.kind == "image" else "time step"
    return {f"{row['planes']} planes": _row_text(row, point, of) for row in table}


def codec_plane_table(spec: LatentSpec, fit: dict[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """Return `plane_table` of a codec, and to what its bytes refer: images of `SHOWN_SIDE` pixels."""
    if spec.kind != "image" or SHOWN_SIDE % spec.stride:
        return plane_table(spec, fit), ""
    return plane_table(spec, fit, (SHOWN_SIDE // spec.stride,) * 2), f" at {SHOWN_SIDE} pixels"


def curve_text(table: Sequence[dict[str, Any]]) -> str:
    """Return bits and expected PSNR of prefixes in one line; empty if the PSNR is not known.

    >>> curve_text([{"bits": 1.5, "psnr_db": 28.9}, {"bits": 3.0, "psnr_db": 32.8}])
    '28.9 dB at 1.5, 32.8 at 3'
    """
    known = [row for row in table if "psnr_db" in row]
    texts = [f"{row['psnr_db']:.1f}{'' if number else ' dB'} at {row['bits']:.3g}" for number, row in enumerate(known)]
    return ", ".join(texts)


def _row_text(row: dict[str, Any], point: str, of: str) -> str:
    parts = [f"{row['bytes']:,} bytes{of}"] if "bytes" in row else []
    parts += [f"{row['bytes_per_s']:,.0f} bytes a second"] if "bytes_per_s" in row else []
    parts += [f"{row['bits']:.4g} bits a {point}", f"{row['channels']} channel{'s' if row['channels'] > 1 else ''}"]
    if "psnr_db" in row:
        parts.append(f"{row['psnr_db']:.2f} dB expected")
    return ", ".join(parts)

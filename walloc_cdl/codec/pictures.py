"""Decoded signals as pictures, for people to look at."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image


def to_picture(signal: np.ndarray) -> Image:
    """Return the picture of a signal (C, H, W), uint8, or float of any range, which is shown in false color."""
    from PIL import Image

    if signal.dtype != np.uint8 or len(signal) not in (1, 3):
        signal = false_color(signal, signal)
    return Image.fromarray(signal[0] if len(signal) == 1 else np.ascontiguousarray(signal.transpose(1, 2, 0)))


def false_color(array: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Convert an array (C, H, W) to an image uint8 (1 or 3, H, W).

    With more than two channels, red, green and blue are the channels at 5/6, 3/6 and 1/6 of C, so that red is the
    longest wavelength of cubes that begin with the shortest; otherwise the first channel is shown in gray. Each is
    scaled so that the 2nd and 98th percentiles of `reference` become black and white.
    """
    count = len(array)
    bands = [5 * count // 6, count // 2, count // 6] if count > 2 else [0]
    low, high = (np.percentile(reference[bands], share, axis=(1, 2), keepdims=True) for share in (2, 98))
    return (255 * np.clip((array[bands] - low) / np.maximum(high - low, 1e-6), 0, 1)).round().astype(np.uint8)


def to_html(title: str, pictures: Sequence[tuple[Image, str]], *, side: int = 96) -> str:
    """Return a title with pictures and their captions below it, for notebooks; texts are escaped.

    Pictures are reduced to at most `side` pixels a side.
    """
    cells = []
    for picture, caption in pictures:
        small, stream = picture.copy(), io.BytesIO()
        small.thumbnail((side, side))
        small.save(stream, "PNG")
        data = base64.b64encode(stream.getvalue()).decode()
        text = html.escape(caption)
        cells.append(
            f'<figure style="display:inline-block;margin:4px;text-align:center"><img alt="{text}" '
            f'src="data:image/png;base64,{data}"><figcaption>{text}</figcaption></figure>'
        )
    return f"<div><code>{html.escape(title)}</code><br>{''.join(cells)}</div>"

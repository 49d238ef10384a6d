"""Resizing, compared with Pillow."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.rows_first import resized_by_pillow
from walloc_cdl.kernels.cpu.resample import SUPPORTS, resample


def by_pillow(pixels, size, kernel, box):
    """Return the result of Pillow as (C, h, w), computed channel by channel."""
    planes = [Image.fromarray(plane) for plane in np.ascontiguousarray(pixels.transpose(2, 0, 1))]
    return np.stack([np.asarray(resized_by_pillow(plane, size[::-1], kernel, box)) for plane in planes])


@st.composite
def parts(draw, width, height):
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    return left, top, draw(st.integers(left + 1, width)), draw(st.integers(top + 1, height))


@st.composite
def calls(draw):
    height, width, *size = (draw(st.integers(1, 150)) for _ in range(4))
    seed, channels, extreme = draw(st.integers(0, 99)), draw(st.sampled_from([1, 3, 4])), draw(st.booleans())
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)
    pixels = np.where(pixels < 128, 0, 255).astype(np.uint8) if extreme else pixels
    kernel = draw(st.sampled_from(sorted(SUPPORTS)))
    return pixels, tuple(size), kernel, draw(parts(width, height)), draw(parts(*size[::-1]))


@settings(max_examples=150, deadline=None)
@given(calls())
def test_every_byte_equals_pillow(call):
    pixels, size, kernel, box, (left, top, right, bottom) = call
    found = resample(pixels, size, kernel, box=box, window=(left, top, right, bottom))
    np.testing.assert_array_equal(found, by_pillow(pixels, size, kernel, box)[:, top:bottom, left:right])


@pytest.mark.parametrize(("height", "width"), [(1280, 1920), (1920, 1280), (100, 90), (256, 300)])
def test_whole_photos(height, width):
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    size = 256 * height // min(height, width), 256 * width // min(height, width)
    expected = np.asarray(Image.fromarray(noise).resize(size[::-1], Image.Resampling.LANCZOS)).transpose(2, 0, 1)
    np.testing.assert_array_equal(resample(noise, size, "lanczos"), expected)
    reversed_rows = resample(noise[::-1], size, "lanczos")  # not a contiguous array
    np.testing.assert_array_equal(reversed_rows, resample(noise[::-1].copy(), size, "lanczos"))

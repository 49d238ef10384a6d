"""Resizing, compared with Pillow."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.rows_first import resized_by_pillow
from walloc_cdl.kernels.cpu.pixel_layout import interleaved
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


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_views_in_any_order_are_copied(channels):
    pixels = np.random.default_rng(1).integers(0, 256, (75, 131, channels), dtype=np.uint8)
    for view in (pixels, pixels[::-1], pixels[:, ::-1], pixels.swapaxes(0, 1), pixels.swapaxes(0, 1)[::-1, 3:-2]):
        copy = interleaved(view)
        assert copy.flags.c_contiguous
        np.testing.assert_array_equal(copy, view)


BEYOND = """
import ctypes, mmap
import numpy as np
from walloc_cdl.kernels.cpu.resample import resample

memory = mmap.mmap(-1, 3 * mmap.PAGESIZE)
begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
protect = ctypes.CDLL(None, use_errno=True).mprotect
protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
assert protect(begin + 2 * mmap.PAGESIZE, mmap.PAGESIZE, 0) == 0
whole = np.frombuffer(memory, np.uint8, 2 * mmap.PAGESIZE)
for height, width, channels in ((37, 41, 3), (16, 16, 3), (5, 33, 1), (1, 1, 3), (48, 21, 3)):
    pixels = whole[whole.size - height * width * channels :].reshape(height, width, channels)
    for size in ((8, 8), (20, 31), (64, 50)):
        resample(pixels, size, "lanczos")
print("done")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no mprotect")
def test_nothing_beyond_the_last_pixel_is_read():
    """A read of the page behind the pixels would end the process."""
    found = subprocess.run([sys.executable, "-c", BEYOND], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "done\n"), found.stderr

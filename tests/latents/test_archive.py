import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from walloc_cdl.errors import CallError
from walloc_cdl.latents.archive import archive_from_bytes, archive_to_bytes, container

sides = st.integers(1, 9)


@settings(max_examples=80, deadline=None)
@given(st.integers(1, 50), sides, sides, st.integers(0, 2**32 - 1))
def test_codes_come_back(num_channels, height, width, seed):
    codes = np.random.default_rng(seed).integers(0, 256, (num_channels, height, width), dtype=np.uint8)
    data = archive_to_bytes(codes)
    back = archive_from_bytes(data, num_channels)
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, codes)


@pytest.mark.parametrize("num_channels", [1, 3, 12])
def test_one_position(num_channels):
    codes = np.arange(1, num_channels + 1, dtype=np.uint8).reshape(-1, 1, 1)
    np.testing.assert_array_equal(archive_from_bytes(archive_to_bytes(codes), num_channels), codes)


@pytest.mark.parametrize(("num_channels", "name"), [(12, "WEBP"), (48, "WEBP"), (4, "PNG"), (16, "PNG"), (1, "PNG")])
def test_the_container_is_an_ordinary_picture(num_channels, name):
    data = archive_to_bytes(np.full((num_channels, 4, 6), 128, np.uint8))
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.format == name == container(num_channels).upper()
        planes = 3 if name == "WEBP" else 1
        assert picture.width * picture.height * planes == num_channels * 4 * 6


def test_constant_codes_cost_next_to_nothing_and_noise_its_entropy():
    noise = np.random.default_rng(0).integers(0, 256, (12, 32, 32), dtype=np.uint8)
    assert len(archive_to_bytes(np.full_like(noise, 128))) < 200
    assert noise.size <= len(archive_to_bytes(noise)) < 1.1 * noise.size


def test_beyond_the_container():
    with pytest.raises(CallError, match="beyond WebP's 16383 pixels a side; use tiles"):
        archive_to_bytes(np.zeros((3, 1, 16_384), np.uint8))

"""Conversion of images with embedded color profiles, and profiles that are ignored."""

from __future__ import annotations

import io
import zlib

import imagecodecs
import numpy as np
import pytest
from PIL import Image, ImageCms

from datasets_prep.decode.images import load_native
from tests.support import profiles
from tests.support.odd_inputs import chunk
from tests.support.pictures import encoded, picture

PICTURE = picture(1, 32, 32)
RGB = np.asarray(PICTURE)


def loaded(data: bytes, channels: int = 3, icc: str = "srgb") -> np.ndarray:
    """Return the pixels, (H, W, C)."""
    return load_native(data, channels, 1, profiles=icc).transpose(1, 2, 0)


def close(found: np.ndarray, wanted: np.ndarray) -> bool:
    return bool(np.abs(found - wanted).max() <= 1.5)


def test_profiles_are_ignored_unless_asked_for():
    np.testing.assert_array_equal(loaded(encoded(PICTURE, icc_profile=profiles.adobe_rgb()), icc="ignore"), RGB)


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "WEBP", "JPEG"])
def test_another_color_space_becomes_srgb(file_format):
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 100, "subsampling": 0}}.get(file_format, {})
    with Image.open(io.BytesIO(encoded(PICTURE, file_format, **options))) as image:
        pixels = np.asarray(image.convert("RGB"))
    wanted = profiles.adobe_to_srgb(pixels)
    assert np.abs(wanted - pixels).max() > 20
    assert close(loaded(encoded(PICTURE, file_format, icc_profile=profiles.adobe_rgb(), **options)), wanted)


def test_gray_profile_with_another_curve():
    gray = np.asarray(PICTURE.convert("L"))
    data = encoded(PICTURE.convert("L"), icc_profile=profiles.gray())
    wanted = profiles.gray_to_srgb(gray)
    assert close(loaded(data, 1)[..., 0], wanted)
    assert close(loaded(data, 3), wanted[..., None].repeat(3, 2))


def test_sixteen_bits_are_reduced_first():
    deep = RGB.astype(np.uint16) * 256 + 99
    plain = imagecodecs.png_encode(deep)
    with_profile = plain[:33] + iccp(profiles.adobe_rgb()) + plain[33:]
    assert close(loaded(with_profile), profiles.adobe_to_srgb(RGB))


def iccp(profile: bytes) -> bytes:
    """Return the PNG chunk that holds a profile."""
    return chunk(b"iCCP", b"by hand\0\0" + zlib.compress(profile))


def test_palettes_are_converted_and_transparency_is_kept():
    palette = PICTURE.quantize(16)
    colors = np.array(palette.getpalette(), np.uint8).reshape(-1, 3)[np.asarray(palette)]
    wanted = profiles.adobe_to_srgb(colors)
    wanted[np.asarray(palette) == 3] = 255
    assert close(loaded(encoded(palette, icc_profile=profiles.adobe_rgb(), transparency=3)), wanted)
    color, gray = PICTURE.copy(), PICTURE.convert("L")
    mask = np.where(np.arange(32) < 16, 0, 255).astype(np.uint8)[None].repeat(32, 0)
    for image in (color, gray):
        image.putalpha(Image.fromarray(mask))
    wanted = np.where(mask[..., None] > 0, profiles.adobe_to_srgb(RGB), 255)
    assert close(loaded(encoded(color, icc_profile=profiles.adobe_rgb())), wanted)
    wanted = np.where(mask > 0, profiles.gray_to_srgb(np.asarray(PICTURE.convert("L"))), 255)
    assert close(loaded(encoded(gray, icc_profile=profiles.gray()), 1)[..., 0], wanted)


def test_cmyk_is_converted_by_its_profile():
    colors = np.full((16, 3), (0, 128, 128))  # Lab 0, 0, 0: black
    colors[0] = (255, 128, 128)  # paper
    colors[8] = (136, 208, 195)  # full cyan, which this printer has as sRGB red: Lab 53.2, 80.1, 67.2
    cyan = Image.new("CMYK", (8, 8), (255, 0, 0, 0))
    paper = Image.new("CMYK", (8, 8), 0)
    for file_format in ("TIFF", "JPEG"):
        found = loaded(encoded(cyan, file_format, icc_profile=profiles.ink(colors)))
        assert np.abs(found - np.array([255, 0, 0])).max() <= 12
        assert loaded(encoded(paper, file_format, icc_profile=profiles.ink(colors))).min() >= 254
        assert loaded(encoded(cyan, file_format)).reshape(-1, 3)[0].tolist() == [0, 255, 255]


@pytest.mark.parametrize(
    "profile",
    [
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        profiles.gray(),
        profiles.adobe_rgb()[:100],
        b"no profile",
    ],
    ids=["sRGB itself", "of gray", "cut", "none"],
)
def test_profiles_that_change_nothing(profile):
    np.testing.assert_array_equal(loaded(encoded(PICTURE, icc_profile=profile)), RGB)


def test_one_bit_images_have_no_shades_to_convert():
    bits = PICTURE.convert("1")
    found = loaded(encoded(bits, icc_profile=profiles.gray()), 1)[..., 0]
    np.testing.assert_array_equal(found, np.asarray(bits) * np.uint8(255))

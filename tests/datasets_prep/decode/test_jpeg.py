"""The fast decoder of JPEG files, compared with PIL."""

from __future__ import annotations

import io
import random

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageOps

from datasets_prep.decode import images, jpeg
from datasets_prep.decode.images import BadImageError, load_native, load_pixels, load_whole
from tests.support.mutated_jpegs import SUBSAMPLINGS, jpeg_files, mutated
from tests.support.pictures import encoded, picture


def decoded_fast(data: bytes) -> np.ndarray | None:
    with Image.open(io.BytesIO(data)) as image:
        return jpeg.decode_jpeg(image, data)


def by_pil(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        pixels = np.asarray(image)
    return pixels[..., None] if pixels.ndim == 2 else pixels


@pytest.fixture
def without_fast_decoder(monkeypatch):
    """A function that calls another with PIL alone."""

    def call(function, *arguments, **named):
        with monkeypatch.context() as patch:
            patch.setattr(images, "decode_jpeg", lambda image, encoded: None)
            return function(*arguments, **named)

    return call


SIZES = [(1, 1), (1, 7), (8, 8), (17, 9), (33, 65), (640, 427), (2500, 3)]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_ordinary_files_have_the_bytes_of_pil(size, progressive, mode):
    for subsampling in ("4:4:4", "4:2:2", "4:2:0") if mode == "RGB" else (None,):
        for options in ({}, {"restart_marker_blocks": 2}, {"quality": 100}):
            named = {**options, "progressive": progressive, **({"subsampling": subsampling} if subsampling else {})}
            data = encoded(picture(3, *size, mode), "JPEG", **named)
            found = decoded_fast(data)
            assert found is not None
            np.testing.assert_array_equal(found, by_pil(data))


@pytest.mark.parametrize("subsampling", SUBSAMPLINGS)
def test_every_subsampling_has_the_bytes_of_pil(subsampling):
    data = simplejpeg.encode_jpeg(np.array(picture(4, 75, 53)), colorsubsampling=subsampling)
    np.testing.assert_array_equal(decoded_fast(data), by_pil(data))


def test_the_longest_sides(without_fast_decoder):
    for size in ((65500, 2), (2, 65500)):
        data = encoded(picture(5, *size), "JPEG")
        assert decoded_fast(data) is not None
        np.testing.assert_array_equal(load_whole(data, 3), without_fast_decoder(load_whole, data, 3))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_oriented_files(orientation, mode):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(6, 47, 31, mode), "JPEG", exif=exif)
    assert decoded_fast(data) is not None
    with Image.open(io.BytesIO(data)) as image:
        upright = np.asarray(ImageOps.exif_transpose(image).convert("RGB")).transpose(2, 0, 1)
    np.testing.assert_array_equal(load_whole(data, 3), upright)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_every_way_to_load_gives_the_pixels_of_pil(mode, channels, without_fast_decoder):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(7, 301, 200, mode), "JPEG", exif=exif)
    calls = [
        (load_whole, data, channels),
        (load_native, data, channels, 16),
        *[(load_pixels, data, size, channels) for size in (24, 64, 200)],
    ]
    for call in calls:
        np.testing.assert_array_equal(call[0](*call[1:]), without_fast_decoder(*call))
    for crop in ("center", "pad"):
        for size in (16, 20, 31, 48):
            named = {"crop": crop, "decoder": "pil-scaled"}
            found = load_pixels(data, size, channels, **named)
            np.testing.assert_array_equal(found, without_fast_decoder(load_pixels, data, size, channels, **named))


def test_results_share_no_memory():
    data = encoded(picture(8, 64, 64, "L"), "JPEG")
    first = load_pixels(data, 64, 1)
    kept = first.copy()
    load_pixels(encoded(picture(9, 64, 64, "L"), "JPEG"), 64, 1)
    np.testing.assert_array_equal(first, kept)


def with_marker(data: bytes, old: int, new: int) -> bytes:
    return data.replace(bytes([0xFF, old]), bytes([0xFF, new]), 1)


COLOR = encoded(picture(10), "JPEG")
UNUSUAL = {
    "CMYK": encoded(picture(10).convert("CMYK"), "JPEG"),
    "RGB by Adobe's marker": encoded(picture(10), "JPEG", keep_rgb=True),
    "arithmetic coding": with_marker(COLOR, 0xC0, 0xC9),
    "without its end": COLOR[:-2],
    "truncated": encoded(picture(10, 300, 200), "JPEG")[:-500],
    "garbage between segments": COLOR[:20] + b"\0\0\0" + COLOR[20:],
    "12 bits": COLOR.replace(b"\xff\xc0\x00\x11\x08", b"\xff\xc0\x00\x11\x0c"),
    "a PNG": encoded(picture(10), "PNG"),
}


@pytest.mark.parametrize("kind", UNUSUAL)
def test_other_files_stay_with_pil(kind):
    try:
        with Image.open(io.BytesIO(UNUSUAL[kind])) as image:
            assert jpeg.decode_jpeg(image, UNUSUAL[kind]) is None
    except Image.UnidentifiedImageError:
        pass  # PIL refuses such a file before it is decoded


def test_a_library_that_decodes_otherwise_is_not_used(monkeypatch):
    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *rest, **named: decode(*rest, **named, fastupsample=True))
    jpeg.same_bytes_as_pil.cache_clear()
    try:
        assert not jpeg.same_bytes_as_pil()
        assert decoded_fast(COLOR) is None
    finally:
        jpeg.same_bytes_as_pil.cache_clear()


def outcome(data: bytes, channels: int) -> np.ndarray | str:
    try:
        return load_whole(data, channels)
    except BadImageError as error:
        return str(error)


def check_mutated(seed: int, count: int, without_fast_decoder) -> None:
    random_, files = random.Random(seed), jpeg_files()
    for number in range(count):
        data = mutated(random_, random_.choice(files))
        channels = random_.choice((1, 3))
        expected, found = without_fast_decoder(outcome, data, channels), outcome(data, channels)
        assert type(found) is type(expected), (seed, number)
        assert np.array_equal(found, expected), (seed, number)


def test_damaged_files_have_the_outcome_of_pil(without_fast_decoder):
    check_mutated(0, 200, without_fast_decoder)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 5))
def test_many_damaged_files_have_the_outcome_of_pil(seed, without_fast_decoder):
    check_mutated(seed, 5000, without_fast_decoder)

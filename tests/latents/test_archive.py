import io
import json
import os
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.support.small_sets import make_spec
from walloc_cdl.canonical import canonical_json
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.latents.archive import (
    CONTAINERS,
    archive_from_bytes,
    archive_to_bytes,
    codes_from_picture,
    container_of_name,
    default_container,
    find_container,
    picture_to_bytes,
    read_info,
)
from walloc_cdl.latents.archive import jxl as jxl_container
from walloc_cdl.spec import LatentSpec

sides = st.integers(1, 9)
containers = st.sampled_from(sorted(CONTAINERS))


def audio_spec(channels: int, extra_frames: int = 0) -> LatentSpec:
    return LatentSpec("cd" * 32, "audio", 2, channels, 4, 8, "normal", extra_frames, 44_100)


def reference():
    """Return the module of PyPI `walloc`; skip the test if it is missing, unless that is forbidden."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from walloc import walloc
    except ImportError as error:
        if os.environ.get("CDL_REQUIRE_REFERENCE"):
            raise
        pytest.skip(f"the reference cannot be imported: {error}")
    return walloc


def draw(rng, spec: LatentSpec, *grid: int) -> np.ndarray:
    low, high = spec.byte_range
    return rng.integers(low, high + 1, (spec.latent_channels, *grid), dtype=np.uint8)


def archived(codes: np.ndarray, spec: LatentSpec, container: str | None = None, **changes) -> bytes:
    shape = (spec.source_channels, *((size - spec.extra_frames) * spec.stride for size in codes.shape[1:]))
    return archive_to_bytes(codes, spec, **{"signal_shape": shape, "container": container} | changes)


@settings(max_examples=250, deadline=None)
@given(containers, st.integers(1, 50), sides, sides, st.integers(2, 8), st.integers(0, 2**32 - 1))
def test_codes_and_sizes_come_back(container, channels, height, width, bits, seed):
    rng = np.random.default_rng(seed)
    spec = make_spec(channels, bits=bits)
    codes = draw(rng, spec, height, width)
    signal_shape = (1, *(8 * size - int(rng.integers(8)) for size in (height, width)))
    data = archived(codes, spec, container, signal_shape=signal_shape, codec="näme")
    archive = archive_from_bytes(data)
    assert archive.codes.dtype == np.uint8
    np.testing.assert_array_equal(archive.codes, codes)
    info = archive.info
    assert (info.spec, info.codec, info.signal_shape) == (spec, "näme", signal_shape)
    assert info == read_info(data)
    assert archived(codes, spec, container, signal_shape=signal_shape, codec="näme") == data


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("channels", range(1, 51))
def test_every_number_of_channels_in_every_container(container, channels):
    codes = draw(np.random.default_rng(channels), make_spec(channels), 3, 5)
    np.testing.assert_array_equal(archive_from_bytes(archived(codes, make_spec(channels), container)).codes, codes)


@settings(max_examples=60, deadline=None)
@given(containers, st.integers(1, 30), st.integers(1, 700), st.integers(0, 2), st.integers(0, 2**32 - 1))
def test_folded_audio(container, channels, frames, extra_frames, seed):
    spec = audio_spec(channels, extra_frames)
    codes = draw(np.random.default_rng(seed), spec, frames + extra_frames)
    archive = archive_from_bytes(archived(codes, spec, container))
    np.testing.assert_array_equal(archive.codes, codes)
    rows, width = archive.info.layout.tile
    assert width == min(128, codes.shape[1])
    assert rows * width - codes.shape[1] < width


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("bits", [2, 5, 8])
def test_constant_codes_extremes_and_pixels(container, bits):
    spec = make_spec(5, bits=bits)
    for value in (*spec.byte_range, 1 << (bits - 1)):
        codes = np.full((5, 11, 7), value, np.uint8)
        np.testing.assert_array_equal(archive_from_bytes(archived(codes, spec, container)).codes, codes)
    pixels = make_spec(3, companding="none")
    ramp = np.arange(256, dtype=np.uint8).reshape(1, 16, 16).repeat(3, 0)
    np.testing.assert_array_equal(archive_from_bytes(archived(ramp, pixels, container)).codes, ramp)


@pytest.mark.parametrize("container", CONTAINERS)
def test_noise_costs_its_entropy_and_silence_nothing(container):
    spec = make_spec(12)
    noise = draw(np.random.default_rng(0), spec, 32, 32)
    assert len(archived(noise, spec, container)) < 1.1 * noise.size + 600
    assert len(archived(np.full_like(noise, 128), spec, container)) < 1500


@pytest.mark.parametrize(
    ("container", "name", "mode"), [("png", "PNG", "L"), ("webp", "WEBP", "RGB"), ("tiff", "TIFF", "CMYK")]
)
def test_an_archive_is_an_ordinary_picture(container, name, mode):
    with Image.open(io.BytesIO(archived(np.full((13, 4, 6), 128, np.uint8), make_spec(13), container))) as picture:
        assert (picture.format, picture.mode) == (name, mode)
        picture.load()


def test_the_metadata_and_the_mosaic_are_those_of_the_specification():
    spec = LatentSpec("ab" * 32, "image", 1, 3, 8, 8, "normal")
    codes = np.arange(1, 13, dtype=np.uint8).reshape(3, 2, 2)
    data = archive_to_bytes(codes, spec, signal_shape=(1, 15, 9), container="png", codec="gray-x")
    with Image.open(io.BytesIO(data)) as picture:
        pixels, text = np.asarray(picture).tolist(), picture.text["walloc_cdl"]
    assert pixels == [[1, 2, 5, 6, 9, 10], [3, 4, 7, 8, 11, 12]]
    assert text == (
        '{"codec":"gray-x","codes_crc32c":1369527651,"crc32c":CHECK,"format":"walloc-cdl archive","format_version":1,'
        '"latent_shape":[3,2,2],"mosaic":{"columns":3,"planes":1,"rows":1},"signal_shape":[1,15,9],'
        '"spec":{"bits":8,"codec_id":"' + "ab" * 32 + '","companding":"normal","extra_frames":0,"kind":"image",'
        '"latent_channels":3,"sample_rate":null,"source_channels":1,"stride":8},"tile_shape":[2,2]}'
    ).replace("CHECK", str(json.loads(text)["crc32c"]))
    fields = json.loads(text)
    assert fields.pop("crc32c") == crc32c(canonical_json(fields))
    assert fields["codes_crc32c"] == crc32c(bytes(range(1, 13)))


def test_empty_tiles_hold_the_code_for_zero():
    data = archived(np.full((3, 1, 1), 9, np.uint8), make_spec(3, bits=4), "tiff")
    with Image.open(io.BytesIO(data)) as picture:
        assert picture.getpixel((0, 0)) == (9, 9, 9, 8)


@pytest.mark.parametrize(
    ("channels", "planes", "container", "save_options"),
    [
        (16, 1, "png", {"format": "PNG"}),
        (12, 3, "webp", {"format": "WEBP", "lossless": True}),
        (48, 3, "webp", {"format": "WEBP", "lossless": True}),
        (16, 4, "tiff", {"format": "TIFF", "compression": "tiff_adobe_deflate"}),
    ],
)
def test_walloc_and_this_package_read_each_others_files(channels, planes, container, save_options):
    walloc = reference()
    spec = make_spec(channels)
    codes = draw(np.random.default_rng(channels), spec, 9, 7)
    latent = torch.from_numpy(codes.astype(np.float32) - 128)[None]
    buffer = io.BytesIO()
    walloc.latent_to_pil(latent, 8, planes)[0].save(buffer, **save_options)
    np.testing.assert_array_equal(codes_from_picture(buffer.getvalue(), spec), codes)
    for data in (archived(codes, spec, container), picture_to_bytes(codes, bits=8, container=container)):
        with Image.open(io.BytesIO(data)) as picture:
            assert walloc.pil_to_latent([picture], channels, 8, planes).equal(latent)


def test_a_picture_without_metadata_needs_a_codec_and_must_be_its_mosaic():
    codes = draw(np.random.default_rng(0), make_spec(12), 4, 4)
    data = picture_to_bytes(codes, bits=8, container="webp")
    assert read_info(data) is None
    with pytest.raises(CallError, match=r"x.webp is a picture without an archive's metadata; name the codec"):
        archive_from_bytes(data, origin="x.webp")
    np.testing.assert_array_equal(codes_from_picture(data, make_spec(12)), codes)
    np.testing.assert_array_equal(codes_from_picture(data, make_spec(11)), codes[:11])  # padded by its writer
    with pytest.raises(DamagedError, match="8x8 pixels are not 3 x 3 tiles, which 27 channels in 3 planes need"):
        codes_from_picture(data, make_spec(27))
    with pytest.raises(DamagedError, match=r"code bytes from .* expected 1 to 15"):
        codes_from_picture(data, make_spec(12, bits=4))


def test_the_mosaic_respects_the_limit_of_the_container():
    long = np.full((4 * 3, 2, 9000), 128, np.uint8)
    info = archive_from_bytes(archived(long, make_spec(12), "webp")).info
    assert info.layout.sides == (8, 9000)
    with pytest.raises(CallError, match=r"3x1x16384 does not fit .* webp, 16,383 pixels per side .*; choose png"):
        archived(np.full((3, 1, 16_384), 128, np.uint8), make_spec(3), "webp")
    sound = np.full((3, 16_384 * 128), 128, np.uint8)
    assert archive_from_bytes(archived(sound, audio_spec(3), "webp")).info.layout.tile == (8192, 256)


def test_what_cannot_be_written():
    spec = make_spec(3)
    codes = np.full((3, 2, 2), 128, np.uint8)
    with pytest.raises(CallError, match=r"codes are uint8 \[2, 2, 2\], expected uint8 \[3, h, w\]"):
        archived(codes[:2], spec)
    with pytest.raises(CallError, match=r"code bytes from 0 to 128, expected 1 to 255; store code \+ 128"):
        archived(codes - np.uint8(128) * (np.arange(3) == 1)[:, None, None].astype(np.uint8), spec)
    with pytest.raises(CallError, match=r"a signal of \[17, 16\] is larger than a latent of \[2, 2\] at stride 8"):
        archived(codes, spec, signal_shape=(1, 17, 16))
    with pytest.raises(CallError, match="unknown container 'wepb'; nearest: webp"):
        archived(codes, spec, "wepb")
    with pytest.raises(CallError, match=r"x.gif does not end in the suffix of an archive format; end"):
        container_of_name(Path("x.gif"))


def replace_text(data: bytes, change) -> bytes:
    """Return a PNG archive with changed metadata and correct checksums."""
    start = data.index(b"iTXt")
    length = int.from_bytes(data[start - 4 : start], "big")
    content = data[start + 4 : start + 4 + length]
    keyword, text = content[:15], json.loads(content[15:])
    change(text)
    text.pop("crc32c")
    changed = keyword + canonical_json({**text, "crc32c": crc32c(canonical_json(text))})
    chunk = b"iTXt" + changed
    rest = data[start + 8 + length :]
    return data[: start - 4] + len(changed).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big") + rest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.update(latent_shape=[3, 2**20, 2**20], tile_shape=[2**20, 2**20]), "is not the mosaic that"),
        (lambda text: text.update(latent_shape=[3, 2, 3]), "tiles of .* do not hold a latent of"),
        (lambda text: text["mosaic"].update(rows=7), "a mosaic of 21 tiles does not fit 3 channels"),
        (lambda text: text.update(codes_crc32c=1), "the codes fail their CRC-32C"),
        (lambda text: text.update(signal_shape=[1, 2, 2, 2]), "signal shape is .*, expected 3 sizes and 1 channels"),
        (lambda text: text["spec"].update(bits=9), "9 bits a latent value"),
        (lambda text: text.update(extra=1), "missing or unknown fields"),
        (lambda text: text.update(format="x"), "metadata of format 'x', expected 'walloc-cdl archive'"),
        (lambda text: text["spec"].update(bits=2), "code bytes from .* expected 1 to 3"),
    ],
)
def test_metadata_that_contradict_the_picture(change, message):
    codes = draw(np.random.default_rng(0), make_spec(3), 2, 2)
    data = archived(codes, make_spec(3), "png")
    with pytest.raises(
        DamagedError, match=f"(?s)^a.png: .*{message}.*; restore the file from a copy or encode it again$"
    ):
        archive_from_bytes(replace_text(data, change), origin="a.png")


def test_another_format_version_is_refused():
    data = archived(np.full((3, 2, 2), 128, np.uint8), make_spec(3), "png")
    with pytest.raises(CallError, match="archive of format version 2, this program reads 1; update walloc-cdl"):
        archive_from_bytes(replace_text(data, lambda text: text.update(format_version=2)))


def test_decompression_bombs_are_refused_before_their_pixels_are_decoded():
    codes = np.full((3, 2400, 4800), 128, np.uint8)
    data = archived(codes, make_spec(3), "webp")
    assert codes.size > 2**25 > 100 * len(data)
    with pytest.raises(DamagedError, match=r"34,560,000 codes in a file of .* expected at most .*; allow more"):
        archive_from_bytes(data)
    np.testing.assert_array_equal(archive_from_bytes(data, max_code_bytes=codes.size).codes, codes)
    png = bytearray(archived(codes[:, :2, :2], make_spec(3), "png"))
    png[16:24] = (2**31 - 1).to_bytes(4, "big") * 2
    with pytest.raises(DamagedError, match="a picture of 2147483647x2147483647 pixels, expected between 1 and 89"):
        archive_from_bytes(bytes(png))


@pytest.mark.parametrize(
    "data", [b"", b"RIFF", b"\x89PNG\r\n\x1a\n", b"II*\0", b"\xff\x0a", b"PK\3\4" * 9, b"RIFF\0\0\0\0WEBP"]
)
def test_files_that_are_not_archives_are_refused(data):
    with pytest.raises(DamagedError, match=r"^a.file: .*; restore the file from a copy or encode it again$"):
        archive_from_bytes(data, origin="a.file")


def test_lossy_pictures_are_refused():
    picture = Image.fromarray(np.full((8, 8, 3), 128, np.uint8))
    webp, tiff = io.BytesIO(), io.BytesIO()
    picture.save(webp, "WEBP", quality=90)
    picture.convert("CMYK").save(tiff, "TIFF", compression="jpeg")
    with pytest.raises(DamagedError, match="not one lossless WebP image"):
        codes_from_picture(webp.getvalue(), make_spec(12))
    with pytest.raises(DamagedError, match="a TIFF of mode CMYK and compression 7, expected 8-bit CMYK with Deflate"):
        codes_from_picture(tiff.getvalue(), make_spec(16))


def test_without_imagecodecs_webp_is_the_default_and_jpeg_xl_names_the_missing_package(monkeypatch):
    codes = np.full((3, 2, 2), 128, np.uint8)
    data = archived(codes, make_spec(3), "jxl")
    assert default_container("image").name == "jxl"
    assert default_container("audio").name == "webp"
    monkeypatch.setattr(jxl_container, "is_available", lambda: False)
    assert default_container("image").name == "webp"
    assert archived(codes, make_spec(3))[8:12] == b"WEBP"
    for call in (lambda: archived(codes, make_spec(3), "jxl"), lambda: archive_from_bytes(data)):
        with pytest.raises(CallError, match=r"needs the package imagecodecs, .*`pip install 'walloc-cdl\[jxl\]'`"):
            call()


@pytest.mark.parametrize(
    "size", [(1, 1), (2, 2), (8, 8), (256, 256), (257, 1), (1, 600), (600, 800), (40, 30), (9000, 1)]
)
def test_the_size_in_a_jpeg_xl_header_is_the_one_that_libjxl_wrote(size):
    data = find_container("jxl").encode(np.zeros((*size, 1), np.uint8), None)
    header = find_container("jxl").read_header(data)
    assert (header.height, header.width) == size


@pytest.mark.parametrize(
    ("pixels", "options", "reason"),
    [
        (np.zeros((3, 16, 24), np.uint8), {}, "a JPEG XL animation"),
        (np.zeros((16, 24, 4), np.uint8), {}, "other than 8 bits, or with extra channels"),
        (np.zeros((16, 24), np.uint16), {}, "other than 8 bits, or with extra channels"),
        (np.zeros((16, 24), np.float32), {}, "other than 8 bits, or with extra channels"),
    ],
    ids=["frames", "alpha", "16-bit", "float"],
)
def test_a_jpeg_xl_file_of_more_than_one_plain_picture_never_reaches_the_decoder(monkeypatch, pixels, options, reason):
    # libjxl allocates all frames and channels, whose number the size of the picture does not limit
    imagecodecs = pytest.importorskip("imagecodecs")
    picture = bytes(imagecodecs.jpegxl_encode(pixels, lossless=True, effort=1, usecontainer=False, **options))
    stream = picture[picture.index(jxl_container.STREAM_SIGNATURE) :]  # for some, libjxl writes boxes nevertheless
    data = archived(np.full((1, 16, 24), 128, np.uint8), make_spec(1), "jxl")
    start = data.index(b"jxlc") + 4
    forged = data[: start - 8] + (len(stream) + 8).to_bytes(4, "big") + b"jxlc" + stream
    assert archive_from_bytes(data).codes.shape == (1, 16, 24)
    monkeypatch.setattr(jxl_container, "_imagecodecs", lambda: pytest.fail("it was given to the decoder"))
    for call in (archive_from_bytes, read_info, lambda data: codes_from_picture(data, make_spec(1))):
        with pytest.raises(DamagedError, match=reason):
            call(forged)


@pytest.mark.parametrize("options", [{"lossless": True}, {"level": 90, "lossless": False}], ids=str)
@pytest.mark.parametrize("shape", [(40, 56), (40, 56, 3), (600, 800)], ids=str)
def test_plain_jpeg_xl_pictures_of_other_programs_pass_the_check_of_the_header(shape, options):
    imagecodecs = pytest.importorskip("imagecodecs")
    pixels = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
    data = bytes(imagecodecs.jpegxl_encode(pixels, usecontainer=False, **options))
    header = find_container("jxl").read_header(data)
    assert (header.height, header.width) == shape[:2]

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image, features
from torchvision.transforms import functional as tv

from datasets_prep import PrepareConfig, open_source
from datasets_prep.decode import images
from datasets_prep.decode.images import (
    MAX_PIXELS,
    BadImageError,
    ImagePreparation,
    image_mode,
    load_native,
    load_pixels,
)
from datasets_prep.decode.worker import decode_chunk
from datasets_prep.job.choose_preparation import choose_preparation
from datasets_prep.samples.stored import UnreadableError
from tests.support.pictures import encoded, picture
from tests.support.rows_first import resized_by_pillow
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.errors import CallError
from walloc_cdl.settings import settings_of


def exactly(image: Image.Image) -> np.ndarray:
    """Return the expected result of `load_pixels` for an image that needs no resizing."""
    pixels = np.asarray(image)
    return pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


sides = st.integers(1, 120)
channel_counts = st.sampled_from([1, 3])
KERNELS, CROPS = (settings_of(PrepareConfig)[name].choices for name in ("resize", "crop"))

kernels = st.sampled_from(KERNELS)


def drawn_picture(width: int, height: int, channels: int) -> Image.Image:
    assume(max(width, height) <= 20 * min(width, height))
    return picture(width * height, width, height, "L" if channels == 1 else "RGB")


@settings(max_examples=80, deadline=None)
@given(
    width=sides,
    height=sides,
    size=st.integers(1, 64),
    channels=channel_counts,
    kernel=st.sampled_from(KERNELS),
)
def test_resize_and_crop_are_those_of_torchvision(width, height, size, channels, kernel):
    image = drawn_picture(width, height, channels)
    resized = resized_by_pillow(image, tv.resize(image, size).size, kernel)
    reference = np.asarray(tv.pil_to_tensor(tv.center_crop(resized, [size, size])))
    np.testing.assert_array_equal(load_pixels(encoded(image), size, channels, kernel=kernel), reference)


def test_the_default_kernel_is_lanczos():
    data = encoded(picture(0, 100, 80))
    np.testing.assert_array_equal(load_pixels(data, 16, 3), load_pixels(data, 16, 3, kernel="lanczos"))
    different = {load_pixels(data, 16, 3, kernel=kernel).tobytes() for kernel in KERNELS}
    assert len(different) == len(KERNELS) == 4


@settings(max_examples=60, deadline=None)
@given(
    width=sides,
    height=sides,
    size=st.integers(1, 64),
    channels=channel_counts,
    kernel=st.sampled_from(KERNELS),
)
def test_padding_keeps_the_whole_image_and_repeats_its_edges(width, height, size, channels, kernel):
    image = drawn_picture(width, height, channels)
    longer = max(width, height)
    within = (max(1, size * height // longer), max(1, size * width // longer))
    whole = np.asarray(tv.pil_to_tensor(resized_by_pillow(image, within[::-1], kernel)))
    loaded = load_pixels(encoded(image), size, channels, kernel=kernel, crop="pad")
    assert loaded.shape == (channels, size, size)
    top, left = (size - within[0]) // 2, (size - within[1]) // 2
    rows = np.clip(np.arange(size) - top, 0, within[0] - 1)
    columns = np.clip(np.arange(size) - left, 0, within[1] - 1)
    np.testing.assert_array_equal(loaded, whole[:, rows][:, :, columns])


def test_paths_and_bytes_give_the_same(tmp_path):
    data = encoded(picture(1))
    (tmp_path / "a.png").write_bytes(data)
    np.testing.assert_array_equal(load_pixels(tmp_path / "a.png", 16, 3), load_pixels(data, 16, 3))


def test_gray_becomes_color_and_color_becomes_luma():
    image = picture(2, 32, 32)
    luma = (np.asarray(image).astype(int) @ [19595, 38470, 7471] + 0x8000) >> 16
    np.testing.assert_array_equal(load_pixels(encoded(image), 32, 1)[0], luma)
    gray = image.convert("L")
    repeated = np.stack([np.asarray(gray)] * 3)
    np.testing.assert_array_equal(load_pixels(encoded(gray), 32, 3), repeated)


def test_palette_image():
    image = picture(3, 32, 32).quantize(16)
    palette = np.array(image.getpalette()).reshape(-1, 3)
    np.testing.assert_array_equal(load_pixels(encoded(image), 32, 3), palette[np.asarray(image)].transpose(2, 0, 1))


def test_transparency_is_composited_on_white():
    image = picture(4, 32, 32).convert("RGBA")
    alpha = np.linspace(0, 255, 32).astype(np.uint8)[None].repeat(32, 0)
    image.putalpha(Image.fromarray(alpha))
    share = alpha[..., None] / 255
    blended = np.asarray(image)[..., :3] * share + 255 * (1 - share)
    loaded = load_pixels(encoded(image), 32, 3).transpose(1, 2, 0)
    assert np.abs(loaded - blended).max() <= 1
    assert (loaded[:, 0] == 255).all()
    gray = Image.merge("LA", [picture(4, 32, 32, "L"), Image.fromarray(alpha)])
    assert (load_pixels(encoded(gray), 32, 1)[0, :, 0] == 255).all()
    assert (load_pixels(encoded(gray), 32, 1)[0, :, 31] == np.asarray(gray)[:, 31, 0]).all()


def test_palette_with_a_transparent_color():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (4, 0, 8, 8))
    loaded = load_pixels(encoded(image, transparency=0), 8, 3)
    assert loaded[:, 0, 0].tolist() == [255, 255, 255]
    assert loaded[:, 0, 7].tolist() == [200, 100, 50]


@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bit_gray_keeps_the_high_byte(file_format):
    values = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    loaded = load_pixels(encoded(Image.fromarray(values), file_format), 64, 1)[0]
    np.testing.assert_array_equal(loaded, values // 256)


def test_one_bit_image():
    image = picture(5, 32, 32).convert("1")
    np.testing.assert_array_equal(load_pixels(encoded(image), 32, 1)[0], np.asarray(image) * np.uint8(255))


def test_floating_point_pixels_are_refused():
    data = encoded(Image.fromarray(np.random.default_rng(0).random((16, 16)).astype(np.float32)), "TIFF")
    with pytest.raises(BadImageError, match="pixels beyond 16 bits"):
        load_pixels(data, 16, 1)


def test_cmyk_jpeg():
    data = encoded(picture(6, 32, 32).convert("CMYK"), "JPEG", quality=95)
    assert image_mode(data) == "CMYK"
    with Image.open(io.BytesIO(data)) as image:
        ink = np.asarray(image).astype(int)
    by_hand = (255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255
    assert np.abs(load_pixels(data, 32, 3).transpose(1, 2, 0) - by_hand).max() <= 1


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a, 1)),
    ],
)
def test_exif_orientation(orientation, upright):
    image = picture(7, 24, 16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    loaded = load_native(encoded(image, exif=exif), 3, 1)
    np.testing.assert_array_equal(loaded.transpose(1, 2, 0), upright(np.asarray(image)))


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_scaled_decoding_shows_the_same_part_of_the_image(orientation, crop):
    """A side of 8 n + 1 pixels ends inside of a pixel of the reduced image."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(picture(1, 401, 257), "JPEG", quality=95, exif=exif)
    whole = load_pixels(data, 16, 3, crop=crop).astype(int)
    scaled = load_pixels(data, 16, 3, crop=crop, decoder="pil-scaled").astype(int)
    assert 0 < np.abs(scaled - whole).max() <= 3  # 32 and more if the box is omitted or not transposed


@pytest.mark.parametrize(("size", "reduced"), [(16, 32), (17, 64), (64, 128), (65, 256), (200, 256)])
def test_scaled_decoding_leaves_the_kernel_twice_the_size(size, reduced, monkeypatch):
    decoded = []
    square = images.square
    monkeypatch.setattr(
        "datasets_prep.decode.images.square",
        lambda pixels, *rest, **named: decoded.append(pixels.shape[1::-1]) or square(pixels, *rest, **named),
    )
    load_pixels(encoded(picture(1, 256, 256), "JPEG"), size, 3, decoder="pil-scaled")
    assert decoded == [(reduced, reduced)]


@pytest.mark.parametrize("file_format", ["PNG", "WEBP", "GIF"])
def test_only_jpeg_files_are_decoded_scaled(file_format):
    data = encoded(picture(1, 200, 180), file_format)
    np.testing.assert_array_equal(load_pixels(data, 16, 3, decoder="pil-scaled"), load_pixels(data, 16, 3))


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiff_orientation_is_applied_once(orientation, compression):
    image = picture(7, 24, 16)
    exif = Image.Exif()
    exif[0x0112] = orientation
    as_png = load_native(encoded(image, exif=exif), 3, 1)
    as_tiff = load_native(encoded(image, "TIFF", tiffinfo={0x0112: orientation}, compression=compression), 3, 1)
    np.testing.assert_array_equal(as_tiff, as_png)


def test_unreadable_exif_does_not_affect_the_pixels():
    data = encoded(picture(8, 16, 16), "JPEG", exif=b"Exif\x00\x00garbage")
    assert load_pixels(data, 16, 3).shape == (3, 16, 16)


def test_native_size_is_cropped_at_the_center():
    image = picture(9, 45, 33)
    loaded = load_native(encoded(image), 3, 8)
    np.testing.assert_array_equal(loaded, exactly(image.crop((2, 0, 42, 32))))
    with pytest.raises(BadImageError, match="45×33 pixels, smaller than the stride 64"):
        load_native(encoded(image), 3, 64)


def jpeg_cut_short() -> bytes:
    data = encoded(picture(10, 200, 200), "JPEG")
    return data[: len(data) // 2]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (b"no image at all", "not an image of a known format"),
        (jpeg_cut_short(), r"cannot be decoded: image file is truncated \(\d+ bytes not processed\)"),
        (encoded(picture(11))[:200], "cannot be decoded: "),
        (encoded(Image.new("L", (20_000, 1))), "20000×1 pixels, more than 20 times as long as wide"),
        (encoded(Image.new("1", (10_000, 9_000))), f"more than {MAX_PIXELS:,} pixels"),
        (encoded(Image.new("1", (15_000, 15_000))), f"more than {MAX_PIXELS:,} pixels"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n", "not an image of a known format"),
    ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_unusable_images_have_a_reason(data, reason):
    with pytest.raises(BadImageError, match=reason):
        load_pixels(data, 256, 3)


def test_reasons_hold_no_paths(tmp_path):
    with pytest.raises(UnreadableError, match=r"^no such file$"):
        load_pixels(tmp_path / "gone.png", 16, 3)
    with pytest.raises(BadImageError, match=r"^not a regular file$"):
        load_pixels(tmp_path, 16, 3)


def test_channel_counts_that_no_image_file_has():
    with pytest.raises(CallError, match=r"8 channels; image files give 1 \(gray\) or 3 \(RGB\)"):
        load_pixels(encoded(picture(12)), 16, 8)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damaged_files_never_raise_anything_else(data):
    whole = encoded(picture(13), data.draw(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF"])))
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for position in data.draw(st.lists(st.integers(0, max(len(damaged) - 1, 0)), max_size=4)):
        if damaged:
            damaged[position] ^= data.draw(st.integers(1, 255))
    (outcome,) = decode_chunk([bytes(damaged)], ImagePreparation(3, 16)).reasons.values() or [None]
    assert outcome is None or (outcome and "\n" not in outcome)


def test_preparation_records_what_decides_the_pixels():
    plain = ImagePreparation(3, 64)
    assert plain.to_json() == {
        "kind": "image",
        "size": 64,
        "channels": 3,
        "resize": "lanczos",
        "crop": "center",
        "icc": "ignore",
        "decoder": "pil",
        "transparency": "on white",
    }
    chosen = ImagePreparation(1, 64, resize="box", crop="pad", icc="srgb")
    assert {name: chosen.to_json()[name] for name in ("resize", "crop", "icc")} == {
        "resize": "box",
        "crop": "pad",
        "icc": "srgb",
    }
    decoders = {"libavif", "libjpeg-turbo", "libtiff", "libwebp", "openjpeg"}
    assert set(plain.versions()) == {"numpy", "pillow", "simplejpeg", "torch", *decoders}
    assert plain.versions()["libjpeg-turbo"] == features.version("libjpeg_turbo")
    assert set(chosen.versions()) - set(plain.versions()) == {"littlecms"}


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        (
            {"resize": "lanczo"},
            "unknown resize 'lanczo'; nearest: lanczos; choose one of lanczos, bicubic, bilinear, box",
        ),
        ({"crop": "none"}, "unknown crop 'none'; choose one of center, pad"),
        ({"icc": "p3"}, "unknown icc 'p3'; choose one of ignore, srgb"),
        ({"decoder": "turbo"}, "unknown decoder 'turbo'; choose one of pil, pil-scaled"),
    ],
)
def test_unknown_settings_are_refused(settings, text):
    with pytest.raises(CallError) as caught:
        PrepareConfig(**settings)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("settings", "text"),
    [({"views": "flip"}, "random crops need all pixels"), ({"geometry": "ragged"}, "samples keep their own size")],
)
def test_scaled_decoding_is_refused_where_all_pixels_count(settings, text, tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1.jpg").write_bytes(encoded(picture(1), "JPEG"))
    codec, config = ResizeCodec(ResizeConfig(channels=3, factor=4)), PrepareConfig(decoder="pil-scaled", **settings)
    with pytest.raises(CallError, match=f"decoder is pil-scaled, but .*{text}.*; omit (it or the views|one of them)$"):
        choose_preparation(open_source(str(tmp_path)), codec, config)


def test_settings_of_images_are_refused_for_arrays(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((3, 16, 16), np.uint8))
    codec = ResizeCodec(ResizeConfig(channels=3, factor=4))
    for name, value in (("resize", "box"), ("crop", "pad"), ("icc", "srgb"), ("decoder", "pil-scaled")):
        with pytest.raises(CallError, match=f"{name} is {value}, but source a.npy is of kind array; only image files"):
            choose_preparation(open_source(f"npy:{tmp_path / 'a.npy'}"), codec, PrepareConfig(**{name: value}))

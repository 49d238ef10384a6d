"""The common interface of all codecs, and properties of individual codecs."""

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from walloc_cdl.codec import (
    ResizeCodec,
    ResizeConfig,
    codec_from_files,
    load_codec,
    load_codec_folder,
    to_bytes,
    zoo_names,
)
from walloc_cdl.errors import CallError, DamagedError

CODECS = ["rgb-16x", "rgb-4x", "gray-16x", "gray-4x", "resize-rgb-16x", "resize-gray-4x"]


def photo(channels, side=256):
    """Return a photograph as uint8 (1, C, side, side)."""
    from skimage.data import astronaut

    image = Image.fromarray(astronaut()).resize((side, side), Image.Resampling.LANCZOS)
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB")).reshape(side, side, channels)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_implements_the_interface(name):
    codec = load_codec(name)
    spec = codec.spec
    pixels = photo(spec.source_channels)
    codes = codec.encode(pixels)
    assert codes.dtype == torch.uint8
    assert tuple(codes.shape[1:]) == codec.latent_shape(tuple(pixels.shape[1:]))
    low, high = spec.byte_range
    assert low <= codes.min()
    assert codes.max() <= high
    assert pixels.numel() / codes.numel() == spec.reduction() == float(name.rsplit("-", 1)[1][:-1])
    as_float = pixels.float() / 255 - 0.5
    assert (codec.encode(as_float) != codes).float().mean() < 1e-3
    latents = codec.latents(pixels)
    offset = 128 if spec.companding == "normal" else 0
    assert (codes.float() - offset - latents).abs().max() <= 0.5 + 1e-4
    decoded = codec.decode(codes)
    assert decoded.shape == pixels.shape
    assert decoded.abs().max() <= 0.5
    psnr = -10 * torch.log10((decoded - as_float).square().mean())
    assert psnr > 22
    again = codec_from_files(codec.files(), origin="memory")
    assert again.spec == spec
    assert again.files() == codec.files()
    assert again.decoder_id() == codec.decoder_id()
    assert torch.equal(again.encode(pixels), codes)


def test_the_zoo_ships_what_the_documentation_names():
    assert {"rgb-16x", "rgb-4x", "gray-16x", "gray-4x"} <= set(zoo_names())
    assert [load_codec(name).spec.latent_channels for name in ("rgb-16x", "rgb-4x", "gray-16x", "gray-4x")] == [
        12,
        48,
        4,
        16,
    ]


@pytest.mark.parametrize(
    ("better", "worse"), [("rgb-4x", "rgb-16x"), ("rgb-16x", "resize-rgb-16x"), ("rgb-4x", "resize-rgb-4x")]
)
def test_latents_keep_more_detail_than_equally_many_pixels(better, worse):
    pixels = photo(3)
    errors = []
    for name in (better, worse):
        codec = load_codec(name)
        errors.append(float((to_bytes(codec.decode(codec.encode(pixels))).float() - pixels.float()).square().mean()))
    assert errors[0] < errors[1]


def test_resize_equals_pillow_bicubic_except_for_rounding():
    pixels = photo(3)
    small = load_codec("resize-rgb-16x").encode(pixels)[0].permute(1, 2, 0).numpy()
    image = Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).resize((64, 64), Image.Resampling.BICUBIC)
    difference = np.abs(small.astype(int) - np.asarray(image).astype(int))
    # Pillow rounds and clips between its two passes, which is visible only at the sharpest edges.
    assert (difference > 1).mean() < 0.005
    assert difference.mean() < 0.3


def test_the_decoder_is_not_part_of_the_codec_id():
    codec, other = load_codec("rgb-16x"), load_codec("rgb-16x")
    with torch.no_grad():
        other.decoder[1].bias += 0.01
    assert other.spec == codec.spec
    assert other.decoder_id() != codec.decoder_id()
    with torch.no_grad():
        other.encoder[0].bias += 0.01
    assert other.spec.codec_id != codec.spec.codec_id


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (
            torch.zeros(1, 3, 100, 96),
            r"height 100 is not a multiple of the stride 8 of codec rgb-16x; nearest .*96, 104",
        ),
        (torch.zeros(1, 3, 96, 4), r"width 4 is not a multiple of the stride 8 .*: 8"),
        (torch.zeros(1, 1, 96, 96), r"1 channels, but codec rgb-16x takes 3"),
        (torch.zeros(3, 96, 96), r"shape \(3, 96, 96\); expected \(batch, channels, height, width\)"),
        (torch.zeros(1, 3, 96, 96, dtype=torch.int64), r"type torch.int64; expected uint8, or float"),
    ],
)
def test_pixels_that_cannot_be_encoded_are_refused(pixels, message):
    with pytest.raises(CallError, match=message):
        load_codec("rgb-16x").encode(pixels)


def test_an_unknown_codec_is_refused_with_the_nearest_names():
    with pytest.raises(CallError, match=r"unknown codec 'rgb16x'; nearest: rgb-16x, .*`cdl codec list` shows all"):
        load_codec("rgb16x")
    with pytest.raises(CallError, match="10 is not the square of a whole factor"):
        load_codec("resize-rgb-10x")


def test_a_folder_without_a_codec_is_refused(tmp_path):
    with pytest.raises(
        CallError, match=r"is not a codec: it has no config.json; give a folder written by `cdl codec fit`"
    ):
        load_codec_folder(tmp_path)


def test_damaged_codec_files_are_refused_without_a_traceback():
    files = load_codec("gray-16x").files()
    tensors = load_tensors(files["model.safetensors"])
    broken = {
        "not JSON": (files | {"config.json": b"{"}, "cannot be read"),
        "cut": (files | {"model.safetensors": files["model.safetensors"][:100]}, "cannot be read"),
        "other format": (files | {"config.json": b"[]"}, "not the configuration of a codec of format version 1"),
        "unknown field": (
            files | {"config.json": files["config.json"].replace(b'"bits"', b'"bats"')},
            "missing or unknown fields",
        ),
        "unknown type": (
            files | {"config.json": files["config.json"].replace(b"walloc-2d", b"walloc-9d")},
            "codec type 'walloc-9d'; expected",
        ),
        "missing tensor": (
            files | {"model.safetensors": save_tensors({k: v for k, v in tensors.items() if k != "encoder.0.bias"})},
            r"has nothing for encoder.0.bias, expected \(4,\)",
        ),
        "wrong shape": (
            files | {"model.safetensors": save_tensors({**tensors, "encoder.0.bias": torch.zeros(5)})},
            r"has \(5,\) for encoder.0.bias, expected \(4,\)",
        ),
        "not finite": (
            files | {"model.safetensors": save_tensors({**tensors, "encoder.0.bias": torch.full((4,), torch.nan)})},
            "encoder.0.bias in model.safetensors has values that are not finite",
        ),
    }
    for _, (damaged, message) in broken.items():
        with pytest.raises(DamagedError, match=message):
            codec_from_files(damaged, origin="codec")


@pytest.mark.parametrize("size", [(24, 4), (4, 24), (4, 4), (24, 32)])
def test_resizing_equals_pillow_down_to_one_column(size):
    pixels = torch.rand(1, 1, *size, generator=torch.Generator().manual_seed(0)) - 0.5
    found = ResizeCodec(ResizeConfig(channels=1, factor=4)).latents(pixels)[0, 0]
    image = Image.fromarray(255 * (pixels[0, 0].numpy() + 0.5))
    expected = np.asarray(image.resize((size[1] // 4, size[0] // 4), Image.Resampling.BICUBIC)).clip(0, 255)
    np.testing.assert_allclose(found, expected, atol=1e-3)

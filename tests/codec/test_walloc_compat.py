"""`walloc_cdl.compat.walloc` replaces the package: the steps of its README, its attributes, values and errors."""

import inspect
import json
from types import SimpleNamespace

import pytest
import torch
from einops import rearrange
from PIL import Image

from tests.support.walloc_reference import default_dtype, make_reference, relative, signal_for
from tests.support.walloc_reference import walloc as package
from walloc_cdl.compat import walloc as compat
from walloc_cdl.errors import CallError

CODECS = {
    "Codec2D": {
        "channels": 3, "J": 3, "Ne": 32, "Nd": 32, "latent_dim": 12, "latent_bits": 8, "lightweight_encode": True,
    },
    "Codec1D": {
        "channels": 2, "J": 4, "Ne": 16, "Nd": 24, "latent_dim": 8, "latent_bits": 8, "lightweight_encode": False,
        "post_filter": True,
    },
    "LinearCodec2D": {"channels": 1, "J": 2, "latent_dim": 4, "latent_bits": 6},
    "ResidualCodec2D": {"channels": 3, "J": 2, "latent_dim": 6, "latent_bits": 8, "num_stages": 3},
}  # fmt: skip


def make_pair(name, dtype=torch.float64):
    reference = make_reference(lambda walloc: getattr(walloc, name)(**CODECS[name]), dtype)
    with default_dtype(dtype):
        codec = getattr(compat, name)(**CODECS[name])
    codec.load_state_dict(reference.state_dict())
    return reference, codec


def public_names(module):
    return {name for name, value in vars(module).items() if getattr(value, "__module__", "").startswith("walloc.")}


def named_parameters(function):
    parameters = inspect.signature(function).parameters.values()
    return [
        (each.name, each.default) for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD)
    ]


def test_every_name_of_the_package_is_there_with_its_arguments():
    names = public_names(package)
    assert names == set(compat.__all__)
    for name in names:
        reference, actual = (named_parameters(getattr(module, name)) for module in (package, compat))
        assert reference == actual, name


@pytest.mark.parametrize("name", CODECS)
def test_codecs_have_the_attributes_modules_and_mode_of_the_package(name):
    reference, _ = make_pair(name)
    fresh = getattr(compat, name)(**CODECS[name])
    assert fresh.training
    for attribute, value in vars(getattr(package, name)(**CODECS[name])).items():
        if not attribute.startswith("_") and attribute != "training":
            assert getattr(fresh, attribute) == value, attribute
    assert fresh.state_dict().keys() == reference.state_dict().keys()


@pytest.mark.parametrize("name", CODECS)
@torch.no_grad()
def test_forward_returns_what_the_package_returns(name):
    reference, codec = make_pair(name)
    signal = signal_for(reference, torch.float64)
    for mode in (False, True):
        reference.train(mode), codec.train(mode)
        torch.manual_seed(0)
        expected = reference(signal)
        torch.manual_seed(0)
        found = codec(signal)
        assert len(found) == len(expected)
        for actual, value in zip(found, expected, strict=True):
            assert relative(torch.as_tensor(actual), torch.as_tensor(value)) < 1e-9
    level = reference.analysis_one_level(signal)
    assert relative(codec.analysis_one_level(signal), level) < 1e-12
    assert relative(codec.synthesis_one_level(level), reference.synthesis_one_level(level)) < 1e-9


@torch.no_grad()
def test_stages_encode_and_decode_as_in_the_package():
    reference, codec = make_pair("ResidualCodec2D")
    codec.eval()
    signal = signal_for(reference, torch.float64)
    image, latent = reference.rae_encode(signal)
    assert relative(codec.rae_encode(signal)[0], image) < 1e-9
    assert torch.equal(codec.rae_encode(signal)[1], latent)
    assert relative(codec.rae_decode(latent), reference.rae_decode(latent)) < 1e-9
    assert torch.equal(codec.encode(signal), (latent + 128).to(torch.uint8))
    assert relative(codec.decode((latent + 128).to(torch.uint8)), reference.rae_decode(latent)) < 1e-9


@torch.no_grad()
def test_the_steps_of_the_readme_for_images(tmp_path):
    reference, codec = make_pair("Codec2D", torch.float32)
    codec.eval()
    x = signal_for(reference, batch=1)
    X = codec.wavelet_analysis(x, J=codec.J)
    z = codec.encoder[0:2](X)
    z_hat = codec.encoder[2](z)
    X_hat = codec.decoder(z_hat)
    x_rec = codec.wavelet_synthesis(X_hat, J=codec.J)
    assert x.numel() / z.numel() == 16
    assert relative(codec.clamp(x_rec), codec(x)[0]) < 1e-6
    padded = torch.nn.functional.pad(z_hat, (0, 0, 0, 0, 0, 4))
    for C, latent, name in ((1, padded, "l.png"), (3, z_hat, "l.webp"), (4, padded, "l.tif")):
        (image,) = compat.latent_to_pil(latent, codec.latent_bits, C)
        assert image.mode == {1: "L", 3: "RGB", 4: "CMYK"}[C]
        options = {"compression": "tiff_adobe_deflate"} if C == 4 else {"lossless": True} if C == 3 else {}
        image.save(tmp_path / name, **options)
        stored = [Image.open(tmp_path / name)]
        assert compat.pil_to_latent(stored, latent.shape[1], codec.latent_bits, C).equal(latent)
        assert package.pil_to_latent(stored, latent.shape[1], codec.latent_bits, C).equal(latent)


@torch.no_grad()
def test_the_steps_of_the_readme_for_audio():
    reference, codec = make_pair("Codec1D", torch.float32)
    codec.eval()
    x = signal_for(reference, batch=1)
    X = codec.wavelet_analysis(x, J=codec.J)
    z_hat = codec.encoder(X)
    assert z_hat.shape[-1] == x.shape[-1] // 2**codec.J + 2
    folded = torch.nn.functional.pad(z_hat, (0, 128 - z_hat.shape[-1] % 128, 0, 4))
    folded = rearrange(folded, "b c (w h) -> b c w h", h=128)
    (image,) = compat.latent_to_pil(folded, codec.latent_bits, 3)
    restored = rearrange(compat.pil_to_latent([image], 12, codec.latent_bits, 3), "b c h w -> b c (h w)")
    restored = restored[:, :8, : z_hat.shape[-1]]
    assert torch.equal(restored, z_hat)
    x_hat = codec.clamp(codec.post(codec.wavelet_synthesis(codec.decoder(restored), codec.J)))
    assert relative(x_hat, codec(x)[0]) < 1e-6


def test_helpers_equal_those_of_the_package(tmp_path):
    codes = torch.randint(-128, 128, (2, 12, 5, 7)).float()
    for n_bits, values in ((8, codes), (4, (codes / 16).floor())):
        assert compat.to_bytes(values, n_bits).equal(package.to_bytes(values, n_bits))
        assert compat.from_bytes(compat.to_bytes(values, n_bits), n_bits).equal(values)
    mosaic = package.concatenate_channels(codes, 3)
    assert compat.concatenate_channels(codes, 3).equal(mosaic)
    channels_first = rearrange(mosaic, "b h w c -> b c h w")
    assert compat.split_channels(channels_first, 12, 3).equal(codes)
    for actual, reference in zip(compat.latent_to_pil(codes, 8, 3), package.latent_to_pil(codes, 8, 3), strict=True):
        assert actual.tobytes() == reference.tobytes()
    for height, width, p in ((30, 45, 16), (16, 32, 16), (17, 16, 8)):
        image = torch.rand(1, 2, height, width)
        assert compat.pad(image, p).equal(package.pad(image, p))
        assert compat.crop(compat.pad(image, p), (height, width)).equal(image)
        assert compat.compute_padding(height, width, min_div=p) == package.compute_padding(height, width, min_div=p)
    latents = torch.linspace(-300, 300, 4001, dtype=torch.float64)
    uniform, normal = (
        getattr(compat, name)(scale=127 / 1.85, latent_max=127.499) for name in ("ToUniform", "ToNormal")
    )
    assert relative(uniform(latents), package.ToUniform(127 / 1.85, 127.499)(latents)) < 1e-12
    assert relative(normal(latents), package.ToNormal(127 / 1.85, 127.499)(latents)) < 1e-9
    assert compat.Round().eval()(latents).equal(latents.round())
    compat.save_config(SimpleNamespace(**CODECS["Codec2D"]), tmp_path / "c.json")
    assert json.loads((tmp_path / "c.json").read_text()) == CODECS["Codec2D"]
    assert compat.load_config(tmp_path / "c.json") == package.load_config(tmp_path / "c.json")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: compat.to_bytes(torch.tensor([200.0]), 8), "values from 200 to 200; 8 bits hold -128 to 127"),
        (lambda: compat.concatenate_channels(torch.zeros(1, 13, 2, 2), 3), "13 channels are not 3 times a square; pad"),
        (lambda: compat.latent_to_pil(torch.zeros(1, 8, 2, 2), 8, 2), "images of 2 planes; expected 1"),
        (lambda: compat.compute_padding(5, 5, out_h=7, min_div=4), "padded to 7x8, which 4 does not divide"),
        (
            lambda: compat.LinearCodec2D(1, 2, 4, 8).wavelet_analysis(torch.zeros(1, 1, 9, 8), J=2),
            "a side of 9 is not a multiple of 4; pad the signal first",
        ),
        (
            lambda: compat.LinearCodec2D.from_files({}, origin="x"),
            "LinearCodec2D reads a state_dict only; use load_codec",
        ),
    ],
)
def test_wrong_calls_are_refused_as_value_errors(call, message):
    with pytest.raises(CallError, match=message) as caught:
        call()
    assert isinstance(caught.value, ValueError)

"""The synthesis stem is compared with independent computations, and both stems with the shapes of the pixel model."""

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from classifiers.models.adapt import first_convolution
from classifiers.models.classifier import create_model, rebuild_model
from classifiers.models.stems import SynthesisStem
from tests.support.tiny_datasets import make_spec, random_bank, random_codes, random_split
from walloc_cdl.data import ModelInput
from walloc_cdl.latents import channel_statistics, code_histogram
from walloc_cdl.linear.synthesis import NEIGHBORHOOD, LinearSynthesis


def input_for(spec, codes, alpha) -> ModelInput:
    return ModelInput(spec, channel_statistics(code_histogram(codes, spec.latent_channels), spec), alpha)


def synthesis_by_einsum(layer: LinearSynthesis, values: np.ndarray) -> np.ndarray:
    """Pixels (B, C, h b, w b) in float64 by the definition: neighbors on a ring, and one matrix per position."""
    reach = NEIGHBORHOOD // 2
    height, width = values.shape[2:]
    neighbors = np.stack(
        [
            np.stack([np.roll(values, (-row, -column), (2, 3)) for column in range(-reach, reach + 1)])
            for row in range(-reach, reach + 1)
        ]
    )  # (n, n, B, K, h, w)
    blocks = np.einsum("okij,ijbkyx->boyx", layer.weight.astype(np.float64), neighbors)
    blocks += layer.bias[:, None, None]
    side = layer.block
    pixels = blocks.reshape(len(values), -1, side, side, height, width)  # (B, C, row, column, h, w)
    return pixels.transpose(0, 1, 4, 2, 5, 3).reshape(len(values), -1, height * side, width * side)


@settings(max_examples=15, deadline=None)
@given(
    latent_channels=st.integers(1, 6),
    source_channels=st.integers(1, 3),
    block=st.integers(1, 4),
    alpha=st.sampled_from([0.0, 0.5, 1.0]),
    companding=st.sampled_from(["none", "normal"]),
    side=st.integers(3, 6),
)
def test_synthesis_stem_is_the_normalized_linear_synthesis(
    latent_channels, source_channels, block, alpha, companding, side
):
    spec = make_spec(latent_channels, source_channels, 8, companding)
    codes = random_codes(spec, 3, side, seed=latent_channels + 10 * block)
    layer = random_bank(spec, seed=block)[block]
    model_input = input_for(spec, codes, alpha)
    stem = SynthesisStem.fold(layer, model_input, layer.pixel_mean, layer.pixel_std)
    found = stem(model_input(torch.from_numpy(codes)))
    expected = synthesis_by_einsum(layer, spec.byte_values()[codes])
    expected = (expected - layer.pixel_mean[:, None, None]) / layer.pixel_std[:, None, None]
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-5 * np.abs(expected).max())


def test_synthesis_of_an_exactly_linear_codec_returns_the_pixels():
    """The codec is a rotation of 2 × 2 blocks, whose coefficients are stored without rounding."""
    spec = make_spec(4, 1, 2, "none")
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(4, 4)))[0]
    codes = random_codes(spec, 2, 8)
    latents = spec.byte_values()[codes]  # (B, 4, 8, 8)
    blocks = np.einsum("kp,bkyx->bpyx", rotation, latents)  # the inverse of a rotation is its transpose
    pixels = torch.pixel_shuffle(torch.from_numpy(blocks), 2).numpy()
    weight = np.zeros((4, 4, NEIGHBORHOOD, NEIGHBORHOOD), np.float32)
    weight[:, :, NEIGHBORHOOD // 2, NEIGHBORHOOD // 2] = rotation.T
    layer = LinearSynthesis(weight, np.zeros(4, np.float32), np.float32([0]), np.float32([1]))
    model_input = input_for(spec, codes, 0.5)
    stem = SynthesisStem.fold(layer, model_input, layer.pixel_mean, layer.pixel_std)
    np.testing.assert_allclose(stem(model_input(torch.from_numpy(codes))).numpy(), pixels, atol=2e-6)


def test_synthesis_stem_is_neither_trained_nor_rounded_to_bf16(rgb16):
    model = create_model("test_resnet", rgb16)
    assert not list(model.stem.parameters())
    x = model.input(rgb16.gather([0, 1])[0])
    with torch.autocast("cpu", torch.bfloat16):
        inside = model.stem(x)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, model.stem(x))


def test_backbone_input_is_normalized_by_the_statistics_of_the_data(rgb16):
    layer = rgb16.synthesis_bank[2]
    model = create_model("test_resnet", rgb16)
    codes = rgb16.gather(range(4))[0]
    expected = synthesis_by_einsum(layer, rgb16.spec.byte_values()[codes.numpy()])
    expected = (expected - layer.pixel_mean[:, None, None]) / layer.pixel_std[:, None, None]
    seen = model.stem(model.input(codes))
    np.testing.assert_allclose(seen.numpy(), expected, atol=1e-4)


def first_map(model, codes) -> torch.Size:
    """Shape of the input of the first stage or block of the timm model."""
    backbone, seen = model.backbone, []
    first = next(getattr(backbone, name) for name in ("layer1", "blocks", "stages") if hasattr(backbone, name))[0]
    hook = first.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    with torch.no_grad():
        model.eval()(codes)
    hook.remove()
    return seen[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", (1, 64, 16, 16)),
        ("resnet18d", (1, 64, 16, 16)),
        ("vit_tiny_patch16_224", (1, 16 * 16 + 1, 192)),
        ("convnext_atto", (1, 40, 16, 16)),
        ("test_resnet", None),
        ("test_vit", None),
        ("test_convnext", None),
        ("vit_relpos_small_patch16_224", None),
    ],
)
def test_both_stems_give_the_first_stage_the_same_shape_as_pixels(rgb16, pixels64, name, expected):
    pixels = first_map(create_model(name, pixels64), pixels64.gather([0])[0])
    for stem in ("synthesis", "channels"):
        model = create_model(name, rgb16, stem=stem)
        assert model.config.grid == 64
        assert first_map(model, rgb16.gather([0])[0]) == pixels
    assert expected is None or tuple(pixels) == expected


@pytest.mark.parametrize("grid", [32, 64, 128])
@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224", "convnext_atto"])
def test_channels_stem_matches_the_pixel_model_at_every_supported_grid(rgb16, name, grid):
    codes = rgb16.gather([0])[0]
    beside = first_map(create_model(name, rgb16, grid=grid), codes)
    assert first_map(create_model(name, rgb16, grid=grid, stem="channels"), codes) == beside


def test_channels_stem_of_resnet18_is_initialized_like_its_first_convolution():
    """New weights have the standard deviation of timm's: Kaiming initialization by fan-out."""
    from classifiers.models.adapt import adapt_to_latents
    from classifiers.models.backbones import timm

    torch.manual_seed(0)
    conv = adapt_to_latents(timm.create_model("resnet18"), "resnet18", 12, 2)
    assert conv.weight.shape == (64, 12, 3, 3)
    assert conv.stride == (1, 1)
    assert conv.weight.std().item() == pytest.approx((2 / (64 * 9)) ** 0.5, rel=0.05)


def test_channels_stem_of_stride_four_with_blocks_of_three_is_refused(write):
    spec = make_spec(9, 1, 8)
    dataset = write("gray", spec, {"train": random_split(spec, 2, 16)})["train"]
    with pytest.raises(
        ValueError, match="a stem of 4 pixels is not a whole number of latents of 3 pixels; choose a gr"
    ):
        create_model("resnet18", dataset, stem="channels")


def test_channels_stem_of_an_unsupported_family_is_refused(rgb16):
    with pytest.raises(ValueError, match="mobilenetv3_small_050 has no `channels` stem; only ResNet, ViT, ConvNeXt"):
        create_model("mobilenetv3_small_050", rgb16, stem="channels")


def save_random(path, name, **options):
    torch.manual_seed(3)
    model = timm.create_model(name, **options)
    with torch.no_grad():  # timm begins with biases of zero
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)


@pytest.mark.parametrize(
    ("name", "grid"),
    [
        ("resnet18", 64),
        ("test_resnet", 32),
        ("test_vit", 128),
        ("test_vit", 64),
        ("test_convnext", 128),
    ],
)
def test_the_channels_stem_of_pretrained_weights_is_their_convolution_of_the_synthesis(rgb16, tmp_path, name, grid):
    path = tmp_path / "weights.safetensors"
    save_random(path, name, num_classes=2)
    codes = rgb16.gather([0, 1])[0]
    pixels, latents = (
        create_model(name, rgb16, stem=stem, grid=grid, pretrained=path).eval() for stem in ("synthesis", "channels")
    )
    assert latents.config.is_composed
    first = first_convolution(pixels.backbone)
    with torch.no_grad():
        expected, found = first(pixels.stem(pixels.input(codes))), latents.stem(latents.input(codes))
    assert found.shape[1] == expected.shape[1]
    found = found if found.shape == expected.shape else found.reshape(expected.shape)
    inside = slice(None) if first.kernel_size == first.stride else slice(2, -2)
    scale = expected.abs().max()
    found, expected = (part[..., inside, inside] / scale for part in (found, expected))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    if first.kernel_size == first.stride:  # patches see no border, so the models are equal
        torch.testing.assert_close(latents(codes), pixels(codes), atol=2e-3, rtol=1e-3)


def test_the_default_grid_of_the_channels_stem_is_the_nearest_that_composes(rgb16, tmp_path):
    for name, grid in (("test_vit", 128), ("test_resnet", 64), ("test_convnext", 128)):
        path = tmp_path / f"{name}.safetensors"
        save_random(path, name)
        model = create_model(name, rgb16, stem="channels", pretrained=path)
        assert (model.config.grid, model.config.is_composed) == (grid, True)
        twin = rebuild_model(model.config)
        twin.load_state_dict(model.state_dict())
        codes = rgb16.gather([0])[0]
        assert torch.equal(twin.eval()(codes), model.eval()(codes))


def test_a_grid_whose_latents_are_no_step_of_the_convolution_begins_with_a_new_one(rgb16, tmp_path):
    path = tmp_path / "weights.safetensors"
    save_random(path, "resnet18")
    model = create_model("resnet18", rgb16, stem="channels", grid=128, pretrained=path)
    assert not model.config.is_composed
    assert model.stem.conv.kernel_size == (3, 3)

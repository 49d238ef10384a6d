"""The size at which pretrained models see stored latents, and the weights that are refused."""

import dataclasses

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.nn.functional import interpolate

from classifiers import create_model
from classifiers.models.config import ClassifierConfig, PixelFit
from classifiers.models.grids import default_block, fit_pixels, published_grid
from tests.support.tiny_datasets import make_spec, random_split
from walloc_cdl.errors import CallError, DamagedError
from walloc_cdl.spec import LatentSpec


def published(path, name="test_resnet", rename=lambda key: key, **options):
    torch.manual_seed(7)
    model = timm.create_model(name, **options)
    save_file({rename(key): value.contiguous() for key, value in model.state_dict().items()}, path)
    return model.eval()


def planes_spec(num_planes, channels, source_channels=3):
    planes = tuple(range(channels)) + tuple(number % channels for number in range(num_planes - channels))
    bits = -(-num_planes // channels)
    return LatentSpec("c" * 64, "image", source_channels, channels, 8, bits, "levels", planes=planes)


@pytest.mark.parametrize(
    ("num_planes", "channels", "block"), [(96, 33, 2), (96, 12, 2), (24, 12, 1), (384, 60, 4), (8, 8, 1)]
)
def test_the_default_grid_of_bit_planes_has_as_many_values_as_bytes_are_stored(num_planes, channels, block):
    assert default_block(planes_spec(num_planes, channels)) == block


def test_a_pretrained_models_own_size_is_the_default_grid(rgb16, tmp_path):
    weights = tmp_path / "weights.safetensors"
    published(weights)
    model = create_model("test_resnet", rgb16, pretrained=weights)
    assert (model.config.grid, model.config.fit, model.config.input_size) == (160, None, (160, 160))
    assert model.stem.block == 5


LITE = timm.models.get_pretrained_cfg("tf_efficientnet_lite0")


@pytest.mark.parametrize(
    ("size", "crop_pct", "grid", "fitted"),
    [
        (224, 0.875, 224, False),
        (192, 0.875, 192, False),
        (240, 1.0, 256, True),
        (200, 0.875, 256, True),  # 228 pixels are cropped
        (300, 0.9, 256, True),  # the largest one
    ],
)
def test_other_sizes_are_fitted_from_the_next_larger_grid(size, crop_pct, grid, fitted):
    config = dataclasses.replace(LITE, input_size=(3, size, size), crop_pct=crop_pct)
    found, fit = published_grid(config, (32, 32), range(1, 9))
    assert found == grid
    assert fit == (PixelFit((size, size), crop_pct, "bicubic") if fitted else None)


def test_one_crop_for_data_sets_whose_latents_are_of_other_sizes():
    """With `crop_pct` 1 both see the whole image, where their defaults differ; less is the center of both."""
    assert published_grid(LITE, (32, 32), range(1, 9))[1] is None
    assert published_grid(LITE, (64, 64), (1, 2, 4))[1] == PixelFit((224, 224), 0.875, "bicubic")
    assert published_grid(LITE, (32, 32), range(1, 9), 1.0) == (224, None)
    assert published_grid(LITE, (64, 64), (1, 2, 4), 1.0) == (256, PixelFit((224, 224), 1.0, "bicubic"))
    for latent_sides, blocks in (((32, 32), range(1, 9)), ((64, 64), (1, 2, 4))):
        assert published_grid(LITE, latent_sides, blocks, 0.875) == (256, PixelFit((224, 224), 0.875, "bicubic"))


def test_a_crop_that_no_model_sees(rgb16, tmp_path):
    weights = tmp_path / "weights.safetensors"
    published(weights)
    with pytest.raises(CallError, match=r"crop_pct is 1\.5; it must be above 0 and at most 1"):
        create_model("test_resnet", rgb16, pretrained=weights, crop_pct=1.5)
    for options in ({}, {"pretrained": weights, "grid": 64}, {"pretrained": weights, "stem": "channels"}):
        with pytest.raises(CallError, match=r"crop_pct is 1, but the model sees the whole grid.*omit it, or the grid"):
            create_model("test_resnet", rgb16, crop_pct=1.0, **options)


def test_fitting_is_timms_evaluation():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(2, 3, 256, 256, generator=generator)
    found = fit_pixels(pixels, PixelFit((200, 200), 0.875, "bicubic"))
    resized = interpolate(pixels, size=(228, 228), mode="bicubic", antialias=True)
    assert torch.equal(found, resized[:, :, 14:214, 14:214])
    transform = timm.data.create_transform((3, 200, 200), crop_pct=0.875, interpolation="bicubic", mean=0, std=1)
    sizes = [step.size for step in transform.transforms[:2]]
    assert [np.max(size) for size in sizes] == [228, 200]
    assert fit_pixels(pixels[:, :, :192], PixelFit((200, 200), 0.875, "bilinear")).shape == (2, 3, 200, 200)


def test_a_size_that_is_no_multiple_is_described_and_rebuilt(write, tmp_path):
    spec = make_spec()
    dataset = write("odd", spec, {"train": random_split(spec, 4, 24)})["train"]
    weights = tmp_path / "weights.safetensors"
    published(weights, "test_vit")
    model = create_model("test_vit", dataset, pretrained=weights).eval()
    assert (model.config.grid, model.config.fit) == (168, PixelFit((160, 160), 0.95, "bicubic"))
    seen = []
    model.backbone.patch_embed.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    model(dataset.gather([0])[0])
    assert seen == [(1, 3, 160, 160)]
    assert ClassifierConfig.from_json(model.config.to_json(), "config") == model.config


@pytest.mark.parametrize(
    "wrong", [{"crop_pct": 0.0}, {"crop_pct": 1.5}, {"size": [0, 160]}, {"size": [10**6] * 2}, {"interpolation": "x"}]
)
def test_an_altered_fit_is_refused(rgb16, wrong):
    fields = create_model("test_resnet", rgb16).config.to_json()
    fit = {"size": [160, 160], "crop_pct": 0.9, "interpolation": "bicubic"}
    assert ClassifierConfig.from_json({**fields, "fit": fit}, "config").input_size == (160, 160)
    with pytest.raises(DamagedError, match="pixels fitted to "):
        ClassifierConfig.from_json({**fields, "fit": {**fit, **wrong}}, "config")


def test_gray_pixels_are_normalized_by_the_mean_over_colors(write, tmp_path):
    spec = make_spec(4, 1, 8)
    dataset = write("gray", spec, {"train": random_split(spec, 2, 20)})["train"]
    weights = tmp_path / "weights.safetensors"
    config = published(weights).pretrained_cfg
    model = create_model("test_resnet", dataset, pretrained=weights)
    assert model.stem.pixel_mean.tolist() == pytest.approx([np.mean(config["mean"])])
    assert model.stem.pixel_std.tolist() == pytest.approx([np.mean(config["std"])])


def test_a_head_of_as_many_classes_is_kept_and_another_is_new(rgb16, tmp_path):
    weights = tmp_path / "weights.safetensors"
    of_two = published(weights, num_classes=2)
    kept = create_model("test_resnet", rgb16, pretrained=weights)
    assert torch.equal(kept.backbone.get_classifier().weight, of_two.get_classifier().weight)
    published(weights, num_classes=5)
    new = create_model("test_resnet", rgb16, pretrained=weights)
    assert new.backbone.get_classifier().out_features == 2


def test_weights_of_another_model_are_refused(rgb16, tmp_path):
    weights = tmp_path / "weights.safetensors"
    published(weights, "test_vit")
    with pytest.raises(
        CallError, match=r"does not hold weights of test_resnet: \d+ of \d+ tensors are missing, such as"
    ):
        create_model("test_resnet", rgb16, pretrained=weights)
    published(weights, "resnet18", num_classes=2)
    with pytest.raises(
        CallError, match=r"does not hold weights of resnet34: .*; name the model of the weights"
    ) as caught:
        create_model("resnet34", rgb16, pretrained=weights)
    assert "\n" not in str(caught.value)


def test_weights_of_other_shapes_are_refused_in_one_line(rgb16, tmp_path):
    weights = tmp_path / "weights.safetensors"
    published(weights, "vit_tiny_patch16_224")
    with pytest.raises(
        CallError, match=r"are not weights of vit_small_patch16_224: size mismatch for .*; name"
    ) as caught:
        create_model("vit_small_patch16_224", rgb16, pretrained=weights)
    assert "\n" not in str(caught.value)


def test_the_weights_of_a_run_are_refused_as_such(rgb16, tmp_path):
    weights = tmp_path / "weights.safetensors"
    published(weights, rename=lambda key: f"backbone.{key}")
    with pytest.raises(CallError, match=r"are the weights of a run of `cdl train`: .*; load the run itself"):
        create_model("test_resnet", rgb16, pretrained=weights)

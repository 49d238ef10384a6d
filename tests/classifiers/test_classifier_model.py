"""`create_model`: names, grids, patches, pretrained weights."""

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from classifiers.models import backbones
from classifiers.models.classifier import create_model
from classifiers.models.grids import default_block
from tests.support.tiny_datasets import make_spec, random_split
from walloc_cdl.errors import CallError, DamagedError, JobError


def test_logits_of_a_model_on_latents(rgb16):
    model = create_model("test_resnet", rgb16)
    assert model(rgb16.gather([0, 1, 2])[0]).shape == (3, 2)
    assert (model.config.stem, model.config.grid, model.config.alpha) == ("synthesis", 64, 1.0)
    assert model.config.class_names == ("cat", "dog")
    assert create_model("test_resnet", rgb16, stem="channels").config.alpha == 0.5
    assert create_model("test_resnet", rgb16, num_classes=7)(rgb16.gather([0])[0]).shape == (1, 7)


def test_pixels_as_latents(pixels64):
    model = create_model("test_resnet", pixels64)
    assert model.config.grid == 64
    assert model.stem.block == 1
    larger = create_model("test_resnet", pixels64, grid=128)
    assert larger.stem(larger.input(pixels64.gather([0])[0])).shape == (1, 3, 128, 128)


@pytest.mark.parametrize(
    ("latent", "source", "block"), [(12, 3, 2), (48, 3, 4), (4, 1, 2), (16, 1, 4), (3, 3, 1), (1, 1, 1), (1, 3, 1)]
)
def test_default_grid_has_as_many_pixels_as_stored_values(latent, source, block):
    assert default_block(make_spec(latent, source)) == block


def test_gray_latents_give_a_one_channel_model(write):
    spec = make_spec(4, 1, 8)
    dataset = write("gray", spec, {"train": random_split(spec, 2, 32)})["train"]
    model = create_model("test_resnet", dataset)
    assert model.stem(model.input(dataset.gather([0])[0])).shape == (1, 1, 64, 64)


@pytest.mark.parametrize(
    ("grid", "name", "patch"),
    [(64, "vit_tiny_patch16_224", 4), (128, "vit_tiny_patch16_224", 8), (224, "vit_tiny_patch16_224", 16),
     (64, "swin_tiny_patch4_window7_224", None), (64, "resnet18", None)],
)  # fmt: skip
def test_patches_keep_the_number_of_tokens(grid, name, patch):
    assert backbones.choose_patch_size(name, grid) == patch


def test_models_with_a_fixed_input_size_are_built_for_the_grid(rgb16):
    model = create_model("swin_tiny_patch4_window7_224", rgb16)
    assert model.backbone.patch_embed.img_size == (64, 64)


def test_transforms_apply_to_the_model_input_in_training_mode(rgb16):
    class Zero(torch.nn.Module):
        def forward(self, x):
            return torch.zeros_like(x)

    model = create_model("test_vit", rgb16, transforms=Zero())
    codes = rgb16.gather([0, 1])[0]
    first, second = model.train()(codes)
    assert torch.allclose(first, second, atol=1e-5)
    first, second = model.eval()(codes)
    assert not torch.allclose(first, second, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet81"}, r"unknown model 'resnet81'; nearest: resnet.*`timm.list_models\(\)` shows all"),
        ({"name": "resnet18.a9_in1k"}, "unknown weights of resnet18 'a9_in1k'; nearest: a.*; there are a1_in1k"),
        ({"name": "test_vit", "stem": "synthetic"}, "unknown stem 'synthetic'; .*choose one of synthesis, channels"),
        (
            {"name": "test_vit", "grid": 100},
            "a grid of 100 pixels does not go with latents of height 32; choose one of 32, 64",
        ),
        (
            {"name": "test_vit", "grid": 320},
            "a grid of 320 pixels does not go with latents of height 32; .*, 224, 256$",
        ),
        ({"name": "test_vit", "num_classes": 1}, "has 1 classes; a classifier needs at least 2"),
        (
            {"name": "inception_v3"},
            "inception_v3 does not run on a grid of 64 pixels: .*; choose another grid or model",
        ),
        ({"name": "vgg11", "drop_path_rate": 0.1}, "vgg11 cannot be built for a grid of 64 pixels: .*drop_path_rate"),
    ],
)
def test_invalid_arguments_are_refused(rgb16, arguments, message):
    with pytest.raises(CallError, match=message) as caught:
        create_model(dataset=rgb16, **arguments)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_data_set_without_classes_is_refused(write):
    spec = make_spec()
    dataset = write("plain", spec, {"train": (random_split(spec, 2, 32)[0], None)}, class_names=None)["train"]
    with pytest.raises(CallError, match=r"has 0 classes; a classifier needs at least 2: use a labeled data set"):
        create_model("test_resnet", dataset)


def save_published(path, name, **options):
    torch.manual_seed(7)
    model = timm.create_model(name, **options)
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, path)
    return model


def test_pretrained_weights_are_loaded_with_their_pixel_normalization(rgb16, tmp_path):
    published = save_published(tmp_path / "weights.safetensors", "test_resnet")
    model = create_model("test_resnet", rgb16, grid=64, pretrained=tmp_path / "weights.safetensors")
    assert torch.equal(model.backbone.conv1[0].weight, published.conv1[0].weight)
    assert model.backbone.get_classifier().out_features == 2
    codes = rgb16.gather(range(4))[0]
    pixels = model.stem(model.input(codes))
    ours = create_model("test_resnet", rgb16)
    layer, settings = rgb16.synthesis_bank[2], published.pretrained_cfg
    raw = ours.stem(ours.input(codes)).numpy() * layer.pixel_std.reshape(3, 1, 1) + layer.pixel_mean.reshape(3, 1, 1)
    mean, std = (np.float32(settings[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    np.testing.assert_allclose(pixels.numpy(), (raw + 0.5 - mean) / std, atol=1e-4)


def test_pretrained_transformer_keeps_patches_and_resamples_position_embeddings(rgb16, tmp_path):
    published = save_published(tmp_path / "weights.safetensors", "test_vit")
    model = create_model("test_vit", rgb16, grid=64, pretrained=tmp_path / "weights.safetensors")
    assert model.config.patch_size is None
    assert model.backbone.patch_embed.grid_size == (4, 4)
    assert torch.equal(model.backbone.patch_embed.proj.weight, published.patch_embed.proj.weight)


def test_pretrained_weights_with_the_channels_stem(rgb16, tmp_path):
    published = save_published(tmp_path / "weights.safetensors", "test_resnet")
    model = create_model("test_resnet", rgb16, stem="channels", pretrained=tmp_path / "weights.safetensors")
    assert torch.equal(model.backbone.bn1.weight, published.bn1.weight)
    assert model.stem.conv.in_channels == 12


def test_weights_that_cannot_be_downloaded_are_reported(rgb16, monkeypatch):
    def offline(*args, **kwargs):
        raise FileNotFoundError("cannot find the file on the Hub.\nCheck your connection")

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", offline)
    with pytest.raises(
        JobError, match=r"the weights of resnet18 could not be downloaded: cannot find .* on the Hub; they"
    ):
        create_model("resnet18", rgb16, pretrained=True)


def test_pretrained_must_be_an_existing_safetensors_file(rgb16, tmp_path):
    (tmp_path / "weights.pth").write_bytes(b"x")
    for path in ("weights.pth", "missing.safetensors"):
        with pytest.raises(CallError, match=rf"pretrained weights '.*{path}' are not a safetensors file; name one"):
            create_model("test_resnet", rgb16, pretrained=tmp_path / path)
    with pytest.raises(CallError, match="there are no published weights for seresnet18; omit `pre"):
        create_model("seresnet18", rgb16, pretrained=True)


@pytest.mark.parametrize("data", [b"", b"\x10\0\0\0\0\0\0\0garbage"])
def test_damaged_pretrained_weights_are_named(rgb16, tmp_path, data):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(data)
    with pytest.raises(DamagedError, match=rf"^{path}: not readable as safetensors \(.*\); get the file again$"):
        create_model("test_resnet", rgb16, pretrained=path)


def test_pretrained_patches_must_divide_the_grid(write, tmp_path):
    save_published(tmp_path / "weights.safetensors", "test_vit")
    spec = make_spec()
    dataset = write("small", spec, {"train": random_split(spec, 2, 12)})["train"]
    with pytest.raises(CallError, match="test_vit has patches of 16 pixels, which do not divide a grid of 24; choose"):
        create_model("test_vit", dataset, grid=24, pretrained=tmp_path / "weights.safetensors")


@pytest.mark.parametrize("prefix", ["hf_hub:timm/", "hf-hub:timm/"])
def test_a_model_is_named_by_its_address_on_the_hub(rgb16, tmp_path, prefix):
    published = save_published(tmp_path / "weights.safetensors", "test_resnet")
    model = create_model(f"{prefix}test_resnet.r160_in1k", rgb16, pretrained=tmp_path / "weights.safetensors")
    assert model.config.name == "test_resnet.r160_in1k"  # from which it is rebuilt without the Hub
    assert torch.equal(model.backbone.conv1[0].weight, published.conv1[0].weight)


def test_models_of_others_on_the_hub_are_refused_with_the_remedy(rgb16):
    with pytest.raises(CallError, match=r"hf_hub:me/mine is not a model of hf_hub:timm/…, .*; name its architecture"):
        create_model("hf_hub:me/mine", rgb16)
    with pytest.raises(CallError, match=r"unknown model 'resnet_18'.*resnet18"):
        create_model("hf_hub:timm/resnet_18", rgb16)


@pytest.mark.parametrize("stem", ["synthesis", "channels"])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float16, 0.02), (torch.bfloat16, 0.1), (torch.float64, 1e-3)], ids=str
)
def test_a_model_computes_in_the_type_to_which_it_is_converted(rgb16, name, stem, dtype, tolerance):
    model = create_model(name, rgb16, stem=stem).eval()
    codes = rgb16.gather(range(4))[0]
    with torch.no_grad():
        expected = model(codes)
        convert = {torch.float16: model.half, torch.bfloat16: model.bfloat16, torch.float64: model.double}[dtype]
        logits = convert()(codes)
        assert {value.dtype for value in model.state_dict().values() if value.is_floating_point()} == {dtype}
    assert logits.dtype == dtype
    assert float((logits.double() - expected).abs().max()) < tolerance * float(expected.abs().max())

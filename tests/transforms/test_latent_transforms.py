"""`LatentTransforms`: every choice follows from the sample's word; what does not fit is refused."""

import dataclasses
import shutil

import pytest
import torch

from classifiers import TrainConfig, create_model, load_classifier, train
from tests.support.operators import remove_operators
from walloc_cdl.data import LatentLoader, ModelInput, open_latents
from walloc_cdl.errors import CallError
from walloc_cdl.transforms import operations
from walloc_cdl.transforms.config import LATENT_PRESETS, LatentTransformConfig
from walloc_cdl.transforms.operators import Operators
from walloc_cdl.transforms.pipeline import LatentTransforms

ALL = LatentTransformConfig(
    noise=0.5, hflip=0.5, vflip=0.5, shift=3, crop=(10, 9), brightness=0.3, contrast=0.3, erase=0.5
)


def parts(packed):
    dataset = open_latents(packed, "train")
    model_input = ModelInput(dataset.spec, dataset.statistics, 0.5, levels=dataset.levels, grid=(12, 12))
    codes, _, words = next(LatentLoader(dataset, 12).with_words())
    return dataset, model_input, model_input(codes), words


@pytest.mark.parametrize(
    "config", [ALL, *(LatentTransformConfig(**{name: getattr(ALL, name)}) for name in ALL.to_json())]
)
def test_a_sample_is_transformed_alike_in_any_batch(packed, config):
    dataset, model_input, x, words = parts(packed)
    transforms = LatentTransforms.of_dataset(config, dataset, model_input)
    whole = transforms(x, words)
    assert whole.shape == (12, x.shape[1], *(config.crop or (12, 12)))
    assert whole.shape != x.shape or not torch.equal(whole, x)
    cut = torch.cat([transforms(x[start : start + 5], words[start : start + 5]) for start in range(0, 12, 5)])
    torch.testing.assert_close(cut, whole)
    other = transforms(x, words.view(torch.int64).add(1).view(torch.uint64))
    assert not torch.allclose(other, whole)
    assert transforms(x) is x


def test_no_transform_changes_nothing_and_flips_are_those_of_the_operators(packed):
    dataset, model_input, x, words = parts(packed)
    assert torch.equal(LatentTransforms.of_dataset(LatentTransformConfig(), dataset, model_input)(x, words), x)
    flipped = LatentTransforms.of_dataset(LatentTransformConfig(hflip=1.0), dataset, model_input)(x, words)
    scale, mean = (part.reshape(-1, 1, 1) for part in (model_input.scale, model_input.mean))
    values = operations.horizontal_flip(x / scale + mean, Operators(dataset.operators))
    torch.testing.assert_close(flipped, scale * (values - mean), rtol=1e-3, atol=1e-4)


def test_flips_of_stored_latents_are_near_the_flipped_pictures(packed):
    dataset = open_latents(packed, "test")
    codec, codes = dataset.codec, dataset[list(range(8))].codes
    with torch.no_grad():
        pixels = codec.decode(codes)
        expected = codec.values(codec.encode(pixels.flip(-1))).detach()
        z = codec.values(codes).detach()
        found = operations.horizontal_flip(z, Operators(dataset.operators))
    assert (found - expected).square().mean() < 0.1 * (z.flip(-1) - expected).square().mean()


def test_words_reach_the_transforms_of_a_classifier(packed):
    dataset, _, _, words = parts(packed)
    codes = next(iter(LatentLoader(dataset, 12, shuffle=False))).codes
    model = create_model(
        "test_resnet", dataset, stem="channels", grid=24, transforms=LatentTransformConfig(hflip=0.5, shift=2)
    ).train()
    seen = []
    model.stem.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(codes, words)
    model(codes)
    model.eval()(codes, words)
    assert torch.equal(seen[0], model.transforms(model.input(codes), words))
    assert not torch.equal(seen[0], seen[1])
    assert torch.equal(seen[1], seen[2])
    assert not any(name.startswith("transforms") for name in model.saved_weights())


def test_settings_tell_transforms_apart(packed):
    dataset, model_input, *_ = parts(packed)
    shown = {
        repr(LatentTransforms.of_dataset(config, dataset, model_input)) for config in (ALL, LatentTransformConfig())
    }
    assert len(shown) == 2
    assert any("hflip=0.5, vflip=0.5, shift=3, crop=[10, 9]" in each for each in shown)
    assert set(ALL.to_json()) == {field.name for field in dataclasses.fields(ALL)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hflip": 1.5}, "hflip is 1.5; expected a probability from 0 to 1"),
        ({"erase": -1}, "erase is -1; expected a probability"),
        ({"brightness": 2}, "brightness is 2; expected 0 to 1"),
        ({"shift": 1.5}, "shift is 1.5; expected whole latents"),
        ({"shift": -1}, "shift is -1; expected whole latents"),
        ({"crop": (3,)}, r"crop is \(3,\); expected two sizes in whole latents"),
        ({"crop": (0, 3)}, r"crop is \(0, 3\)"),
    ],
)
def test_wrong_settings(settings, message):
    with pytest.raises(CallError, match=message):
        LatentTransformConfig(**settings)


def test_settings_beyond_the_latents(packed):
    dataset, model_input, *_ = parts(packed)
    with pytest.raises(CallError, match=r"a crop of \(13, 3\) of latents of 12 × 12; choose at most these"):
        LatentTransforms.of_dataset(LatentTransformConfig(crop=(13, 3)), dataset, model_input)
    with pytest.raises(CallError, match="a shift by 12 of latents of 12 × 12"):
        LatentTransforms.of_dataset(LatentTransformConfig(shift=12), dataset, model_input)


def test_a_data_set_without_operators(packed, tmp_path):
    """As one that an earlier version made; what needs no operators works."""
    folder = tmp_path / "old"
    shutil.copytree(packed, folder)
    remove_operators(folder)
    dataset = open_latents(folder, "train")
    assert not dataset.has_operators
    message = (
        r"old has no operators of flips \(it was made by an earlier version.*\); prepare it again, or augment what"
    )
    with pytest.raises(CallError, match=message):
        create_model("test_resnet", dataset, transforms=LatentTransformConfig(hflip=0.5))
    model = create_model("test_resnet", dataset, transforms=LatentTransformConfig(shift=2, noise=1.0)).train()
    codes, _, words = next(LatentLoader(dataset, 8).with_words())
    assert model(codes, words).shape == (8, 2)


def test_a_run_has_its_transforms_in_its_configuration(packed, tmp_path):
    dataset = open_latents(packed, "train")

    def call(augment, stem="channels", **options):
        return train(
            lambda: create_model("test_resnet", dataset, stem=stem, grid=24, **options),
            dataset,
            None,
            TrainConfig(epochs=1, batch_size=8, precision="fp32", augment=augment),
            tmp_path / "run",
        )

    record = call(LATENT_PRESETS["light"])
    assert record.config["train"]["augment"] == LatentTransformConfig(hflip=0.5, shift=4).to_json()
    assert call(LATENT_PRESETS["light"]) == record
    with pytest.raises(CallError, match=r"has train\.augment\.|has transforms\."):
        call(LatentTransformConfig(hflip=0.5))
    with pytest.raises(CallError, match="augment are transforms of latents, but the model has transforms of its own"):
        call(LATENT_PRESETS["light"], transforms=torch.nn.Identity())
    assert load_classifier(tmp_path / "run").transforms is None

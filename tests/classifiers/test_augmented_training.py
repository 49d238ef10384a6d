"""Training with augmented pixels: what the configuration says, resumption, ranks, and what is refused."""

import copy
import dataclasses

import pytest
import torch

from classifiers import TrainConfig, create_model, train
from classifiers.models.config import PixelFit
from classifiers.runs.losses import CrossEntropy
from classifiers.runs.step import ClassifierStep
from walloc_cdl.augment.config import PRESETS, AugmentConfig
from walloc_cdl.augment.mixing import MixConfig, NeighborMixing
from walloc_cdl.augment.pipeline import PixelAugmentation
from walloc_cdl.data import LatentLoader
from walloc_cdl.errors import CallError

LIGHT = TrainConfig(epochs=2, batch_size=8, augment=PRESETS["light"])


def trained(striped, out, config, **settings):
    train(lambda: create_model("test_resnet", striped["train"]), striped["train"], None, config, out, **settings)
    return (out / "model.safetensors").read_bytes()


def test_augmentation_changes_the_weights_and_repeats_them(striped, tmp_path):
    first, again = (trained(striped, tmp_path / name, LIGHT, threads=1) for name in ("first", "again"))
    plain = trained(striped, tmp_path / "plain", dataclasses.replace(LIGHT, augment=PRESETS["none"]), threads=1)
    assert first == again
    assert first != plain


def test_a_run_of_another_augmentation_is_refused(striped, tmp_path):
    trained(striped, tmp_path / "run", LIGHT)
    with pytest.raises(CallError, match=r"train\.augment"):
        trained(striped, tmp_path / "run", dataclasses.replace(LIGHT, augment=PRESETS["timm"]))


def test_the_stem_that_makes_no_pixels_is_refused(striped, tmp_path):
    model = create_model("test_resnet", striped["train"], stem="channels")
    with pytest.raises(CallError, match=r"pixels are augmented, but the stem channels makes none.*--augment none"):
        train(model, striped["train"], None, LIGHT, tmp_path / "run")


def test_two_ranks_augment_and_mix_a_global_batch_as_one_does(striped):
    """The loss is the mean of the ranks' losses, and so is its gradient."""
    torch.manual_seed(0)
    model = create_model("test_vit", striped["train"]).train()
    model.augmentation = PixelAugmentation(PRESETS["timm"])
    model.mixing = NeighborMixing(MixConfig(0.8, 1.0))
    step = ClassifierStep(model, CrossEntropy(0.1), "fp32", torch.device("cpu"))

    def losses(**ranks):
        loader = LatentLoader(striped["train"], 8, device="cpu", shuffle=True, drop_last=True, seed=3, **ranks)
        return torch.stack([step(*batch).detach() for batch in loader.with_words()])

    whole = losses()
    halves = [losses(rank=rank, world_size=2) for rank in range(2)]
    torch.testing.assert_close(sum(halves) / 2, whole, atol=1e-5, rtol=1e-5)


MIXED = dataclasses.replace(LIGHT, mixup=0.2, cutmix=1.0, smoothing=0.1)


@pytest.fixture
def few(striped):
    return {"train": striped["train"][:32]}


def test_mixing_changes_the_weights_and_repeats_them(few, tmp_path):
    first, again = (trained(few, tmp_path / name, MIXED, threads=1) for name in ("first", "again"))
    changes = {"plain": {"mixup": 0, "cutmix": 0}, "off": {"mixup_off_epoch": 1}, "never": {"mixup_prob": 0}}
    others = {
        name: trained(few, tmp_path / name, dataclasses.replace(MIXED, **changed), threads=1)
        for name, changed in changes.items()
    }
    assert first == again
    assert first not in others.values()
    assert others["never"] == others["plain"] != others["off"]
    with pytest.raises(CallError, match=r"train\.mixup_off_epoch"):
        trained(few, tmp_path / "off", MIXED)


def test_a_run_with_mixing_resumes_to_the_same_weights(few, tmp_path):
    config = dataclasses.replace(MIXED, epochs=3, mixup_off_epoch=2, sampling="balanced", class_weights="balanced")
    whole = trained(few, tmp_path / "whole", config, threads=1)

    def stop(state):
        if state.step == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(few, tmp_path / "parts", config, threads=1, progress=stop)
    assert trained(few, tmp_path / "parts", config, threads=1) == whole


def test_what_cannot_be_mixed_is_refused_before_anything_is_written(striped, tmp_path):
    model = create_model("test_resnet", striped["train"], stem="channels")
    config = dataclasses.replace(MIXED, augment=PRESETS["none"])
    with pytest.raises(CallError, match=r"mix pixels, but the stem channels makes none; omit --mixup and --cutmix"):
        train(model, striped["train"], None, config, tmp_path / "run")
    with pytest.raises(CallError, match=r"mix neighbors in a batch, but batch_size is 1; choose an even batch size"):
        trained(striped, tmp_path / "run", dataclasses.replace(config, batch_size=1))
    assert not (tmp_path / "run").exists()


def test_evaluation_sees_the_pixels_as_they_are(striped):
    model = create_model("test_resnet", striped["train"])
    codes, words = striped["train"][[0, 1, 2]].codes, torch.arange(3)
    plain = model.eval()(codes)
    model.augmentation = PixelAugmentation(PRESETS["timm"])
    model.mixing = NeighborMixing(MixConfig(1.0))
    torch.testing.assert_close(model(codes, words), plain)
    assert not any("augment" in name or "mixing" in name for name in model.saved_weights())


def test_training_sees_crops_with_the_detail_of_the_latents(rgb16):
    """Beside crops of the largest grid, whose pixels have all of it; evaluation is the same with and without."""
    torch.manual_seed(0)
    model = create_model("test_resnet", rgb16, grid=64)
    assert model.levels.blocks == [2, 3, 4, 5, 6, 7, 8]
    codes, words = rgb16.gather(range(4)).codes, torch.arange(4) * 977
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    plain = model.eval()(codes)
    model.augmentation = PixelAugmentation(AugmentConfig(scale=(0.04, 0.05)))
    torch.testing.assert_close(model(codes, words), plain)
    model.train()(codes, words)
    largest = model.levels._stem(8, model.input(codes))
    mean, std = model.stem.pixel_mean, model.stem.pixel_std
    exact = model.augmentation(largest(model.input(codes)), words, mean, std, size=(64, 64))
    torch.testing.assert_close(seen[-1], exact)
    assert not any("levels" in name for name in model.saved_weights())
    twin = copy.deepcopy(model).train()
    twin(codes, words)
    torch.testing.assert_close(seen[-1], exact)


def test_a_crop_is_read_at_once_in_the_size_of_the_model(rgb16, tmp_path):
    """Without a crop the pixels are fitted as in evaluation, and then augmented."""
    model = create_model("test_resnet", rgb16, grid=64)
    model.config = dataclasses.replace(model.config, fit=PixelFit((56, 56), 0.9, "bilinear"))
    codes, words = rgb16.gather(range(4)).codes, torch.arange(4)
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    for config in (PRESETS["light"], AugmentConfig(vflip=0.5)):
        model.augmentation = PixelAugmentation(config)
        model.train()(codes, words)
    assert seen == [(4, 3, 56, 56)] * 2

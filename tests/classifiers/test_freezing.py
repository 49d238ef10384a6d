"""Freezing: which layers train, features that are kept, and resumption."""

import dataclasses

import pytest
import timm
import torch

from classifiers import TrainConfig, create_model, load_classifier, train
from classifiers.models.split import HEAD, divide, frozen_parameters, stage_names
from classifiers.runs import features
from walloc_cdl.augment.config import PRESETS
from walloc_cdl.errors import CallError
from walloc_cdl.training import loop as training_loop
from walloc_cdl.training import seed_torch

FROZEN = TrainConfig(epochs=3, batch_size=32, freeze_until=HEAD)


def run(striped, out, config, name="test_resnet", **settings):
    train(
        lambda: create_model(name, striped["train"]), striped["train"], striped["validation"], config, out, **settings
    )
    return load_classifier(out)


@pytest.fixture
def kept(monkeypatch):
    """What `keep_features` returned."""
    found, plain = [], features.keep_features

    def spied(*args, **kwargs):
        found.append(plain(*args, **kwargs))
        return found[-1]

    monkeypatch.setattr("classifiers.runs.train.keep_features", spied)
    return found


def changed(model, initial):
    """Names of the weights and statistics that training changed."""
    before = initial.saved_weights()
    return {name for name, value in model.saved_weights().items() if not torch.equal(value, before[name])}


def initial_model(striped, name="test_resnet"):
    seed_torch(0)
    return create_model(name, striped["train"])


def test_only_the_head_is_trained(striped, tmp_path, kept):
    model = run(striped, tmp_path / "run", FROZEN)
    assert changed(model, initial_model(striped)) == {"backbone.fc.weight", "backbone.fc.bias"}
    assert kept == [True]
    assert not list((tmp_path / "run").glob("features*"))


def test_the_last_stage_and_the_head_are_trained(striped, tmp_path, kept):
    config = dataclasses.replace(FROZEN, freeze_until="layer4")
    names = changed(run(striped, tmp_path / "run", config), initial_model(striped))
    assert {name.split(".")[1] for name in names} == {"layer4", "fc"}
    assert any("running_mean" in name for name in names)
    assert kept == [True]


@pytest.mark.parametrize("until", [HEAD, "layer4"])
@pytest.mark.parametrize("unfreeze", [None, 2])
def test_kept_features_train_as_the_frozen_layers_do(striped, tmp_path, monkeypatch, until, unfreeze):
    config = dataclasses.replace(FROZEN, freeze_until=until, unfreeze_epoch=unfreeze)
    with_features = run(striped, tmp_path / "with", config)
    monkeypatch.setattr("classifiers.runs.train.keep_features", lambda *args, **kwargs: False)
    without = run(striped, tmp_path / "without", config)
    for name, value in with_features.saved_weights().items():
        torch.testing.assert_close(value, without.saved_weights()[name], atol=1e-4, rtol=1e-3)


def test_all_layers_train_after_the_frozen_epochs(striped, tmp_path):
    names = changed(
        run(striped, tmp_path / "run", dataclasses.replace(FROZEN, unfreeze_epoch=2)), initial_model(striped)
    )
    assert any("conv1" in name for name in names)
    assert any("running_var" in name for name in names)


@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("variants", [None, 2])
def test_a_run_that_is_broken_off_ends_with_the_same_weights(striped, tmp_path, monkeypatch, epoch, variants):
    augment = {} if variants is None else {"augment": PRESETS["light"], "augment_variants": variants}
    config = dataclasses.replace(FROZEN, unfreeze_epoch=2, **augment)
    run(striped, tmp_path / "whole", config, threads=1)
    plain = training_loop.TrainingLoop.run_epoch

    def broken(self, *args, **settings):
        if self.epoch == epoch:
            raise KeyboardInterrupt
        return plain(self, *args, **settings)

    monkeypatch.setattr(training_loop.TrainingLoop, "run_epoch", broken)
    with pytest.raises(KeyboardInterrupt):
        run(striped, tmp_path / "broken", config, threads=1)
    assert (tmp_path / "broken" / "features.bin").is_file()
    monkeypatch.setattr(training_loop.TrainingLoop, "run_epoch", plain)
    run(striped, tmp_path / "broken", config, threads=1)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "broken")]
    assert weights[0] == weights[1]


def test_features_are_computed_on_from_the_last_chunk(striped, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 50)
    done = []

    def interrupt(count, total):
        done.append((count, total))
        if count == 100 and len(done) < 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(striped, tmp_path / "run", FROZEN, on_features=interrupt)
    run(striped, tmp_path / "run", FROZEN, on_features=interrupt)
    assert done == [(50, 192), (100, 192), (150, 192), (192, 192)]
    whole = run(striped, tmp_path / "whole", FROZEN)
    assert changed(load_classifier(tmp_path / "run"), whole) == set()


def test_features_of_other_weights_are_not_taken(striped, tmp_path, monkeypatch):
    monkeypatch.setattr(features, "CHUNK", 50)
    models = [create_model("test_resnet", striped["train"]) for _ in range(2)]
    counts = []

    def interrupt(count, total):
        counts.append(count)
        if len(counts) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(models[0], striped["train"], None, FROZEN, tmp_path / "run", on_features=interrupt)
    train(models[1], striped["train"], None, FROZEN, tmp_path / "run", on_features=interrupt)
    assert counts[:4] == [50, 100, 50, 100]


def test_new_augmentations_in_every_epoch_keep_nothing(striped, tmp_path, kept):
    config = dataclasses.replace(FROZEN, epochs=1, augment=PRESETS["light"])
    run(striped, tmp_path / "new", config)
    run(striped, tmp_path / "variants", dataclasses.replace(config, augment_variants=3))
    assert kept == [False, True]


def test_variants_are_augmentations_of_the_sample(striped, tmp_path):
    model = create_model("test_resnet", striped["train"])
    config = dataclasses.replace(FROZEN, epochs=1, augment=PRESETS["light"], augment_variants=3)
    loaders = []
    plain = features.keep_features

    def spied(model, loader, *args, **kwargs):
        loaders.append(loader)
        return plain(model, loader, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("classifiers.runs.train.keep_features", spied)
        train(model, striped["train"], None, config, tmp_path / "run")
    (loader,) = loaders
    assert loader.features.shape[0] == 3 * 192
    codes = striped["train"][[7]].codes
    words = features.variant_words(*torch.tensor([[7], [2]]).numpy(), config.seed)
    pixels = model.eval().augmented_pixels(model.input(codes), words)
    torch.testing.assert_close(model.split.front(pixels)[0], loader.features[7 * 3 + 2], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"freeze_until": None, "unfreeze_epoch": 1}, "unfreeze_epoch is 1, but no layer is frozen"),
        ({"unfreeze_epoch": 0}, "unfreeze_epoch is 0; it must be at least 1"),
        ({"augment_variants": 2}, "augment_variants is 2, but nothing is augmented; omit it"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(CallError, match=message):
        dataclasses.replace(FROZEN, **settings)


def test_an_unknown_stage_is_refused_with_those_that_there_are(striped, tmp_path):
    config = dataclasses.replace(FROZEN, freeze_until="layer5")
    with pytest.raises(CallError, match=r"unknown stage 'layer5'; nearest: layer.*there are head, conv1, .*layer4"):
        run(striped, tmp_path / "run", config)
    config = dataclasses.replace(FROZEN, freeze_until="conv1")
    with pytest.raises(CallError, match="conv1 is the first stage, so nothing before it is frozen; omit it"):
        run(striped, tmp_path / "run", config)


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("test_vit", "blocks.4"),
        ("test_efficientnet", "blocks.4"),
        ("test_convnext", "stages.3"),
        ("test_resnet", "layer4"),
        ("test_mambaout", "stages.3"),
        ("regnetx_002", "s4"),
    ],
)
def test_models_of_many_families_are_divided(name, stage):
    torch.manual_seed(0)
    backbone = timm.create_model(name, num_classes=3).train()
    side = backbone.pretrained_cfg["input_size"][1]
    pixels = torch.randn(2, 3, side, side)
    assert stage in stage_names(backbone)
    for until in (HEAD, stage):
        split = divide(backbone, until, pixels)
        assert split is not None
        frozen = frozen_parameters(backbone, until)
        backbone.eval()
        for parameter in backbone.parameters():
            parameter.grad = None
        split.tail(split.front(pixels).detach()).sum().backward()
        without = {key for key, parameter in backbone.named_parameters() if parameter.grad is None}
        assert set(frozen) == without
        backbone.train()

"""A run's configuration names everything that the run depends on, so that its folder refuses other calls."""

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from classifiers import TrainConfig, create_model, train
from classifiers.models.backbones import pretrained_identity
from tests.support.tiny_datasets import make_spec, random_split
from walloc_cdl.errors import CallError
from walloc_cdl.training import RunFolder, build_optimizer

ONCE = TrainConfig(epochs=1, batch_size=64)


class Shift(nn.Module):
    """Adds a number that its `repr` does not show."""

    def __init__(self, by: float) -> None:
        super().__init__()
        self.register_buffer("by", torch.tensor(by))

    def forward(self, x):
        return x + self.by


def test_every_setting_that_affects_the_result_is_compared(striped, tmp_path):
    record = train(lambda: create_model("test_resnet", striped["train"]), striped["train"], None, ONCE, tmp_path / "a")
    manifest = striped["train"].manifest.digest()
    assert record.config["initial"] == {"weights": "seeded", "pretrained": None, "manifest_sha256": manifest}
    assert record.config["transforms"] is None
    assert record.config["data"]["train"] == {
        "manifest_sha256": manifest,
        "split": "train",
        "num_samples": 192,
        "view": 0,
        "batch_size": 64,
    }
    assert record.config["compute"] == {"device": "cpu", "precision": "fp32", "processes": 1}
    with pytest.raises(CallError, match=r"has initial.weights 'seeded', but this call has 'given'; repeat the call"):
        train(create_model("test_resnet", striped["train"]), striped["train"], None, ONCE, tmp_path / "a")


def test_the_configuration_has_the_resolved_precision(striped, tmp_path, monkeypatch):
    arguments = (lambda: create_model("test_resnet", striped["train"]), striped["train"], None, ONCE, tmp_path / "run")
    train(*arguments)
    monkeypatch.setattr("classifiers.runs.train.choose_precision", lambda asked, device: "bf16")
    with pytest.raises(CallError, match=r"has compute.precision 'fp32', but this call has 'bf16'"):
        train(*arguments)


def test_a_small_split_has_a_smaller_batch_size(write, tmp_path):
    spec = make_spec(3, 3, 2, "none")
    data = write("few", spec, {"train": random_split(spec, 10, 16)})["train"]
    assert (
        train(lambda: create_model("test_resnet", data), data, None, ONCE, tmp_path / "run").config["data"]["train"][
            "batch_size"
        ]
        == 10
    )


def test_other_transforms_are_refused(striped, tmp_path):
    def call(transforms):
        return train(
            lambda: create_model("test_resnet", striped["train"], transforms=transforms),
            striped["train"],
            None,
            ONCE,
            tmp_path / "run",
        )

    record = call(nn.Sequential(nn.Dropout(0.1), Shift(1.0)))
    assert call(nn.Sequential(nn.Dropout(0.1), Shift(1.0))) == record
    with pytest.raises(CallError, match=r"has transforms.modules '.*p=0.1.*', but this call has '.*p=0.2"):
        call(nn.Sequential(nn.Dropout(0.2), Shift(1.0)))
    with pytest.raises(CallError, match=r"has transforms.state_sha256 '"):
        call(nn.Sequential(nn.Dropout(0.1), Shift(2.0)))
    with pytest.raises(CallError, match=r"has transforms"):
        call(None)


def test_pretrained_weights_are_identified_by_their_hash(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file({"a": torch.zeros(1)}, path)
    first = pretrained_identity("resnet18", path)
    save_file({"a": torch.ones(1)}, path)
    second = pretrained_identity("resnet18", str(path))
    assert first.startswith("sha256:")
    assert second.startswith("sha256:")
    assert first != second
    assert "resnet18.a1_in1k" in pretrained_identity("resnet18.a1_in1k", True)
    assert pretrained_identity("resnet18", False) is None


def test_a_run_without_some_settings_is_refused_with_the_difference(striped, tmp_path):
    call = (lambda: create_model("test_resnet", striped["train"]), striped["train"], None, ONCE, tmp_path / "run")
    train(*call)
    run = RunFolder(tmp_path / "run")
    named = run.load_config()
    del named["compute"]
    run.config_path.unlink()
    run.record_path.unlink()
    run.weights_path.unlink()
    run.page_path.unlink()
    run.claim(named, resume=True)
    with pytest.raises(CallError, match=r"has compute.device None, but this call has 'cpu'; .* or name another folder"):
        train(*call)


def test_weights_that_the_timm_model_exempts_do_not_decay(pixels64):
    model = create_model("test_vit", pixels64)
    assert "backbone.pos_embed" in model.no_weight_decay()
    undecayed, _ = build_optimizer(model, ONCE).param_groups
    assert id(model.backbone.pos_embed) in {id(parameter) for parameter in undecayed["params"]}


def test_smoothing_must_be_a_fraction():
    with pytest.raises(CallError, match=r"smoothing is 1.0; it must be at least 0 and below 1"):
        TrainConfig(smoothing=1.0)


@pytest.mark.parametrize("name", ["test_vit", "test_resnet"])
def test_the_layers_of_a_classifier_are_those_of_the_timm_model(pixels64, name):
    model, config = create_model(name, pixels64), TrainConfig(layer_decay=0.5, lr=0.1)

    def scales(module, prefix=""):
        groups = build_optimizer(module, config).param_groups
        by_id = {id(each): group["lr_scale"] for group in groups for each in group["params"]}
        return {prefix + name: by_id[id(each)] for name, each in module.named_parameters()}

    assert scales(model) == scales(model.backbone, "backbone.")
    assert len(set(scales(model).values())) > 3

"""`cdl train` with frozen layers."""

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from walloc_cdl.cli.app import run


@pytest.fixture
def weights(tmp_path):
    torch.manual_seed(0)
    path = tmp_path / "weights.safetensors"
    save_file({key: value.contiguous() for key, value in timm.create_model("test_resnet").state_dict().items()}, path)
    return path


@pytest.fixture
def call(latents, tmp_path):
    out = ["--out", str(tmp_path / "run"), "--epochs", "2", "--batch-size", "8", "--grid", "64"]
    return ["train", str(latents), "--model", "test_resnet", *out]


def test_the_head_alone_is_trained_on_features_that_are_computed_once(call, weights, tmp_path, capsys):
    assert run([*call, "--pretrained", str(weights), "--freeze", "--augment", "none"]) == 0
    assert "features of the frozen layers are computed once, of " in "".join(capsys.readouterr())
    published, trained = load_file(weights), load_file(tmp_path / "run" / "model.safetensors")
    same = {name for name, value in published.items() if torch.equal(trained[f"backbone.{name}"], value)}
    assert published.keys() - same == {"fc.weight", "fc.bias"}


def test_new_augmentations_are_said_to_cost_the_frozen_layers(call, weights, capsys):
    assert run([*call, "--pretrained", str(weights), "--freeze-until", "layer4"]) == 0
    assert "frozen layers compute in every step; --augment none or --augment-variants 4 keeps" in "".join(
        capsys.readouterr()
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--freeze"], "layers before head are frozen, but without --pretrained their weights are random; give pr"),
        (["--freeze", "--freeze-until", "layer4"], "--freeze trains the last layer only, --freeze-until layer4 more"),
        (["--unfreeze-epoch", "2"], "unfreeze_epoch is 2, but no layer is frozen"),
    ],
)
def test_wrong_calls_are_refused(call, options, message, capsys):
    assert run([*call, *options]) == 2
    assert message in capsys.readouterr().err


def test_an_unknown_stage_is_refused(call, weights, capsys):
    assert run([*call, "--pretrained", str(weights), "--freeze-until", "layer9"]) == 2
    assert "unknown stage 'layer9'" in capsys.readouterr().err

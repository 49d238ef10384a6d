"""Checkpoints of torch under timm's names, and real pretrained weights."""

import pickle
from collections import OrderedDict

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from skimage import data

from classifiers.models.classifier import create_model
from classifiers.models.convert_weights import convert_weights
from classifiers.models.pixel_classifier import load_pixel_classifier
from tests.support.lite0 import MODEL, lite0_checkpoint
from walloc_cdl.errors import CallError, DamagedError

LITE0_LOGITS = (-0.7301, 0.8166, 0.8458, 1.0628, 1.5811)


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    out = tmp_path_factory.mktemp("lite0") / "weights.safetensors"
    report = convert_weights(lite0_checkpoint(), MODEL, out)
    assert (report.num_tensors, report.num_classes, report.matched_by) == (247, 1000, "order")
    return load_pixel_classifier(MODEL, out)


def square(photo):
    """The central square of a photo (H, W, C) as (1, C, S, S)."""
    photo = photo[..., None] if photo.ndim == 2 else photo
    side = min(photo.shape[:2])
    top, left = ((length - side) // 2 for length in photo.shape[:2])
    return torch.from_numpy(photo[top : top + side, left : left + side].transpose(2, 0, 1).copy())[None]


@pytest.mark.parametrize(("photo", "words"), [("coffee", "espresso"), ("chelsea", "tiger cat"), ("camera", "tripod")])
def test_published_weights_know_what_is_on_a_photo(lite0, photo, words):
    found = lite0.logits(square(getattr(data, photo)())).argmax(1).item()
    assert lite0.label_texts[found] == words


def test_published_weights_give_the_logits_of_their_own_implementation(lite0):
    """Of PyPI's efficientnet-lite-pytorch 0.1.0, whose logits for this input were equal to the last bit."""
    ramp = torch.arange(224 * 224).reshape(1, 1, 224, 224) * torch.tensor([1, 3, 7]).reshape(1, 3, 1, 1) % 256
    pixels = torch.nn.functional.pad(ramp.to(torch.uint8), (16, 16, 16, 16))
    logits = lite0.logits(pixels)[0]
    np.testing.assert_allclose(logits[[0, 1, 499, 998, 999]], LITE0_LOGITS, atol=2e-3)


def checkpoint(path, rename=lambda name: name, model="test_resnet", **settings):
    torch.manual_seed(0)
    state = timm.create_model(model, **settings).state_dict()
    torch.save({"state_dict": OrderedDict((rename(name), value) for name, value in state.items())}, path)
    return state


def test_tensors_of_timms_names_are_taken_by_name(tmp_path):
    path, out = tmp_path / "last.pth", tmp_path / "weights.safetensors"
    state = checkpoint(path, lambda name: f"module.{name}", num_classes=7)
    report = convert_weights(path, "test_resnet", out)
    assert (report.matched_by, report.num_classes) == ("name", 7)
    written = load_file(out)
    assert not any(name.endswith("num_batches_tracked") for name in written)
    assert all(torch.equal(value, state[name]) for name, value in written.items())
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    assert load_pixel_classifier("test_resnet", out).logits(images).shape == (2, 7)


def test_tensors_of_other_names_are_taken_in_order(tmp_path):
    path, out = tmp_path / "foreign.pth", tmp_path / "weights.safetensors"
    state = checkpoint(path, lambda name: f"_{name.replace('.', '_x.')}")
    assert convert_weights(path, "test_resnet", out).matched_by == "order"
    assert all(torch.equal(value, state[name]) for name, value in load_file(out).items())


def test_weights_of_another_model_are_refused(tmp_path):
    path, out = tmp_path / "last.pth", tmp_path / "weights.safetensors"
    state = checkpoint(path)
    with pytest.raises(CallError, match=r"last.pth has \d+ tensors, but resnet18 has 102; give the model"):
        convert_weights(path, "resnet18", out)
    torch.save({name: value.flatten() for name, value in state.items()}, path)
    with pytest.raises(CallError, match=r"'conv1.0.weight' has shape \[432\], but 'conv1.0.weight' of test_resnet"):
        convert_weights(path, "test_resnet", out)
    torch.save({name: value.clone().fill_(float("nan")) for name, value in state.items() if value.ndim}, path)
    with pytest.raises(DamagedError, match=r"'conv1.0.weight' has values that are not finite; get the file again"):
        convert_weights(path, "test_resnet", out)
    assert not out.exists()


class Opened:
    def __reduce__(self):
        return print, ("run",)


def test_other_files_are_refused_and_nothing_in_them_is_run(tmp_path, capsys):
    out = tmp_path / "weights.safetensors"
    with pytest.raises(CallError, match=r"missing.pth: no such checkpoint"):
        convert_weights(tmp_path / "missing.pth", "test_resnet", out)
    for name, content in {"code.pth": pickle.dumps(Opened()), "empty.pth": b"", "text.pth": b"weights"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DamagedError, match=rf"{name}: cannot be read by torch with weights only \(.*\); give a"):
            convert_weights(tmp_path / name, "test_resnet", out)
    assert "run" not in capsys.readouterr().out
    for content, message in ([1], "holds a list, expected tensors by name"), ({"a": 1}, "'a' is not a tensor"):
        torch.save(content, tmp_path / "other.pth")
        with pytest.raises(DamagedError, match=message):
            convert_weights(tmp_path / "other.pth", "test_resnet", out)
    with pytest.raises(CallError, match=r"weights.bin is not called ….safetensors"):
        convert_weights(tmp_path / "code.pth", "test_resnet", tmp_path / "weights.bin")
    with pytest.raises(CallError, match="unknown model 'test_resnett'; nearest: test_resnet"):
        convert_weights(tmp_path / "code.pth", "test_resnett", out)


def test_converted_weights_start_a_classifier_on_latents(rgb16, tmp_path):
    path, out = tmp_path / "foreign.pth", tmp_path / "weights.safetensors"
    state = checkpoint(path, lambda name: f"_{name}", model="test_efficientnet")
    convert_weights(path, "test_efficientnet", out)
    model = create_model("test_efficientnet", rgb16, pretrained=out)
    assert model.config.num_classes == 2
    assert torch.equal(model.backbone.conv_stem.weight, state["conv_stem.weight"])
    assert torch.equal(model.backbone.bn1.running_var, state["bn1.running_var"])

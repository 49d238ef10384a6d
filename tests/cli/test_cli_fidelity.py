"""`cdl codec eval --classifier` and `cdl weights convert`."""

import json
import shutil

import pytest
import timm
import torch
from PIL import Image

from tests.support.planes import plane_codec
from tests.support.sounds import sound, write_sound


@pytest.fixture(scope="module")
def weights(tmp_path_factory, module_cdl):
    """Converted by the command."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet").state_dict(), folder / "last.pth")
    out = folder / "weights.safetensors"
    module_cdl("weights", "convert", folder / "last.pth", "--model", "test_resnet", "--out", out)
    return out


@pytest.fixture(scope="module")
def module_cdl():
    from walloc_cdl.cli.app import run

    def call(*arguments):
        assert run([str(argument) for argument in arguments]) == 0

    return call


@pytest.fixture(scope="module")
def codec_folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("codec") / "mine"
    plane_codec(levels=3).save_pretrained(out)
    return out


def test_weights_convert_says_what_was_written(cdl, refused, tmp_path):
    torch.save(timm.create_model("test_resnet").state_dict(), tmp_path / "last.pth")
    call = ("weights", "convert", tmp_path / "last.pth", "--model", "test_resnet", "--out")
    answer = cdl(*call, tmp_path / "weights.safetensors", "--json", tmp_path / "report.json")
    assert answer.code == 0
    assert "matched by name" in answer.out
    assert json.loads((tmp_path / "report.json").read_text())["num_classes"] == 1000
    assert "is not called ….safetensors" in refused(*call, tmp_path / "weights.pth")
    (tmp_path / "text.pth").write_text("weights")
    call = ("weights", "convert", tmp_path / "text.pth", "--model", "test_resnet", "--out", tmp_path / "a.safetensors")
    assert "cannot be read by torch with weights only" in refused(*call, code=1)


def test_codec_eval_shows_decoded_images_to_a_classifier(cdl, source, weights, codec_folder, tmp_path):
    report, plot = tmp_path / "eval.json", tmp_path / "eval.png"
    answer = cdl(
        *("codec", "eval", "--codec", codec_folder, "--images", source, "--size", 64, "--bytes", "96,384"),
        *("--classifier", "test_resnet", "--weights", weights, "--against", "pixels,jpeg", "--device", "cpu"),
        *("--except-fraction", 0.5, "--json", report, "--plot", plot),
    )
    assert answer.code == 0
    result = json.loads(report.read_text())
    assert (result["num_images"], result["num_labeled"], result["top1"]) == (12, 0, None)
    forms = [(row["stored"], row["budget"]) for row in result["summary"]]
    assert forms == [(name, budget) for name in ("planes", "pixels", "jpeg") for budget in (96, 384)]
    assert all(0 <= row["agreement"] <= 1 for row in result["summary"])
    assert "planes at 96 − pixels at 96" in answer.out
    assert "12 images (none of known class), test_resnet" in answer.out
    assert Image.open(plot).size[0] > 500


def test_halves_of_the_images_are_those_of_the_fit(cdl, source, weights, tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    for number, path in enumerate(sorted((source / "train" / "cat").iterdir())):
        shutil.copy(path, folder / f"{number}.png")
    keys = {}
    for option in ("--fraction", "--except-fraction"):
        cdl("codec", "fit", folder, "--size", 64, "--levels", 2, option, 0.5, "--out", tmp_path / option, "--seed", 3)
        call = ("codec", "eval", "--codec", tmp_path / option, "--images", folder, "--size", 64, option, 0.5)
        report = tmp_path / "eval.json"
        answer = cdl(*call, "--seed", 3, "--classifier", "test_resnet", "--weights", weights, "--json", report)
        assert answer.code == 0
        keys[option] = json.loads(report.read_text())["images"]["keys"]
    first, second = keys.values()
    assert len(first) == len(second) == 4
    assert not set(first) & set(second)
    configs = [json.loads((tmp_path / option / "config.json").read_text()) for option in keys]
    assert configs[0]["fit"] != configs[1]["fit"]


def test_options_that_do_not_fit_are_refused(refused, source, weights, codec_folder, tmp_path):
    call = ("codec", "eval", "--codec", codec_folder, "--images", source)
    for option, value in {"--bytes": "96", "--against": "jpeg", "--size": 64, "--plot": tmp_path / "a.png"}.items():
        assert f"{option} {value} without --classifier; name a timm classifier" in refused(*call, option, value)
    call += ("--classifier", "test_resnet", "--weights", weights)
    assert "--container png with --classifier, which measures stored rows" in refused(*call, "--container", "png")
    assert "--bytes '1,x'; expected bytes of an image" in refused(*call, "--bytes", "1,x")
    assert "these latents take" in refused(*call, "--bytes", 10**6)
    assert "unknown form to compare with 'jpg'" in refused(*call, "--against", "jpg")
    assert "no file extension of an image format" in refused(*call, "--plot", tmp_path / "plot.txt")
    assert "--fraction 0.5 and --except-fraction 0.5 select" in refused(
        *call, "--fraction", 0.5, "--except-fraction", 0.5
    )
    assert "60 is not a multiple of the stride 8" in refused(*call, "--size", 60)


def test_a_classifier_sees_no_sound(refused, tmp_path):
    write_sound(tmp_path / "0.wav", sound(0, 8000), 44100)
    line = refused("codec", "eval", "--codec", "mono-16x", "--audio", tmp_path, "--classifier", "test_resnet")
    assert "--classifier with a source of kind audio; it sees decoded images, so give --images" in line

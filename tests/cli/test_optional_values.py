"""`--pretrained` with and without a file."""

import pytest

from classifiers.cli.options import pretrained_weights
from walloc_cdl.cli.optional_values import OMITTED, complete


@pytest.mark.parametrize(
    ("given", "understood"),
    [
        ("out --pretrained", f"out --pretrained={OMITTED}"),
        ("--pretrained out/latents.v2", f"--pretrained={OMITTED} out/latents.v2"),
        ("out --pretrained --model m", f"out --pretrained={OMITTED} --model m"),
        ("out --pretrained a/w.safetensors --model m", "out --pretrained a/w.safetensors --model m"),
        ("out --pretrained w.pth", "out --pretrained w.pth"),  # refused later, by a line about formats
        ("out --pretrained=w", "out --pretrained=w"),
        ("--model m -- --pretrained", "--model m -- --pretrained"),
        ("--model --pretrained", f"--model --pretrained={OMITTED}"),
    ],
)
def test_only_a_file_is_the_value_of_an_option_that_may_omit_it(given, understood):
    assert list(complete(given.split(), {"--pretrained"})) == understood.split()


def test_an_existing_file_is_a_value_whatever_its_name(tmp_path):
    (tmp_path / "weights").write_bytes(b"")
    assert list(complete(["--pretrained", str(tmp_path / "weights")], {"--pretrained"})) == [
        "--pretrained",
        str(tmp_path / "weights"),
    ]


def test_values_of_the_option():
    assert pretrained_weights(None) is False
    assert pretrained_weights(OMITTED) is True
    assert str(pretrained_weights("w.safetensors")) == "w.safetensors"


def test_training_starts_from_a_file(cdl, latents, tmp_path):
    import timm
    from safetensors.torch import save_file

    weights = {name: value.contiguous() for name, value in timm.create_model("test_resnet").state_dict().items()}
    save_file(weights, tmp_path / "weights.safetensors")
    call = ("train", latents, "--model", "test_resnet", "--epochs", 1, "--batch-size", 8, "--out")
    answer = cdl(*call, tmp_path / "run", "--pretrained", tmp_path / "weights.safetensors", "--json", tmp_path / "j")
    assert answer.code == 0, answer.err
    assert '"pretrained": "sha256:' in (tmp_path / "j").read_text()
    answer = cdl(*call, tmp_path / "other", "--pretrained", "weights.pth")
    assert answer.code == 2
    assert "pretrained weights 'weights.pth' are not a safetensors file; name one, or use True" in answer.err

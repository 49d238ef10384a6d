"""`cdl train`: recipes in and out, trackers, early stopping, and what is refused."""

import json
import re

import pytest

from tests.support.tiny_datasets import (
    identity_layer,
    make_spec,
    random_bank,
    random_split,
    striped_split,
    write_dataset,
)
from walloc_cdl.threads import torch_threads


@pytest.fixture(autouse=True)
def one_thread():
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def striped(tmp_path_factory):
    spec = make_spec(latent_channels=3, stride=2, companding="none")
    splits = {"train": striped_split(spec, 96, 16, 1), "validation": striped_split(spec, 32, 16, 2)}
    bank = {1: identity_layer(), 2: random_bank(spec)[2]}
    return write_dataset(tmp_path_factory.mktemp("train") / "striped", spec, splits, bank=bank)


def test_train_takes_recipes_trackers_and_stops_early(striped, cdl, tmp_path):
    recipe = tmp_path / "mine.toml"
    recipe.write_text('model = "test_resnet"\nepochs = 2\nbatch_size = 64\naugment = "none"\ntorchcompile = "eager"')
    command = ("train", striped, "--recipe", recipe, "--out", tmp_path / "run", "--threads", 1)
    answer = cdl(*command, "--opt-betas", "0.8,0.9", "--keep", "best", "--tracker", "tensorboard", "--clip-grad", 0)
    assert answer.code == 0, answer.err
    written = (tmp_path / "run/recipe.toml").read_text()
    for line in ("epochs = 2\n", "opt_betas = [0.8, 0.9]\n", 'keep = "best"\n', "clip_grad = 0\n"):
        assert line in written
    assert list((tmp_path / "run/logs").rglob("events.out.tfevents.*"))
    record = json.loads((tmp_path / "run/record.json").read_text())
    assert record["config"]["train"]["clip_grad"] is None
    assert {"accuracy", "macro_f1", "auc"} <= record["history"][0]["metrics"].keys()
    again = cdl("train", striped, "--recipe", tmp_path / "run/recipe.toml", "--out", tmp_path / "run")
    assert again.code == 0
    assert "is trained already; nothing to do" in again.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--opt", "adamz"), r"opt 'adamz' cannot be used \(.*\); choose one of timm\.optim\.list_optimizers"),
        (("--tracker", "tensorbord"), r"unknown tracker 'tensorbord'; nearest: tensorboard"),
        (("--tracker", "wandb"), r"tracker 'wandb' is not installed; install it \(pip install wandb\), or omit it"),
        (("--torchcompile", "inductr"), r"unknown torchcompile 'inductr'; nearest: inductor"),
        (("--decay-milestones", "a,b"), r"--decay-milestones 'a,b'; expected numbers separated by commas"),
        (("--patience", 2, "--val-interval", 0), r"val_interval is 0, so that no epoch is evaluated"),
        (("--recipe", "absent.toml"), r"absent\.toml: No such file"),
        (
            ("--eval-metric", "f1", "--keep", "best"),
            r"unknown eval_metric 'f1'; nearest: macro_f1; choose one of accuracy",
        ),
        (("--checkpoint-minutes", 0), r"minutes between checkpoints are 0"),
    ],
)
def test_wrong_calls_are_refused_in_one_line(striped, cdl, tmp_path, options, message):
    command = ("train", striped, "--model", "test_resnet", "--epochs", 1, "--out", tmp_path / "run")
    answer = cdl(*command, "--threads", 1, *options)
    assert answer.code == 2
    lines = [line for line in answer.err.splitlines() if line.startswith("cdl")]
    assert len(lines) == 1
    assert re.search(message, lines[0]), lines[0]
    assert not (tmp_path / "run").exists()


def test_the_best_epoch_is_not_chosen_on_the_test_split_unless_asked(cdl, tmp_path):
    spec = make_spec(3, 3, 2, "none")
    splits = {"train": random_split(spec, 32, 16), "test": random_split(spec, 8, 16)}
    data = write_dataset(tmp_path / "some", spec, splits, bank=random_bank(spec))
    command = ("train", data, "--model", "test_resnet", "--epochs", 1, "--keep", "best", "--threads", 1)
    answer = cdl(*command, "--out", tmp_path / "run")
    assert answer.code == 2
    assert "the best epoch would be chosen on the split test" in answer.err
    assert cdl(*command, "--out", tmp_path / "run", "--validation", "test").code == 0

"""`cdl train` in processes that `torchrun` launches: it trains what one process does, and refuses in one line."""

import json
import os
import subprocess
import sys

import pytest
from safetensors.numpy import load_file

from tests.support.paths import ROOT
from tests.support.tiny_datasets import identity_layer, make_spec, random_bank, striped_split, write_dataset

pytestmark = pytest.mark.slow

OPTIONS = ("--model", "test_vit", "--epochs", 2, "--batch-size", 32, "--augment", "timm", "--device", "cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    spec = make_spec(latent_channels=3, stride=2, companding="none")
    codes, labels = striped_split(spec, 96, 16, 1)
    labels[[3, 4, 5, 40]] = -1  # processes have different numbers of known labels
    splits = {"train": (codes, labels), "validation": striped_split(spec, 32, 16, 2)}
    bank = {1: identity_layer(), 2: random_bank(spec)[2]}
    return write_dataset(tmp_path_factory.mktemp("launched") / "data", spec, splits, bank=bank)


def train(data, out, *options, processes):
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes) if processes > 1 else ()
    return subprocess.run(
        [sys.executable, *map(str, (*launcher, "-m", "walloc_cdl", "train", data, *options, "--out", out))],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_two_processes_train_the_weights_of_one(data, tmp_path):
    done = {number: train(data, tmp_path / str(number), *OPTIONS, processes=number) for number in (1, 2)}
    for each in done.values():
        assert each.returncode == 0, each.stderr
        assert each.stdout.count("accuracy") == 1
    one, two = (load_file(tmp_path / name / "model.safetensors") for name in ("1", "2"))
    for name, value in one.items():
        assert two[name] == pytest.approx(value, rel=1e-3, abs=1e-4), name
    losses = [
        [epoch["loss"] for epoch in json.loads((tmp_path / name / "record.json").read_text())["history"]]
        for name in ("1", "2")
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    again = train(data, tmp_path / "2", *OPTIONS, processes=1)
    assert again.returncode == 2
    assert "has compute.processes 2, but this call has 1" in again.stderr


def test_a_batch_smaller_than_the_number_of_processes_is_refused_in_one_line(data, tmp_path):
    done = train(data, tmp_path / "run", *OPTIONS[:4], "--batch-size", 1, *OPTIONS[6:], processes=2)
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if line.startswith("cdl: ")]
    assert lines == [
        "cdl: batches of 1 samples, but 2 processes share each of them; choose a batch size of at least 2, or launch "
        "fewer processes"
    ]
    assert not (tmp_path / "run").exists()

"""A run that is killed at random moments, also within epochs, ends with the weights of an undisturbed one."""

import json
import os
import subprocess
import sys

import pytest

from tests.support.killed_training import NUM_KILLS
from tests.support.paths import ROOT
from tests.support.tiny_datasets import identity_layer, make_spec, random_bank, striped_split, write_dataset

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("seed", [0])
def test_weights_after_many_kills(tmp_path, seed):
    """With augmentation, dropped paths, running statistics, accumulated batches and the best epoch kept."""
    spec = make_spec(latent_channels=3, stride=2, companding="none")
    splits = {"train": striped_split(spec, 192, 16, 1), "validation": striped_split(spec, 32, 16, 2)}
    data = write_dataset(tmp_path / "data", spec, splits, bank={1: identity_layer(), 2: random_bank(spec)[2]})
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.killed_training", str(data), str(tmp_path), str(seed)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == NUM_KILLS
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    records = [json.loads((tmp_path / name / "record.json").read_text()) for name in ("whole", "killed")]
    histories = [[(each["loss"], each["lr"], each["metrics"]) for each in record["history"]] for record in records]
    assert histories[0] == histories[1]
    assert records[0]["metrics"] == records[1]["metrics"]
    assert records[0]["epoch"] == records[1]["epoch"]

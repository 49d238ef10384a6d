"""Commands that are killed repeatedly give the result of an uninterrupted command in the end."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from tests.support.commands import Command, count_files
from tests.support.trees import contents
from walloc_cdl.latents import verify

pytestmark = pytest.mark.slow


PACKED = ("--codec", "rgb", "--bytes", 768)


def losses(record: dict) -> list[float]:
    """The loss of each epoch of a run's record."""
    return [figures["loss"] for figures in record["history"]]


@pytest.mark.parametrize(("whole_group", "stored"), [(True, ("--codec", "rgb-16x")), (False, PACKED)])
def test_prepare(photos, tmp_path, whole_group, stored):
    """Kills at the plan, shards, records, temporary files and the end do not change the bytes."""

    def prepare(name: str) -> Command:
        options = (*stored, "--size", 64, "--shard-samples", 20, "--workers", 2)
        return Command(("prepare", photos, *options, "--out", tmp_path / name))

    prepare("undisturbed").finish()
    job, out = prepare("killed"), tmp_path / "killed"
    kills = sum(job.kill_once(out, files, whole_group=whole_group) for files in (1, 2, 5, 9, 14, 19, 21, 23))
    assert kills >= 5
    job.finish()
    assert contents(out) == contents(tmp_path / "undisturbed")
    assert verify(out, full=True).problems == []
    assert not list(out.rglob(".*"))


def test_drop_and_split(photos, tmp_path):
    """Kills while staging, at the commit and after it: the same command, or repair, completes it to the same bytes."""
    options = ("--codec", "rgb-16x", "--size", 64, "--shard-samples", 20, "--workers", 0)
    Command(("prepare", photos, *options, "--out", tmp_path / "set")).finish()
    keys = [f"train/{'cat' if number % 2 else 'dog'}/{number:03d}.png" for number in range(2, 150) if number % 5]
    calls = {"drop": keys, "split": ("--split", "train", "--into", "train=0.7,extra=0.3")}
    kills = 0
    for name, options in calls.items():
        shutil.copytree(tmp_path / "set", tmp_path / name)
        Command((name, tmp_path / name, *options)).finish()
        for more in (1, 2, 4, 7, 9):
            out = tmp_path / f"{name}-{more}"
            shutil.copytree(tmp_path / "set", out)
            job = Command((name, out, *options))
            if job.kill_once(out, count_files(out) + more, whole_group=True):
                kills += 1
                if (out / "_work/edit.json").exists() and more % 2:
                    Command(("repair", out)).finish()
            job.finish()
            assert contents(out) == contents(tmp_path / name)
            assert not [path for path in out.rglob("*") if path.name.startswith((".", "_"))]
    assert kills >= 6


def test_train(photos, tmp_path):
    """Kills after the configuration, checkpoints and weights do not change the weights."""
    Command(("prepare", photos, *PACKED, "--size", 64, "--out", tmp_path / "latents")).finish()

    def train(name: str) -> Command:
        options = ("--model", "test_resnet", "--epochs", 6, "--batch-size", 16, "--device", "cpu")
        return Command(("train", tmp_path / "latents", *options, "--out", tmp_path / name))

    train("undisturbed").finish()
    job, run = train("killed"), tmp_path / "killed"
    assert sum(job.kill_once(run, files, whole_group=True) for files in (1, 2, 3, 3)) >= 3
    job.finish()
    names = ["classes.csv", "codec", "config.json", "index.html", "model.safetensors", "recipe.toml", "record.json"]
    assert sorted(path.name for path in run.iterdir()) == names
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("killed", "undisturbed")]
    assert weights[0] == weights[1]
    records = [json.loads((tmp_path / name / "record.json").read_text()) for name in ("killed", "undisturbed")]
    assert records[0]["metrics"] == records[1]["metrics"]
    assert losses(records[0]) == losses(records[1])


def test_compare(photos, tmp_path):
    """Kills while it prepares, trains and writes do not change the outcome of any run."""

    def compare(name: str) -> Command:
        options = ("--model", "test_resnet", "--size", 64, "--conditions", "pixels-16,latents-16x", "--seeds", 2)
        return Command(("compare", photos, *options, "--epochs", 2, "--batch-size", 16, "--out", tmp_path / name))

    def outcome(name: str) -> list:
        fields = json.loads((tmp_path / name / "results.json").read_text())
        runs = [
            (each["name"], run["score"], run["predicted"], [point["loss"] for point in run["history"]])
            for each in fields["conditions"]
            for run in each["runs"]
        ]
        rows = list(csv.DictReader((tmp_path / name / "results.csv").read_text().splitlines()))
        for row in rows:
            assert float(row.pop("elapsed_s")) > 0
        return [rows, runs, fields["differences"], fields["answer"], fields["samples"]]

    compare("undisturbed").finish()
    job, out = compare("killed"), tmp_path / "killed"
    kills = sum(job.kill_once(out, files, whole_group=True) for files in (1, 3, 5, 8, 12, 15, 18, 22, 25, 28))
    assert kills >= 7
    job.finish()
    assert outcome("killed") == outcome("undisturbed")

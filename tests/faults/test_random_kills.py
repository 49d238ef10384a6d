"""Jobs that are killed at random times, a hundred of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.support.pictures import picture

SCRIPT = "tests.support.forked_jobs"


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("kind", [[], ["stream"]], ids=["folder", "stream"])
def test_a_hundred_kills(tmp_path, kind):
    """Every phase is hit, and each job ends with the bytes of an uninterrupted one."""
    photos = tmp_path / "photos"
    for number in range(40):
        folder = photos / ("test" if number % 4 == 0 else "train") / ("cat", "dog")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number % 37, 90, 80).save(folder / f"{number:02d}.png")  # three of them are copies
    (photos / "train/dog/03.png").write_bytes(b"no image")
    (tmp_path / "jobs").mkdir()
    command = [sys.executable, "-m", SCRIPT, str(photos), str(tmp_path / "jobs"), "0", "100", *kind]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=600)
    report = json.loads(done.stdout)
    assert sum(report["phases"].values()) >= 100
    assert report["missed"] == [], report
    assert report["num_jobs"] > 5

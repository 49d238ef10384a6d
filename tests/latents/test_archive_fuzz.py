"""Damaged archives raise a clear error or give the right codes: quickly, in little memory, without a crash."""

import json
import subprocess
import sys

import pytest

SCRIPT = "tests.support.fuzz_archives"


def fuzz(count: int, seed: int) -> dict:
    command = [sys.executable, "-m", SCRIPT, str(count), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(result: dict, count: int) -> None:
    assert set(result["outcomes"]) <= {"refused", "right"}, result
    assert sum(result["outcomes"].values()) == count
    assert result["outcomes"]["refused"] > count // 2  # the mutations do damage
    assert result["worst_s"] < 2
    assert result["worst_growth_bytes"] < 64 * 2**20


def test_hundreds_of_damaged_archives():
    check(fuzz(600, 0), 600)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_thousands_of_damaged_archives(seed):
    check(fuzz(5000, seed), 5000)

"""Planning takes constant memory: ten times as many rows have the same peak."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = "tests.support.many_rows"


def measured(num_rows: int) -> dict[str, float]:
    command = [sys.executable, "-m", SCRIPT, str(num_rows)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_rows():
    few, many = measured(2_000_000), measured(20_000_000)
    assert many["num_rows"] == 20_000_000
    assert many["peak_bytes"] < 1.25 * few["peak_bytes"]
    assert many["listing_s"] + many["plan_s"] < 20 * (few["listing_s"] + few["plan_s"])

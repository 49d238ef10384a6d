"""A job's memory does not depend on the number of shards."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SCRIPT = "tests.support.memory_of_jobs"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
@pytest.mark.parametrize("kind", [[], ["stream"]], ids=["source", "stream"])
def test_memory_does_not_grow_with_the_samples(tmp_path, kind):
    def peak_bytes(num_samples: int) -> int:
        folder = tmp_path / str(num_samples)
        folder.mkdir()
        command = [sys.executable, "-m", SCRIPT, str(num_samples), "1", str(folder), *kind]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["peak_bytes"]

    assert peak_bytes(12_000) < 1.05 * peak_bytes(2_000)

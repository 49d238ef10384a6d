"""Compiled code is cached on disk, and is compiled by one of several processes that start at once."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

from tests.support.paths import ROOT

PROGRAM = textwrap.dedent("""
    from walloc_cdl.kernels.cpu.compiling import compiled, compiling_once

    @compiled()
    def doubled(number):
        return 2 * number

    if __name__ == "__main__":
        with compiling_once(doubled):
            doubled(21)
        print(sum(doubled.stats.cache_misses.values()), sum(doubled.stats.cache_hits.values()))
""")


def test_one_process_compiles_and_the_others_load(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, tmp_path / "program.py"]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(3)]
    counts = sorted(process.communicate(timeout=60)[0].strip() for process in processes)
    assert counts == ["0 1", "0 1", "1 0"]

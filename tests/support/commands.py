"""Commands in processes of their own, which can be killed at any moment."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.paths import ROOT


@dataclass
class Command:
    """A call of `cdl`, with one torch thread, in a process group of its own."""

    arguments: tuple[object, ...]

    def start(self) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "walloc_cdl", *map(str, self.arguments)],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self) -> None:
        """Run to the end."""
        process = self.start()
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors

    def kill_once(self, watched: Path, files: int, *, whole_group: bool) -> bool:
        """Kill it as soon as `watched` holds so many files; whether that came before its end.

        Without `whole_group` only the command itself dies, as from the kernel's out-of-memory killer, and its
        workers must notice.
        """
        process = self.start()
        deadline = time.monotonic() + 300
        while process.poll() is None and count_files(watched) < files:
            assert time.monotonic() < deadline, "the command neither advances nor ends"
            time.sleep(0.002)
        killed = process.poll() is None
        if killed:
            (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=60)
        assert killed or process.returncode == 0, errors
        wait_for_end(process.pid)
        return killed


def count_files(folder: Path) -> int:
    """Files below a folder that another process is writing, temporary ones included."""
    return sum(len(names) for _, _, names in os.walk(folder))


def wait_for_end(group: int) -> None:
    """Until no process of the group is left; workers that outlive their parent fail the test."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    pytest.fail("worker processes outlived the command that was killed")

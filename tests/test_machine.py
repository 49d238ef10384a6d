"""The load of the CPUs, and how OpenMP's threads wait on a busy machine."""

import os
import subprocess
import sys

import pytest

from walloc_cdl import machine

HEADING = "cpu  9 9 9 9 9 9 9 9 0 0\n"


@pytest.fixture
def statistics(tmp_path, monkeypatch):
    """A function that sets what the system says before and after the measurement, for this process's CPUs 0 and 2."""
    path = tmp_path / "stat"
    monkeypatch.setattr(machine, "_STATISTICS", path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 2}, raising=False)

    def say(before: str, after: str) -> None:
        path.write_text(before)
        monkeypatch.setattr(machine.time, "sleep", lambda seconds: path.write_text(after))

    return say


def test_the_load_is_that_of_the_cpus_of_this_process(statistics):
    before = HEADING + "".join(f"cpu{cpu} 100 0 50 1000 10 0 0 0 0 0\n" for cpu in range(3)) + "intr 5 6\n"
    # CPU 0 is idle for 20 ticks; CPU 1 belongs to others; CPU 2 works 10 ticks and waits for a disk for 10.
    after = HEADING + "cpu0 100 0 50 1020 10 0 0 0\ncpu1 120 0 50 1000 10 0 0 0\ncpu2 104 3 53 1000 20 0 0 0\n"
    statistics(before, after)
    assert machine.busy_share() == pytest.approx(10 / 40)


@pytest.mark.parametrize("text", ["", "cpu0 1 2\n", "cpu0 a b c d e f g h\n", HEADING])
def test_a_system_that_says_nothing_counts_as_quiet(statistics, text):
    statistics(text, text)
    assert machine.busy_share() == 0


@pytest.mark.parametrize(
    ("share", "settings", "loaded", "policy"),
    [
        (0.9, {}, False, "PASSIVE"),
        (0.1, {}, False, None),
        (0.9, {"OMP_WAIT_POLICY": "ACTIVE"}, False, "ACTIVE"),
        (0.9, {"GOMP_SPINCOUNT": "5"}, False, None),
        (0.9, {}, True, None),
    ],
)
def test_threads_sleep_while_they_wait_on_a_busy_machine_only(monkeypatch, share, settings, loaded, policy):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "environ", {**os.environ, **settings})
    monkeypatch.setattr(
        sys, "modules", {name: module for name, module in sys.modules.items() if loaded or name != "torch"}
    )
    if loaded:
        monkeypatch.setitem(sys.modules, "torch", sys)
    monkeypatch.setattr(machine, "busy_share", lambda: share)
    machine.wait_without_spinning_if_busy()
    assert os.environ.get("OMP_WAIT_POLICY") == policy


COMMANDS = (
    ["train", "nowhere", "--model", "resnet18", "--out", "out"],
    ["evaluate", "nowhere", "nowhere"],
    ["codec", "fit", "imagefolder:nowhere", "--out", "out"],
    ["compare", "imagefolder:nowhere", "--out", "out"],
    ["demo"],
)


def test_commands_decide_before_they_import_torch():
    """Each command that computes with torch for long asks; the setting would come too late after the import."""
    code = f"""
import sys
from walloc_cdl import machine
from walloc_cdl.cli.app import run
def decide():
    print("torch" in sys.modules)
    raise SystemExit
machine.wait_without_spinning_if_busy = decide  # before the commands import it
for command in {COMMANDS}:
    try:
        run(command)
    except SystemExit:
        pass
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert result.stdout.split() == ["False"] * len(COMMANDS), result.stderr

"""Progress without a terminal: a line from time to time, with a rate that excludes earlier work."""

import pytest

from walloc_cdl.cli import console
from walloc_cdl.cli.app import run


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances only on request."""
    now = [100.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])
    return now


def test_the_rate_of_a_resumed_job_excludes_earlier_work(clock, capsys):
    with console.progress("train", "samples") as update:
        update(5_000, 10_000)
        clock[0] += 4
        update(5_200, 10_000)
        assert capsys.readouterr().err == ""
        clock[0] += 16
        update(6_000, 10_000)
    assert capsys.readouterr().err == "train: 6,000 of 10,000 samples, 50/s, 80 s left\n"


def test_phases_are_named_and_notes_shown(clock, capsys):
    with console.PhaseProgress("samples") as phases:
        phases.update("prepare", 0, 10)
        phases.update("prepare", 0, 0, "nothing to do")
        phases.update("train", 0, 10)
    assert capsys.readouterr().err == "prepare\nprepare: nothing to do\ntrain\n"


def test_the_time_since_the_start_is_that_of_the_present_call(monkeypatch):
    now = [50.0]
    monkeypatch.setattr(console.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(console, "_STARTED_S", [0.0])
    assert console.seconds_since_start() == 50
    run(["--version"])
    now[0] += 2.5
    assert console.seconds_since_start() == 2.5

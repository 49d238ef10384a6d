"""The settings of a peer against one another, in one trial, to go on with the fastest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from experiments.benchmarks.timing import OnPhase, Run, rate_of, silent
from experiments.peers.peer import Absent, Peer, Setting

Work = TypeVar("Work")

TRIALS = 2
"""Runs of each setting, of which the faster counts: a noisy machine only ever slows one down."""


@dataclass(frozen=True)
class Candidate(Generic[Work]):
    """A peer, or this package, in the setting that it is measured in."""

    name: str
    setting: Setting[Work]
    tried: dict[str, float]
    """Units a second of every setting in the trial; empty of a single one."""
    reads_images: bool = False


def choose_setting(
    name: str, settings: Sequence[Setting[Work]], make_run: Callable[[Work], Run], *, reads_images: bool = False
) -> Candidate[Work]:
    """The candidate in its fastest setting: each warms up; of several, the one with the fastest of two runs."""
    runs = {setting.text: make_run(setting.work) for setting in settings}
    for run in runs.values():
        run(0)
    tried: dict[str, float] = {}
    for trial in range(1, 1 + TRIALS if len(runs) > 1 else 1):
        for text, run in runs.items():
            tried[text] = max(tried.get(text, 0.0), rate_of(run, trial))
    fastest = max(settings, key=lambda setting: tried.get(setting.text, 0.0))
    return Candidate(name, fastest, tried, reads_images)


def choose_peer_settings(
    peers: Sequence[Peer],
    settings_of: Callable[[Peer], Sequence[Setting[Work]]],
    make_runs: Sequence[Callable[[Work], Run]],
    on_phase: OnPhase = silent,
) -> tuple[list[tuple[Candidate[Work], ...]], list[Absent]]:
    """Every peer as a candidate in each kind of run, and those whose package is there but cannot be imported."""
    chosen, absent = [], []
    for peer in peers:
        on_phase(f"trying {peer.name}", 0, 0)
        try:
            settings = settings_of(peer)
        except ImportError as error:
            absent.append(Absent(peer.name, f"{peer.package or peer.name} cannot be imported: {error}"))
            continue
        chosen.append(
            tuple(
                choose_setting(peer.name, settings, make_run, reads_images=peer.reads_images) for make_run in make_runs
            )
        )
    return chosen, absent

"""Chooses the fastest setting of a candidate in a trial.

A peer offers every setting that its documentation recommends for speed, and the trial chooses one, for this package as
for the others: guessing which setting is fastest on a machine makes peers slow. The report lists the slower settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from experiments.benchmarks.timing import OnPhase, Run, rate_of, silent
from experiments.peers.peer import Absent, Peer, Setting

Work = TypeVar("Work")

TRIALS = 2
"""Runs of each setting, of which the fastest counts: noise only slows a run down."""


@dataclass(frozen=True)
class Candidate(Generic[Work]):
    """A peer, or this package, in the chosen setting."""

    name: str
    setting: Setting[Work]
    tried: dict[str, float]
    """Units per second of each setting in the trial; empty if there is one setting only."""
    reads_images: bool = False


def choose_setting(
    name: str, settings: Sequence[Setting[Work]], make_run: Callable[[Work], Run], *, reads_images: bool = False
) -> Candidate[Work]:
    """Returns the candidate in its fastest setting, by the fastest of `TRIALS` runs of each after a warm-up run."""
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
    """Returns each peer as a candidate in each kind of run, and the peers whose package cannot be imported."""
    candidates, absent = [], []
    for peer in peers:
        on_phase(f"trying {peer.name}", 0, 0)
        try:
            settings = settings_of(peer)
        except ImportError as error:
            absent.append(Absent(peer.name, f"{peer.package or peer.name} cannot be imported: {error}"))
            continue
        candidates.append(
            tuple(
                choose_setting(peer.name, settings, make_run, reads_images=peer.reads_images) for make_run in make_runs
            )
        )
    return candidates, absent

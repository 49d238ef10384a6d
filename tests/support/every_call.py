"""Which calls of the file system a command is stopped at, and whether the same command then completes its work."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.faults import KINDS, Faults
from tests.support.trees import all_files, contents
from walloc_cdl.latents import verify


class Completed:
    """Completes interrupted jobs, once for each state of their folder, and compares the result with an undisturbed one.

    `complete` gets the folder and the number of the call of several that was interrupted.
    """

    def __init__(self, complete: Callable[[Path, int], object], undisturbed: Path) -> None:
        self._complete, self._expected = complete, contents(undisturbed)
        self._seen: set[tuple[object, ...]] = set()
        assert verify(undisturbed, full=True).problems == []

    def check(self, out: Path, position: int, whole: bool, what: str) -> None:
        state = (position, whole, *sorted(_state(out).items()))
        if state in self._seen:
            return
        self._seen.add(state)
        if not whole:
            self._complete(out, position)
        assert contents(out) == self._expected, what  # as whole as the undisturbed one
        assert not [path for path in out.rglob("*") if path.name.startswith((".", "_"))], what

    @property
    def num_states(self) -> int:
        return len(self._seen)


def _state(folder: Path) -> dict[str, bytes]:
    """Return the content of a folder without what differs from run to run: the names of temporary files, and times."""
    return {
        re.sub(r"\.[0-9a-f]{16}\.tmp$", ".tmp", name): b"" if "provenance.json" in name else data
        for name, data in (all_files(folder) | {f"{path}/": b"" for path in folder.rglob("*") if path.is_dir()}).items()
    }


RARELY = 97
"""Of so many calls, the fast tests stop a command at one."""


def calls(faults: Faults, kind: str, step: int, number: int) -> Sequence[int]:
    """Return the calls at which a command is stopped: every `step`-th.

    Commands with different `number` begin at different calls, so that where they make the same calls, they share them.
    Commands are killed at every call, unless rarely.
    """
    if kind == "killed" and step < RARELY:
        return faults.states
    return range((number + KINDS.index(kind)) * 29 % step, faults.num_calls, step)

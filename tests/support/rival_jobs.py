"""Several jobs of `prepare` in one folder at once: `python -m tests.support.rival_jobs SOURCE FOLDER ROUNDS RIVALS`.

The rivals are forks of one warm process, which start within a millisecond. A rival that is refused because another one
holds the folder begins again at once, until the data set is done. Reports how often each outcome came, as JSON:
"done", or the error without numbers and paths.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from datasets_prep import PrepareConfig, open_source, prepare
from tests.support import forked_jobs
from tests.support.trees import contents
from walloc_cdl.codec import ResizeCodec, ResizeConfig
from walloc_cdl.errors import CdlError
from walloc_cdl.latents import verify

CONFIG = PrepareConfig(size=16, shard_samples=3, workers=0)
REFUSALS = tuple(
    f"OUT is being worked on by {holder} wait for it, stop it, or give another folder"
    for holder in ("process N on N since N", "another process;")
)
"""With the process that holds the folder, or without if it has not signed its lock yet."""


def start(source: Path, out: Path, outcome: Path) -> int:
    """Fork a process that makes the data set, and writes a line for each time that it began; its process id."""
    if pid := os.fork():
        return pid
    try:
        opened, codec = open_source(str(source)), ResizeCodec(ResizeConfig(channels=3, factor=4, name="r"))
        lines: list[str] = []
        while not lines or lines[-1] in REFUSALS:
            lines.append(_outcome(lambda: prepare(opened, codec, out, CONFIG), out))
        outcome.write_text("\n".join(lines))
    finally:
        os._exit(0)


def _outcome(call: Callable[[], object], out: Path) -> str:
    try:
        call()
    except CdlError as error:
        text = str(error).replace(str(out), "OUT")
        return re.sub(r"(?<= on )\S+(?= since)|\d\S*", "N", text)
    return "done"


def main(source: Path, folder: Path, num_rounds: int, num_rivals: int) -> dict[str, int]:
    """Let the rivals make one data set after the other."""
    forked_jobs.torch.set_num_threads(1)
    os.waitpid(start(source, folder / "undisturbed", folder / "outcome"), 0)
    expected, outcomes = contents(folder / "undisturbed"), Counter()
    for number in range(num_rounds):
        out = folder / f"job{number}"
        results = [folder / f"outcome{number}-{rival}" for rival in range(num_rivals)]
        for pid in [start(source, out, result) for result in results]:
            os.waitpid(pid, 0)
        for result in results:
            outcomes.update(result.read_text().splitlines())
        assert contents(out) == expected, out
        assert verify(out, full=True).problems == [], out
        assert not [path for path in out.rglob("*") if path.name.startswith((".", "_"))], out
    return dict(outcomes)


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))))

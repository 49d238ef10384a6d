"""A plugin of pytest for `make coverage`: decoding workers end by themselves, so that what they ran is counted.

A pool kills its workers when it is left, and a killed process writes no measurements. Here a worker that is idle is
told of the end by its closed connection and ends within a moment; one that is busy is killed nevertheless.
"""

from __future__ import annotations

from datasets_prep.decode.pool import WorkerProcess

PATIENCE_S = 2.0


def _end_or_kill(worker: WorkerProcess) -> None:
    worker._connection.close()
    worker._process.join(PATIENCE_S)
    worker.kill()
    worker._process.join()


WorkerProcess.end = _end_or_kill

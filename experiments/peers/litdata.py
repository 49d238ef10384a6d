"""LitData: memory-mapped chunks on the local disk, shuffled by chunk and within windows of a chunk."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from experiments.peers.peer import Batch, ReadEpoch, ReadingTask, Setting, worker_options, workers_text
from walloc_cdl.data import LatentDataset, open_latents

DOCUMENTED = "https://github.com/Lightning-AI/litData, optimize and StreamingDataset"
CHUNK_BYTES = "64MB"


def read_settings(task: ReadingTask) -> list[Setting[ReadEpoch]]:
    """Returns settings with default chunk size and shuffling window, with and without workers."""
    folder = task.work / "litdata"
    _write(task, folder)
    return [
        Setting(
            f"optimize(chunk_bytes={CHUNK_BYTES!r}), shuffle=True, {workers_text(num)}",
            DOCUMENTED,
            _read(task, folder, num),
        )
        for num in task.worker_counts
    ]


class _Samples:
    """The callable that `optimize` runs in its processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._dataset: LatentDataset | None = None

    def __call__(self, index: int) -> dict[str, Any]:
        self._dataset = self._dataset or open_latents(self.folder)
        codes, label = self._dataset[index]
        return {"codes": codes.numpy(), "label": label}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "_dataset": None}


def _write(task: ReadingTask, folder: Path) -> None:
    import litdata

    with contextlib.redirect_stdout(io.StringIO()):  # it prints a banner
        litdata.optimize(
            fn=_Samples(task.latents),
            inputs=list(range(len(task.dataset))),
            output_dir=str(folder),
            chunk_bytes=CHUNK_BYTES,
            num_workers=task.threads,
            verbose=False,
        )


def _read(task: ReadingTask, folder: Path, num_workers: int) -> ReadEpoch:
    import litdata

    samples = litdata.StreamingDataset(str(folder), shuffle=True, seed=task.seed)
    loader = litdata.StreamingDataLoader(samples, batch_size=task.batch_size, **worker_options(num_workers))

    def read(epoch: int) -> Iterator[Batch]:
        for batch in loader:
            yield batch["codes"], batch["label"]

    return read

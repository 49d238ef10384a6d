"""torch's DataLoader over a `LatentDataset`, which reads whole batches by `__getitems__`."""

from __future__ import annotations

from torch.utils.data import DataLoader

from experiments.peers.peer import ReadEpoch, ReadingTask, Setting, worker_options, workers_text

DOCUMENTED = "README.md; https://docs.pytorch.org/docs/stable/data.html"


def read_settings(task: ReadingTask) -> list[Setting[ReadEpoch]]:
    """Returns settings with and without workers."""
    return [
        Setting(f"default collate function, {workers_text(num)}", DOCUMENTED, _read(task, num))
        for num in task.worker_counts
    ]


def _read(task: ReadingTask, num_workers: int) -> ReadEpoch:
    loader = DataLoader(task.dataset, task.batch_size, shuffle=True, **worker_options(num_workers))
    return lambda epoch: loader

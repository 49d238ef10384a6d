"""WebDataset: tar files read in sequence, with shuffled shards, a shuffle buffer, and batching in the workers."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from datasets_prep.exports import export_latents
from experiments.peers.peer import ReadEpoch, ReadingTask, Setting, worker_options, workers_text

DOCUMENTED = "https://github.com/tmbdev-archive/wds-distributed"
"""Recommends batching inside each worker, "important for efficiency"."""
MAP_DOCUMENTED = "https://github.com/webdataset/webdataset, map_tuple"
BUFFER_SAMPLES = 1000


def read_settings(task: ReadingTask) -> list[Setting[ReadEpoch]]:
    """Returns settings with members decoded by the package or by minimal functions, with and without workers."""
    export_latents(task.latents, task.work / "webdataset", "webdataset", splits=["train"])
    settings = []
    for num in task.worker_counts:
        workers = f"shuffle({BUFFER_SAMPLES}), batched in the worker, {workers_text(num)}"
        settings.append(Setting(f"decode(), {workers}", DOCUMENTED, _read(task, num, by_package=True)))
        settings.append(Setting(f"map_tuple, {workers}", MAP_DOCUMENTED, _read(task, num, by_package=False)))
    return settings


def _read(task: ReadingTask, num_workers: int, *, by_package: bool) -> ReadEpoch:
    import webdataset as wds

    urls = sorted(str(path) for path in (task.work / "webdataset").glob("train-*.tar"))
    samples = wds.WebDataset(
        urls, shardshuffle=len(urls), select_files=_is_needed, empty_check=False, seed=task.seed
    ).shuffle(BUFFER_SAMPLES)
    if by_package:
        pairs = samples.decode().to_tuple("codes.npy", "cls")
    else:
        pairs = samples.to_tuple("codes.npy", "cls").map_tuple(_codes, int)
    batches = pairs.batched(task.batch_size, collation_fn=_stack)
    loader = wds.WebLoader(batches, batch_size=None, **worker_options(num_workers))
    return lambda epoch: loader


def _is_needed(name: str) -> bool:
    return not name.endswith(".json")


def _codes(data: bytes) -> np.ndarray:
    return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def _stack(samples: list[tuple[np.ndarray, int]]) -> tuple[Any, Any]:
    import torch

    codes, labels = zip(*samples, strict=True)
    return torch.from_numpy(np.stack(codes)), torch.tensor(labels)

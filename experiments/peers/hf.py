"""Hugging Face `datasets`: a memory-mapped Arrow table on disk, shuffled by torch's sampler."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

from datasets_prep.exports import export_latents
from experiments.peers.peer import Batch, ReadEpoch, ReadingTask, Setting, worker_options, workers_text

DOCUMENTED = "https://huggingface.co/docs/datasets/use_with_pytorch"
TRANSFORM_DOCUMENTED = "docs/exchange.md; https://huggingface.co/docs/datasets/process#format-transform"


def read_settings(task: ReadingTask) -> list[Setting[ReadEpoch]]:
    """Returns settings with codes as Array3D in the torch format, or as bytes with a transform.

    Batches are lists of indices, read with and without workers.
    """
    arrays, binary = _array_table(task), _binary_table(task)
    settings = []
    for num in task.worker_counts:
        workers = workers_text(num)
        text = f'Array3D, with_format("torch"), __getitems__, {workers}'
        settings.append(Setting(text, DOCUMENTED, _read_items(arrays, task, num)))
        text = f'Array3D, with_format("torch"), BatchSampler, {workers}'
        settings.append(Setting(text, DOCUMENTED, _read_lists(arrays, task, num)))
        text = f"binary column, with_transform, BatchSampler, {workers}"
        settings.append(Setting(text, TRANSFORM_DOCUMENTED, _read_lists(binary, task, num)))
    return settings


def _array_table(task: ReadingTask) -> Any:
    import datasets

    export_latents(task.latents, task.work / "hf", "hf", splits=["train"])
    table = datasets.load_from_disk(str(task.work / "hf"))["train"]
    # Without a dtype, all integers become int64, eight times the bytes; class numbers below 256 fit into uint8.
    return table.with_format("torch", columns=["codes", "label"], dtype=torch.uint8)


def _binary_table(task: ReadingTask) -> Any:
    import datasets

    folder, shape = task.work / "parquet", task.dataset.latent_shape
    export_latents(task.latents, folder, "parquet", splits=["train"])
    files = sorted(str(path) for path in folder.glob("train-*.parquet"))
    cache = str(task.work / "parquet-cache")
    shows_progress = datasets.is_progress_bar_enabled()
    datasets.disable_progress_bars()
    try:
        table = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=cache)
    finally:
        if shows_progress:
            datasets.enable_progress_bars()
    return table.with_transform(partial(_to_tensors, shape=shape), columns=["codes", "label"])


def _to_tensors(columns: dict[str, list[Any]], shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    codes = np.frombuffer(bytearray().join(columns["codes"]), np.uint8)
    return {"codes": torch.from_numpy(codes.reshape(-1, *shape)), "label": torch.tensor(columns["label"])}


def _read_items(table: Any, task: ReadingTask, num_workers: int) -> ReadEpoch:
    loader = DataLoader(table, task.batch_size, shuffle=True, **worker_options(num_workers))
    return lambda epoch: _pairs(loader)


def _read_lists(table: Any, task: ReadingTask, num_workers: int) -> ReadEpoch:
    lists = BatchSampler(RandomSampler(table), task.batch_size, drop_last=False)
    loader = DataLoader(table, batch_size=None, sampler=lists, **worker_options(num_workers))
    return lambda epoch: _pairs(loader)


def _pairs(loader: DataLoader) -> Iterator[Batch]:
    for batch in loader:
        yield batch["codes"], batch["label"].long()

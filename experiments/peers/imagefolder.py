"""torchvision's ImageFolder with a DataLoader: files are decoded, cropped and resized in every epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.io import ImageReadMode, decode_image, read_file
from torchvision.transforms import v2

from experiments.peers.peer import ReadEpoch, ReadingTask, Setting, worker_options, workers_text

DOCUMENTED = "https://docs.pytorch.org/vision/stable/transforms.html#performance-considerations"
"""Recommends v2 transforms on uint8 tensors or PIL images."""


def read_settings(task: ReadingTask) -> list[Setting[ReadEpoch]]:
    """Returns settings for pixels uint8 (B, 3, size, size), decoded by PIL or by torchvision.

    All workers are used, since decoding dominates.
    """
    workers = workers_text(task.threads)
    crop = "RandomResizedCrop" if task.crop == "random" else "Resize, CenterCrop"
    to_tensor = [v2.PILToTensor()]
    return [
        Setting(f"v2 {crop}({task.image_size}) of PIL images, {workers}", DOCUMENTED, _read(task, None, to_tensor)),
        Setting(f"v2 {crop}({task.image_size}) of uint8 tensors, {workers}", DOCUMENTED, _read(task, _decode, [])),
    ]


def _read(task: ReadingTask, loader: Any, final_transforms: list[Any]) -> ReadEpoch:
    assert task.images is not None, "the task of a peer that reads images has a folder of them"
    size = task.image_size
    if task.crop == "random":
        crop: list[Any] = [v2.RandomResizedCrop(size, antialias=True)]
    else:
        crop = [v2.Resize(size, antialias=True), v2.CenterCrop(size)]
    options = {} if loader is None else {"loader": loader}
    images = ImageFolder(str(task.images), transform=v2.Compose([*crop, *final_transforms]), **options)
    batches = DataLoader(images, task.batch_size, shuffle=True, **worker_options(task.threads))
    return lambda epoch: batches


def _decode(path: str | Path) -> Tensor:
    return decode_image(read_file(str(path)), ImageReadMode.RGB)

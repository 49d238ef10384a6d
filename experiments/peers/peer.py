"""What a peer is: another way of the same work, in each setting that its documentation calls fast."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

from torch import Tensor

from walloc_cdl.codec import Codec
from walloc_cdl.data import LatentDataset, open_latents

Work = TypeVar("Work")

Batch = tuple[Tensor, Tensor]
"""uint8 (B, …) codes or pixels, and labels int64 (B,)."""

ReadEpoch = Callable[[int], Iterable[Batch]]
"""The shuffled batches of the epoch of this number."""

Encode = Callable[[Tensor], Tensor]
"""A signal as it is stored, uint8 (B, C, H, W) or int16 (B, C, T), to stored codes, uint8 (B, K, …)."""


@dataclass(frozen=True)
class Setting(Generic[Work]):
    """One way to set a peer up."""

    text: str
    documented: str
    """Where: an address, or a document of this project."""
    work: Work


@dataclass(frozen=True)
class Peer:
    """Another program, or another way."""

    name: str
    """As `--against` has it."""
    title: str
    benchmarks: tuple[str, ...]
    """Of `encode`, `load`, `prepare` and `train` those that it can take part in."""
    home: str
    """Module of `experiments.peers` with its functions: `read_settings(ReadingTask)`, `encode_settings(Codec)`."""
    package: str | None = None
    """What must be importable; None for what this project needs anyway."""
    reads_images: bool = False
    """Whether it reads image files in place of codes."""

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return self.package is None or importlib.util.find_spec(self.package) is not None

    def read_settings(self, task: ReadingTask) -> list[Setting[ReadEpoch]]:
        """All ways to read the task's samples; what they read is written first. `ImportError` without its package."""
        return self._module.read_settings(task)

    def encode_settings(self, codec: Codec) -> list[Setting[Encode]]:
        """All ways to encode as `codec` does. `ImportError` without its package."""
        return self._module.encode_settings(codec)

    @cached_property
    def _module(self) -> Any:
        return importlib.import_module(f"experiments.peers.{self.home}")


@dataclass(frozen=True)
class Absent:
    """A peer that could not take part."""

    name: str
    reason: str


@dataclass(frozen=True)
class ReadingTask:
    """What readers read, and with how much."""

    latents: Path
    """Folder of a data set of codes, split `train`."""
    work: Path
    """Folder for forms of it that a peer reads."""
    images: Path | None = None
    """Folder with a folder of image files for each class, for peers that read images."""
    image_size: int = 64
    """Pixels a side of what is made of an image."""
    crop: str = "random"
    """`random`: resized random crops, as in training. `center`: the short side resized, the middle cut out."""
    batch_size: int = 256
    threads: int = 1
    """Worker processes, or threads, at most."""
    seed: int = 0

    @cached_property
    def dataset(self) -> LatentDataset:
        """The codes."""
        return open_latents(self.latents)

    @property
    def worker_counts(self) -> list[int]:
        """Worker processes to try: none, which spares sending batches between processes, and all."""
        return [0, self.threads]


def workers_text(num_workers: int) -> str:
    """Of a setting: `2 workers`."""
    return "no workers" if not num_workers else f"{num_workers} worker{'s' * (num_workers > 1)}"


def worker_options(num_workers: int) -> dict[str, Any]:
    """Arguments of torch's DataLoader: workers that stay between epochs, with their default of two batches ahead.

    They fork on Linux, as is torch's default there, whatever a peer has made the default of the process.
    """
    if not num_workers:
        return {"num_workers": 0}
    context = "fork" if sys.platform == "linux" else None
    return {"num_workers": num_workers, "persistent_workers": True, "multiprocessing_context": context}

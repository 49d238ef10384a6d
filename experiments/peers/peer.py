"""`Peer`: another program for the same work, in each setting that its documentation recommends for speed."""

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
"""Codes or pixels uint8 (B, …), and labels int64 (B,)."""

ReadEpoch = Callable[[int], Iterable[Batch]]
"""Returns the shuffled batches of an epoch, by its number."""

Encode = Callable[[Tensor], Tensor]
"""Encodes stored signals, uint8 (B, C, H, W) or int16 (B, C, T), to stored codes, uint8 (B, K, …)."""


@dataclass(frozen=True)
class Setting(Generic[Work]):
    """One configuration of a peer."""

    text: str
    documented: str
    """Where the setting is documented: a URL, or a document of this project."""
    work: Work


@dataclass(frozen=True)
class Peer:
    """Another program, or another implementation."""

    name: str
    """Name for `--against`."""
    title: str
    benchmarks: tuple[str, ...]
    """The benchmarks that it can take part in, of `encode`, `load`, `prepare` and `train`."""
    module_name: str
    """Module of `experiments.peers` with its functions: `read_settings(ReadingTask)`, `encode_settings(Codec)`."""
    package: str | None = None
    """The package that it needs; None if this project needs it anyway."""
    reads_images: bool = False
    """Whether it reads image files instead of codes."""

    @property
    def is_installed(self) -> bool:
        """Whether its package is installed."""
        return self.package is None or importlib.util.find_spec(self.package) is not None

    def read_settings(self, task: ReadingTask) -> list[Setting[ReadEpoch]]:
        """Write the task's samples in the peer's format, and return all settings for reading them.

        Raises `ImportError` if its package cannot be imported.
        """
        return self._module.read_settings(task)

    def encode_settings(self, codec: Codec) -> list[Setting[Encode]]:
        """Returns all settings for encoding with the weights of `codec`.

        Raises `ImportError` if its package cannot be imported.
        """
        return self._module.encode_settings(codec)

    @cached_property
    def _module(self) -> Any:
        return importlib.import_module(f"experiments.peers.{self.module_name}")


@dataclass(frozen=True)
class Absent:
    """A peer that could not take part."""

    name: str
    reason: str


@dataclass(frozen=True)
class ReadingTask:
    """The data that a peer reads, and the resources that it may use."""

    latents: Path
    """Folder of a data set of codes with the split `train`."""
    work: Path
    """Folder for copies of the data set in the peers' formats."""
    images: Path | None = None
    """Folder with a subfolder of image files for each class, for peers that read images."""
    image_size: int = 64
    """Side in pixels to which images are resized."""
    crop: str = "random"
    """`random`: resized random crops, as in training. `center`: resizing of the shorter side, and a center crop."""
    batch_size: int = 256
    threads: int = 1
    """Largest number of worker processes or threads."""
    seed: int = 0

    @cached_property
    def dataset(self) -> LatentDataset:
        """The data set of codes."""
        return open_latents(self.latents)

    @property
    def worker_counts(self) -> list[int]:
        """Numbers of worker processes to try: 0, which avoids sending batches between processes, and `threads`."""
        return [0, self.threads]


def workers_text(num_workers: int) -> str:
    """Describe a number of workers, such as `2 workers`."""
    return "no workers" if not num_workers else f"{num_workers} worker{'s' * (num_workers > 1)}"


def worker_options(num_workers: int) -> dict[str, Any]:
    """Returns arguments of torch's DataLoader: persistent workers, with the default prefetch factor.

    On Linux workers are forked, as is torch's default there, even if a peer has changed the default of the process.
    """
    if not num_workers:
        return {"num_workers": 0}
    context = "fork" if sys.platform == "linux" else None
    return {"num_workers": num_workers, "persistent_workers": True, "multiprocessing_context": context}

"""Readers of shuffled batches: the data that they read, and the readers of this package."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.benchmarks.synthetic import DEFAULT_BYTES, SyntheticSet, shards_for, write_photos, write_synthetic_set
from experiments.benchmarks.timing import Run, limit_time
from experiments.peers.peer import Batch, Peer, ReadEpoch, ReadingTask, Setting
from walloc_cdl.data import LatentLoader
from walloc_cdl.data.loader import DEFAULT_PREFETCH
from walloc_cdl.errors import CallError

TRIAL_S = 2.0
"""Time limit in seconds of a run that warms up or chooses a setting."""


@dataclass(frozen=True)
class ReadingConfig:
    """Settings of the data and the readers."""

    num_bytes: int = DEFAULT_BYTES
    """Bytes of the codes."""
    batch_size: int = 256
    num_images: int = 2000
    """Number of synthetic photos for peers that decode images; their rate is also per sample."""
    images: Path | None = None
    """Folder with a subfolder of images for each class, instead of synthetic photos."""
    threads: int | None = None
    """Number of threads; by default one for each processor."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_images"):
            if getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.images is not None and not self.images.is_dir():
            raise CallError(f"{self.images} is not a folder; give one with a subfolder of images for each class")

    @property
    def images_text(self) -> str:
        """Description of the images."""
        return f"{self.num_images} synthetic photos" if self.images is None else str(self.images)


def make_reading_task(
    folder: Path, config: ReadingConfig, peers: Sequence[Peer], threads: int, *, with_synthesis: bool = False
) -> ReadingTask:
    """Write the synthetic data set, and photos if a peer reads images and `config.images` is None."""
    shards = shards_for(config.num_bytes, threads)
    synthetic = SyntheticSet(config.num_bytes, num_shards=shards, with_synthesis=with_synthesis, seed=config.seed)
    write_synthetic_set(folder / "latents", synthetic)
    images = config.images
    if images is None and any(peer.reads_images for peer in peers):
        images = folder / "images"
        write_photos(images, num=config.num_images, seed=config.seed)
    (folder / "peers").mkdir()
    return ReadingTask(
        folder / "latents", folder / "peers", images, batch_size=config.batch_size, threads=threads, seed=config.seed
    )


def loader_settings(task: ReadingTask, *, prefetching: bool = True) -> dict[str, list[Setting[ReadEpoch]]]:
    """Returns settings of `LatentLoader` by residency, without a prefetching thread, and with one if `prefetching`."""
    depths = (DEFAULT_PREFETCH, 0) if prefetching else (0,)
    return {
        f"walloc-cdl {residency}": [_loader_setting(task, residency, prefetch) for prefetch in depths]
        for residency in ("mmap", "ram")
    }


def _loader_setting(task: ReadingTask, residency: str, prefetch: int) -> Setting[ReadEpoch]:
    loader = LatentLoader(
        task.dataset, task.batch_size, residency=residency, seed=task.seed, drop_last=False, prefetch=prefetch
    )

    def read(epoch: int) -> Iterable[Batch]:
        loader.set_epoch(epoch)
        return loader

    return Setting(f"residency={residency!r}, prefetch={prefetch}, exact shuffle", "README.md", read)


def read_for(max_s: float) -> Callable[[ReadEpoch], Run]:
    """Returns a function that makes runs, which read an epoch for at most `max_s` seconds and count samples."""

    def make_run(read: ReadEpoch) -> Run:
        return lambda epoch: sum(len(labels) for _, labels in limit_time(read(epoch), max_s))

    return make_run

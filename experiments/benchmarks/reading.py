"""Readers of shuffled batches: what they read, and this package's own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.benchmarks.synthetic import DEFAULT_BYTES, SyntheticSet, shards_for, write_photos, write_synthetic_set
from experiments.benchmarks.timing import Run, until
from experiments.peers.peer import Batch, Peer, ReadEpoch, ReadingTask, Setting
from walloc_cdl.data import LatentLoader
from walloc_cdl.data.loader import DEFAULT_PREFETCH
from walloc_cdl.errors import CallError

TRIAL_S = 2.0
"""Seconds at most of a run that only warms up or chooses a setting."""


@dataclass(frozen=True)
class ReadingConfig:
    """What is read, and by how much."""

    num_bytes: int = DEFAULT_BYTES
    """Of codes."""
    batch_size: int = 256
    num_images: int = 2000
    """Photos that peers read which decode images; their rate is for each sample, too."""
    images: Path | None = None
    """A folder with a folder of images for each class in place of made-up photos."""
    threads: int | None = None
    """One for each processor by default."""
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("batch_size", "num_images"):
            if getattr(self, name) < 1:
                raise CallError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.images is not None and not self.images.is_dir():
            raise CallError(f"{self.images} does not exist; give a folder with a folder of images for each class")

    @property
    def images_text(self) -> str:
        """What images are read."""
        return f"{self.num_images} made-up photos" if self.images is None else str(self.images)


def reading_task(
    folder: Path, config: ReadingConfig, peers: Sequence[Peer], threads: int, *, with_synthesis: bool = False
) -> ReadingTask:
    """Write the made-up data set, and photos if any of the peers reads images and none are given."""
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


def our_readers(task: ReadingTask, *, ahead: bool = True) -> dict[str, list[Setting[ReadEpoch]]]:
    """`LatentLoader` with each residency that a CPU has; batches made when asked for, or `ahead` by a thread."""
    choices = (DEFAULT_PREFETCH, 0) if ahead else (0,)
    return {
        f"walloc-cdl {residency}": [_our_setting(task, residency, prefetch) for prefetch in choices]
        for residency in ("mmap", "ram")
    }


def _our_setting(task: ReadingTask, residency: str, prefetch: int) -> Setting[ReadEpoch]:
    loader = LatentLoader(
        task.dataset, task.batch_size, residency=residency, seed=task.seed, drop_last=False, prefetch=prefetch
    )

    def read(epoch: int) -> Iterable[Batch]:
        loader.set_epoch(epoch)
        return loader

    return Setting(f"residency={residency!r}, prefetch={prefetch}, exact shuffle", "README.md", read)


def read_for(max_s: float) -> Callable[[ReadEpoch], Run]:
    """Reads an epoch, for so many seconds at most, and counts samples."""

    def make_run(read: ReadEpoch) -> Run:
        return lambda epoch: sum(len(labels) for _, labels in until(read(epoch), max_s))

    return make_run

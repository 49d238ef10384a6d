"""Images at their own size for codecs: to fit one to a source, and to measure one."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from datasets_prep.pixels import BadImageError, load_native
from datasets_prep.sources import Source, open_source
from datasets_prep.workers import cpu_count
from walloc_cdl.codec import Codec, WallocCodec2D
from walloc_cdl.codec.fit import FitConfig, FitReport, fit_codec
from walloc_cdl.codec.folder import require_codec_folder
from walloc_cdl.errors import CallError, JobError


class NativeImages:
    """The images of a source at their own size, uint8 (C, H, W), center-cropped to the codec's stride.

    Decoded a few ahead in threads (PIL releases the interpreter while it decodes). Images that
    cannot be used are skipped and counted in `num_skipped`.
    """

    def __init__(self, source: Source, samples: list[tuple[str, int]], channels: int, stride: int) -> None:
        self._source, self._samples = source, samples
        self._channels, self._stride = channels, stride
        self.num_skipped = 0

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Tensor]:
        self.num_skipped = 0
        ahead = 2 * cpu_count()
        with ThreadPoolExecutor(cpu_count()) as pool:
            pending = deque(pool.submit(self._load, sample) for sample in self._samples[:ahead])
            for position in range(len(self._samples)):
                image = pending.popleft().result()
                if position + ahead < len(self._samples):
                    pending.append(pool.submit(self._load, self._samples[position + ahead]))
                if image is None:
                    self.num_skipped += 1
                else:
                    yield torch.from_numpy(image)

    def _load(self, sample: tuple[str, int]) -> np.ndarray | None:
        try:
            return load_native(self._source.read(*sample), self._channels, self._stride)
        except BadImageError:
            return None


def native_images(
    source: Source, channels: int, stride: int, *, split: str | None = None, fraction: float = 1.0, seed: int = 0
) -> NativeImages:
    """The images of `split`, or of all splits; with `fraction` < 1 a seeded share of them, in the source's order.

    Raises `CallError` for an unknown split or a fraction outside of (0, 1].
    """
    if not 0 < fraction <= 1:
        raise CallError(f"a fraction of {fraction:g} of the images; expected more than 0 and at most 1")
    if split is not None and split not in source.split_names:
        raise CallError(f"{source.name} has no split {split!r}; it has {', '.join(source.split_names)}")
    splits = [split] if split else source.split_names
    samples = [(name, index) for name in splits for index in range(source.num_samples(name))]
    if fraction < 1:
        chosen = np.random.default_rng(seed).permutation(len(samples))[: round(fraction * len(samples))]
        samples = [samples[index] for index in np.sort(chosen)]
    return NativeImages(source, samples, channels, stride)


def fit_to_source(
    source_name: str,
    config: FitConfig,
    *,
    out: Path,
    fraction: float = 1.0,
    split: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[WallocCodec2D, FitReport, int]:
    """Fit a codec to a source; returns it, the report, and how many images could not be used.

    `config.channels` of 0 takes the source's own.

    The train split is used where there are several, unless `split` names another. Raises `CallError`
    when `out` holds something else than a codec, before anything is read.
    """
    require_codec_folder(out)
    source = open_source(source_name)
    config = dataclasses.replace(config, channels=config.channels or source.channels)
    if config.channels not in (1, 3):
        raise CallError(f"--channels {config.channels}: image files give 1 (gray) or 3 (RGB)")
    split = split or ("train" if "train" in source.split_names else source.split_names[0])
    stride = 2**config.levels
    images = native_images(source, config.channels, stride, split=split, fraction=fraction, seed=config.seed)

    def counted() -> Iterator[Tensor]:
        for done, image in enumerate(images, start=1):
            yield image
            if progress:
                progress(done, len(images))

    codec, report = fit_codec(counted(), config)
    if images.num_skipped > len(images) // 2:
        raise JobError(
            f"{images.num_skipped} of {len(images)} images of {source.name} could not be used; check the source"
        )
    return codec, report, images.num_skipped


def save_codec(codec: Codec, out: Path) -> None:
    """Write the codec's files to the folder `out`, each in one step."""
    codec.save_pretrained(out)

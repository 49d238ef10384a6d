"""Signals at their own size for codecs: to fit one to a source, and to measure one."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from datasets_prep.job.choose_preparation import native_preparation
from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import BadSignalError
from datasets_prep.sources.core.source import Source
from walloc_cdl.errors import CallError
from walloc_cdl.machine import cpu_count


class NativeSignals:
    """The samples of a source at their own size, (C, H, W) or (C, T), cut to the codec's stride.

    Decoded a few ahead in threads (decoders release the interpreter). Samples that cannot be used are
    skipped and counted in `num_skipped`.
    """

    def __init__(
        self, source: Source, samples: Sequence[tuple[str, int]], preparation: Preparation, stride: int
    ) -> None:
        self._source, self._samples = source, samples
        self._preparation, self._stride = preparation, stride
        self.num_skipped = 0

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Tensor]:
        self.num_skipped = 0
        ahead = 2 * cpu_count()
        with ThreadPoolExecutor(cpu_count()) as pool:
            pending = deque(pool.submit(self._load, sample) for sample in self._samples[:ahead])
            for position in range(len(self._samples)):
                signal = pending.popleft().result()
                if position + ahead < len(self._samples):
                    pending.append(pool.submit(self._load, self._samples[position + ahead]))
                if signal is None:
                    self.num_skipped += 1
                else:
                    yield torch.from_numpy(signal)

    def _load(self, sample: tuple[str, int]) -> np.ndarray | None:
        try:
            return self._preparation.load_native(self._source.read(*sample), self._stride)
        except BadSignalError:
            return None


def native_signals(
    source: Source,
    channels: int,
    stride: int,
    *,
    sample_rate: int | None = None,
    split: str | None = None,
    fraction: float = 1.0,
    rest: bool = False,
    seed: int = 0,
) -> NativeSignals:
    """The samples of `split`, or of all splits; with `fraction` < 1 a seeded share of them, in the source's order.

    `rest` takes those that the same fraction and seed leave out. Samples of a group go together.
    `sample_rate` in Hz, for audio, is by default the clips' own. Raises `CallError` for an unknown split,
    a fraction outside of (0, 1], and a rest of nothing.
    """
    if not 0 < fraction <= 1:
        raise CallError(f"a fraction of {fraction:g} of the samples; expected more than 0 and at most 1")
    if split is not None and split not in source.split_names:
        raise CallError(f"{source.name} has no split {split!r}; it has {', '.join(source.split_names)}")
    splits = [split] if split else source.split_names
    samples = [(name, index) for name in splits for index in range(source.num_samples(name))]
    if fraction < 1 or rest:
        samples = _share(source, samples, fraction, rest=rest, seed=seed)
    preparation = native_preparation(source, channels, stride=stride, sample_rate=sample_rate)
    return NativeSignals(source, samples, preparation, stride)


def _share(
    source: Source, samples: list[tuple[str, int]], fraction: float, *, rest: bool, seed: int
) -> list[tuple[str, int]]:
    names = [_group(source, split, index) for split, index in samples]
    groups = list(dict.fromkeys(names))
    count = round(fraction * len(groups))
    order = np.random.default_rng(seed).permutation(len(groups))
    chosen = {groups[number] for number in (order[count:] if rest else order[:count])}
    if not chosen:
        what = "all but a fraction" if rest else "a fraction"
        raise CallError(
            f"{what} of {fraction:g} of {len(groups)} samples is none; choose another, or give more samples"
        )
    return [sample for sample, name in zip(samples, names, strict=True) if name in chosen]


def _group(source: Source, split: str, index: int) -> tuple[str, str]:
    groups = source.listing.splits[split].groups
    return split, source.key(split, index) if groups is None else groups[index]

"""Signals of a source at their native size, for fitting and measuring codecs."""

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
    """Iterable of a source's samples at their native size, (C, H, W) or (C, T), cropped to the codec's stride.

    Threads decode a few samples ahead (decoders release the GIL). Samples that cannot be used are
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
    """Return the samples of `split`, or of all splits; for `fraction` < 1 a random part, in the source's order.

    `rest` selects the samples that the same fraction and seed omit. Samples of a group stay together.
    `sample_rate`, in Hz, for audio, defaults to that of the clips. Raises `CallError` for an unknown split,
    a fraction outside of (0, 1], and an empty selection.
    """
    samples = select_samples(source, split=split, fraction=fraction, rest=rest, seed=seed)
    preparation = native_preparation(source, channels, stride=stride, sample_rate=sample_rate)
    return NativeSignals(source, samples, preparation, stride)


def select_samples(
    source: Source, *, split: str | None = None, fraction: float = 1.0, rest: bool = False, seed: int = 0
) -> list[tuple[str, int]]:
    """Return the (split, index) of a selection of samples, in the source's order; see `native_signals`."""
    if not 0 < fraction <= 1:
        raise CallError(f"a fraction of {fraction:g} of the samples; expected more than 0 and at most 1")
    if split is not None and split not in source.split_names:
        raise CallError(f"{source.name} has no split {split!r}; it has {', '.join(source.split_names)}")
    splits = [split] if split else source.split_names
    samples = [(name, index) for name in splits for index in range(source.num_samples(name))]
    if fraction < 1 or rest:
        return _select_fraction(source, samples, fraction, rest=rest, seed=seed)
    return samples


def _select_fraction(
    source: Source, samples: list[tuple[str, int]], fraction: float, *, rest: bool, seed: int
) -> list[tuple[str, int]]:
    group_of_sample = [_group(source, split, index) for split, index in samples]
    groups = list(dict.fromkeys(group_of_sample))
    count = round(fraction * len(groups))
    order = np.random.default_rng(seed).permutation(len(groups))
    selected = {groups[number] for number in (order[count:] if rest else order[:count])}
    if not selected:
        selection = "the rest after a fraction" if rest else "a fraction"
        raise CallError(
            f"{selection} of {fraction:g} of {len(groups)} samples is empty; "
            "choose another fraction, or give more samples"
        )
    return [sample for sample, group in zip(samples, group_of_sample, strict=True) if group in selected]


def _group(source: Source, split: str, index: int) -> tuple[str, str]:
    groups = source.listing.splits[split].groups
    return split, source.key(split, index) if groups is None else groups[index]

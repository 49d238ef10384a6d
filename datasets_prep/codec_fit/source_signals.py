"""Signals of a source's samples, decoded ahead, for fitting and measuring codecs."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from datasets_prep.job.choose_preparation import native_preparation
from datasets_prep.job.read_failures import REPEAT, ReadFailures
from datasets_prep.samples.stored import BadSignalError, Stored
from datasets_prep.sources.core.source import Source
from walloc_cdl.errors import CallError
from walloc_cdl.machine import cpu_count

Load = Callable[[Stored], np.ndarray]
"""Turns a stored sample into a signal (C, H, W) or (C, T); raises `BadSignalError` for one that cannot be used."""


class SourceSignals:
    """Iterable of the signals of samples, (C, H, W) or (C, T): one of each sample for each of several `loads`.

    Threads decode a few samples ahead (decoders release the GIL). Signals that cannot be used are skipped; samples
    without any signal are counted in `num_skipped`. The length is the number of samples, and `num_done` counts those
    that have been read. Iteration raises `JobError` for a sample that the source lists, but that the system cannot
    read: without it, fit and measurement would be those of other samples.
    """

    def __init__(self, source: Source, samples: Sequence[tuple[str, int]], loads: Sequence[Load]) -> None:
        self._source, self._samples, self._loads = source, samples, loads
        self.num_skipped = self.num_done = 0

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Tensor]:
        self.num_skipped = self.num_done = 0
        failures = ReadFailures(REPEAT)
        ahead = 2 * cpu_count()
        with ThreadPoolExecutor(cpu_count()) as pool:
            pending = deque(pool.submit(self.load, sample) for sample in self._samples[:ahead])
            for position in range(len(self._samples)):
                signals, error = pending.popleft().result()
                failures.check_error(self._source, *self._samples[position], error)
                if position + ahead < len(self._samples):
                    pending.append(pool.submit(self.load, self._samples[position + ahead]))
                self.num_skipped += not signals
                self.num_done += 1
                yield from map(torch.from_numpy, signals)

    def load(self, sample: tuple[str, int]) -> tuple[list[np.ndarray], BadSignalError | None]:
        """Return the usable signals of a sample, given by its split and its index there, and why one is not usable."""
        signals, bad = [], None
        try:
            stored = self._source.read(*sample)
        except BadSignalError as error:
            return signals, error
        for load in self._loads:
            try:
                signals.append(load(stored))
            except BadSignalError as error:
                bad = error
        return signals, bad


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
) -> SourceSignals:
    """Return the signals of a source's samples at their native size, cropped to multiples of the stride.

    `sample_rate`, in Hz, for audio, defaults to that of the clips. `select_samples` describes the other arguments and
    raises `CallError`.
    """
    samples = select_samples(source, split=split, fraction=fraction, rest=rest, seed=seed)
    preparation = native_preparation(source, channels, stride=stride, sample_rate=sample_rate)
    return SourceSignals(source, samples, [lambda stored: preparation.load_native(stored, stride)])


def select_samples(
    source: Source, *, split: str | None = None, fraction: float = 1.0, rest: bool = False, seed: int = 0
) -> list[tuple[str, int]]:
    """Return the samples of `split`, or of all splits; for `fraction` < 1 a random part, in the source's order.

    A sample is given by its split and its index there. `rest` selects the samples that the same fraction and seed omit.
    Samples of a group stay together. Raises `CallError` for an unknown split, a fraction outside of (0, 1], and an
    empty selection.
    """
    if not 0 < fraction <= 1:
        raise CallError(f"a fraction of {fraction:g} of the samples; expected more than 0 and at most 1")
    if split is not None and split not in source.split_names:
        raise CallError(f"{source.name} has no split {split!r}; it has {', '.join(source.split_names)}")
    splits = [split] if split else source.split_names
    samples = [(name, index) for name in splits for index in range(source.num_samples(name))]
    if fraction < 1 or rest:
        samples = _select_fraction(source, samples, fraction, rest=rest, seed=seed)
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

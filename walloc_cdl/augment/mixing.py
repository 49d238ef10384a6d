"""Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) of neighbors in a batch, as timm's `Mixup` mixes pairs.

Samples 2i and 2i + 1 of a batch are mixed with each other. Timm mixes sample i of a batch with sample B - 1 - i, which
may be with another rank. The order of an epoch is random, so neighbors are random partners, too, and a rank
that has whole pairs mixes them as one process does with the global batch. All amounts follow from the word of the
pair's first sample.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from walloc_cdl.augment.draws import Draws
from walloc_cdl.errors import CallError

TABLE_STEPS = 2**14
"""Steps of the table of a Beta distribution's quantiles, between which they are interpolated."""


@dataclass(frozen=True)
class MixConfig:
    """Settings of the mixing, with the meaning that they have in timm's `Mixup` in its mode `pair`.

    Raises `CallError` for values out of range.
    """

    mixup: float = 0.0
    """Both parameters of the Beta distribution of mixup's shares; 0 for no mixup."""
    cutmix: float = 0.0
    """The same of CutMix."""
    prob: float = 1.0
    """Probability that a pair is mixed."""
    switch_prob: float = 0.5
    """Probability of CutMix where both are on."""

    def __post_init__(self) -> None:
        for name in ("mixup", "cutmix"):
            if not 0 <= getattr(self, name) <= 100:
                raise CallError(f"{name} is {getattr(self, name)}; expected 0 (off) to 100, such as 0.2 or 1")
        for name in ("prob", "switch_prob"):
            if not 0 <= getattr(self, name) <= 1:
                raise CallError(f"mixup_{name} is {getattr(self, name)}; expected a probability from 0 to 1")

    @property
    def is_on(self) -> bool:
        """Whether anything is mixed."""
        return self.prob > 0 and (self.mixup > 0 or self.cutmix > 0)


class NeighborMixing:
    """Mixes the pixels of neighbors, and tells their shares to the loss.

    A last sample of an odd batch, which has no neighbor, stays as it is. `active` turns the mixing off and on again.
    """

    def __init__(self, config: MixConfig) -> None:
        self.config = config
        self.active = True

    def __call__(self, pixels: Tensor, words: Tensor) -> Tensor:
        """Return pixels (B, C, H, W) mixed with those of their neighbors.

        `words`, uint64 (B,), are those of `LatentLoader.with_words`.
        """
        if not self.active:
            return pixels
        size = (pixels.shape[2], pixels.shape[3])
        shares, is_cut, box = self._draw(words.to(pixels.device), size)
        others = neighbors(pixels)
        own = torch.where(is_cut, 1, shares).to(pixels.dtype)[:, None, None, None]
        mixed = own * pixels + (1 - own) * others
        return torch.where(box[:, None], others, mixed)

    def shares(self, words: Tensor, size: tuple[int, int]) -> Tensor | None:
        """Return each sample's own share of its mixture, float32 (B,), for pixels of `size`; None if it is inactive."""
        return self._draw(words, size)[0] if self.active else None

    def _draw(self, words: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return shares (B,), which samples CutMix changes (B,), and the boxes that it replaces, bool (B, H, W)."""
        config, (height, width) = self.config, size
        words = words.view(torch.int64)
        count = len(words)
        draws = Draws(words[0 : count - count % 2 : 2]).named("mixing")
        device = words.device
        uniform = draws.uniform("share")
        if config.mixup and config.cutmix:
            is_cut = draws.happens("cutmix", config.switch_prob)
            shares = torch.where(is_cut, _beta(uniform, config.cutmix), _beta(uniform, config.mixup))
        else:
            is_cut = torch.full((len(draws),), config.cutmix > 0, device=device)
            shares = _beta(uniform, config.cutmix or config.mixup)
        shares = torch.where(draws.happens("mix", config.prob), shares, 1)
        rows, columns = (
            _interval((1 - shares).sqrt(), draws.uniform(name), side)
            for name, side in (("row", height), ("column", width))
        )
        box = rows[:, :, None] & columns[:, None, :] & is_cut[:, None, None]
        kept = 1 - box.sum((1, 2)) / (height * width)
        shares = torch.where(is_cut, kept, shares)
        return tuple(_for_both(each, count) for each in (shares, is_cut, box))


def neighbors(values: Tensor) -> Tensor:
    """Return values (B, …) in the order 1, 0, 3, 2, …; a last one without a neighbor stays where it is."""
    even = len(values) - len(values) % 2
    swapped = values[:even].unflatten(0, (even // 2, 2)).flip(1).flatten(0, 1)
    return torch.cat([swapped, values[even:]])


def require_whole_pairs(batch_size: int, world_size: int) -> None:
    """Raise `CallError` unless each rank's part of a global batch begins with the first sample of a pair."""
    for rank in range(world_size):
        start = rank * batch_size // world_size
        if start % 2:
            lower, step = batch_size - batch_size % (2 * world_size), 2 * world_size
            raise CallError(
                f"mixup and CutMix mix neighbors, but with batches of {batch_size} over {world_size} processes the "
                f"part of process {rank} begins at sample {start}, in the middle of a pair; choose a batch size that "
                f"is a multiple of {step}, such as {lower or step}"
            )


def _interval(ratio: Tensor, uniform: Tensor, side: int) -> Tensor:
    """Return which of `side` rows a box of each pair covers, bool (B / 2, side): timm's `rand_bbox` along one side."""
    length = (side * ratio).to(torch.int64)
    center = (uniform * side).to(torch.int64).clamp_max(side - 1)
    place = torch.arange(side, device=ratio.device)
    first, last = center - length // 2, center + (length + 1) // 2
    return (place >= first[:, None]) & (place < last[:, None])


def _for_both(values: Tensor, count: int) -> Tensor:
    """Return values of pairs (B / 2, …) for each of their samples (B, …), and neutral ones for one without a pair."""
    values = values.repeat_interleave(2, 0)
    if count % 2:
        neutral = torch.ones if values.is_floating_point() else torch.zeros
        values = torch.cat([values, neutral((1, *values.shape[1:]), dtype=values.dtype, device=values.device)])
    return values


def _beta(uniform: Tensor, alpha: float) -> Tensor:
    """Return numbers of Beta(alpha, alpha), float32, for uniform ones: quantiles, interpolated in a table."""
    table = torch.from_numpy(_quantiles(alpha)).to(uniform.device)
    place = uniform * TABLE_STEPS
    low = place.to(torch.int64).clamp_max(TABLE_STEPS - 1)
    return torch.lerp(table[low], table[low + 1], place - low)


@lru_cache(maxsize=16)
def _quantiles(alpha: float) -> np.ndarray:
    """Return the quantiles of Beta(alpha, alpha) at multiples of 1 / `TABLE_STEPS`, float32."""
    from scipy.special import betaincinv

    return betaincinv(alpha, alpha, np.linspace(0, 1, TABLE_STEPS + 1)).astype(np.float32)

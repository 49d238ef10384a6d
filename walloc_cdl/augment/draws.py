"""Random numbers for each sample of a batch, computed from one 64-bit word a sample.

The words are hashed with the name of the draw by SplitMix64 (Steele, Lea and Flood 2014), in integer arithmetic, so
that CPU and GPU draw the same numbers. A draw depends on its word and its name only, not on other draws, so that a
pipeline that gains an operation draws the same numbers for the others.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

_GOLDEN, _FIRST, _SECOND = (
    int.from_bytes(value.to_bytes(8, "little"), "little", signed=True)
    for value in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)


class Draws:
    """Random numbers of the samples of a batch; `words` is uint64 or int64 (B,), on the device of the pixels."""

    def __init__(self, words: Tensor, prefix: str = "") -> None:
        self._words = words.view(torch.int64)
        self._prefix = prefix

    def __len__(self) -> int:
        return len(self._words)

    def named(self, prefix: str) -> Draws:
        """Return draws of the same samples whose names begin with `prefix`."""
        return Draws(self._words, f"{self._prefix}{prefix}/")

    def of(self, samples: Tensor) -> Draws:
        """Return the draws of some samples, given as bool (B,) or int64 (n,)."""
        return Draws(self._words[samples], self._prefix)

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0, *, count: int | None = None) -> Tensor:
        """Return numbers from `low` up to, but not including, `high`, float32 (B,), or (B, count)."""
        bits = self._hash(name, count) >> 40 & (1 << 24) - 1  # exact in float32
        return low + (high - low) * (bits.float() / 2**24)

    def below(self, name: str, number: int) -> Tensor:
        """Return whole numbers from 0 to `number` - 1, int64 (B,); `number` is far below 2^24."""
        return (self.uniform(name) * number).long().clamp_max(number - 1)

    def happens(self, name: str, probability: float) -> Tensor:
        """Return which samples an event of this probability happens to, bool (B,)."""
        return self.uniform(name) < probability

    def normal(self, name: str, *, count: int | None = None) -> Tensor:
        """Return numbers of the standard normal distribution, float32 (B,), or (B, count), by Box and Muller."""
        first, second = self.uniform(f"{name}/radius", count=count), self.uniform(f"{name}/angle", count=count)
        return (-2 * (1 - first).log()).sqrt() * (2 * torch.pi * second).cos()

    def _hash(self, name: str, count: int | None) -> Tensor:
        digest = hashlib.sha256(f"{self._prefix}{name}".encode()).digest()
        state = self._words + int.from_bytes(digest[:8], "little", signed=True)
        if count is not None:
            steps = torch.arange(1, count + 1, device=state.device)
            state = _mixed(state)[:, None] + steps * _GOLDEN
        return _mixed(state + _GOLDEN)


def _mixed(state: Tensor) -> Tensor:
    """Return the output function of SplitMix64; int64 multiplications wrap around."""
    state = (state ^ _shifted(state, 30)) * _FIRST
    state = (state ^ _shifted(state, 27)) * _SECOND
    return state ^ _shifted(state, 31)


def _shifted(state: Tensor, count: int) -> Tensor:
    """Return an int64 shifted right as if it had no sign."""
    return (state >> count) & ((1 << 64 - count) - 1)

"""`SynthesisLevels`: pixels of several grids from one model input, so that crops lose no detail.

A random crop of half the width, enlarged to the model's size, holds half the detail that the latents have. So each
sample of a batch is made on the smallest grid on which its crop has as many pixels as the model's input; grids beyond
the model's cost in proportion to their number of pixels.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from classifiers.models.stems import SynthesisStem
from walloc_cdl.augment.levels import PixelLevels
from walloc_cdl.data import ModelInput
from walloc_cdl.linear.synthesis import SynthesisBank


class SynthesisLevels:
    """The stem of a classifier, and those for larger blocks, with the same normalization of their pixels.

    The others are made when they are needed first; they are neither trained nor saved.
    """

    def __init__(
        self,
        bank: SynthesisBank,
        model_input: ModelInput,
        stem: SynthesisStem,
        normalization: tuple[np.ndarray, np.ndarray],
    ) -> None:
        self._bank, self._normalization = bank, normalization
        self._input = copy.deepcopy(model_input) if bank else model_input  # as exact as it was, on the CPU
        self._stems = {stem.block: stem}
        self.blocks = sorted({stem.block, *(block for block in bank if block > stem.block)})

    def on(self, x: Tensor) -> PixelLevels:
        """Returns the pixels of a model input (B, K, h, w), computed when they are asked for."""
        height, width = x.shape[2:]

        def render(block: int) -> Callable[[Tensor | None], Tensor]:
            return lambda samples: self._stem(block, x)(x if samples is None else x[samples])

        return PixelLevels(len(x), {(height * block, width * block): render(block) for block in self.blocks})

    def _stem(self, block: int, x: Tensor) -> SynthesisStem:
        stem = self._stems.get(block)
        if stem is None:
            stem = self._stems[block] = SynthesisStem.fold(self._bank[block], self._input, *self._normalization)
            stem.to(memory_format=torch.channels_last)  # a quarter faster on a CPU
        if block != self.blocks[0] and (stem.weight.device != x.device or stem.weight.dtype != x.dtype):
            stem.to(x.device, x.dtype)
        return stem

    def __getstate__(self) -> dict[str, object]:
        """Leaves the stems that were made to be made again, so that copies do not share them."""
        own = self.blocks[0]
        return {**self.__dict__, "_stems": {own: self._stems[own]}}

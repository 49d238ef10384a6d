"""Random budgets: each sample of a batch is read with a random prefix of its bit planes.

A model that is trained so serves every rate: `ModelInput` with `prefixes` reads rows of any number of planes, and a
prefix of a longer row exactly as it reads the prefix that a smaller data set stores.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from walloc_cdl.augment.draws import Draws
from walloc_cdl.errors import CallError
from walloc_cdl.planes.rows import planes_for_bytes
from walloc_cdl.spec import LatentSpec


def random_budgets(words: Tensor, num_planes: Sequence[int]) -> Tensor:
    """Return a number of bit planes for each sample, int64 (B,), drawn evenly from `num_planes` by its word.

    `words`, uint64 (B,), are those of `LatentLoader.with_words`, so budgets are the same for any number of ranks.
    """
    choices = torch.tensor(list(num_planes), device=words.device)
    return choices[Draws(words).named("budget").below("choice", len(num_planes))]


def budgets_in_planes(spec: LatentSpec, grid: tuple[int, ...], budgets: Sequence[int]) -> tuple[int, ...]:
    """Return the numbers of bit planes that fit into budgets in bytes a sample, ascending, without repetition.

    Raises `CallError` for no budget, for latents without bit planes, for less than a plane and for more than all.
    """
    if not budgets:
        raise CallError("no budget in bytes; give some, such as 3072,6144,12288")
    return tuple(sorted({planes_for_bytes(spec, grid, budget) for budget in budgets}))

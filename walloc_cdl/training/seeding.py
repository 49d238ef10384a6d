"""Seeds of torch's generators."""

from __future__ import annotations

import numpy as np
import torch


def seed_torch(seed: int, *parts: int) -> None:
    """Seed torch's generators from a hash of `seed` and further numbers, such as the number of an epoch."""
    words = np.random.SeedSequence((seed, *parts)).generate_state(1, np.uint64)
    torch.manual_seed(int(words[0] >> np.uint64(1)))

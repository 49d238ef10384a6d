"""The rows of each batch, without what is drawn for them."""

from __future__ import annotations

import numpy as np

from walloc_cdl.data.sampler import GlobalBatches


def rank_slices(batches: GlobalBatches, epoch: int, **position: int) -> list[np.ndarray]:
    return [part.rows for part in batches.selections(epoch, draw=False, **position)]

"""What reading gives: a `LatentSample`, a `LatentBatch`, and how torch's default collate makes the one of the other.

`LatentBatch` is a named tuple because torch keeps its type everywhere: a plain tuple leaves torch's default functions
as a list (`default_collate`, `default_convert`), but not `pin_memory`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.utils.data._utils.collate import collate, default_collate_fn_map

from walloc_cdl.errors import CallError


class LatentSample(NamedTuple):
    """One sample."""

    codes: Tensor
    """uint8 (K, h, w), or (K, t) for audio."""
    label: int | Tensor
    """A class number, -1 if unknown; or else a tensor: uint8 (L,), float32 () or (T,)."""


class LatentBatch(NamedTuple):
    """One batch; `codes, labels = batch` unpacks it."""

    codes: Tensor
    """uint8 (B, K, h, w), or (B, K, t) for audio; of latents with bit planes, `LatentLoader` gives rows, (B, R)."""
    labels: Tensor
    """int64 (B,), uint8 (B, L), or float32 (B,) or (B, T); see `LabelSpec`."""


class GatheredSamples(Sequence[LatentSample]):
    """Samples that were read together: a sequence of `LatentSample`, whose tensors are views of one `LatentBatch`.

    It is what `LatentDataset.__getitems__` returns. Any collate function may go through it; the default one takes
    the batch as a whole.
    """

    def __init__(self, batch: LatentBatch) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return len(self.batch.labels)

    def __getitem__(self, index: Any) -> Any:
        """Returns one sample, or for a slice a list of samples."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        codes, labels = self.batch
        label = labels[index]
        is_number = labels.ndim == 1 and not labels.is_floating_point()
        return LatentSample(codes[index], int(label) if is_number else label)


def collate_samples(samples: Sequence[LatentSample], *, collate_fn_map: Any = None) -> LatentBatch:
    """Returns the batch of samples, without a copy if they were read together.

    Raises `CallError` for samples that differ in size.
    """
    if isinstance(samples, GatheredSamples):
        return samples.batch
    codes, labels = zip(*samples, strict=True)
    if sizes := {tuple(each.shape) for each in codes if each.shape != codes[0].shape}:
        raise CallError(
            f"samples of {tuple(codes[0].shape)} and {min(sizes)} codes cannot be stacked to a batch; use LatentLoader "
            "with crop=(h, w), or give the DataLoader a collate_fn that pads them"
        )
    stacked = (collate(list(each), collate_fn_map=collate_fn_map or default_collate_fn_map) for each in (codes, labels))
    return LatentBatch(*stacked)


# The way that torch documents (`default_collate`) for a type of one's own. It applies wherever samples are collated by
# default, such as in a DataLoader over a `Subset` or `ConcatDataset`, and in its workers, which import this module.
default_collate_fn_map[LatentSample] = collate_samples

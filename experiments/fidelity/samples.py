"""Prepared images of a source, in batches, with the class that a classifier knows each one by."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from datasets_prep.samples.preparation import Preparation
from datasets_prep.samples.stored import BadSignalError
from datasets_prep.sources import Source
from datasets_prep.sources.core.source import CLASSES
from walloc_cdl.errors import JobError
from walloc_cdl.latents import UNKNOWN_LABEL

BATCH_SIZE = 16
"""Images that are prepared, stored and classified together."""

_WORDNET_ID = re.compile(r"(n\d{8})(?![0-9])")


@dataclass
class PreparedImages:
    """Iterable of batches of a source's images; samples that cannot be used are skipped and counted."""

    source: Source
    preparation: Preparation
    samples: Sequence[tuple[str, int]]
    """(split, index) of each sample."""
    num_skipped: int = field(default=0, init=False)

    def __len__(self) -> int:
        return len(self.samples)

    def __iter__(self) -> Iterator[tuple[list[tuple[str, int]], Tensor]]:
        """Yield the (split, index) of some samples, and their images uint8 (N, C, S, S)."""
        self.num_skipped = 0
        used: list[tuple[str, int]] = []
        images: list[np.ndarray] = []
        for split, index in self.samples:
            try:
                images.append(self.preparation.load(self.source.read(split, index)))
                used.append((split, index))
            except BadSignalError:
                self.num_skipped += 1
            if len(used) == BATCH_SIZE:
                yield used, torch.from_numpy(np.stack(images))
                used, images = [], []
        if used:
            yield used, torch.from_numpy(np.stack(images))
        if self.num_skipped == len(self.samples):
            raise JobError(
                f"none of the {len(self.samples)} images of {self.source.name} can be used; check the source"
            )


def known_labels(
    source: Source,
    samples: Sequence[tuple[str, int]],
    label_names: Sequence[str] | None,
    label_texts: Sequence[str] | None,
) -> np.ndarray:
    """Returns the number of the classifier's class of each sample, int64 (N,), `UNKNOWN_LABEL` where there is none.

    The source's names of classes are compared with the classifier's, see `match_class`. Without classes in the source,
    a WordNet id at the beginning of a file's name counts, as in `n01440764_tench.JPEG`.
    """
    numbers = _numbers(label_names or (), label_texts or ())
    labels = np.full(len(samples), UNKNOWN_LABEL, np.int64)
    if source.class_names is not None and source.listing.label_kind == CLASSES:
        matched = [match_class(name, numbers) for name in source.class_names]
        for place, (split, index) in enumerate(samples):
            number = int(source.listing.splits[split].labels[index])
            labels[place] = matched[number] if number >= 0 else UNKNOWN_LABEL
        return labels
    for place, (split, index) in enumerate(samples):
        found = _WORDNET_ID.match(source.key(split, index).rpartition("/")[2])
        labels[place] = numbers.get(found[1], UNKNOWN_LABEL) if found else UNKNOWN_LABEL
    return labels


def match_class(name: str, numbers: dict[str, int]) -> int:
    """Returns the number of the class of a name, `UNKNOWN_LABEL` if no class, or more than one, is called so.

    A name may be a WordNet id, begin with one (`n01440764_tench`), or be one of the words that describe the class;
    capitals, and whether there are spaces, underscores or hyphens, do not matter.
    """
    found = _WORDNET_ID.match(name)
    if found and found[1] in numbers:
        return numbers[found[1]]
    return numbers.get(_normal(name), UNKNOWN_LABEL)


def _numbers(label_names: Sequence[str], label_texts: Sequence[str]) -> dict[str, int]:
    """Returns the number of the class for each of its names and words; words that several classes have are left out."""
    owners: dict[str, set[int]] = {}
    for number, text in enumerate(label_texts):
        for word in (text, *text.split(",")):
            owners.setdefault(_normal(word), set()).add(number)
    numbers = {word: min(classes) for word, classes in owners.items() if len(classes) == 1}
    return numbers | {name: number for number, name in enumerate(label_names)}


def _normal(name: str) -> str:
    return " ".join(re.sub(r"[_\-\s]+", " ", name).split()).casefold()

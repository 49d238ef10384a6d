"""`MapSource`: any Python data set of (image, label) with a length and indices, such as those of torchvision."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from datasets_prep.samples.columns import RowNumbers
from datasets_prep.samples.lazy_sequence import LazySequence
from datasets_prep.samples.netpbm import encode_pixels
from datasets_prep.samples.stored import Stored, UnusableSample
from datasets_prep.sources.core.label_kinds import ClassLabels
from datasets_prep.sources.core.label_notes import all_unknown_note
from datasets_prep.sources.core.label_values import class_value
from datasets_prep.sources.core.source import Listing, Presence, Source, SplitListing
from datasets_prep.sources.python.loading import attempt
from walloc_cdl.errors import CallError
from walloc_cdl.latents import UNKNOWN_LABEL

Sample = tuple[Any, Any]


class MapSource(Source):
    """One sample per index of a data set; keys are the indices, and sizes are unknown, 0.

    Samples are pairs (image, label). The image is a PIL image, uint8 (H, W) or (H, W, 3), encoded bytes or a path; the
    label is an integer, a name or None; see `label_values` for further values of unknown labels. Pixels are encoded
    losslessly for their transfer to the worker.

    A sample that cannot be loaded, or is no such pair, has no label if labels are loaded, and is quarantined. Raises
    `CallError` for an empty data set, and if no sample can be loaded for its label.
    """

    def __init__(
        self,
        dataset: Any,
        *,
        name: str,
        to_sample: Callable[[Any], Sample] | None = None,
        labels: Sequence[int | str | None] | Mapping[str, Sequence[int | str | None]] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        """`dataset`: one data set, which is the split `train`, or a dictionary of splits.

        `to_sample` converts an item of the data set to the pair. `labels`: all labels, if they are known; otherwise
        every sample is loaded once for its label. `class_names`: the classes that integer labels number.
        """
        self._datasets = dict(dataset) if isinstance(dataset, Mapping) else {"train": dataset}
        self._to_sample = to_sample
        known = labels if isinstance(labels, Mapping) or labels is None else {"train": labels}
        collected = ClassLabels(class_names)
        lengths = {split: _length(rows) for split, rows in self._datasets.items()}
        presence: dict[str, np.ndarray] = {}
        first_failure: UnusableSample | None = None
        if not any(lengths.values()):
            raise CallError(f"data set {name!r} has no samples; give one with images")
        for split, length in lengths.items():
            values = known.get(split) if known is not None else None
            if values is not None and len(values) != length:
                raise CallError(f"{len(values)} labels for the {length} samples of split {split!r}; give one for each")
            presence[split] = np.full(length, Presence.FOUND, np.uint8)
            for index in range(length):
                value = values[index] if values is not None else self._loaded_label(split, index)
                if isinstance(value, UnusableSample):
                    presence[split][index] = Presence.UNUSABLE
                    first_failure = first_failure or value
                    value = None
                collected.append(split, _label(value, class_names))
        if first_failure is not None and not any((each == Presence.FOUND).any() for each in presence.values()):
            raise CallError(f"no sample of data set {name!r} can be used; the first: {first_failure.reason}")
        names = collected.names()
        listings = {
            split: SplitListing(
                RowNumbers(length),
                collected.close(split) if names else np.full(length, UNKNOWN_LABEL, np.int64),
                np.zeros(length, np.int64),
                presence=presence[split],
            )
            for split, length in lengths.items()
        }
        notes = [] if names else [all_unknown_note(f"data set {name!r}")]
        super().__init__(name, Listing(listings, names, notes=notes))

    def read(self, split: str, index: int) -> Stored:
        """Return the image as an encoded file, the path that the data set gives, or why the sample cannot be used."""
        return load_image(self._datasets[split], index, self._to_sample)

    def references(self, split: str, rows: Sequence[int]) -> Sequence[Stored]:
        """See `Source.references`. Pickling includes the data set, with its content if that is in memory."""
        return _Rows(self._datasets[split], list(rows), self._to_sample)

    def _loaded_label(self, split: str, index: int) -> Any:
        return attempt(lambda: load_sample(self._datasets[split], index, self._to_sample)[1])


class _Rows(LazySequence[Stored]):
    """Selected samples. A sample is loaded when its item is accessed."""

    def __init__(self, dataset: Any, rows: list[int], to_sample: Callable[[Any], Sample] | None) -> None:
        self._dataset, self._rows, self._to_sample = dataset, rows, to_sample

    def __len__(self) -> int:
        return len(self._rows)

    def item(self, position: int) -> Stored:
        return load_image(self._dataset, self._rows[position], self._to_sample)


def load_image(dataset: Any, index: int, to_sample: Callable[[Any], Sample] | None) -> Stored:
    """Return the encoded image at an index, or why it cannot be used."""
    return attempt(lambda: encode_pixels(load_sample(dataset, index, to_sample)[0]))


def load_sample(dataset: Any, index: int, to_sample: Callable[[Any], Sample] | None) -> Sample:
    """Return the pair at an index; raises `CallError` if it is not a pair."""
    return as_pair(dataset[index], to_sample, f"sample {index}")


def as_pair(value: Any, to_sample: Callable[[Any], Sample] | None, where: str) -> Sample:
    """Return (image, label), after `to_sample` if given; raises `CallError` for anything else."""
    value = value if to_sample is None else to_sample(value)
    if not isinstance(value, (tuple, list)) or len(value) != 2:
        raise CallError(f"{where} is a {type(value).__name__}; expected (image, label); give to_sample to convert it")
    return value[0], value[1]


def _length(dataset: Any) -> int:
    try:
        return len(dataset)
    except TypeError as error:
        raise CallError(f"a {type(dataset).__name__} has no length; use IterableSource for it") from error


def _label(value: Any, class_names: Sequence[str] | None) -> int | str | None:
    number = value if isinstance(value, str) else class_value(value)
    if number is None or isinstance(number, str) or class_names is None:
        return number
    if not 0 <= number < len(class_names):
        raise CallError(f"label {number}; expected 0 to {len(class_names) - 1}; check the labels, or class_names")
    return class_names[number]

"""Sources that can only be gone through: no length, no access by index."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from datasets_prep.signals.base import Stored
from datasets_prep.sources.lossless import encode_pixels
from datasets_prep.sources.map_style import Sample, as_pair
from walloc_cdl.errors import CallError

StreamedSample = tuple[str, "int | str | None", Stored]
"""Key, unique in its split; label, a class number where there are class names, else a number or name; the sample."""


class StreamingSource(ABC):
    """Splits of samples in a fixed order: two passes must give the same, or a job could not be resumed."""

    kind = "image"
    """See `Source.kind`."""

    def __init__(self, name: str, split_names: list[str], class_names: list[str] | None) -> None:
        """`class_names`: None where they are found on the way, or there are none."""
        self.name, self.split_names, self.class_names = name, split_names, class_names

    @abstractmethod
    def stream(self, split: str, start: int = 0) -> Iterator[StreamedSample]:
        """The samples of a split from number `start` on."""


class IterableSource(StreamingSource):
    """What a function gives that returns a new iterator of (image, label) at each call; see `MapSource` for these.

    Keys are the numbers of the samples. To begin later, those before are drawn and passed over.
    """

    def __init__(
        self,
        factory: Callable[[], Iterable[Any]] | Mapping[str, Callable[[], Iterable[Any]]],
        *,
        name: str,
        to_sample: Callable[[Any], Sample] | None = None,
        class_names: list[str] | None = None,
    ) -> None:
        """`factory`: one, of the split `train`, or a dictionary of several."""
        self._factories = dict(factory) if isinstance(factory, Mapping) else {"train": factory}
        for split, function in self._factories.items():
            if not callable(function):
                raise CallError(
                    f"split {split!r} is a {type(function).__name__}; expected a function that returns a new iterator, "
                    "since a stream is gone through again when a job is resumed"
                )
        self._to_sample = to_sample
        super().__init__(name, list(self._factories), class_names)

    def stream(self, split: str, start: int = 0) -> Iterator[StreamedSample]:
        """See `StreamingSource.stream`."""
        if split not in self._factories:
            raise CallError(f"source {self.name} has no split {split!r}; it has {', '.join(self._factories)}")
        for number, value in enumerate(itertools.islice(self._factories[split](), start, None), start):
            image, label = as_pair(value, self._to_sample, f"sample {number} of split {split!r}")
            yield f"{number:08d}", label, encode_pixels(image)

"""`IterableSource`: any Python iterable of (image, label) that can be iterated more than once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

from datasets_prep.samples.netpbm import encode_pixels
from datasets_prep.samples.stored import UnusableSample
from datasets_prep.sources.core.streaming_source import StreamedSample, StreamingSource
from datasets_prep.sources.python.loading import attempt
from datasets_prep.sources.python.map_source import Sample, as_pair
from walloc_cdl.errors import CallError


class IterableSource(StreamingSource):
    """Any iterable of (image, label) that can be iterated more than once, or a function that returns an iterator.

    See `MapSource` for the pairs. Keys are the numbers of the samples. To start later, the source draws and skips the
    samples before.
    """

    def __init__(
        self,
        samples: Iterable[Any] | Callable[[], Iterable[Any]] | Mapping[str, Any],
        *,
        name: str,
        to_sample: Callable[[Any], Sample] | None = None,
        class_names: list[str] | None = None,
    ) -> None:
        """`samples`: the samples of the split `train`, or a dictionary of splits.

        `class_names`: the names of the classes that integer labels number; required if samples have labels. Raises
        `CallError` for an iterator, such as a generator, which is exhausted after one pass.
        """
        self._splits = dict(samples) if isinstance(samples, Mapping) else {"train": samples}
        for split, each in self._splits.items():
            if not callable(each) and (not isinstance(each, Iterable) or isinstance(each, Iterator)):
                raise CallError(
                    f"split {split!r} is a {type(each).__name__}; expected an iterable that can be iterated more than "
                    "once, or a function that returns a new iterator, since a resumed job iterates over the stream "
                    "again"
                )
        self._to_sample = to_sample
        self._last: dict[str, object] = {}
        super().__init__(name, list(self._splits), class_names)

    def stream(self, split: str, start: int = 0) -> Iterator[StreamedSample]:
        """See `StreamingSource.stream`; samples that are no such pairs are yielded as unusable.

        Raises `CallError` for a function that returns the same iterator again.
        """
        if split not in self._splits:
            raise CallError(f"source {self.name} has no split {split!r}; it has {', '.join(self._splits)}")
        each = self._splits[split]
        values = each() if callable(each) else each
        if isinstance(values, Iterator):
            if self._last.get(split) is values:
                raise CallError(
                    f"the function of split {split!r} of source {self.name} returned the same iterator again; "
                    "it must return a new one at each call"
                )
            self._last[split] = values
        for number, value in enumerate(itertools.islice(values, start, None), start):
            pair = attempt(partial(as_pair, value, self._to_sample, f"sample {number} of split {split!r}"))
            if isinstance(pair, UnusableSample):
                yield f"{number:08d}", None, pair
            else:
                yield f"{number:08d}", pair[1], attempt(partial(encode_pixels, pair[0]))

"""Sources that can only be gone through: no length, no access by index."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from datasets_prep.signals.base import Stored
from datasets_prep.sources.lossless import encode_pixels
from datasets_prep.sources.map_style import Sample, as_pair
from walloc_cdl.errors import CallError, JobError

StreamedSample = tuple[str, "int | str | None", Stored]
"""Key, unique in its split; label, a class number or name; the sample, an encoded image or where one lies."""


class StreamingSource(ABC):
    """Splits of samples in a fixed order: two passes must give the same, or a job could not be resumed.

    It is no `Source`: what takes one asks for listings and for single samples.
    """

    kind = "image"
    """See `Source.kind`."""

    seeks = False
    """Whether `stream` begins later without going through what comes before. A job that is resumed then holds against
    its records the first and the last of the samples that are done, else all of them."""

    def __init__(self, name: str, split_names: list[str], class_names: list[str] | None) -> None:
        """`class_names`: None where no sample has a label.

        Raises `CallError` for a name that occurs twice.
        """
        if class_names is not None and len(set(class_names)) < len(class_names):
            twice = next(each for each in class_names if class_names.count(each) > 1)
            raise CallError(f"class name {twice!r} of stream {name} occurs twice; name each class once")
        self.name, self.split_names, self.class_names = name, split_names, class_names or None

    @abstractmethod
    def stream(self, split: str, start: int = 0) -> Iterator[StreamedSample]:
        """The samples of a split from number `start` on."""


class IterableSource(StreamingSource):
    """Any iterable of (image, label) that can be gone through again, or a function that gives one; see `MapSource` for
    these pairs.

    Keys are the numbers of the samples. To begin later, those before are drawn and passed over.
    """

    def __init__(
        self,
        samples: Iterable[Any] | Callable[[], Iterable[Any]] | Mapping[str, Any],
        *,
        name: str,
        to_sample: Callable[[Any], Sample] | None = None,
        class_names: list[str] | None = None,
    ) -> None:
        """`samples`: of the split `train`, or a dictionary of several splits.

        `class_names`: what integer labels count; needed where samples have labels. Raises `CallError` for an
        iterator, as a generator is one, which is empty once it has been gone through.
        """
        self._splits = dict(samples) if isinstance(samples, Mapping) else {"train": samples}
        for split, each in self._splits.items():
            if not callable(each) and (not isinstance(each, Iterable) or isinstance(each, Iterator)):
                raise CallError(
                    f"split {split!r} is a {type(each).__name__}; expected an iterable that can be gone through more "
                    "than once, or a function that returns a new iterator, since a stream is gone through again when "
                    "a job is resumed"
                )
        self._to_sample = to_sample
        self._last: dict[str, object] = {}
        super().__init__(name, list(self._splits), class_names)

    def stream(self, split: str, start: int = 0) -> Iterator[StreamedSample]:
        """See `StreamingSource.stream`; `CallError` for a function that returns the iterator that it returned before,
        and for samples that are no pairs.
        """
        if split not in self._splits:
            raise CallError(f"source {self.name} has no split {split!r}; it has {', '.join(self._splits)}")
        each = self._splits[split]
        values = each() if callable(each) else each
        if isinstance(values, Iterator):
            if self._last.get(split) is values:
                raise CallError(
                    f"the function of split {split!r} of source {self.name} returns the same iterator again; "
                    "let it make a new one at each call"
                )
            self._last[split] = values
        for number, value in enumerate(itertools.islice(values, start, None), start):
            image, label = as_pair(value, self._to_sample, f"sample {number} of split {split!r}")
            yield f"{number:08d}", label, encode_pixels(image)


def numbered(
    stream: StreamingSource, split: str, *, start: int = 0, limit: int | None = None
) -> Iterator[tuple[int, StreamedSample]]:
    """The samples of a split with their numbers, from `start` on, `limit` being the first that is left out.

    Closing the generator closes the stream. Raises `JobError` when the system or the network breaks it off.
    """
    if limit is not None and start >= limit:
        return
    number, samples = start, stream.stream(split, start)
    try:
        for sample in samples:
            yield number, sample
            number += 1
            if number == limit:
                return
    except OSError as error:
        cause = " ".join(str(error).split())[:200] or type(error).__name__
        raise JobError(
            f"stream {stream.name} broke off at sample {number} of split {split!r}: {cause}; run the same again to go "
            "on"
        ) from error
    finally:
        if hasattr(samples, "close"):
            samples.close()

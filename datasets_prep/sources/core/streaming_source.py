"""Sources that can only be iterated: they have no length and no access by index."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

from datasets_prep.samples.stored import Stored
from walloc_cdl.errors import CallError, JobError, one_line, utf8_text

StreamedSample = tuple[str, "int | str | None", Stored]
"""Key, unique in its split; label, a class number or name; the sample, an encoded image or its location."""


class StreamingSource(ABC):
    """Splits of samples in a fixed order: two passes must yield the same samples, or a job could not be resumed.

    It is not a `Source`, since code that takes a `Source` needs its listing and access to single samples.
    """

    kind = "image"
    """See `Source.kind`."""

    seeks = False
    """Whether `stream` can start later without iterating over the samples before. A resumed job then compares the
    first and the last finished sample with its records; otherwise it compares all of them."""

    def __init__(
        self, name: str, split_names: list[str], class_names: list[str] | None, *, notes: Sequence[str] = ()
    ) -> None:
        """`class_names`: None if no sample has a label; `notes`: see `Listing.notes`.

        Raises `CallError` for a name that occurs twice.
        """
        if class_names is not None and len(set(class_names)) < len(class_names):
            twice = next(each for each in class_names if class_names.count(each) > 1)
            raise CallError(f"class name {twice!r} of stream {name} occurs twice; name each class once")
        self.name, self.split_names, self.class_names = utf8_text(name), split_names, class_names or None
        self.notes = list(notes)

    @abstractmethod
    def stream(self, split: str, start: int = 0) -> Iterator[StreamedSample]:
        """Yield the samples of a split from number `start` on."""


def numbered(
    stream: StreamingSource, split: str, *, start: int = 0, end: int | None = None
) -> Iterator[tuple[int, StreamedSample]]:
    """Yield the samples `start` to `end` of a split with their numbers; `end` is exclusive.

    Closing the generator closes the stream. Raises `JobError` if an error of the system or the network interrupts it.
    """
    if end is not None and start >= end:
        return
    number, samples = start, stream.stream(split, start)
    try:
        for sample in samples:
            yield number, sample
            number += 1
            if number == end:
                return
    except OSError as error:
        cause = one_line(error)
        raise JobError(
            f"stream {stream.name} was interrupted at sample {number} of split {split!r}: {cause}; run the same "
            "command again to continue"
        ) from error
    finally:
        if hasattr(samples, "close"):
            samples.close()

"""Sequences whose items are computed when they are accessed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

Item = TypeVar("Item", covariant=True)


class LazySequence(Sequence[Item]):
    """A sequence whose subclasses define `__len__` and `item`; a slice is a list of items."""

    @abstractmethod
    def item(self, position: int) -> Item:
        """Return the item at `position`, 0 … len - 1."""

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        """Return an item, or a list for a slice. Negative indices count from the end; raises `IndexError` outside."""
        if isinstance(index, slice):
            return [self.item(position) for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.item(int(index) % len(self))

    def __iter__(self) -> Iterator[Item]:
        """Iterate over the items. An `IndexError` from `item` is raised; `Sequence` would stop the iteration there."""
        return map(self.item, range(len(self)))

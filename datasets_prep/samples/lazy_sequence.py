"""Sequences whose items are made when they are asked for."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import TypeVar, overload

Item = TypeVar("Item", covariant=True)


class LazySequence(Sequence[Item]):
    """A sequence of which a subclass says the length and makes single items; slices are lists of them."""

    @abstractmethod
    def item(self, position: int) -> Item:
        """The item at `position`, 0 … len - 1."""

    @overload
    def __getitem__(self, index: int) -> Item: ...
    @overload
    def __getitem__(self, index: slice) -> list[Item]: ...
    def __getitem__(self, index: int | slice) -> Item | list[Item]:
        """One item, or those of a slice; negative indices count from the end, `IndexError` outside."""
        if isinstance(index, slice):
            return [self.item(position) for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        return self.item(int(index) % len(self))

    def __iter__(self) -> Iterator[Item]:
        """Every item; an `IndexError` of what makes them is raised, where `Sequence` would take it for the end."""
        return map(self.item, range(len(self)))

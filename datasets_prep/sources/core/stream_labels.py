"""Labels of streamed samples: class names must be known in advance, since each label is stored when it arrives."""

from __future__ import annotations

from typing import Any

from walloc_cdl.errors import CallError
from walloc_cdl.latents import UNKNOWN_LABEL


class ClassNumbers:
    """Maps the labels of a stream to class numbers."""

    def __init__(self, class_names: list[str] | None) -> None:
        self._numbers = None if class_names is None else {name: number for number, name in enumerate(class_names)}

    def number(self, label: Any, where: str) -> int:
        """Return the class number of a label, a name or a number; `UNKNOWN_LABEL` for None, -1 and an empty name.

        Raises `CallError`, in which `where` describes the sample, for a label that is not a class, and for any label
        if there are no class names.
        """
        value = label if label is None or isinstance(label, str) else _integer(label, where)
        if value in (None, "", UNKNOWN_LABEL):
            return UNKNOWN_LABEL
        if self._numbers is None:
            raise CallError(
                f"{where} has the label {value!r}, but the stream has no class names, and they cannot be collected "
                "before it is encoded; give class_names=, a ClassLabel column, or a source with random access"
            )
        if isinstance(value, str) and value in self._numbers:
            return self._numbers[value]
        if isinstance(value, str) or not 0 <= value < len(self._numbers):
            raise CallError(
                f"{where} has the label {str(value)[:60]!r}, which is not one of the {len(self._numbers)} classes; "
                "check the labels, or the class names"
            )
        return value


def _integer(label: Any, where: str) -> int:
    """Convert anything that is an integer, such as a tensor with one element, to a Python integer."""
    try:
        return label.__index__() if hasattr(label, "__index__") else label.item().__index__()
    except (AttributeError, TypeError, ValueError, RuntimeError) as error:
        raise CallError(
            f"{where} has the label {str(label)[:60]!r}; expected an integer, a name or None: streams have one class "
            "per sample"
        ) from error

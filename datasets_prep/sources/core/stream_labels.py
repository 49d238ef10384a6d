"""Labels of streamed samples: class names must be known in advance, since each label is stored when it arrives."""

from __future__ import annotations

from typing import Any

from datasets_prep.sources.core.label_values import class_value
from walloc_cdl.errors import CallError
from walloc_cdl.latents import UNKNOWN_LABEL


class ClassNumbers:
    """Maps the labels of a stream to class numbers."""

    def __init__(self, class_names: list[str] | None) -> None:
        self._numbers = None if class_names is None else {name: number for number, name in enumerate(class_names)}

    def number(self, label: Any, where: str) -> int:
        """Return the class number of a label, a name or a number; `UNKNOWN_LABEL` for one that is unknown.

        Raises `CallError`, in which `where` describes the sample, for a label that is not a class, and for any label
        if there are no class names.
        """
        if isinstance(label, str) and self._numbers is not None and label in self._numbers:
            return self._numbers[label]
        value = _single(label, where)
        if value is None:
            return UNKNOWN_LABEL
        if self._numbers is None:
            raise CallError(
                f"{where} has the label {value!r}, but the stream has no class names, and they cannot be collected "
                "before it is encoded; give class_names=, a ClassLabel column, or a source with random access"
            )
        if isinstance(value, str) or not 0 <= value < len(self._numbers):
            raise CallError(
                f"{where} has the label {str(value)[:60]!r}, which is not one of the {len(self._numbers)} classes; "
                "check the labels, or the class names"
            )
        return value


def _single(label: Any, where: str) -> int | str | None:
    """Return the number or name of a class, None if it is unknown; raises `CallError` for several labels."""
    try:
        return class_value(label, f"{where} has the label")
    except CallError as error:
        raise CallError(f"{error}: streams have one class per sample") from error

"""What a label in a table, a file or a Python data set means: a class, or that the class is unknown.

Data sets mark samples without a label in different ways: by nothing, null, NaN or -1, and pandas writes integers with
gaps as floats. All of these are unknown labels in every source, and never classes.
"""

from __future__ import annotations

from typing import Any

from walloc_cdl.errors import CallError

UNKNOWN_TEXTS = frozenset({"", "-1", "-1.0", "nan", "null"})
"""Texts of unknown labels, in lower case."""

UNKNOWN_SHOWN = "null, None, NaN, -1 or empty"
"""The unknown labels, for messages."""


def is_unknown(value: Any) -> bool:
    """Return whether a label, a text or a number, is unknown.

    >>> [is_unknown(value) for value in (None, float("nan"), -1, -1.0, "", "NaN", "null", "-1")]
    [True, True, True, True, True, True, True, True]
    >>> [is_unknown(value) for value in (0, "0", "none", -2)]
    [False, False, False, False]
    """
    if value is None:
        return True
    if isinstance(value, str):
        return value.strip().lower() in UNKNOWN_TEXTS
    return bool(value == -1 or value != value)


def class_value(value: Any, where: str = "label") -> int | str | None:
    """Return a label as the number or name of its class; None for an unknown label.

    Floats must be whole numbers; anything with one element, such as a tensor, counts as that element. Raises
    `CallError` for any other value; `where` is the beginning of the message.

    >>> class_value(3.0), class_value("cat"), class_value(float("nan"))
    (3, 'cat', None)
    """
    if isinstance(value, (str, int)) or value is None:  # bool, too
        return None if is_unknown(value) else value
    try:
        number = value if isinstance(value, float) else value.item()
        if is_unknown(number):
            return None
        if int(number) == number:
            return int(number)
    except (AttributeError, TypeError, ValueError, RuntimeError, OverflowError):
        pass  # not a single number
    raise CallError(f"{where} {str(value)[:60]!r}; expected an integer, a name or None")

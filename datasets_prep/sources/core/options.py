"""Options at the end of a source's name: `PATH?patch=32&hop=16`."""

from __future__ import annotations

from urllib.parse import parse_qsl

from walloc_cdl.errors import CallError


def split_options(text: str, known: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """Split `text` at its last question mark into the path and the options.

    A question mark that no `=` follows belongs to the path. Raises `CallError` for unknown or repeated options.
    """
    path, mark, query = text.rpartition("?")
    if not mark or "=" not in query:
        return text, {}
    pairs = parse_qsl(query.replace("+", "%2B"), keep_blank_values=True)
    options = dict(pairs)
    if len(options) != len(pairs) or options.keys() - set(known):
        raise CallError(f"source options {query!r}; expected some of {', '.join(known)}, each once")
    return path, options


def column_names(options: dict[str, str], name: str) -> tuple[str, ...]:
    """Parse an option that names columns, `a,b`; () if it is omitted. Raises `CallError` for a repeated column."""
    text = options.get(name)
    found = tuple(text.split(",")) if text else ()
    if len(set(found)) != len(found):
        raise CallError(f"source option {name}={text!r}; expected each column once")
    return found


def positive_integer(options: dict[str, str], name: str) -> int | None:
    """Parse an option that is an integer of at least 1; None if it is omitted."""
    text = options.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 9 or int(text) < 1:
        raise CallError(f"source option {name}={text!r}; expected an integer of at least 1")
    return int(text)


def number_range(options: dict[str, str], name: str) -> tuple[float, float] | None:
    """Parse an option of two numbers, `low,high`, with low < high; None if it is omitted."""
    text = options.get(name)
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not (low < high and high - low < float("inf")):
        raise CallError(f"source option {name}={text!r}; expected two numbers, the lower first, such as {name}=0,5000")
    return low, high


def optional_flag(options: dict[str, str], name: str) -> bool | None:
    """Parse an option that is 0 or 1; None if it is omitted."""
    return flag(options, name) if name in options else None


def flag(options: dict[str, str], name: str) -> bool:
    """Parse an option that is 0 or 1; false if it is omitted."""
    text = options.get(name, "0")
    if text not in ("0", "1"):
        raise CallError(f"source option {name}={text!r}; expected 0 or 1")
    return text == "1"

"""The errors a user can act on; each knows the exit code with which `cdl` ends.

Every message is one line: the value that was found, what was expected, and the remedy.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class CdlError(ValueError):
    """Base of the errors raised on purpose; `cdl` prints the message and exits with `exit_code`."""

    exit_code = 1


class CallError(CdlError):
    """The call was wrong: a missing folder, an unknown name, a value out of range."""

    exit_code = 2


class SpecMismatchError(CallError):
    """Two things that must obey the same `LatentSpec` do not."""


class DamagedError(CdlError):
    """Stored data are not what they were when they were written."""


class JobError(CdlError):
    """The work was asked for correctly but could not be completed."""


def unknown_name(kind: str, name: str, known: Iterable[str], remedy: str) -> CallError:
    """Build the error for a `name` that is not among `known`, naming the nearest ones.

    >>> print(unknown_name("codec", "rgb16x", ["rgb-16x", "rgb-4x"], "`cdl codec list` shows all"))
    unknown codec 'rgb16x'; nearest: rgb-16x, rgb-4x; `cdl codec list` shows all
    """
    near = difflib.get_close_matches(name, list(known), n=5, cutoff=0.4)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    return CallError(f"unknown {kind} {name!r}{hint}; {remedy}")


def few_of(names: Sequence[str], most: int = 5) -> str:
    """The first of some names, for a message.

    >>> few_of(["a.png", "b.png", "c.png"], most=2)
    'a.png, b.png, …'
    """
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def one_line(error: BaseException, max_chars: int = 200, *, with_class: bool = False) -> str:
    """Return an error's message as one line, cut to `max_chars` characters, for a message that quotes it.

    Where there is no message, or `with_class` asks for it, the name of the error's class stands in its place or
    before it: the message of a `KeyError`, for one, says nothing by itself.

    >>> one_line(ValueError("no magic number\\n  at byte 0"))
    'no magic number at byte 0'
    >>> one_line(TimeoutError()), one_line(KeyError("n"), with_class=True)
    ('TimeoutError', "KeyError: 'n'")
    """
    name, text = type(error).__name__, " ".join(str(error).split())[:max_chars]
    if not text:
        return name
    return f"{name}: {text}" if with_class else text


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without its full stop: torch and timm write advice below it.

    >>> first_line(RuntimeError("out of memory.\\nTry setting more variables"))
    'out of memory'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def system_reason(error: OSError) -> str:
    """Return what the system says of an error, without the number and the path that `str(error)` adds.

    >>> system_reason(FileNotFoundError(2, "No such file or directory", "a.png"))
    'No such file or directory'
    """
    return error.strerror or one_line(error)

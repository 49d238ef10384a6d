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


def one_line(error: BaseException, max_chars: int = 200, *, with_type: bool = False) -> str:
    """What an error says, in one line of at most `max_chars` characters; the name of its type if it says nothing.

    >>> one_line(OSError("no route\\n  to host")), one_line(TimeoutError()), one_line(KeyError("x"), with_type=True)
    ('no route to host', 'TimeoutError', "KeyError: 'x'")
    """
    text = f"{type(error).__name__}: {error}" if with_type else str(error)
    return " ".join(text.split())[:max_chars] or type(error).__name__

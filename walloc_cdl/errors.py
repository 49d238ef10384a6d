"""The errors that a user can act on, and text in messages; each error carries the exit code of `cdl`.

Every message is one line: the value that was found, what was expected, and the remedy. Text that others wrote (names of
classes, files, codecs and splits, messages) is shown so that it is only text, by one function for each medium:
terminals obey control characters, Markdown and plots have marks of their own.
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Sequence

_JOINERS = "\u200c\u200d"
"""Invisible, but part of the spelling of Persian and of Indic scripts, and of some emoji."""

_SHOWN_CATEGORIES = ("Zs", "Co", "Cn")
"""Unicode's categories of characters that are shown besides the printable ones: spaces, private and unassigned ones."""

_MARKDOWN = re.compile(
    r"[\\`*\[\]<>|$~]"
    r"|(?<![^\W_])_|_(?![^\W_])"  # an underscore within a word has no meaning
    r"|&(?=#?\w+;)"
    r"|^[-+=#](?=\s|$)"
)


class CdlError(ValueError):
    """Base class of the errors raised on purpose; `cdl` prints the message and exits with `exit_code`."""

    exit_code = 1


class CallError(CdlError):
    """The call was wrong: a missing folder, an unknown name, a value out of range."""

    exit_code = 2


class SpecMismatchError(CallError):
    """Two objects that must have the same `LatentSpec` differ."""


class DamagedError(CdlError):
    """Stored data differ from what was written."""


class JobError(CdlError):
    """The call was correct, but the work could not be completed."""


def unknown_name(kind: str, name: str, known: Iterable[str], remedy: str) -> CallError:
    """Return the error for a `name` that is not in `known`; it lists the nearest known names.

    >>> print(unknown_name("codec", "rgb16x", ["rgb-16x", "rgb-4x"], "`cdl codec list` shows all"))
    unknown codec 'rgb16x'; nearest: rgb-16x, rgb-4x; `cdl codec list` shows all
    """
    near = difflib.get_close_matches(name[:200], list(known), n=5, cutoff=0.4)
    hint = f"; nearest: {', '.join(near)}" if near else ""
    shown = repr(name if len(name) <= 200 else f"{name[:200]}…")
    return CallError(f"unknown {kind} {shown}{hint}; {remedy}")


def abbreviate(names: Sequence[str], limit: int = 5) -> str:
    """Return the first `limit` names for a message, with an ellipsis if there are more.

    >>> abbreviate(["a.png", "b.png", "c.png"], limit=2)
    'a.png, b.png, …'
    """
    return ", ".join(names[:limit]) + (", …" if len(names) > limit else "")


def one_line(error: BaseException, max_chars: int = 200, *, with_class: bool = False) -> str:
    """Return an error's message as one line of at most `max_chars` characters, for quoting in another message.

    The name of the error's class replaces an empty message. With `with_class` it precedes the message: the message of
    a `KeyError`, for example, means little without it.

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
    """Return the first line of an error's message without its final period; torch and timm put advice below it.

    >>> first_line(RuntimeError("out of memory.\\nTry setting more variables"))
    'out of memory'
    """
    return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")


def system_reason(error: OSError) -> str:
    """Return the system's description of an error, without the number and the path that `str(error)` adds.

    >>> system_reason(FileNotFoundError(2, "No such file or directory", "a.png"))
    'No such file or directory'
    """
    return error.strerror or one_line(error)


def utf8_text(text: str) -> str:
    r"""Return a file name as text that can be written as UTF-8: bytes of other encodings are escaped.

    >>> utf8_text("caf\udce9")
    'caf\\xe9'
    """
    return "".join(_escaped(letter) if "\ud800" <= letter <= "\udfff" else letter for letter in text)


def terminal_text(text: str) -> str:
    r"""Return text for one line of a terminal: what would move the cursor, color or reorder text is escaped.

    >>> terminal_text("red\x1b[31m\nline")
    'red\\x1b[31m\\nline'
    """
    if text.isprintable():
        return text
    return "".join(letter if _is_shown(letter) else _escaped(letter) for letter in text)


def markdown_text(text: str) -> str:
    r"""Return text for a line or a table of Markdown, without Markdown of its own; runs of spaces become one.

    >>> markdown_text("<b> a|b\n$x$, t_shirt")
    '\\<b\\> a\\|b \\$x\\$, t_shirt'
    """
    return _MARKDOWN.sub(lambda mark: f"\\{mark[0]}", terminal_text(" ".join(text.split())))


def plot_text(text: str) -> str:
    r"""Return text for matplotlib, which sets formulas between dollars, and omits labels that begin with `_`.

    >>> plot_text("$5\n")
    '\\$5\\n'
    """
    shown = terminal_text(text).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _is_shown(letter: str) -> bool:
    return letter.isprintable() or letter in _JOINERS or unicodedata.category(letter) in _SHOWN_CATEGORIES


def _escaped(letter: str) -> str:
    if "\udc80" <= letter <= "\udcff":  # a byte of a file name
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode("ascii")

"""Text that others wrote (names of classes, files, codecs and splits, messages), shown so that it is only text.

There is one function for each medium: terminals obey control characters, Markdown and plots have marks of their own.
Each shows what it escapes; none shortens.
"""

from __future__ import annotations

import re
import unicodedata

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

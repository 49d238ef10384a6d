"""Opens text files of users: tables, and files of labels."""

from __future__ import annotations

import codecs
import io
import os
from typing import TextIO

from walloc_cdl.errors import CallError
from walloc_cdl.files import open_regular

CONVERT = "convert it, such as with `iconv -f latin1 -t utf-8`"

_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def open_text(path: str | os.PathLike[str], encoding: str | None = None, *, newline: str | None = None) -> TextIO:
    """Open a text file, in UTF-8, or in UTF-16 if it begins with a byte order mark, unless `encoding` is given.

    `newline`: as for `open`. Raises `OSError` for anything but a regular file, `CallError` for an unknown encoding;
    reading raises `UnicodeError` for text in another encoding.
    """
    if encoding is not None:
        try:
            "".encode(encoding).decode(encoding)  # codecs that do not encode text raise LookupError
        except LookupError as error:
            raise CallError(f"unknown encoding {encoding!r}; expected one such as latin-1, cp1252 or utf-16") from error
    file = open_regular(path)
    try:
        if encoding is None:
            encoding = "utf-16" if file.peek(2)[:2] in _MARKS else "utf-8-sig"
        return io.TextIOWrapper(file, encoding, newline=newline)
    except BaseException:
        file.close()
        raise

"""Tells paths from addresses such as `s3://bucket/set`, and returns the scheme of an address."""

from __future__ import annotations

import os
import re
from pathlib import Path

from walloc_cdl.errors import CallError
from walloc_cdl.text import utf8_text

WEB_SCHEMES = ("http", "https")

_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]+"
"""At least two letters: a single letter is a Windows drive."""
_URL = re.compile(rf"{_SCHEME}://")
_ADDRESS = re.compile(rf"{_SCHEME}(::{_SCHEME})*://.")
_ADDRESS_AS_PATH = re.compile(rf"{_SCHEME}:[/\\]")
_LOCAL_SCHEME = "file://"


def is_url(text: str) -> bool:
    """Return whether `text` begins with a scheme and `://`; `file://` counts as well.

    >>> is_url("s3://bucket/photos"), is_url("file:///photos"), is_url("photos/a.png")
    (True, True, False)
    """
    return _URL.match(text) is not None


def is_address(location: object) -> bool:
    """Return whether `location` is the address of a remote folder in the sense of fsspec, rather than a path.

    >>> is_address("hf://datasets/someone/flowers"), is_address("latents/flowers"), is_address("file:///flowers")
    (True, False, False)
    """
    matches = isinstance(location, str) and _ADDRESS.match(location) is not None
    return matches and not location.startswith(_LOCAL_SCHEME)


def is_collapsed_address(path: Path) -> bool:
    """Return whether `path` was built from an address; `pathlib` collapses the two slashes into one.

    >>> is_collapsed_address(Path("s3://bucket/set")), is_collapsed_address(Path("sets/s3"))
    (True, False)
    """
    return _ADDRESS_AS_PATH.match(str(path)) is not None


def url_scheme(url: str) -> str:
    """Return the scheme of a URL or an address in lower case; for chained schemes the first one.

    >>> url_scheme("S3://bucket/set"), url_scheme("simplecache::s3://bucket/set")
    ('s3', 'simplecache')
    """
    return url.partition("://")[0].partition("::")[0].lower()


def local_path(location: str | os.PathLike[str]) -> Path:
    """Return a local location as a path, without the scheme `file://` if it has one.

    >>> str(local_path("file:///flowers")), str(local_path("latents/flowers"))
    ('/flowers', 'latents/flowers')

    Raises `CallError` for a path that is not UTF-8: libraries that read and write files cannot open it.
    """
    path = os.fspath(location).removeprefix(_LOCAL_SCHEME)
    if path != utf8_text(path):
        raise CallError(f"{path!r} is not UTF-8; rename the folder, or name it by a link")
    return Path(path)

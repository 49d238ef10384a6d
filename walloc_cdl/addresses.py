"""Tells paths from addresses such as `s3://bucket/set`; the scheme of an address, and the path that a user means."""

from __future__ import annotations

import os
import re
from pathlib import Path

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
    """Return a local location as a path, without the scheme `file://` if it has one; `~` is the home folder.

    Shells expand `~` at the beginning of a word only, and not in `--out=~/flowers`, and Python does not at all.

    >>> str(local_path("file:///flowers")), str(local_path("latents/flowers"))
    ('/flowers', 'latents/flowers')
    >>> local_path("~/flowers") == Path.home() / "flowers"
    True
    """
    return Path(os.path.expanduser(os.fspath(location).removeprefix(_LOCAL_SCHEME)))

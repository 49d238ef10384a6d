"""What is a path and what an address, such as `s3://bucket/set`, and of which scheme."""

from __future__ import annotations

import os
import re
from pathlib import Path

WEB_SCHEMES = ("http", "https")

_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]+"
"""Two letters and more: a single one is a drive of Windows."""
_URL = re.compile(rf"{_SCHEME}://")
_ADDRESS = re.compile(rf"{_SCHEME}(::{_SCHEME})*://.")
_ADDRESS_AS_PATH = re.compile(rf"{_SCHEME}:[/\\]")
_LOCAL_SCHEME = "file://"


def is_url(text: str) -> bool:
    """Whether `text` begins with a scheme and `://`, that of local files included.

    >>> is_url("s3://bucket/photos"), is_url("file:///photos"), is_url("photos/a.png")
    (True, True, False)
    """
    return _URL.match(text) is not None


def is_address(location: object) -> bool:
    """Whether this is the address of a remote folder, as fsspec understands it, rather than a path.

    >>> is_address("hf://datasets/someone/flowers"), is_address("latents/flowers"), is_address("file:///flowers")
    (True, False, False)
    """
    matches = isinstance(location, str) and _ADDRESS.match(location) is not None
    return matches and not location.startswith(_LOCAL_SCHEME)


def was_address(path: Path) -> bool:
    """Whether a path was made of an address, which leaves one slash of two.

    >>> was_address(Path("s3://bucket/set")), was_address(Path("sets/s3"))
    (True, False)
    """
    return _ADDRESS_AS_PATH.match(str(path)) is not None


def url_scheme(url: str) -> str:
    """The scheme of a URL or an address, in lower case; of several in a chain the first.

    >>> url_scheme("S3://bucket/set"), url_scheme("simplecache::s3://bucket/set")
    ('s3', 'simplecache')
    """
    return url.partition("://")[0].partition("::")[0].lower()


def local_path(location: str | os.PathLike[str]) -> Path:
    """The path of what is no address, without the scheme that it may have.

    >>> str(local_path("file:///flowers")), str(local_path("latents/flowers"))
    ('/flowers', 'latents/flowers')
    """
    return Path(os.fspath(location).removeprefix(_LOCAL_SCHEME))

"""Tells paths from addresses such as `s3://bucket/set`, private from public ones, and malformed from usable URLs."""

from __future__ import annotations

import ipaddress
import os
import re
import string
from pathlib import Path
from urllib.parse import quote, urlsplit, urlunsplit

from walloc_cdl.errors import CallError, utf8_text

WEB_SCHEMES = ("http", "https")

_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]+"
"""At least two letters: a single letter is a Windows drive."""
_URL = re.compile(rf"{_SCHEME}://")
_ADDRESS = re.compile(rf"{_SCHEME}(::{_SCHEME})*://.")
_ADDRESS_AS_PATH = re.compile(rf"{_SCHEME}:[/\\]")
_LOCAL_SCHEME = "file://"
_CHAIN = re.compile(rf"{_SCHEME}::{_SCHEME}:(//|:)")
_IPV6_HOST = re.compile(r"//[^/?#]*\[[0-9A-Fa-f:.%]*\]")


def is_url(text: str) -> bool:
    """Return whether `text` begins with a scheme and `://`; `file://` counts as well.

    >>> is_url("s3://bucket/photos"), is_url("file:///photos"), is_url("photos/a.png")
    (True, True, False)
    """
    return _URL.match(text) is not None


def is_chained(text: str) -> bool:
    """Return whether `text` is a chain of URLs in the sense of fsspec, such as a file in an archive at a URL.

    >>> is_chained("simplecache::s3://bucket/a.png"), is_chained("zip://a.png::s3://bucket/b.zip")
    (True, True)
    >>> is_chained("http://[::1]:8000/a.png"), is_chained("https://h/a::b.png"), is_chained("C++::notes/a.png")
    (False, False, False)
    """
    if not is_url(text):
        return _CHAIN.match(text) is not None
    _, colons, rest = _IPV6_HOST.sub("//", text, count=1).partition("::")
    return bool(colons) and ("://" in rest or url_scheme(text) not in WEB_SCHEMES)


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


def utf8_path(location: str | os.PathLike[str]) -> Path:
    """Return the path of a data set's folder, as `local_path` does.

    Raises `CallError` for a path that is not UTF-8: libraries that read and write files cannot open it.
    """
    path = local_path(location)
    if str(path) != utf8_text(str(path)):
        raise CallError(f"{str(path)!r} is not UTF-8; rename the folder, or name it by a link")
    return path


def ascii_url(url: str) -> str:
    """Return an http(s) URL as it is sent: quoted, with its host in ASCII, without a fragment.

    Raises `ValueError` for a malformed URL, and for one with a password, which would not be sent.

    >>> ascii_url("http://bücher.example/straße 1.png?a=%20b")
    'http://xn--bcher-kva.example/stra%C3%9Fe%201.png?a=%20b'
    """
    if any(ord(character) < 32 for character in url):  # urlsplit removes some of these
        raise ValueError("a URL with a control character")
    parts = urlsplit(url.strip())
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{ipaddress.IPv6Address(host)}]"
    else:
        host = host.encode("idna").decode()
        if not host or "@" in parts.netloc or re.search(r"[^a-z0-9._-]", host):
            raise ValueError("a URL without a host, with a password, or with a character that no host has")
    netloc = host if parts.port is None else f"{host}:{parts.port}"
    # punctuation has a meaning in URLs, and % begins what is quoted already
    path, query = (quote(part, string.punctuation) for part in (parts.path, parts.query))
    return urlunsplit((parts.scheme, netloc, path, query, ""))


def is_public(ip_address: str) -> bool:
    """Return whether an IP address is public: neither private, local nor reserved, also within an IPv6 address.

    >>> is_public("93.184.216.34"), is_public("169.254.169.254"), is_public("::ffff:10.0.0.1")
    (True, False, False)
    """
    ip = ipaddress.ip_address(ip_address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in ipaddress.IPv6Network("64:ff9b::/96"):  # IPv4 addresses behind a translator
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        ip = inner or ip
    return ip.is_global and not ip.is_multicast

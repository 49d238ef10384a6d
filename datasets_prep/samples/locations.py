"""Reads paths and URLs: local files with the standard library, http(s) with urllib, other schemes with fsspec.

http(s) does not use fsspec, whose HTTP needs aiohttp, with an event loop in every worker, and hides the status, which
the ledger gives as the reason. Workers import this module, so that fsspec is imported only for a URL that needs it.
"""

from __future__ import annotations

import http.client
import io
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

from datasets_prep.samples.stored import ReadFailure
from walloc_cdl.addresses import WEB_SCHEMES, is_url, url_scheme
from walloc_cdl.errors import CallError, CdlError, one_line
from walloc_cdl.retries import is_transient_status, retry

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

TIMEOUT_S = 15
HTTP_BUFFER_BYTES = 2**16
"""Size of the read buffer for a file at an http(s) URL that is read in sequence."""

RETRY_PAUSES_S = (1.0, 4.0)
"""Pauses before the second and third attempt; all attempts together take less than a worker's time limit."""


class FetchError(OSError):
    """A file at a URL cannot be fetched; the message is short and does not contain the URL."""

    def __init__(self, message: str, failure: ReadFailure | None = None) -> None:
        """`failure`: None if the file was reached, but cannot be used."""
        super().__init__(message)
        self.failure = failure


def file_system(url: str) -> tuple[AbstractFileSystem, str]:
    """Return the fsspec file system of a URL and the path in it; raises `CallError` if it cannot be opened."""
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        cause = one_line(error)
        raise CallError(
            f"{url!r} cannot be opened: {cause}; check it, and install the package that its scheme needs"
        ) from error
    return system, path


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Turn exceptions of a file system's packages (no network, no credentials, no such path) into `OSError`."""
    try:
        yield
    except (OSError, CdlError):
        raise
    except Exception as error:  # the exceptions of httpx, botocore and others have no common base class
        raise OSError(one_line(error, with_class=True)) from error


def open_binary(location: str) -> BinaryIO:
    """Open a path or URL as a seekable binary stream, which the caller closes. Raises `CallError` or `OSError`."""
    if not is_url(location):
        return open(location, "rb")
    if url_scheme(location) in WEB_SCHEMES:
        return io.BufferedReader(_HttpFile(location), HTTP_BUFFER_BYTES)
    system, path = file_system(location)
    with as_os_errors():
        return system.open(path, "rb")


def read_range(location: str, offset: int = 0, num_bytes: int | None = None, *, limit: int = 2**30) -> bytes:
    """Read the bytes of a file from `offset` to the end, or `num_bytes` of them; fewer if the file ends before.

    At most `limit` bytes are read from a URL, so that a server cannot fill the memory. Transient errors (a busy server,
    a lost connection) are retried after the pauses `RETRY_PAUSES_S`. Raises `OSError`, for URLs its subclass
    `FetchError`.
    """
    if not is_url(location):
        with open(location, "rb") as file:
            file.seek(offset)
            return file.read() if num_bytes is None else file.read(num_bytes)
    try:
        return retry(lambda: _fetched(location, offset, num_bytes, limit), RETRY_PAUSES_S, is_transient=_is_transient)
    except FetchError:
        raise
    except FileNotFoundError as error:
        raise FetchError("no such file at its URL", ReadFailure.REFUSED) from error
    except PermissionError as error:
        raise FetchError("access to its URL is denied", ReadFailure.REFUSED) from error
    except (OSError, http.client.HTTPException) as error:
        status = getattr(error, "code", None)
        cause = f"HTTP status {status}" if status else f"not reached ({type(error).__name__})"
        tries = f", {len(RETRY_PAUSES_S) + 1} times" if _is_transient(error) else ""
        failure = ReadFailure.FAILED if _is_transient(error) else ReadFailure.REFUSED
        raise FetchError(f"{cause}{tries}", failure) from error


def _is_transient(error: Exception) -> bool:
    if isinstance(error, (FetchError, FileNotFoundError, PermissionError)):
        return False
    status = getattr(error, "code", None)
    return isinstance(error, (OSError, http.client.HTTPException)) and (status is None or is_transient_status(status))


def _fetched(url: str, offset: int, num_bytes: int | None, limit: int) -> bytes:
    limit = limit if num_bytes is None else min(num_bytes, limit)
    if url_scheme(url) in WEB_SCHEMES:
        data = _fetched_http(url, offset, num_bytes, limit)
    else:
        system, path = file_system(url)
        with as_os_errors():
            if num_bytes is None and (system.size(path) or 0) - offset > limit:
                raise FetchError(_too_large(limit))
            data = system.cat_file(path, start=offset, end=offset + limit + (num_bytes is None))
    if len(data) > limit:
        raise FetchError(_too_large(limit))
    return data


def _fetched_http(url: str, offset: int, num_bytes: int | None, limit: int) -> bytes:
    """Send one request; if the end is open, read one byte more than the limit, so that an excess is detected."""
    if num_bytes == 0:  # such as an empty member of a tar, which no range of bytes can express
        return b""
    request = urllib.request.Request(url, headers={"User-Agent": "walloc-cdl"})
    ranged = bool(offset) or num_bytes is not None
    if ranged:
        request.add_header("Range", f"bytes={offset}-{'' if num_bytes is None else offset + num_bytes - 1}")
    with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
        if ranged and response.status != http.client.PARTIAL_CONTENT:
            raise FetchError("its server sends no ranges of bytes")
        data = response.read(limit + (num_bytes is None))
        announced = response.headers.get("Content-Length", "")
        if announced.isdigit() and len(data) < min(int(announced), limit):
            raise http.client.IncompleteRead(data)
        return data


class _HttpFile(io.RawIOBase):
    """A file at an http(s) URL that is read with range requests."""

    def __init__(self, url: str) -> None:
        self._url, self._position = url, 0
        request = urllib.request.Request(url, headers={"User-Agent": "walloc-cdl", "Range": "bytes=0-0"})
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as response:
                total = response.headers.get("Content-Range", "").rpartition("/")[2]
        except urllib.error.HTTPError as error:
            raise FetchError(f"HTTP status {error.code}") from error
        except (OSError, http.client.HTTPException) as error:
            raise FetchError(f"not reached ({type(error).__name__})") from error
        if not total.isdigit():
            raise FetchError("its server sends no ranges of bytes")
        self._length = int(total)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._position = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._length}[whence]
        return self._position

    def readinto(self, buffer: memoryview) -> int:
        count = max(0, min(len(buffer), self._length - self._position))
        if count:
            data = read_range(self._url, self._position, count)
            count = len(data)
            buffer[:count] = data
            self._position += count
        return count


def _too_large(limit: int) -> str:
    return f"more than {limit:,} bytes at its URL"


def last_part(location: str) -> str:
    """Return the last component of a path or URL.

    >>> last_part("s3://bucket/photos/")
    'photos'
    """
    return location.rstrip("/" + os.sep).replace(os.sep, "/").rpartition("/")[2]

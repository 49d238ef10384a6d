"""Reads paths and URLs: local files with the standard library, http(s) with urllib, other schemes with fsspec.

http(s) does not use fsspec, whose HTTP needs aiohttp, with an event loop in every worker, and hides the status, which
the ledger gives as the reason. Workers import this module, so that fsspec is imported only for a URL that needs it.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar

from datasets_prep.samples.stored import ReadFailure
from datasets_prep.samples.web import FetchError, fetch_deadline, fetch_range, file_size, too_large
from walloc_cdl import retries
from walloc_cdl.addresses import WEB_SCHEMES, is_url, url_scheme
from walloc_cdl.errors import CallError, CdlError, one_line
from walloc_cdl.files import open_regular
from walloc_cdl.retries import Deadline, is_transient_status, retry

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Result = TypeVar("Result")

READ_BUFFER_BYTES = 2**16
"""Size of the read buffer for a file at a URL that is read in sequence."""

RETRY_PAUSES_S = (1.0, 4.0)
"""Pauses before the second and third attempt. The time limit of a fetch includes them."""


class RemoteFileSystem:
    """A file system of fsspec, each call of which ends: with the time limits of `walloc_cdl.retries`."""

    def __init__(self, system: AbstractFileSystem) -> None:
        self._system = system

    def isdir(self, path: str) -> bool:
        """Return whether there is a folder of this path."""
        return Deadline(retries.REMOTE_S).call(lambda: self._system.isdir(path))

    def ls(self, path: str) -> list[dict[str, Any]]:
        """Return the entries of a folder, as fsspec describes them."""
        return Deadline(retries.LISTING_S).call(lambda: list(self._system.ls(path, detail=True)))

    def glob(self, pattern: str) -> list[str]:
        """Return the paths that a pattern matches."""
        return Deadline(retries.LISTING_S).call(lambda: list(self._system.glob(pattern)))

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        return self._system.unstrip_protocol(path)


def file_system(url: str) -> tuple[RemoteFileSystem, str]:
    """Return the file system of a URL and the path in it; raises `CallError` if it cannot be opened."""
    try:
        system, path = Deadline(retries.REMOTE_S).call(lambda: _file_system(url))
    except TimeoutError as error:
        raise _not_opened(url, error) from error
    return RemoteFileSystem(system), path


def _file_system(url: str) -> tuple[AbstractFileSystem, str]:
    import fsspec

    try:
        return fsspec.core.url_to_fs(url)
    except (ImportError, ValueError, OSError) as error:
        raise _not_opened(url, error) from error


def require_package(url: str) -> None:
    """Raise `CallError` if the package that the scheme of a URL needs is missing, without looking at the rest of it."""
    import fsspec

    try:
        fsspec.get_filesystem_class(url_scheme(url))
    except (ImportError, ValueError) as error:
        raise _not_opened(url, error) from error


def _not_opened(url: str, error: Exception) -> CallError:
    cause = one_line(error)
    return CallError(f"{url!r} cannot be opened: {cause}; check it, and install the package that its scheme needs")


@contextmanager
def as_os_errors() -> Iterator[None]:
    """Turn exceptions of a file system's packages (no network, no credentials, no such path) into `OSError`."""
    try:
        yield
    except (OSError, CdlError):
        raise
    except Exception as error:  # the exceptions of httpx, botocore and others have no common base class
        raise OSError(one_line(error, with_class=True)) from error


def open_binary(location: str, *, public: bool = False) -> BinaryIO:
    """Open a path or URL as a seekable binary stream, which the caller closes. Raises `CallError` or `OSError`.

    `public`: see `FileSlice.public`.
    """
    if not is_url(location):
        return open_regular(location)
    if url_scheme(location) in WEB_SCHEMES:
        return io.BufferedReader(_HttpFile(location, public=public), READ_BUFFER_BYTES)
    return io.BufferedReader(_FsspecFile(location), READ_BUFFER_BYTES)


def read_range(
    location: str, offset: int = 0, num_bytes: int | None = None, *, limit: int = 2**30, public: bool = False
) -> bytes:
    """Read the bytes of a file from `offset` to the end, or `num_bytes` of them; fewer if the file ends before.

    At most `limit` bytes are read from a URL, so that a server cannot fill the memory, for `web.FETCH_S` at most, so
    that it cannot hold the reader. Transient errors (a busy server, a lost connection) are retried after the pauses
    `RETRY_PAUSES_S`. `public`: see `FileSlice.public`.

    Raises `OSError`, for URLs its subclass `FetchError`, whatever is wrong with a URL and its server.
    """
    if not is_url(location):
        with open_regular(location) as file:
            file.seek(offset)
            if num_bytes is None:
                return file.read()
            # read() would allocate all that an untrusted archive declares
            return file.read(max(0, min(num_bytes, os.fstat(file.fileno()).st_size - offset)))
    if num_bytes is not None and num_bytes > limit:
        raise too_large(limit)
    deadline = fetch_deadline()

    def attempt() -> bytes:
        if url_scheme(location) in WEB_SCHEMES:
            return fetch_range(location, offset, num_bytes, limit, deadline, public=public)
        return deadline.call(lambda: _read_with_fsspec(location, offset, num_bytes, limit))

    return _fetched(attempt, deadline)


def _fetched(attempt: Callable[[], Result], deadline: Deadline) -> Result:
    """Return the result of `attempt`, which may be called again after transient errors; raises `FetchError` only."""
    try:
        return retry(
            attempt, RETRY_PAUSES_S, is_transient=lambda error: _is_transient(error) and not deadline.has_passed
        )
    except (FetchError, MemoryError):
        raise
    except Exception as error:  # of urllib, http.client, ssl, and the packages of fsspec's file systems
        if deadline.has_passed:
            raise FetchError(f"took longer than {deadline.limit_s:g} s", ReadFailure.FAILED) from error
        raise _fetch_error(error) from error


def _fetch_error(error: Exception) -> FetchError:
    if isinstance(error, FileNotFoundError):
        return FetchError("no such file at its URL", ReadFailure.REFUSED)
    if isinstance(error, PermissionError):
        return FetchError("access to its URL is denied", ReadFailure.REFUSED)
    if _is_misunderstood(error):
        return FetchError("its URL is malformed")
    status = getattr(error, "code", None)
    cause = f"HTTP status {status}" if status else f"not reached ({type(error).__name__})"
    if not _is_transient(error):
        return FetchError(cause, ReadFailure.REFUSED)
    failure = ReadFailure.REFUSED if _is_of_one_host(getattr(error, "reason", None)) else ReadFailure.FAILED
    return FetchError(f"{cause}, {len(RETRY_PAUSES_S) + 1} times", failure)


def _is_misunderstood(error: Exception) -> bool:
    """Return whether a file system's package does not understand a URL: it raises `ValueError`, but not for JSON."""
    cause = error.__cause__
    return isinstance(cause, ValueError) and not isinstance(cause, json.JSONDecodeError)


def _is_of_one_host(reason: object) -> bool:
    """Return whether a connection failed because of the host that a URL names, while servers and network may work."""
    unknown = isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN
    return unknown or isinstance(reason, ssl.SSLCertVerificationError)


def _is_transient(error: Exception) -> bool:
    if isinstance(error, (FetchError, FileNotFoundError, PermissionError)) or _is_misunderstood(error):
        return False
    status = getattr(error, "code", None)
    return isinstance(error, (OSError, http.client.HTTPException)) and (status is None or is_transient_status(status))


def _read_with_fsspec(url: str, offset: int, num_bytes: int | None, limit: int) -> bytes:
    with as_os_errors():
        system, path = _file_system(url)
        if num_bytes is None and (system.size(path) or 0) - offset > limit:
            raise too_large(limit)
        end = offset + (limit + 1 if num_bytes is None else num_bytes)
        data = system.cat_file(path, start=offset, end=end)
    if len(data) > limit:
        raise too_large(limit)
    return data


class _RemoteFile(io.RawIOBase):
    """A file at a URL: reading and seeking."""

    _position = 0
    _length: int

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
            data = self._read(self._position, count)
            count = len(data)
            buffer[:count] = data
            self._position += count
        return count

    def _read(self, position: int, count: int) -> bytes:
        raise NotImplementedError


class _HttpFile(_RemoteFile):
    """A file at an http(s) URL that is read with range requests."""

    def __init__(self, url: str, *, public: bool) -> None:
        self._url, self._public = url, public
        deadline = fetch_deadline()
        self._length = _fetched(lambda: file_size(url, deadline, public=public), deadline)

    def _read(self, position: int, count: int) -> bytes:
        return read_range(self._url, position, count, public=self._public)


class _FsspecFile(_RemoteFile):
    """A file that fsspec opens. Opening it and each read end after `web.FETCH_S`, as those of `_HttpFile` do."""

    def __init__(self, url: str) -> None:
        self._file: BinaryIO | None = None

        def opened() -> tuple[BinaryIO, int]:
            system, path = _file_system(url)
            file = system.open(path, "rb")
            return file, file.seek(0, os.SEEK_END)

        self._file, self._length = _in_time(opened)

    def _read(self, position: int, count: int) -> bytes:
        if (file := self._file) is None:
            raise ValueError("a closed file is read")

        def read() -> bytes:
            file.seek(position)
            return file.read(count)

        return _in_time(read)

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            _in_time(file.close)
        super().close()


def _in_time(call: Callable[[], Result]) -> Result:
    """Return the result of a call of fsspec; raises `OSError` only, also when the time for a fetch has passed."""
    deadline = fetch_deadline()
    try:
        with as_os_errors():
            return deadline.call(call)
    except TimeoutError as error:
        if not deadline.has_passed:
            raise
        raise FetchError(str(error), ReadFailure.FAILED) from error


def last_part(location: str) -> str:
    """Return the last component of a path or URL.

    >>> last_part("s3://bucket/photos/")
    'photos'
    """
    return location.rstrip("/" + os.sep).replace(os.sep, "/").rpartition("/")[2]

"""A folder behind an address (`s3://…`, `hf://datasets/…`, `https://…`): whole files, retried, and checked when read.

The files come from elsewhere, so nothing about them is believed: no more is read than was announced, and what
was read counts only with the right SHA-256. fsspec and what it needs for a protocol are imported on first use.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from walloc_cdl.addresses import WEB_SCHEMES, url_scheme
from walloc_cdl.errors import CallError, CdlError, DamagedError, JobError, one_line
from walloc_cdl.fields import REMEDY
from walloc_cdl.retries import Result, is_transient_status, retry

RETRY_DELAYS_S = (0.5, 2.0, 8.0)
"""Waits before the second, third and fourth attempt."""
RETRY_JITTER = 0.5
"""Share by which a wait is made longer at most."""

CHUNK_BYTES = 8 << 20
"""Read at once; the size of a range request where a protocol makes them."""

_FINAL = (PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)
_STREAMING = (*WEB_SCHEMES, "hf")
"""Protocols that give a file as one stream when asked for blocks of size 0; not all servers know ranges."""
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oss", "oci")
"""Protocols without folders, where making one might make a bucket."""


class MissingFileError(CallError):
    """There is no such file behind the address, or none that may be read."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder behind an address that fsspec understands; small and picklable."""

    address: str

    def __str__(self) -> str:
        return self.address

    def read(self, name: str, max_bytes: int) -> bytes:
        """A small file.

        Raises `MissingFileError` where there is none, `DamagedError` for one of more than `max_bytes`, `JobError`
        where it cannot be had after several attempts, `CallError` for an address of an unknown kind.
        """

        def attempt() -> bytes:
            with self._open(name) as file:
                return _read_fully(file, max_bytes + 1)

        data = self._retried(name, attempt)
        if len(data) > max_bytes:
            raise DamagedError(f"{self._place(name)}: more than {max_bytes} bytes, expected at most so many; {REMEDY}")
        return data

    def download(self, name: str, file: BinaryIO, *, num_bytes: int, sha256: str) -> None:
        """Write a file of known size and hash to the beginning of `file`.

        Raises as `read` does, `DamagedError` where, after several attempts, it is another file than expected, and
        at once the `OSError` of a failed write.
        """

        def attempt() -> None:
            with _local():
                file.seek(0)
                file.truncate()
            digest, size = hashlib.sha256(), 0
            with self._open(name) as source:
                while size <= num_bytes and (chunk := source.read(min(CHUNK_BYTES, num_bytes + 1 - size))):
                    digest.update(chunk)
                    size += len(chunk)
                    with _local():
                        file.write(chunk)
            if size != num_bytes:
                found = f"more than {num_bytes}" if size > num_bytes else str(size)
                raise _OtherContentError(f"{found} bytes, expected {num_bytes}")
            if (found := digest.hexdigest()) != sha256:
                raise _OtherContentError(f"SHA-256 is {found[:12]}…, expected {sha256[:12]}…")

        self._retried(name, attempt)

    def upload(self, name: str, path: Path) -> None:
        """Put a local file there, whole, in place of what there may be.

        Raises `JobError` where that cannot be done after several attempts, `CallError` where nothing can be written,
        and at once the `OSError` of a local file that cannot be opened.
        """

        def attempt() -> None:
            with _local():
                path.open("rb").close()
            filesystem, root = _filesystem(self.address)
            target = f"{root.rstrip('/')}/{name}"
            try:
                if url_scheme(self.address) not in _OBJECT_STORES:
                    filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
                filesystem.put_file(str(path), target)
            except NotImplementedError as error:
                raise CallError(f"{self.address}: nothing can be written there; give a folder, or s3:// …") from error

        self._retried(name, attempt)

    def names(self) -> set[str]:
        """Paths of all files there, those in sub folders included; none where there is no such folder."""

        def attempt() -> set[str]:
            filesystem, root = _filesystem(self.address)
            filesystem.invalidate_cache()  # of listings, which others may have changed
            return {path.removeprefix(root.rstrip("/")).lstrip("/") for path in filesystem.find(root)}

        try:
            return self._retried("", attempt)
        except MissingFileError:
            return set()

    def remove(self, name: str) -> None:
        """Remove one file; nothing where there is none."""

        def attempt() -> None:
            filesystem, root = _filesystem(self.address)
            filesystem.rm_file(f"{root.rstrip('/')}/{name}")

        with contextlib.suppress(MissingFileError):
            self._retried(name, attempt)

    def _open(self, name: str) -> BinaryIO:
        filesystem, root = _filesystem(self.address)
        block_size = 0 if url_scheme(self.address) in _STREAMING else CHUNK_BYTES
        return filesystem.open(f"{root.rstrip('/')}/{name}", "rb", block_size=block_size)

    def _place(self, name: str) -> str:
        return f"{self.address.rstrip('/')}/{name}"

    def _retried(self, name: str, attempt: Callable[[], Result]) -> Result:
        """What `attempt` returns; each protocol has errors of its own, so all but the final ones are tried again."""
        place = self._place(name)
        try:
            return retry(attempt, RETRY_DELAYS_S, is_transient=_is_transient, jitter=RETRY_JITTER)
        except CdlError:
            raise
        except _LocalFileError as local:
            raise local.error from None
        except Exception as raised:
            error = _trouble(raised)
            if isinstance(error, FileNotFoundError):
                raise MissingFileError(
                    f"{place} does not exist, or may not be seen; check the address, or log in where it is kept"
                ) from raised
            if isinstance(error, _OtherContentError):
                raise DamagedError(f"{place}: {error}; ask its owner to upload it again") from error
            reason = one_line(error, with_class=True)
            raise JobError(
                f"{place} cannot be reached ({reason}); check network and credentials, then run the same again"
            ) from error


class _OtherContentError(Exception):
    """What came is not what was announced: a cut transfer, or another file."""


class _LocalFileError(Exception):
    """What went wrong on this machine, so that no further attempt would help."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def _local() -> Iterator[None]:
    """Tell errors of local files from those of the network, which are errors of the system, too."""
    try:
        yield
    except OSError as error:
        raise _LocalFileError(error) from error


def _filesystem(address: str) -> tuple[Any, str]:
    """fsspec's file system for an address, and the path in it.

    Looked up each time: fsspec keeps its instances itself, one for each process, which a fork must not share.
    """
    import fsspec

    protocol = url_scheme(address)
    try:
        return fsspec.core.url_to_fs(address, **_options(protocol))
    except ImportError as error:
        raise CallError(f"{address}: {protocol}:// needs a further package ({error}); install it") from error
    except ValueError as error:
        reason = one_line(error, with_class=True)
        raise CallError(
            f"{address}: {reason}; give a folder, or an address as hf://datasets/OWNER/NAME, s3:// or https://"
        ) from error


def _options(protocol: str) -> dict[str, Any]:
    """Settings of a file system: without them a download over HTTP would end after five minutes, however it goes."""
    if protocol not in WEB_SCHEMES:
        return {}
    import aiohttp

    return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)}}


def _read_fully(file: BinaryIO, max_bytes: int) -> bytes:
    """Up to `max_bytes`; some streams give less at once than they are asked for."""
    chunks, size = [], 0
    while size < max_bytes and (chunk := file.read(min(CHUNK_BYTES, max_bytes - size))):
        chunks.append(chunk)
        size += len(chunk)
    return b"".join(chunks)


def _trouble(error: Exception) -> Exception:
    """The error itself, or what it hides: fsspec calls a file missing over HTTP when a server did not answer, too."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    of_network = isinstance(cause, (OSError, asyncio.TimeoutError)) or type(cause).__module__.startswith("aiohttp")
    is_absence = isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) in (404, 410)
    return cause if of_network and not is_absence else error


def _is_transient(raised: Exception) -> bool:
    if isinstance(raised, (CdlError, _LocalFileError)):
        return False
    error = _trouble(raised)
    status = getattr(error, "status", None)  # of aiohttp's errors
    refused = isinstance(status, int) and status >= 400 and not is_transient_status(status)
    return not refused and not isinstance(error, (FileNotFoundError, *_FINAL))

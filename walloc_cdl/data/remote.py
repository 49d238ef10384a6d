"""A folder at an address (`s3://…`, `hf://datasets/…`, `https://…`), whose files are transferred whole, with retries.

The files are untrusted: no more bytes are read than the manifest announces, and content is accepted only with
the right SHA-256. Each transfer ends, however slow the server is. fsspec and the packages that it needs for a protocol
are imported on first use.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from walloc_cdl import retries
from walloc_cdl.addresses import WEB_SCHEMES, url_scheme
from walloc_cdl.errors import CallError, CdlError, DamagedError, JobError, one_line
from walloc_cdl.fields import REMEDY
from walloc_cdl.retries import Deadline, Result, is_transient_status, retry

RETRY_DELAYS_S = (0.5, 2.0, 8.0)
"""Delays before the second, third and fourth attempt."""
RETRY_JITTER = 0.5
"""Largest fraction of a delay that is added to it at random."""

CHUNK_BYTES = 8 << 20
"""Size of a read, and of a range request for protocols that use them."""

_PERMANENT_ERRORS = (PermissionError, IsADirectoryError, NotADirectoryError, NotImplementedError)
_STREAMING = (*WEB_SCHEMES, "hf")
"""Protocols that read a file as one stream if the block size is 0; not all servers support ranges."""
_OBJECT_STORES = ("s3", "s3a", "gs", "gcs", "az", "abfs", "adl", "oss", "oci")
"""Protocols without folders, where `makedirs` might create a bucket."""


class MissingFileError(CallError):
    """The address has no such file, or none that may be read."""


@dataclass(frozen=True)
class RemoteFolder:
    """A folder at an address that fsspec supports; small and picklable."""

    address: str

    def __str__(self) -> str:
        return self.address

    def read(self, name: str, max_bytes: int) -> bytes:
        """Read a small file.

        Raises `MissingFileError` if it does not exist, `DamagedError` if it has more than `max_bytes`, `JobError`
        if it cannot be read after several attempts, `CallError` for an address of an unknown kind.
        """
        deadline = Deadline(retries.REMOTE_S)

        def attempt() -> bytes:
            return b"".join(self._chunks(name, max_bytes + 1, deadline))

        data = self._with_retries(name, attempt, deadline)
        if len(data) > max_bytes:
            raise DamagedError(f"{self._url(name)}: more than {max_bytes} bytes, expected at most as many; {REMEDY}")
        return data

    def download(self, name: str, file: BinaryIO, *, num_bytes: int, sha256: str) -> None:
        """Download a file of known size and hash to the beginning of `file`.

        Raises the errors of `read`, `DamagedError` if, after several attempts, the content is not the expected one, and
        immediately the `OSError` of a failed write.
        """
        deadline = Deadline(retries.transfer_s(CHUNK_BYTES))

        def attempt() -> None:
            with _local_errors():
                file.seek(0)
                file.truncate()
            digest, size = hashlib.sha256(), 0
            for chunk in self._chunks(name, num_bytes + 1, deadline):
                digest.update(chunk)
                size += len(chunk)
                with _local_errors():
                    file.write(chunk)
            if size != num_bytes:
                found = f"more than {num_bytes}" if size > num_bytes else str(size)
                raise _ContentMismatchError(f"{found} bytes, expected {num_bytes}")
            if (found := digest.hexdigest()) != sha256:
                raise _ContentMismatchError(f"SHA-256 is {found[:12]}…, expected {sha256[:12]}…")

        self._with_retries(name, attempt, deadline)

    def upload(self, name: str, path: Path) -> None:
        """Upload a local file, replacing the one of that name.

        Raises `JobError` if it cannot be uploaded after several attempts, `CallError` if the address is read-only,
        and immediately the `OSError` of a local file that cannot be opened.
        """
        deadline = Deadline(retries.transfer_s(path.stat().st_size if path.exists() else 0))

        def put() -> None:
            filesystem, root = _filesystem(self.address)
            target = f"{root.rstrip('/')}/{name}"
            try:
                if url_scheme(self.address) not in _OBJECT_STORES:
                    filesystem.makedirs(target.rpartition("/")[0], exist_ok=True)
                filesystem.put_file(str(path), target)
            except NotImplementedError as error:
                raise CallError(f"{self.address} is read-only; give a folder, or an address such as s3://…") from error

        def attempt() -> None:
            with _local_errors():
                path.open("rb").close()
            deadline.call(put)

        self._with_retries(name, attempt, deadline)

    def names(self) -> set[str]:
        """Returns the paths of all files, including those in subfolders; empty if the folder does not exist."""
        deadline = Deadline(retries.LISTING_S)

        def find() -> set[str]:
            filesystem, root = _filesystem(self.address)
            filesystem.invalidate_cache()  # another process may have changed the folder since it was listed
            return {path.removeprefix(root.rstrip("/")).lstrip("/") for path in filesystem.find(root)}

        try:
            return self._with_retries("", lambda: deadline.call(find), deadline)
        except MissingFileError:
            return set()

    def remove(self, name: str) -> None:
        """Remove one file, if it exists."""
        deadline = Deadline(retries.REMOTE_S)

        def remove() -> None:
            filesystem, root = _filesystem(self.address)
            filesystem.rm_file(f"{root.rstrip('/')}/{name}")

        with contextlib.suppress(MissingFileError):
            self._with_retries(name, lambda: deadline.call(remove), deadline)

    def _chunks(self, name: str, max_bytes: int, deadline: Deadline) -> Iterator[bytes]:
        """Yield the content of a file, at most `max_bytes`, in chunks, each of which allows for the time of another."""
        source = deadline.call(lambda: self._open(name))
        try:
            left = max_bytes
            while left and (chunk := deadline.call(partial(source.read, min(CHUNK_BYTES, left)))):
                left -= len(chunk)
                deadline.allow_for(len(chunk))
                yield chunk
        finally:
            with contextlib.suppress(TimeoutError):
                deadline.call(source.close)

    def _open(self, name: str) -> BinaryIO:
        filesystem, root = _filesystem(self.address)
        block_size = 0 if url_scheme(self.address) in _STREAMING else CHUNK_BYTES
        return filesystem.open(f"{root.rstrip('/')}/{name}", "rb", block_size=block_size)

    def _url(self, name: str) -> str:
        return f"{self.address.rstrip('/')}/{name}"

    def _with_retries(self, name: str, attempt: Callable[[], Result], deadline: Deadline) -> Result:
        """Returns the result of `attempt`; all but permanent errors are retried, since each protocol has its own."""
        url = self._url(name)
        try:
            return retry(
                attempt,
                RETRY_DELAYS_S,
                is_transient=lambda error: _is_transient(error) and not deadline.has_passed,
                jitter=RETRY_JITTER,
            )
        except CdlError:
            raise
        except _LocalFileError as local:
            raise local.error from None
        except Exception as raised:
            error = _root_cause(raised)
            if isinstance(error, FileNotFoundError):
                raise MissingFileError(
                    f"{url} does not exist, or is not visible to you; check the address, or log in to the service"
                ) from raised
            if isinstance(error, _ContentMismatchError):
                raise DamagedError(f"{url}: {error}; ask its owner to upload it again") from error
            reason = one_line(error, with_class=True)
            raise JobError(
                f"{url} cannot be reached ({reason}); check network and credentials, then run the same command again"
            ) from error


class _ContentMismatchError(Exception):
    """The received content is not the announced one: the transfer was cut short, or it is another file."""


class _LocalFileError(Exception):
    """An error of the local file, which another attempt would not avoid."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


@contextlib.contextmanager
def _local_errors() -> Iterator[None]:
    """Distinguish errors of local files from those of the network, which are also `OSError`s."""
    try:
        yield
    except OSError as error:
        raise _LocalFileError(error) from error


def _filesystem(address: str) -> tuple[Any, str]:
    """Returns fsspec's file system for an address, and the path in it.

    It is looked up for each call: fsspec caches its instances for each process, and a forked process must not share
    them.
    """
    import fsspec

    protocol = url_scheme(address)
    try:
        return fsspec.core.url_to_fs(address, **_options(protocol))
    except ImportError as error:
        raise CallError(f"{address}: {protocol}:// needs another package ({error}); install it") from error
    except ValueError as error:
        reason = one_line(error, with_class=True)
        raise CallError(
            f"{address}: {reason}; give a folder, or an address (hf://datasets/OWNER/NAME, s3://… or https://…)"
        ) from error


def _options(protocol: str) -> dict[str, Any]:
    """Returns the settings of a file system: by default, aiohttp ends every download after five minutes."""
    if protocol not in WEB_SCHEMES:
        return {}
    import aiohttp

    return {"client_kwargs": {"timeout": aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)}}


def _root_cause(error: Exception) -> Exception:
    """Returns the error or the cause that it hides: over HTTP, fsspec reports files as missing if the server failed."""
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or not isinstance(cause, Exception):
        return error
    of_network = isinstance(cause, (OSError, asyncio.TimeoutError)) or type(cause).__module__.startswith("aiohttp")
    is_absence = isinstance(cause, FileNotFoundError) or getattr(cause, "status", None) in (404, 410)
    return cause if of_network and not is_absence else error


def _is_transient(raised: Exception) -> bool:
    if isinstance(raised, (CdlError, _LocalFileError)):
        return False
    error = _root_cause(raised)
    status = getattr(error, "status", None)  # an attribute of aiohttp's errors
    is_rejected = isinstance(status, int) and status >= 400 and not is_transient_status(status)
    return not is_rejected and not isinstance(error, (FileNotFoundError, *_PERMANENT_ERRORS))

"""Requests to http(s) servers for bytes of a file, within a total time limit and a size limit.

urllib limits each wait for a server, but not a whole request, so that a server which sends a byte now and then would
hold a worker for years. A `Deadline` limits each wait to the time that is left. urllib also follows redirects to ftp,
reads the whole body of a redirect, and fails with exceptions of many kinds for malformed URLs; here each of these is a
`FetchError`.

urllib3, requests and httpx have no limit for a whole request either. aiohttp has one, but needs an event loop in every
worker.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
import string
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import cache, partial
from typing import IO, Any
from urllib.parse import quote, urljoin, urlsplit

from datasets_prep.samples.stored import ReadFailure
from walloc_cdl.addresses import WEB_SCHEMES, ascii_url, is_public
from walloc_cdl.retries import Deadline

WAIT_S = 15.0
"""Time limit for connecting to an address, and for each wait for a server."""

FETCH_S = 60.0
"""Time limit for a whole fetch with redirects and all attempts. A worker's time limit for a sample is longer."""

MAX_TOTAL_BYTES = 2**50
"""Limit for the size that a server gives for a file that is read in ranges."""

_PIECE_BYTES = 2**18
_NUMBER = re.compile(r"[0-9]{1,18}")


class FetchError(OSError):
    """A file at a URL cannot be fetched; the message is short and does not contain the URL."""

    def __init__(self, message: str, failure: ReadFailure | None = None) -> None:
        """`failure`: None if the URL itself is wrong, or the file was reached, but cannot be used."""
        super().__init__(message)
        self.failure = failure


def fetch_deadline() -> Deadline:
    """Return the end of the time for a fetch that begins now."""
    return Deadline(FETCH_S)


def _wait_s(deadline: Deadline) -> float:
    """Return the time limit for the next wait; raises `TimeoutError` if no time is left."""
    return min(deadline.left_s(), WAIT_S)


def fetch_range(
    url: str, offset: int, num_bytes: int | None, limit: int, deadline: Deadline, *, public: bool = False
) -> bytes:
    """Return bytes of a file at an http(s) URL from `offset` on: `num_bytes` of them, or all; see `read_range`.

    Returns fewer bytes than asked for only at the end of the file. `public`: see `FileSlice.public`. Raises
    `FetchError`, and what urllib raises for an attempt that failed.
    """
    if num_bytes == 0:  # such as an empty member of a tar, which no range of bytes can express
        return b""
    last = "" if num_bytes is None else offset + num_bytes - 1
    headers = {"Range": f"bytes={offset}-{last}"} if offset or num_bytes is not None else {}
    with _opened(url, headers, deadline, public=public) as response:
        if headers and response.status != http.client.PARTIAL_CONTENT:
            raise FetchError("its server sends no ranges of bytes")
        sent = response.headers.get("Content-Range")
        if headers and sent is not None and not sent.startswith(f"bytes {offset}-"):
            raise FetchError("its server sent another range of bytes")
        announced = _number(response.headers.get("Content-Length"))
        if num_bytes is None and announced is not None and announced > limit:
            raise too_large(limit)
        data = _read(response, limit if num_bytes is None else num_bytes, is_whole=num_bytes is None)
        if announced is not None and len(data) < min(announced, limit):
            raise http.client.IncompleteRead(data)
        return data


def file_size(url: str, deadline: Deadline, *, public: bool = False) -> int:
    """Return the size of a file at an http(s) URL whose server sends ranges of bytes; raises as `fetch_range` does."""
    with _opened(url, {"Range": "bytes=0-0"}, deadline, public=public) as response:
        total = _number((response.headers.get("Content-Range") or "").rpartition("/")[2])
    if total is None:
        raise FetchError("its server sends no ranges of bytes")
    if total > MAX_TOTAL_BYTES:
        raise FetchError(f"a file of {total:,} bytes by its server, more than {MAX_TOTAL_BYTES:,}")
    return total


def too_large(limit: int) -> FetchError:
    """Return the error for a file at a URL that has more than `limit` bytes."""
    return FetchError(f"more than {limit:,} bytes at its URL")


class _Request(urllib.request.Request):
    """A request that ends at a deadline, with the requests to which it is redirected."""

    def __init__(self, url: str, headers: dict[str, str], deadline: Deadline) -> None:
        super().__init__(url, headers={"User-Agent": "walloc-cdl", **headers})
        self.deadline = deadline


def _opened(url: str, headers: dict[str, str], deadline: Deadline, *, public: bool) -> http.client.HTTPResponse:
    try:
        sent = ascii_url(url)
    except ValueError as error:
        raise FetchError("its URL is malformed") from error
    try:
        return _opener(public).open(_Request(sent, headers, deadline), timeout=WAIT_S)
    except urllib.error.HTTPError as error:
        error.close()
        raise
    except urllib.error.URLError as error:
        if isinstance(error.reason, FetchError):
            raise error.reason from error
        raise


@cache
def _opener(public: bool) -> urllib.request.OpenerDirector:
    opener = urllib.request.OpenerDirector()
    for handler in (
        *(() if public else (urllib.request.ProxyHandler(),)),  # a proxy would look names up by itself
        _Connector(public),
        _Redirects(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


class _Connector(urllib.request.AbstractHTTPHandler):
    """Sends requests over connections whose waits end at the requests' deadlines."""

    def __init__(self, public: bool) -> None:
        super().__init__()
        self._public = public

    def http_open(self, request: _Request) -> http.client.HTTPResponse:
        return self.do_open(partial(self._connection, http.client.HTTPConnection, request.deadline), request)

    def https_open(self, request: _Request) -> http.client.HTTPResponse:
        secure = partial(http.client.HTTPSConnection, context=_tls_context())
        return self.do_open(partial(self._connection, secure, request.deadline), request)

    http_request = https_request = urllib.request.AbstractHTTPHandler.do_request_

    def _connection(
        self, kind: Callable[..., http.client.HTTPConnection], deadline: Deadline, host: str, **options: Any
    ) -> http.client.HTTPConnection:
        connection = kind(host, **options)
        connection._create_connection = partial(_connected, deadline=deadline, public=self._public)
        timed: Any = partial(_TimedResponse, deadline=deadline)  # the declared type is a class
        connection.response_class = timed
        return connection


def _connected(address: tuple[str, int], *_: object, deadline: Deadline, public: bool) -> socket.socket:
    """Connect to the first address of a host that answers, as `socket.create_connection` does."""
    failure: OSError = OSError("the host has no address")
    for family, kind, protocol, _name, place in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        if public and not is_public(str(place[0])):
            failure = FetchError("at a private address, which public=1 refuses")
            continue
        wait_s = _wait_s(deadline)
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(wait_s)
            connection.connect(place)
            return connection
        except OSError as error:
            connection.close()
            failure = error
    raise failure


class _TimedResponse(http.client.HTTPResponse):
    """A response that is read from a socket until a deadline."""

    def __init__(self, connection: socket.socket, *arguments: Any, deadline: Deadline, **options: Any) -> None:
        super().__init__(_TimedSocket(connection, deadline), *arguments, **options)


class _TimedSocket:
    """The part of a socket's interface that `HTTPResponse` uses."""

    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection, self._deadline = connection, deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_TimedReader(self._connection, self._deadline))


class _TimedReader(io.RawIOBase):
    def __init__(self, connection: socket.socket, deadline: Deadline) -> None:
        self._connection, self._deadline = connection, deadline
        self._file = connection.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._connection.settimeout(_wait_s(self._deadline))
        return self._file.readinto(buffer)

    def close(self) -> None:
        self._file.close()
        super().close()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to well-formed http(s) URLs, without reading the body of a redirect."""

    def http_error_302(self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any) -> Any:
        location = headers.get("Location") or headers.get("URI")
        if location is not None:
            try:
                # http.client decodes headers as Latin-1
                target = urljoin(req.full_url, quote(location, string.punctuation, "iso-8859-1"))
                if urlsplit(target).scheme not in WEB_SCHEMES:
                    raise FetchError("redirected to a URL that is neither http nor https")
                target = ascii_url(target)
            except ValueError as error:
                raise FetchError("redirected to a malformed URL") from error
            for name in ("Location", "URI"):
                del headers[name]
            headers["Location"] = target
        fp.close()
        return super().http_error_302(req, fp, code, msg, headers)

    def redirect_request(self, req: Any, fp: IO[bytes], code: int, msg: str, headers: Any, newurl: str) -> Any:
        request = super().redirect_request(req, fp, code, msg, headers, newurl)
        return None if request is None else _Request(request.full_url, dict(request.header_items()), req.deadline)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


@cache
def _tls_context() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def _read(response: http.client.HTTPResponse, limit: int, *, is_whole: bool) -> bytes:
    """Read at most `limit` bytes; raises `FetchError` if `is_whole` and there are more.

    Reading in pieces keeps memory at what was sent: one call would allocate all that a server announces.
    """
    data = bytearray()
    while len(data) < limit + is_whole:
        piece = response.read1(min(_PIECE_BYTES, limit + is_whole - len(data)))
        if not piece:
            break
        data += piece
    if len(data) > limit:
        raise too_large(limit)
    return bytes(data)


def _number(text: str | None) -> int | None:
    """Parse a number in a header; None for anything else, such as a number of hundreds of digits."""
    return int(text) if text is not None and _NUMBER.fullmatch(text) else None

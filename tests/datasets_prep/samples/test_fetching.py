"""Files at URLs: malformed URLs, slow and endless servers, redirects, private addresses. Each ends soon, as itself."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from contextlib import suppress
from urllib.parse import unquote

import pytest

from datasets_prep import PrepareConfig, open_source, prepare
from datasets_prep.samples import locations, web
from datasets_prep.samples.content import read_stored
from datasets_prep.samples.locations import open_binary, read_range
from datasets_prep.samples.stored import BadSignalError, FileSlice, ReadFailure
from datasets_prep.samples.web import FetchError
from tests.support.pictures import encoded, picture
from tests.support.reading_sources import assert_is_picture
from tests.support.web_servers import Request, serving
from walloc_cdl.addresses import ascii_url, is_public

MALFORMED = [
    "http://[x/",
    "http://a..b/x.png",
    "http://[::1/x.png",
    "http://h:port/x.png",
    "http://h:99999/x.png",
    "http:///x.png",
    "http://",
    "http://user:password@h/x.png",
    "http://h/a\nb.png",
    "http://h\x00/a.png",
    "http://a b/x.png",
    f"http://{'a' * 64}.example/x.png",
    "https://\u2100.example/x.png",
]
HANG_S = 5.0
"""How long a server's handler waits at most; a test that waits for it fails."""


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    monkeypatch.setattr(locations, "RETRY_PAUSES_S", (0.0,))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    yield
    web._opener.cache_clear()


def failure(url: str, **options) -> FetchError:
    """How fetching fails; `options` are those of `read_range` and `FileSlice`."""
    with pytest.raises(FetchError) as caught:
        read_range(url, **options)
    with pytest.raises(BadSignalError, match=r"^cannot be fetched: "):
        read_stored(FileSlice(url, **options))
    return caught.value


@pytest.mark.parametrize("url", MALFORMED)
def test_a_malformed_url_is_refused_as_the_samples_own(url):
    error = failure(url)
    assert str(error) == "its URL is malformed"
    assert error.failure is None
    with pytest.raises(OSError, match="malformed"):
        open_binary(url)


@pytest.mark.parametrize("url", ["hf://x", "hf://datasets/a"])
def test_a_url_that_its_file_system_does_not_understand(url):
    error = failure(url)
    assert (str(error), error.failure) == ("its URL is malformed", None)


@pytest.mark.parametrize("url", ["memory://[x/", "memory://"])
def test_a_url_of_no_file(url):
    assert failure(url).failure is ReadFailure.REFUSED


@pytest.mark.parametrize("path", ["straße 1.png", "%D7%A9.png", "a b.png?q=ü", "x.png#part", "☃/100%.png"])
def test_paths_that_are_not_ascii_are_quoted(path):
    seen = []
    with serving(lambda request: (seen.append(request.path), request.answer(200, b"1"))) as url:
        assert read_range(f"{url}/{path}") == b"1"
    assert [unquote(each) for each in seen] == ["/" + unquote(path.partition("#")[0])]


def test_urls_as_they_are_sent():
    assert ascii_url("HTTPS://Example.ORG:8080/a?b=%20#c") == "https://example.org:8080/a?b=%20"
    assert ascii_url("http://[::1]:80/a") == "http://[::1]:80/a"
    assert ascii_url("http://bücher.example") == "http://xn--bcher-kva.example"


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("http://[x/", "redirected to a malformed URL"),
        ("http://a..b/", "redirected to a malformed URL"),
        ("http://h:99999/", "redirected to a malformed URL"),
        ("ftp://127.0.0.1/a.png", "redirected to a URL that is neither http nor https"),
        ("file:///etc/passwd", "redirected to a URL that is neither http nor https"),
        ("data:,x", "redirected to a URL that is neither http nor https"),
    ],
)
def test_redirects_that_are_refused(location, reason):
    with serving(lambda request: request.answer(302, Location=location)) as url:
        assert str(failure(f"{url}/a.png")) == reason


@pytest.mark.parametrize("status", [301, 302, 303, 307])
def test_redirects_that_are_followed(status):
    def answer(request: Request) -> None:
        if request.path == "/old":
            request.answer(status, Location="gr\u00fc\u00dfe.png")  # one byte for each letter, as http.server writes it
        else:
            request.answer(200, request.path.encode())

    with serving(answer) as url:
        assert read_range(f"{url}/old") == b"/gr%FC%DFe.png"
    with serving(lambda request: request.answer(302, Location=request.path)) as url:
        assert "HTTP status 302" in str(failure(f"{url}/a.png"))


def test_the_endless_body_of_a_redirect_is_not_read():
    def answer(request: Request) -> None:
        if request.path == "/a":
            request.send_response(302)
            request.send_header("Location", "/b")
            request.end_headers()
            with suppress(OSError):
                for _ in range(200):
                    request.wfile.write(bytes(2**20))
        else:
            request.answer(200, b"1")

    begin = time.monotonic()
    with serving(answer) as url:
        assert read_range(f"{url}/a") == b"1"
    assert time.monotonic() - begin < HANG_S


def test_private_addresses(monkeypatch):
    assert all(map(is_public, ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::8.8.8.8")))
    ipv4 = "127.0.0.1 10.1.2.3 172.16.0.1 192.168.1.1 169.254.169.254 0.0.0.0 100.64.0.1 224.0.0.1"
    ipv6 = "::1 :: fe80::1%eth0 fd00::1 ::ffff:10.0.0.1 64:ff9b::10.0.0.1 2002:0a00:0001::1"
    assert not any(map(is_public, f"{ipv4} {ipv6}".split()))
    with serving(lambda request: request.answer(200, b"1")) as url:
        assert read_range(url) == b"1"
        error = failure(url, public=True)
        assert str(error) == "at a private address, which public=1 refuses"
        assert error.failure is None
        with pytest.raises(FetchError, match="private"):
            open_binary(url, public=True)


def test_redirects_to_private_addresses(monkeypatch):
    monkeypatch.setattr(web, "is_public", lambda address: address == "127.0.0.1")
    with (
        serving(lambda request: request.answer(200, b"inside"), "127.0.0.2") as inside,
        serving(lambda request: request.answer(302, Location=inside)) as url,
    ):
        assert read_range(url) == b"inside"
        assert "private address" in str(failure(url, public=True))


def test_a_proxy_is_not_asked_for_public_addresses(monkeypatch):
    with serving(lambda request: request.answer(200, b"from the proxy")) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        monkeypatch.delenv("no_proxy", raising=False)
        web._opener.cache_clear()  # which keeps the proxies of the environment
        assert read_range("http://203.0.113.1/a") == b"from the proxy"
        assert "private address" in str(failure("http://203.0.113.1/a", public=True))


def dripping(request: Request, head: bytes, piece: bytes) -> None:
    with suppress(OSError):
        request.wfile.write(head)
        end = time.monotonic() + HANG_S
        while time.monotonic() < end:
            request.wfile.write(piece)
            request.wfile.flush()
            time.sleep(0.02)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"", b"H"),
        (b"HTTP/1.1 200 OK\r\n", b"X: 1\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: 1\r\n"),
    ],
    ids=["status", "headers", "header", "interim", "length", "until the end", "chunks", "trailers"],
)
@pytest.mark.parametrize("options", [{}, {"offset": 5, "num_bytes": 10**5}], ids=["whole", "range"])
def test_a_server_that_sends_a_byte_now_and_then(monkeypatch, head, piece, options):
    monkeypatch.setattr(web, "FETCH_S", 0.2)
    head = head.replace(b"200 OK", b"206 OK") if options else head
    begin = time.monotonic()
    error = pytest.raises(FetchError, match=r"^took longer than 0.2 s$")
    with serving(lambda request: dripping(request, head, piece)) as url, error:
        read_range(url, **options)
    assert time.monotonic() - begin < 2


def test_a_server_that_accepts_and_stays_silent(monkeypatch):
    monkeypatch.setattr(web, "FETCH_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:
        for scheme in ("http", "https"):  # TLS waits in its handshake
            with pytest.raises(FetchError, match=r"^took longer than 0.2 s$"):
                read_range(f"{scheme}://127.0.0.1:{server.getsockname()[1]}/a")


def test_redirects_and_attempts_share_the_time(monkeypatch):
    monkeypatch.setattr(web, "FETCH_S", 0.3)
    monkeypatch.setattr(locations, "RETRY_PAUSES_S", (0.0,) * 50)

    def answer(request: Request) -> None:
        time.sleep(0.1)
        request.answer(302, Location=f"/{time.monotonic()}")

    with serving(answer) as url, pytest.raises(FetchError, match="took longer"):
        read_range(url)
    busy = serving(lambda request: (time.sleep(0.1), request.answer(503)))
    with busy as url, pytest.raises(FetchError, match="took longer"):
        read_range(url)


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "1000000000000000"}, {"Transfer-Encoding": "chunked"}])
def test_an_endless_file_is_read_up_to_the_limit(headers):
    def answer(request: Request) -> None:
        piece = b"1000\r\n" + bytes(0x1000) + b"\r\n" if "Transfer-Encoding" in headers else bytes(0x1000)
        request.protocol_version = "HTTP/1.1"
        request.send_response(200)
        for name, value in headers.items():
            request.send_header(name, value)
        request.end_headers()
        with suppress(OSError):
            for _ in range(10_000):
                request.wfile.write(piece)

    with serving(answer) as url, pytest.raises(FetchError, match=r"^more than 1,000,000 bytes at its URL$"):
        read_range(url, limit=10**6)


@pytest.mark.parametrize("total", ["*", "", "9" * 5000, "-1", "\xb2", str(2**60)])
def test_sizes_that_no_file_has(total):
    with serving(lambda request: request.answer(206, b"1", Content_Range=f"bytes 0-0/{total}")) as url:
        with pytest.raises(FetchError, match=r"sends no ranges of bytes|more than 1,125,899,906,842,624"):
            open_binary(url)
        with serving(lambda request: request.answer(200, b"1", Content_Length="\xb2")) as other:
            assert read_range(other) in (b"", b"1")


def test_ranges_of_local_files(tmp_path):
    (tmp_path / "a").write_bytes(b"0123")
    assert [read_range(str(tmp_path / "a"), *range_) for range_ in ((), (1,), (1, 2), (2, 2**62), (9, 5))] == [
        b"0123",
        b"123",
        b"12",
        b"23",
        b"",
    ]


def test_another_range_than_asked_for():
    with serving(lambda request: request.answer(206, b"123", Content_Range="bytes 0-2/9")) as url:
        assert "sent another range" in str(failure(url, offset=4, num_bytes=3))


def test_failures_of_servers_and_network_are_told_from_those_of_a_url():
    with serving(lambda request: request.answer(int(request.path[1:]))) as url:
        for status in (429, 500, 503):
            assert failure(f"{url}/{status}").failure is ReadFailure.FAILED
        for status in (400, 401, 404, 410, 501):
            assert failure(f"{url}/{status}").failure is ReadFailure.REFUSED
    assert failure(url).failure is ReadFailure.FAILED  # a refused connection
    with serving(lambda request: request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1")) as url:
        assert failure(url).failure is ReadFailure.FAILED
    assert failure("memory://nowhere/a.png").failure is ReadFailure.REFUSED


def test_a_job_accounts_for_every_odd_url(tmp_path, rgb_codec, monkeypatch):
    monkeypatch.setattr(web, "FETCH_S", 0.5)
    image = encoded(picture(0))

    def answer(request: Request) -> None:
        if request.path.startswith("/slow"):
            dripping(request, b"HTTP/1.1 200 OK\r\n\r\n", b"x")
        elif request.path.startswith("/redirect"):
            request.answer(302, Location="http://a..b/")
        else:
            request.answer(200, image)

    odd = ["http://[x/", "http://a..b/x.png", "hf://x", "memory://none.png"]
    with serving(answer) as url:
        lines = ["url", f"{url}/grün.png", *odd, f"{url}/redirect", f"{url}/slow"]
        (tmp_path / "list.csv").write_text("\n".join(lines), encoding="utf-8")
        source = open_source(f"csv:{tmp_path}/list.csv")
        assert source.channels == 3
        assert_is_picture(source.read("train", 0), 0)
        manifest = prepare(source, rgb_codec, tmp_path / "out", PrepareConfig(size=32, workers=0))
    assert manifest.splits["train"].num_samples == 1
    assert manifest.ledger["reasons"] == {
        "cannot be fetched: its URL is malformed": 3,
        "cannot be fetched: no such file at its URL": 1,
        "cannot be fetched: redirected to a malformed URL": 1,
        "cannot be fetched: took longer than 0.5 s": 1,
    }


def test_any_number_of_addresses_shares_the_time(monkeypatch):
    monkeypatch.setattr(web, "FETCH_S", 0.2)
    monkeypatch.setattr(web, "WAIT_S", 0.1)
    place = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("203.0.113.1", 80))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: itertools.repeat(place, 10**6))
    monkeypatch.setattr(socket.socket, "connect", lambda self, _: _wait(self.gettimeout()))
    with pytest.raises(FetchError, match="took longer"):
        read_range("http://203.0.113.1/a")


def _wait(limit_s: float) -> None:
    threading.Event().wait(limit_s)
    raise TimeoutError

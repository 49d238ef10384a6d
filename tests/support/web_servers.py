"""http servers of tests, at ports that are free."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Request(http.server.BaseHTTPRequestHandler):
    """A request; what is not answered with its methods is written to `wfile`, as the server's bytes."""

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def range(self) -> tuple[int, int]:
        """First and last byte that are asked for."""
        first, _, last = self.headers["Range"].removeprefix("bytes=").partition("-")
        return int(first), int(last)

    def answer_range(self, body: bytes, total: int) -> None:
        first, last = self.range()
        self.answer(206, body, Content_Range=f"bytes {first}-{last}/{total}")

    def log_message(self, *_: object) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that hang up in the middle are expected."""


@contextmanager
def serving(answer: Callable[[Request], object], host: str = "127.0.0.1") -> Iterator[str]:
    """The address of a server that answers each GET by `answer`."""
    handler = type("Handler", (Request,), {"do_GET": answer})
    with _Server((host, 0), handler) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        try:
            yield f"http://{host}:{server.server_address[1]}"
        finally:
            server.shutdown()

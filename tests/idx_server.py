"""A web server on the loopback device that serves files well or badly, for the tests of downloading."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

CERTIFICATE = Path(__file__).parent / "loopback.pem"
"""A certificate for 127.0.0.1 that signs itself, and its key."""

Answer = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        self.server.asked.append(name)
        content = self.server.files.get(name)
        if content is None:
            self.send_error(404)
        else:
            self.server.answer(self, content)

    def log_message(self, *_: Any) -> None:
        """Say nothing: the tests read `asked`."""

    def start(self, length: int, kind: str = "application/octet-stream", status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(length))
        self.end_headers()


class Server(ThreadingHTTPServer):
    """Serves `files` by name, each through `answer`; `asked` lists the names that were asked for."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, files: dict[str, bytes], answer: Answer) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.answer = files, answer
        self.asked: list[str] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"{'https' if isinstance(self.socket, ssl.SSLSocket) else 'http'}://127.0.0.1:{self.server_port}/"

    def handle_error(self, *_: Any) -> None:
        """Say nothing of clients that hang up: some tests are about just that."""


def well(handler: Handler, content: bytes) -> None:
    handler.start(len(content))
    handler.wfile.write(content)


def other_content(handler: Handler, content: bytes) -> None:
    well(handler, content[:-1] + bytes([content[-1] ^ 1]))


def half(handler: Handler, content: bytes) -> None:
    handler.start(len(content))
    handler.wfile.write(content[: len(content) // 2])


def web_page(handler: Handler, _: bytes) -> None:
    page = b"<!DOCTYPE html><title>Log in to this network</title>"
    handler.start(len(page), "text/html; charset=utf-8")
    handler.wfile.write(page)


def forbidden(handler: Handler, _: bytes) -> None:
    handler.start(0, status=403)


def moved_to(*locations: str) -> Answer:
    """Redirect to each of the addresses in turn, or without one to nowhere."""
    rest = list(locations)

    def answer(handler: Handler, _: bytes) -> None:
        handler.send_response(302)
        if rest:
            handler.send_header("Location", rest.pop(0))
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    return answer


def saying(start: bytes) -> Answer:
    """Answer with these bytes and hang up."""

    def answer(handler: Handler, _: bytes) -> None:
        handler.wfile.write(start)

    return answer


def dripping(start: bytes, more: bytes) -> Answer:
    """Answer with `start`, then with `more` again and again, faster than any time-out."""

    def answer(handler: Handler, _: bytes) -> None:
        handler.wfile.write(start)
        while not handler.server.closing.wait(0.02):
            handler.wfile.write(more)

    return answer


DRIPS = {
    "header": dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
    "status": dripping(b"HTTP/1.1 ", b"2"),
    "100 Continue": dripping(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "size of a chunk": dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;", b"x"),
    "trailer": dripping(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n\x1f\x8b\r\n0\r\nX-Slow: ", b"x"),
    "content": dripping(b"HTTP/1.1 200 OK\r\n\r\n\x1f\x8b", b"x"),
    "text of a redirect": dripping(b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\n\r\n", b"x"),
    "text of an error": dripping(b"HTTP/1.1 500 Oops\r\n\r\n", b"x"),
}
"""Ways to keep a client busy for ever, one byte at a time."""


def moved_in_circles(handler: Handler, _: bytes) -> None:
    handler.send_response(302)
    handler.send_header("Location", handler.path)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def silent(handler: Handler, _: bytes) -> None:
    handler.server.closing.wait()


def stalled(handler: Handler, content: bytes) -> None:
    handler.start(len(content))
    handler.wfile.write(content[:100])
    handler.wfile.flush()
    handler.server.closing.wait()


def trickling(handler: Handler, content: bytes) -> None:
    handler.start(len(content))
    for byte in content:
        handler.wfile.write(bytes([byte]))
        handler.wfile.flush()
        if handler.server.closing.wait(0.02):
            return


def endless(handler: Handler, content: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not handler.server.closing.is_set():
        handler.wfile.write(content)


def slowly(handler: Handler, content: bytes) -> None:
    time.sleep(0.2)
    well(handler, content)


@contextlib.contextmanager
def serving(files: dict[str, bytes], answer: Answer = well, *, tls: bool = False) -> Iterator[Server]:
    server = Server(files, answer)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(CERTIFICATE)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


def unreachable() -> str:
    """An address on the loopback device where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/"

"""Fetching one file from one web address, whatever the server does.

A watchdog thread cuts a connection off when the whole exchange takes too long. A time-out per read is not enough: a
server can drip a header, a chunk's size or `100 Continue` for ever, one byte before each time-out.
"""

from __future__ import annotations

import hashlib
import http.client
import socket
import ssl
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from types import TracebackType
from typing import IO, Any, BinaryIO

from actbench.datasets.idx import MAX_BYTES
from actbench.text import duration, readable

SLOWEST = 10_000
"""Bytes per second: a mirror that sends less on average is abandoned after a time of grace."""
GRACE = 3
"""The time of grace, in time-outs."""
_CHUNK = 64 * 1024
_MAX_REASON = 200


class MirrorError(Exception):
    """Why a mirror did not deliver a file: short and safe to show, even where it quotes the server."""

    def __init__(self, reason: str) -> None:
        text = readable(reason)
        super().__init__(text if len(text) <= _MAX_REASON else text[: _MAX_REASON - 3] + "...")


class Limit:
    """The time that something may take in all, from now on."""

    def __init__(self, seconds: float) -> None:
        self.text = duration(seconds)
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Return the seconds that are left, 0 if none are."""
        return max(self._end - time.monotonic(), 0)


def receive(url: str, out: BinaryIO, timeout: float, limit: Limit, progress: Callable[[int, int | None], None]) -> str:
    """Write what `url` serves to `out`, and return its MD5 in hex.

    The server must send something every `timeout` seconds, SLOWEST bytes per second on average after GRACE time-outs,
    and everything within `limit`. `progress(bytes_done, bytes_total or None)` is called after each chunk. Anything that
    the server or the network does wrong is a MirrorError; an error of `out` is an OSError.
    """
    digest = hashlib.md5(usedforsecurity=False)
    with _Watchdog(timeout, limit) as watchdog:
        opener = urllib.request.build_opener(_Redirects, _Guarding(watchdog))
        with _network(timeout):
            response = opener.open(urllib.request.Request(url, headers={"User-Agent": "actbench"}), timeout=timeout)
        with response:
            total: int | None = response.length
            if total is not None and total > MAX_BYTES:
                raise MirrorError(f"wants to send more than {MAX_BYTES} bytes")
            with _network(timeout):
                chunk = response.read(2)
            if chunk != b"\x1f\x8b":
                page = response.headers.get_content_type() == "text/html" or chunk.startswith(b"<")
                raise MirrorError("sent a web page instead of the file" if page else "sent no gzip file")
            while chunk:
                out.write(chunk)
                digest.update(chunk)
                watchdog.done += len(chunk)
                if watchdog.done > MAX_BYTES:
                    raise MirrorError(f"sent more than {MAX_BYTES} bytes")
                progress(watchdog.done, total)
                with _network(timeout):
                    chunk = response.read1(_CHUNK)
        if total is not None and watchdog.done < total:
            raise MirrorError(f"broke off after {watchdog.done} of {total} bytes")
    return digest.hexdigest()


class _Watchdog:
    """Shuts the guarded connection down when an exchange takes too long; `with` then ends with a MirrorError."""

    def __init__(self, timeout: float, limit: Limit) -> None:
        self.done = 0  # bytes of the file
        self._grace, self._limit = GRACE * timeout, limit
        self._start = time.monotonic()
        self._late = False
        self._socket: socket.socket | None = None
        self._finished = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="download-watchdog", daemon=True)

    def guard(self, connected: socket.socket) -> None:
        """Watch over this connection from now on."""
        self._socket = connected
        if self._late:  # it was too late before there was a connection to cut off
            raise TimeoutError

    def __enter__(self) -> _Watchdog:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._finished.set()
        self._thread.join()
        if self._late and (error is None or isinstance(error, MirrorError)):
            raise MirrorError(self._reason()) from error

    def _left(self) -> float:
        slowest = self._start + self._grace + self.done / SLOWEST
        return min(slowest - time.monotonic(), self._limit.left())

    def _watch(self) -> None:
        while (left := self._left()) > 0:
            if self._finished.wait(left):
                return
        self._late = True
        if self._socket is not None:
            with suppress(OSError):  # it is closed already
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # past TLS, which would wait for an answer

    def _reason(self) -> str:
        if not self._limit.left():
            return f"was not done within the {self._limit.text} that a download may take"
        taken = time.monotonic() - self._start
        return f"sent only {self.done} bytes in {taken:.0f} s; at least {SLOWEST} per second are needed"


class _Connection(http.client.HTTPConnection):
    """A connection that a watchdog guards from its first moment."""

    watchdog: _Watchdog

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "sock" and isinstance(value, socket.socket):
            self.watchdog.guard(value)


class _TlsConnection(_Connection, http.client.HTTPSConnection):
    """The same with TLS."""


class _Guarding(urllib.request.HTTPHandler, urllib.request.HTTPSHandler):
    """Opens connections that `watchdog` guards."""

    def __init__(self, watchdog: _Watchdog) -> None:
        super().__init__()
        self._watchdog = watchdog

    def do_open(self, http_class: Any, req: urllib.request.Request, **arguments: Any) -> http.client.HTTPResponse:
        """Open `req` as the base class does."""
        kind = _TlsConnection if http_class is http.client.HTTPSConnection else _Connection

        def connection(host: str, **options: Any) -> http.client.HTTPConnection:
            made = kind(host, **options)
            made.watchdog = self._watchdog
            return made

        return super().do_open(connection, req, **arguments)


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to web addresses, but never from https to anything weaker."""

    def http_error_302(self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message) -> Any:
        """Follow the redirect, or raise MirrorError."""
        fp.close()  # the text that comes with it is not needed, and may never end
        target = headers.get("location", headers.get("uri", ""))
        try:
            address = urllib.parse.urlsplit(urllib.parse.urljoin(req.full_url, target))
            scheme, _ = address.scheme, address.port  # which must be a number up to 65535
        except ValueError as error:
            raise MirrorError(f"redirects to {target!r}, which is not an address") from error
        if scheme not in {"http", "https"}:
            raise MirrorError(f"redirects to {target!r}, but only http and https are followed")
        if scheme == "http" and urllib.parse.urlsplit(req.full_url).scheme == "https":
            raise MirrorError(f"redirects from https to {target!r}, which anyone on the way could change")
        return super().http_error_302(req, fp, code, msg, headers)  # type: ignore[arg-type]

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


@contextmanager
def _network(timeout: float) -> Iterator[None]:
    """Turn the errors of talking to a server into a MirrorError with a short reason."""
    try:
        yield
    except urllib.error.HTTPError as error:
        error.close()
        meaning = http.client.responses.get(error.code, "")  # not the server's own words, which can be anything
        raise MirrorError(f"HTTP {error.code} {meaning}".rstrip()) from error
    except (
        OSError,
        http.client.HTTPException,
        ValueError,
        OverflowError,
    ) as error:  # the last two: bad addresses, also of proxies
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        if isinstance(cause, TimeoutError):
            raise MirrorError(f"no answer for {timeout:g} s") from error
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise MirrorError(f"its certificate is not trusted ({cause.verify_message})") from error
        raise MirrorError(getattr(cause, "strerror", None) or f"{type(cause).__name__}: {cause}") from error

"""Fetching one file from servers that drip, redirect anywhere and say anything. All are on the loopback device."""

from __future__ import annotations

import gc
import io
import socket
import threading
from collections.abc import Iterator
from typing import Any

import idx_server
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from idx_files import zipped
from idx_server import DRIPS, moved_to, saying, serving

from actbench.datasets import transfer
from actbench.datasets.idx import md5
from actbench.datasets.transfer import Limit, MirrorError

FILE = zipped(b"a file")


def received(url: str, *, timeout: float = 20, limit: float = 60) -> tuple[bytes, str]:
    out = io.BytesIO()
    found = transfer.receive(f"{url}file.gz", out, timeout, Limit(limit), lambda *_: None)
    return out.getvalue(), found


def reason(url: str, *, timeout: float = 20, limit: float = 60) -> str:
    """Why nothing was received."""
    with pytest.raises(MirrorError) as failed:
        received(url, timeout=timeout, limit=limit)
    return str(failed.value)


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every name and every address that is not on the loopback device out of reach."""

    def resolve(host: Any, port: Any, *_: Any, **__: Any) -> list[Any]:
        if host != "127.0.0.1":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the certificate of the test server."""
    monkeypatch.setenv("SSL_CERT_FILE", str(idx_server.CERTIFICATE))


@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_a_file_is_received_with_its_md5(tls: bool) -> None:
    with serving({"file.gz": FILE}, tls=tls) as server:
        assert received(server.url) == (FILE, md5(FILE))


def test_an_untrusted_certificate_is_refused_with_the_cause() -> None:
    with serving({"file.gz": FILE}, tls=True) as server:
        assert reason(server.url) == "its certificate is not trusted (self-signed certificate)"
        assert server.asked == []


@pytest.mark.parametrize("drip", [drip for drip in DRIPS if not drip.startswith("text of")])
def test_a_server_that_drips_for_ever_is_cut_off_at_the_limit(drip: str) -> None:
    with serving({"file.gz": FILE}, DRIPS[drip]) as server:
        assert reason(server.url, limit=0.4) == "was not done within the 1 s that a download may take"
    assert "download-watchdog" not in {thread.name for thread in threading.enumerate()}


def test_the_text_of_a_redirect_or_an_error_is_never_read() -> None:
    with serving({"file.gz": FILE}, DRIPS["text of a redirect"]) as server:
        assert reason(server.url) == "HTTP 404 Not Found"  # of the address that it leads to
        server.answer = DRIPS["text of an error"]
        assert reason(server.url) == "HTTP 500 Internal Server Error"


@pytest.mark.parametrize("drip", ["header", "content"])
def test_a_server_slower_than_the_least_rate_is_cut_off_with_the_rate(
    monkeypatch: pytest.MonkeyPatch, drip: str
) -> None:
    monkeypatch.setattr(transfer, "GRACE", 0.02)
    with serving({"file.gz": FILE}, DRIPS[drip]) as server:
        told = reason(server.url)
    assert told.startswith("sent only ")
    assert told.endswith("at least 10000 per second are needed")


@pytest.mark.usefixtures("trusted")
def test_tls_is_cut_off_too() -> None:
    with serving({"file.gz": FILE}, DRIPS["header"], tls=True) as server:
        assert reason(server.url, limit=0.4) == "was not done within the 1 s that a download may take"


def test_a_proxy_that_drips_is_cut_off_too(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({}) as proxy:
        monkeypatch.setattr(idx_server.Handler, "do_CONNECT", lambda self: DRIPS["header"](self, b""), raising=False)
        monkeypatch.delenv("no_proxy")
        monkeypatch.setenv("https_proxy", proxy.url)
        told = reason("https://mirror.example/", limit=0.4)
    assert told == "was not done within the 1 s that a download may take"


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # the socket that Python leaves open
def test_a_proxy_without_a_usable_address_is_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("no_proxy")
    for proxy in ("http://127.0.0.1:99999/", "socks5://127.0.0.1:1/", "http://[::bad", "nonsense"):
        monkeypatch.setenv("http_proxy", proxy)
        assert reason("http://mirror.example/", limit=5)
    gc.collect()


def test_nothing_is_received_when_the_time_is_over() -> None:
    with serving({"file.gz": FILE}) as server:
        assert reason(server.url, limit=0) == "was not done within the 1 s that a download may take"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("http://[::bad", "redirects to 'http://[::bad', which is not an address"),
        ("//[", "redirects to '//[', which is not an address"),
        ("http://127.0.0.1:99999/", "redirects to 'http://127.0.0.1:99999/', which is not an address"),
        ("http://127.0.0.1:port/", "redirects to 'http://127.0.0.1:port/', which is not an address"),
        ("http:///file.gz", "HTTP 302 Found"),  # the same server, again and again
        ("http://a..b/", "Name or service not known"),
        ("ftp://127.0.0.1/file.gz", "redirects to 'ftp://127.0.0.1/file.gz', but only http and https are followed"),
        ("file:///etc/passwd", "redirects to 'file:///etc/passwd', but only http and https are followed"),
        ("data:application/gzip;base64,H4sI", "but only http and https are followed"),
        ("javascript:alert(1)", "but only http and https are followed"),
        ("", "HTTP 302 Found"),
    ],
)
def test_a_redirect_to_no_web_address_is_a_fault_of_the_mirror(location: str, expected: str) -> None:
    with serving({"file.gz": FILE}, moved_to(location, *[location] * 20)) as server:
        assert expected in reason(server.url)


def test_a_redirect_without_an_address_is_a_fault_of_the_mirror() -> None:
    with serving({"file.gz": FILE}, moved_to()) as server:
        assert reason(server.url) == "HTTP 302 Found"


@pytest.mark.usefixtures("trusted")
def test_redirects_between_web_addresses_are_followed() -> None:
    with serving({"file.gz": FILE}) as last, serving({"file.gz": FILE}, tls=True) as safe:
        with serving({"file.gz": FILE}, moved_to(f"{last.url}file.gz")) as first:
            assert received(first.url) == (FILE, md5(FILE))
        with serving({"file.gz": FILE}, moved_to(f"{safe.url}file.gz")) as first:
            assert received(first.url) == (FILE, md5(FILE))
        with serving({"file.gz": FILE}, moved_to(f"{safe.url}file.gz"), tls=True) as first:
            assert received(first.url) == (FILE, md5(FILE))


@pytest.mark.usefixtures("trusted")
def test_a_redirect_from_https_to_http_is_never_followed() -> None:
    with serving({"file.gz": FILE}) as weak:
        location = f"{weak.url}file.gz"
        with serving({"file.gz": FILE}, moved_to(location), tls=True) as safe:
            expected = f"redirects from https to '{location}', which anyone on the way could change"
            assert reason(safe.url) == expected
            with serving({"file.gz": FILE}, moved_to(f"{safe.url}file.gz")) as first:
                safe.answer = moved_to(location)
                assert reason(first.url) == expected  # http -> https -> http
        assert weak.asked == []


@pytest.fixture(scope="module")
def anything() -> Iterator[idx_server.Server]:
    with serving({"file.gz": FILE}) as server:
        yield server


addresses = st.one_of(
    st.text(st.characters(codec="latin-1", exclude_characters="\r\n"), max_size=40),
    st.text("htps:/[]@.%#?0123456789abcdef", max_size=30),
    st.builds(
        "{}:{}{}{}".format,
        st.sampled_from(["http", "https", "HTTP", "ftp", "file", "data", "javascript", ""]),
        st.sampled_from(["", "/", "//", "///"]),
        st.sampled_from(["127.0.0.1", "[::1]", "[::bad", "host", "user:pass@", "xn--a", "\x1b[31m", "a" * 70, ""]),
        st.sampled_from(["", "/", ":", ":0", ":99999", ":-1", ":x", "/%zz", "?#"]),
    ),
)


@given(addresses)
@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_a_redirect_says_the_next_mirror_can_be_tried(anything: idx_server.Server, location: str) -> None:
    anything.answer = moved_to(location, *[location] * 20)
    told = reason(anything.url, limit=10)
    assert told.isprintable()
    assert len(told) <= 200


@given(st.sampled_from([b"", b"HTTP/1.1 ", b"HTTP/1.1 404 ", b"HTTP/1.1 200 OK\r\n"]), st.binary(max_size=300))
@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_a_server_says_is_reported_in_short_and_readable_words(
    anything: idx_server.Server, start: bytes, said: bytes
) -> None:
    anything.answer = saying(start + said)
    told = reason(anything.url, limit=10)
    assert told.isprintable()
    assert len(told) <= 200


@pytest.mark.parametrize(
    "said",
    [
        b"\x1b[2J\x1b]0;title\x07 \xe2\x80\xae" + b"x" * 9000 + b"\r\n\r\n",
        b"HTTP/1.1 \x1b[31m OK\r\n\r\n",
        b"HTTP/1.1 404 \x1b[31mGone\r\n\r\n",
        b"HTTP/9\x1b[31m 200 OK\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: ftp://\x1b[31m\x07" + b"x" * 9000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<title>\x1b[31m</title>",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 4000 + b"\r\n\r\n\x1f\x8b",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\x1b[31m\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n\x1f\x8b",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n",
    ],
)
def test_control_characters_of_a_server_are_escaped_and_long_words_cut(said: bytes) -> None:
    with serving({"file.gz": FILE}, saying(said)) as server:
        told = reason(server.url)
    assert told.isprintable()
    assert len(told) <= 200


def test_a_file_larger_than_any_dataset_is_refused_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "MAX_BYTES", len(FILE) - 1)
    with serving({"file.gz": FILE}) as server:
        assert reason(server.url) == f"wants to send more than {len(FILE) - 1} bytes"


def test_an_error_of_the_disk_is_not_blamed_on_the_mirror() -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(28, "No space left on device")

    with serving({"file.gz": FILE}) as server, pytest.raises(OSError, match="No space left"):
        transfer.receive(f"{server.url}file.gz", Full(), 20, Limit(60), lambda *_: None)

"""Where it listens, with which certificate, and how it starts and ends."""

from __future__ import annotations

import http.client
import logging
import os
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispycos.actors.web.listening import listen, names_of, tls_of, url_of
from dispycos.actors.web.serving import WebServer
from dispycos.config import Misuse
from tests.web.fake_desk import FakeDesk, Site

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the program openssl")


def refused(make: Callable[[], Any]) -> str:
    with pytest.raises(Misuse) as caught:
        make()
    return str(caught.value)


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """a.pem and a.key belong together, and b's; both.pem has a certificate and its key."""
    for name in "ab":
        key, pem = str(tmp_path / f"{name}.key"), str(tmp_path / f"{name}.pem")
        wanted = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-days", "2", "-nodes"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
        openssl("req", "-x509", *wanted, "-keyout", key, "-out", pem, *names)
    both = (tmp_path / "a.key").read_text() + (tmp_path / "a.pem").read_text()
    (tmp_path / "both.pem").write_text(both)
    return tmp_path


# --- where ---


def test_a_port_in_use_is_named_with_what_to_do() -> None:
    with listen("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        text = refused(lambda: WebServer(FakeDesk, "127.0.0.1", port))
    assert f"port {port} of 127.0.0.1: Address already in use" in text and "another port" in text


@pytest.mark.parametrize("port", [-1, 65536, "8181", True, None, 1.5])
def test_what_is_no_port_is_refused(port: Any) -> None:
    assert "is no port" in refused(lambda: listen("127.0.0.1", port))


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])
def test_an_address_of_another_host_is_refused(host: str) -> None:
    if ":" in host and not socket.has_ipv6:
        pytest.skip("needs IPv6")
    assert host in refused(lambda: listen(host, 0))


@pytest.mark.parametrize("host", ["no such host", "a" * 70, "..", "nobody.invalid"])
def test_a_name_that_is_none_is_refused(host: str) -> None:
    assert "no address for host" in refused(lambda: listen(host, 0))


def test_a_folder_without_a_page_is_refused(tmp_path: Path) -> None:
    assert "no index.html" in refused(lambda: WebServer(FakeDesk, "127.0.0.1", 0, folder=tmp_path))
    gone = tmp_path / "none"
    assert f"no folder {gone}" in refused(lambda: WebServer(FakeDesk, "127.0.0.1", 0, folder=gone))


def test_port_0_takes_a_free_one_and_the_url_has_it() -> None:
    with Site() as site:
        assert site.port > 0
        assert site.server.url == f"http://127.0.0.1:{site.port}/?token={site.access.operator}"
        assert site.server.viewer_url.endswith(site.access.viewer)
        assert site.get("/healthz", {}).status == 200


def test_urls_have_brackets_around_ipv6_and_the_hosts_name_for_all_addresses() -> None:
    assert url_of("::1", 80, True, "t") == "https://[::1]:80/?token=t"
    assert url_of("", 80, False, "t") == f"http://{socket.gethostname()}:80/?token=t"


def test_it_serves_by_ipv6() -> None:
    try:
        listen("::1", 0).close()
    except Misuse:
        pytest.skip("there is no IPv6 on this host")
    with Site("::1") as site:
        assert site.get("/api/v1/session").status == 200


def test_all_addresses_have_their_names_and_no_wildcard_is_one() -> None:
    with listen("", 0) as listener:
        names = names_of(listener, "")
    assert {"localhost", "127.0.0.1", socket.gethostname().lower()} <= names
    assert not names & {"", "0.0.0.0", "::"}


def test_a_name_that_was_given_is_one_of_its_names() -> None:
    with Site(names=["Monitor.Example.org"]) as site:
        for host in ("monitor.example.org", "MONITOR.example.org:443"):
            assert site.get("/healthz", {"Host": host}).status == 200
        assert site.get("/healthz", {"Host": "example.org"}).status == 421


# --- TLS ---


def test_a_key_without_certificate_and_files_that_are_not_there_are_refused(tmp_path: Path) -> None:
    assert "no certfile" in refused(lambda: tls_of(None, "x.key"))
    gone = str(tmp_path / "gone.pem")
    assert f"certfile: {gone} is not there" in refused(lambda: tls_of(gone, None))
    assert f"certfile: {tmp_path} cannot be read" in refused(lambda: tls_of(str(tmp_path), None))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_is_not_for_us_is_refused(tmp_path: Path) -> None:
    closed = tmp_path / "closed.pem"
    closed.touch(mode=0)
    assert "cannot be read" in refused(lambda: tls_of(str(closed), None))


@needs_openssl
def test_certificates_that_do_not_fit_are_refused(certificates: Path) -> None:
    (certificates / "text.pem").write_text("no certificate\n")
    locked = certificates / "locked.key"
    openssl("pkey", "-in", str(certificates / "a.key"), "-aes256", "-passout", "pass:x", "-out", str(locked))
    for cert, key in [("a.pem", "b.key"), ("text.pem", "a.key"), ("a.pem", "text.pem"), ("a.pem", None)]:
        paths = str(certificates / cert), str(certificates / key) if key else None
        text = refused(lambda paths=paths: tls_of(*paths))  # type: ignore[misc]
        assert paths[0] in text and "belong together" in text
    assert "is encrypted" in refused(lambda: tls_of(str(certificates / "a.pem"), str(locked)))


@needs_openssl
@pytest.mark.parametrize("files", [("a.pem", "a.key"), ("both.pem", None)])
def test_tls_works_and_its_cookie_is_for_tls_only(certificates: Path, files: tuple[str, str | None]) -> None:
    cert, key = (str(certificates / name) if name else None for name in files)
    context = ssl.create_default_context(cafile=str(certificates / "a.pem"))
    with Site(certfile=cert, keyfile=key) as site:
        assert site.server.url.startswith("https://")
        line = http.client.HTTPSConnection("127.0.0.1", site.port, context=context, timeout=20)
        line.request("GET", f"/?token={site.access.operator}")
        answer = line.getresponse()
        assert answer.status == 303 and "; Secure" in str(answer.headers["set-cookie"])
        answer.read()
        line.request("GET", "/api/v1/stream?tables=nodes", headers=site.bearer())
        stream = line.getresponse()
        assert stream.readline() == b"retry: 1000\n"
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            site.get("/healthz", {})  # plain HTTP
        site.server.stop("It was shut down.")
        assert b"event: gone" in stream.read()
        line.close()


# --- start and end ---


def test_it_ends_from_any_thread_and_may_be_ended_again_and_the_port_is_free_at_once() -> None:
    with Site() as site:
        line = site.connect()
        line.request("GET", "/healthz")
        line.getresponse().read()  # and keeps the connection
        with site.stream() as reader:
            reader.next()
            other = threading.Thread(target=site.server.stop, args=("It was shut down.",))
            other.start()
            other.join(10)
            assert not other.is_alive() and not site.server._thread.is_alive()
            assert reader.next()[0] == "gone"
            site.server.stop("again")
        line.close()
        for _ in range(3):
            with Site(port=site.port) as again:
                assert again.get("/healthz", {}).status == 200


def test_one_that_was_never_started_lets_go_of_its_port() -> None:
    server = WebServer(FakeDesk, "127.0.0.1", 0)
    server.stop("never mind")
    listen("127.0.0.1", server.port).close()


def test_what_the_desk_fails_with_is_raised_and_the_port_is_free() -> None:
    def fail() -> FakeDesk:
        raise ValueError("no desk")

    server = WebServer(fail, "127.0.0.1", 0)
    with pytest.raises(ValueError, match="no desk"):
        server.start()
    server._thread.join(10)
    listen("127.0.0.1", server.port).close()


def test_an_end_while_a_request_waits_says_nothing_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with Site() as site:
        lines = [site.connect() for _ in range(3)]
        for line in lines:  # posts, and does not go on
            line.putrequest("POST", "/api/v1/actions")
            for name, value in (site.bearer() | {"Content-Length": "100"}).items():
                line.putheader(name, value)
            line.endheaders()
        site.get("/healthz", {})
        site.server.stop("It was shut down.")
        assert not site.server._thread.is_alive()
        for line in lines:
            line.close()
    assert not caplog.records


def test_logging_of_a_program_that_uses_uvicorn_itself_stays_as_it_is() -> None:
    def facts() -> list[tuple[int, bool, int]]:
        names = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")
        loggers = [logging.getLogger(name) for name in names]
        return [(one.level, one.propagate, len(one.handlers)) for one in loggers]

    before = facts()
    with Site() as site:
        site.get("/")
        assert facts() == before

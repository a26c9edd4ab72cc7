"""What strangers can cost, who need no token to connect."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest

from dispycos.actors.web import connections
from tests.web.fake_desk import Site


def call(own_site: Site, said: bytes = b"") -> socket.socket:
    line = socket.create_connection(("127.0.0.1", own_site.port), timeout=20)
    line.sendall(said)
    return line


def answer(line: socket.socket) -> bytes:
    """All until the other side closes."""
    heard = b""
    try:
        while chunk := line.recv(65536):
            heard += chunk
    except ConnectionResetError:
        pass
    line.close()
    return heard


def ask(own_site: Site, said: bytes) -> bytes:
    return answer(call(own_site, said))


SLOW = [
    b"",
    b"GET / HTTP/1.1\r\nHost: localhost\r\n",
    b"POST /api/v1/actions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\nGET /",
]


@pytest.mark.parametrize("said", SLOW)
def test_who_does_not_finish_a_request_is_cut_off_however_slowly_it_goes_on(
    own_site: Site, said: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.5)
    if b"POST" in said:
        token = own_site.access.operator.encode()
        said = said.replace(b"\r\n\r\n", b"\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
    line = call(own_site, said)
    line.settimeout(0.05)
    until, is_open = time.monotonic() + 15, True
    while is_open and time.monotonic() < until:
        try:
            line.sendall(b"x" if said else b"")
            is_open = line.recv(4096) != b""
        except TimeoutError:
            pass
        except OSError:
            is_open = False
    assert not is_open
    line.close()
    assert own_site.get("/healthz", {}).status == 200 and not caplog.records


def test_a_stream_is_not_cut_off_because_its_reader_says_nothing(
    own_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REQUEST_S", 0.2)
    with own_site.stream() as reader:
        reader.next()
        time.sleep(0.5)
        own_site.change(lambda tables: tables.drop("nodes", "ash0:51348"))
        assert reader.next()[0] == "delta"


def test_who_does_not_read_its_answer_is_cut_off(own_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "UNREAD_S", 0.3)
    own_site.change(lambda tables: tables.set("nodes", "big", {"text": "x" * 30_000_000}))
    token = own_site.access.operator.encode()
    said = b"GET /api/v1/stream?tables=nodes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + token
    line = call(own_site, said + b"\r\n\r\n")
    own_site.wait(lambda desk: desk.readers["nodes"] == 1)
    own_site.wait(lambda desk: desk.readers["nodes"] == 0)
    line.close()


def test_connections_are_bounded_and_there_is_room_when_some_have_gone(
    own_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CONNECTIONS_MAX", 5)
    lines = [call(own_site) for _ in range(20)]
    open_lines = []
    for line in lines:
        line.settimeout(0.2)
        try:
            if line.recv(1) == b"":
                line.close()
        except TimeoutError:
            open_lines.append(line)
    assert 2 <= len(open_lines) <= 5  # one that is being greeted may count twice for a moment
    for line in open_lines:
        line.close()
    for _ in range(200):
        if ask(own_site, b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n").startswith(b"HTTP/1.1 200"):
            break
        time.sleep(0.05)
    else:
        pytest.fail("there is no room")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"GET / HTTP/1.0\r\n\r\n", 421),
        (b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n", 200),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n", 400),
        (b"GET http://localhost/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"GET http://evil.example/ HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 400),
        (b"CONNECT evil.example:80 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50 + b"\r\n\r\n", 400),
        (b"GET /" + b"a" * 100_000, 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"".join(b"X%d: y\r\n" % n for n in range(9000)), 400),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 100_000, 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
        (b"GET /\r\nSet-Cookie: x=y HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    ],
)
def test_odd_requests_are_answered_and_not_logged(
    own_site: Site, said: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    heard = ask(own_site, said)
    assert heard.split(b" ", 2)[1] == str(status).encode(), heard[:300]
    assert b"set-cookie" not in heard.lower() and not caplog.records


def test_ids_in_a_path_do_not_split_an_answer(own_site: Site) -> None:
    token = own_site.access.operator.encode()
    path = b"/api/v1/stack/x%0d%0aSet-Cookie:%20a=b%0d%0a%0d%0a<script>"
    heard = ask(
        own_site,
        b"GET " + path + b" HTTP/1.0\r\nHost: localhost\r\nAuthorization: Bearer " + token + b"\r\n\r\n",
    )
    head, _, body = heard.partition(b"\r\n\r\n")
    assert b"404" in head and b"set-cookie" not in head.lower()
    assert b"content-type: application/json" in head and b"\r" not in body and b"\n" not in body


def test_no_descriptor_is_left_when_many_have_come_and_gone(own_site: Site) -> None:
    for number in range(50):
        line = call(own_site, b"GET / HTTP/1.1\r\n" if number % 2 else b"")
        line.close()

    def all_gone(desk: Any) -> bool:
        import gc

        found = [one for one in gc.get_objects() if isinstance(one, connections.Connection)]
        return not any(one in one.connections for one in found)

    own_site.wait(all_gone)

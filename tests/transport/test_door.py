"""Who is kept out while too many are inside that have not proved themselves, and who is not."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Iterator

import pytest

from dispycos.transport.door import STRANGERS_MAX, STRANGERS_PART, Door, strangers_max

pytestmark = [
    pytest.mark.timeout(30),
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has socket filters"),
]

SOON_S = 0.3  # a connection that is taken is made within this
AGAIN_S = 5.0  # one that was dropped is tried again within this

ADDRESSES = ["127.0.0.1", "::1"] if socket.has_ipv6 else ["127.0.0.1"]


@pytest.fixture(params=ADDRESSES)
def listening(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    try:
        with socket.create_server((request.param, 0), family=family) as server:
            yield server
    except OSError as error:
        pytest.skip(f"no {request.param} here: {error}")


def knock(listening: socket.socket, seconds: float) -> socket.socket | None:
    try:
        return socket.create_connection(listening.getsockname()[:2], timeout=seconds)
    except TimeoutError:
        return None


def test_a_shut_door_keeps_new_ones_out_and_leaves_those_inside_alone(listening: socket.socket) -> None:
    door = Door(listening.fileno(), most=3)
    before = knock(listening, SOON_S)
    assert before is not None
    inside, _ = listening.accept()
    door.see(3)
    assert not door.is_open
    assert knock(listening, SOON_S) is None
    inside.sendall(b"still here")
    assert before.recv(20) == b"still here"
    before.sendall(b"so am I")
    assert inside.recv(20) == b"so am I"
    door.see(1)
    assert door.is_open
    after = knock(listening, AGAIN_S)
    assert after is not None
    for each in (before, inside, after):
        each.close()
    door.close()


def test_it_opens_when_half_as_many_are_left(listening: socket.socket) -> None:
    door = Door(listening.fileno(), most=10)
    seen = []
    for strangers in (9, 10, 11, 6, 5, 9, 10, 0):
        door.see(strangers)
        seen.append(door.is_open)
    assert seen == [True, False, False, False, True, True, False, True]
    door.close()


def test_where_the_kernel_keeps_nobody_out_all_come_in(
    listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    door = Door(listening.fileno(), most=1)
    asked: list[object] = []

    class Sandboxed:
        def setsockopt(self, *arguments: object) -> None:
            asked.append(arguments)
            raise OSError(errno.EPERM, "not in this sandbox")

    with door._socket, monkeypatch.context() as patch:
        patch.setattr(door, "_socket", Sandboxed())
        door.see(1)
        door.see(10**6)
        assert door.is_open and len(asked) == 1


@pytest.mark.parametrize(
    ("soft", "most"),
    [(1024, 1024 // STRANGERS_PART), (2**19, STRANGERS_MAX), (-1, STRANGERS_MAX)],  # no limit
)
def test_most_of_the_descriptors_stay_for_others(
    soft: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sysconf", {"SC_OPEN_MAX": soft}.__getitem__)
    assert strangers_max() == most

"""The first question by mDNS: who of us is there? It can be asked before zeroconf is imported, which takes longer than an answer.

Port 5353 is shared by all programs of a host that speak mDNS, and an answer that comes by unicast reaches any one of
them (RFC 6762, 15.1). So who listens there asks for answers to all, which may take a second. This question comes from a
port of its own, and is answered there, at once (RFC 6762, 6.7). Answers wait in the socket until somebody reads them.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    import asyncio

log = logging.getLogger("dispycos")

SERVICE_TYPE = "_dispycos._tcp.local."
PORT, GROUP, GROUP_6 = 5353, "224.0.0.251", "ff02::fb"
HOPS = 255
PTR, IN = 12, 1  # RFC 1035: the type of the records that are asked for, and their class ...
UNICAST = 0x8000  # ... with the wish to be answered alone (RFC 6762, 5.4)
AGAIN_S = (0.0, 0.1, 1.0, 2.0)  # since we wait for answers: a datagram may be lost
END_S = 3.0  # those who listen at port 5353 have heard of all by then
ANSWER_MAX = 9000  # bytes of a datagram of mDNS (RFC 6762, 17)
ANSWERS_MAX = 100  # that are read in one go

OnAnswer = Callable[[bytes, tuple[str, int]], None]


def _query() -> bytes:
    """Each has a number of its own: what is the same as another question within a second, whoever asked it, may not be answered."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in SERVICE_TYPE.split(".") if label)
    header = os.urandom(2) + b"".join(count.to_bytes(2, "big") for count in (0, 1, 0, 0, 0))  # one question
    return header + labels + b"\0" + PTR.to_bytes(2, "big") + (IN | UNICAST).to_bytes(2, "big")


class Question:
    """Asked when it is made, at each of these addresses of ours: by IPv4 if there is one. Raises OSError if at none."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._sockets: list[tuple[socket.socket, tuple[str, int]]] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._again: list[asyncio.TimerHandle] = []
        numbers = [ipaddress.ip_address(address) for address in addresses]
        version = min((number.version for number in numbers), default=4)
        failure: OSError | None = None
        for number in numbers:
            if number.version == version:
                try:
                    self._sockets.append(_open(str(number), version))
                except OSError as error:
                    failure = error
        if failure is not None and not self._sockets:
            raise failure
        self.ask()

    def ask(self) -> None:
        self.asked_at = time.monotonic()
        self._ask()

    def _ask(self) -> None:
        for sock, group in self._sockets:
            with suppress(OSError):  # no route by this interface
                sock.sendto(_query(), group)

    @property
    def senders(self) -> list[tuple[str, int]]:
        """From where it is asked: address and port."""
        return [sock.getsockname()[:2] for sock, _ in self._sockets]

    async def answered(self, timeout: float) -> bool:
        """Whether there is something to read within so many seconds; asks again at times."""
        from asyncio import wait

        loop = self._begin()
        answer: asyncio.Future[None] = loop.create_future()

        def see(sock: socket.socket) -> None:
            loop.remove_reader(sock)
            if not answer.done():
                answer.set_result(None)

        for sock, _ in self._sockets:
            loop.add_reader(sock, see, sock)
        await wait([answer], timeout=timeout)
        for sock, _ in self._sockets:
            loop.remove_reader(sock)
        return answer.done()

    def listen(self, on_answer: OnAnswer) -> None:
        """On the running loop: tells of answers, those that have come already first; asks again at times, and closes itself."""
        loop = self._begin()
        for sock, _ in self._sockets:
            loop.add_reader(sock, _read, sock, on_answer)
        self._again.append(loop.call_later(END_S, self.close))

    def _begin(self) -> asyncio.AbstractEventLoop:
        from asyncio import get_running_loop  # not before the question: it costs start-up time

        if self._loop is None:
            self._loop = get_running_loop()
            self._again = [self._loop.call_later(pause, self._ask) for pause in AGAIN_S]
        return self._loop

    def close(self) -> None:
        for timer in self._again:
            timer.cancel()
        for sock, _ in self._sockets:
            if self._loop is not None:
                self._loop.remove_reader(sock)
            sock.close()
        self._sockets = []


def _open(address: str, version: int) -> tuple[socket.socket, tuple[str, int]]:
    sock = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        sock.bind((address, 0))
        if version == 4:
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
            sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, HOPS)
            return sock, (GROUP, PORT)
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface_of(address))
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, HOPS)
        return sock, (GROUP_6, PORT)
    except BaseException:
        sock.close()
        raise


def interface_of(address: str) -> int:
    """Its index. Raises OSError if this host has no such address."""
    for name, found in psutil.net_if_addrs().items():
        if any(entry.address == address for entry in found):
            return socket.if_nametoindex(name)
    raise OSError(f"no interface has {address}")


def _read(sock: socket.socket, on_answer: OnAnswer) -> None:
    for _ in range(ANSWERS_MAX):
        try:
            data, sender = sock.recvfrom(ANSWER_MAX)
        except BlockingIOError:
            return
        except OSError as error:  # what we sent was refused
            log.debug("mDNS: %s", error)
        else:
            on_answer(data, sender)

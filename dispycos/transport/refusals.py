"""Who was turned away before ZAP saw a key, and why, in words; who is inside without having proved anything."""

from __future__ import annotations

import errno
import logging
import os
import socket as sockets
import struct
import time
from collections.abc import Callable, Sequence
from typing import Final

import zmq

from .door import Door, strangers_max
from .security import HANDSHAKE_MS, OnRefused, readable_address

log = logging.getLogger("dispycos")

WARN_AGAIN_S = 60.0

_NOT_OPENED = 0x11000001  # ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC
_MECHANISMS_DIFFER = 0x11000002  # ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH
_WAS_CLOSED = (0, errno.EPIPE, errno.ECONNRESET)

HANDSHAKE_FAILURES: Final = (
    zmq.EVENT_HANDSHAKE_FAILED_AUTH
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
)


def is_refusal(event: int, value: int) -> bool:
    """Whether the other end ended the handshake. After HANDSHAKE_MS of silence libzmq does, with an errno that means nothing."""
    return event != zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL or value in _WAS_CLOSED


def explain_handshake_failure(event: int, value: int) -> str:
    """What the monitor of a dialling socket means, in words."""
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return "refused: it does not accept our key, it has another secret"
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL and value in _WAS_CLOSED:
        return "refused: it has another secret"
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return f"it does not answer: no handshake within {HANDSHAKE_MS / 1000:g} s"
    if value == _NOT_OPENED:
        return "refused: it has another secret"
    if value == _MECHANISMS_DIFFER:
        return "refused: one end uses keys and the other does not (--insecure?)"
    return f"it does not speak our protocol (libzmq error {value:#x})"


def explain_refused_stranger(event: int, value: int) -> str:
    """What the monitor of a listening socket means, in words; '' for what ZAP has reported already, and for who just left.

    Those are members, too: all whom we did not answer while we were paused.
    """
    if event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
        return ""
    if event == zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL:
        return "" if value in _WAS_CLOSED else "it began no handshake"
    if value == _NOT_OPENED:
        return "it has another secret"
    if value == _MECHANISMS_DIFFER:
        return "it came without a key"
    return "it does not speak our protocol"


UNKNOWN = "an unknown address"


class RefusalWatch:
    """Tells who was turned away by a listening socket before ZAP saw a key; the others ZAP reports. Keeps its door.

    The monitor names the local end only, so the peer's address is asked of the descriptor once accepted; if that is closed
    already, the address stays unknown. Its owner reads `socket`, and has each event taken.
    """

    def __init__(self, listener: zmq.Socket[bytes], on_refused: OnRefused) -> None:
        self._on_refused = on_refused
        self._listener = listener
        self.admitted: Callable[[], int] = lambda: 0  # how many of those inside have proved themselves
        self._door: Door | None = None
        self._peers: dict[int, str] = {}
        self._reason = ""
        self._warned_until = 0.0
        events = zmq.EVENT_LISTENING | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | HANDSHAKE_FAILURES
        self.socket = listener.get_monitor_socket(events)

    def close(self) -> None:
        """Before the listener is closed."""
        self._listener.disable_monitor()
        self.socket.close(0)
        if self._door is not None:
            self._door.close()
            self._door = None

    def take(self, frames: Sequence[bytes]) -> None:
        self._on_event(*struct.unpack("=HI", frames[0]))

    def _on_event(self, event: int, value: int) -> None:
        if event == zmq.EVENT_LISTENING:
            self._door = Door(value, strangers_max())
        elif event == zmq.EVENT_ACCEPTED:
            self._peers[value] = peer_address(value)
            self._mind_the_door()
        elif event & HANDSHAKE_FAILURES:
            self._reason = explain_refused_stranger(event, value)
        elif event == zmq.EVENT_DISCONNECTED:  # libzmq says why first, then which descriptor
            address, reason = self._peers.pop(value, UNKNOWN), self._reason
            self._reason = ""
            self._mind_the_door()
            if reason:
                self._on_refused(address, reason)

    def _mind_the_door(self) -> None:
        if self._door is None:
            return
        strangers = len(self._peers) - self.admitted()
        self._door.see(strangers)
        if not self._door.is_open and self._warned_until < time.monotonic():
            self._warned_until = time.monotonic() + WARN_AGAIN_S
            log.warning(
                "%d connections at %s have not proved that they are of this cluster: until some have ended, others that come there "
                "wait, but not processes of this host and user",
                strangers,
                self._listener.getsockopt_string(zmq.LAST_ENDPOINT),
            )


def peer_address(descriptor: int) -> str:
    """Of a connection that another thread owns and may have closed by now: then nobody knows."""
    try:
        copy = sockets.socket(fileno=os.dup(descriptor))
    except OSError:
        return UNKNOWN
    with copy:
        try:
            name = copy.getpeername()
        except OSError:
            return UNKNOWN
    return readable_address(name[0]) if isinstance(name, tuple) else "this host"

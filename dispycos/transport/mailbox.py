"""All ZeroMQ sockets of one runtime: ROUTER listeners, DEALER links and their monitors, on the asyncio loop by their FDs.

A *link* is a number: one dialled DEALER (one connection, one generation, never reconnected by libzmq) or one peer of a
ROUTER. The owner is told when a link comes up, brings a message, or goes down; it decides everything else.

libzmq's FD is edge-triggered: after each receive *and each send* the socket's EVENTS must be looked at again, or a message
that came meanwhile waits for ever. `pump` reads until EAGAIN (bounded, then again next turn); `after_sends` looks again at
each socket that was sent on. No timer is involved, so no latency either.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Protocol

import zmq
from zmq.utils.monitor import recv_monitor_message

from .door import look_for_descriptors
from .refusals import HANDSHAKE_FAILURES, RefusalWatch, explain_handshake_failure, is_refusal
from .security import (
    IpcPeer,
    Keys,
    Zap,
    is_of_another_user,
    pid_of_user,
    secure_dialler,
    secure_ipc,
    secure_knock,
    secure_listener,
    socket_options,
)
from .witness import pid_behind

Buffer = bytes | bytearray | memoryview

# Plain numbers: an operation on an enum's member costs as much as a system call, and these are needed for each message.
_EVENTS = int(zmq.EVENTS)
_READABLE = int(zmq.POLLIN)
_MORE = int(zmq.RCVMORE)
_NOBLOCK = int(zmq.NOBLOCK)
_NOBLOCK_MORE = int(zmq.NOBLOCK | zmq.SNDMORE)

DRAIN_MAX = 128  # messages read from one socket in one turn, so that no peer starves the others
LINK_DESCRIPTORS = 8  # five of its own, and some that libzmq needs meanwhile
CLOSED_MAX = 4096  # routing ids of closed links that a listener remembers, to ignore what they still send

_DOWN = {
    zmq.EVENT_DISCONNECTED: "connection lost",
    zmq.EVENT_CLOSED: "nobody listens there, or the connection was closed",
    zmq.EVENT_CONNECT_RETRIED: "no answer",
}
_WATCHED = sum(_DOWN) | HANDSHAKE_FAILURES | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_CONNECTED


class Owner(Protocol):
    """Who the mailbox reports to; every call comes from within `pump`, except the last three."""

    def on_link_up(self, link: int, *, dialled: bool, role: str | None) -> None:
        """What pid_of() tells of it is known by now."""

    def on_link_down(self, link: int, reason: str, *, refused: bool) -> None: ...
    def on_message(self, link: int, frames: Sequence[Buffer]) -> None: ...
    def on_stranger(self, address: str, reason: str) -> None:
        """Somebody was turned away before a link came about."""

    def turn(self) -> None:
        """An FD became readable: run a turn now."""

    def turn_soon(self) -> None:
        """Something may be readable: run a turn soon."""


class _Listener:
    """A ROUTER and the peers that have spoken to it."""

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str, proven: bool) -> None:
        self.socket = socket
        self.endpoint = endpoint
        self.proven = proven  # CURVE: the peer's role comes from its key
        self.watch: RefusalWatch | None = None
        self.links: dict[bytes, int] = {}
        self.closed: dict[bytes, None] = {}

    def close(self, routing_id: bytes) -> None:
        self.links.pop(routing_id, None)
        self.closed[routing_id] = None
        if len(self.closed) > CLOSED_MAX:
            del self.closed[next(iter(self.closed))]


class _Dialled:
    """A DEALER: one connection to one endpoint."""

    def __init__(
        self, socket: zmq.Socket[bytes], monitor: zmq.Socket[bytes], link: int, endpoint: str
    ) -> None:
        self.socket = socket
        self.monitor = monitor
        self.link = link
        self.endpoint = endpoint
        self.descriptor = -1  # of its connection
        self.up = False


class Mailbox:
    """The sockets of one runtime. Not locked: the runtime holds its lock around every call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Owner, keys: Keys | None) -> None:
        self._loop = loop
        self._owner = owner
        self._keys = keys
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context(io_threads=1)
        self.context.set(zmq.MAX_SOCKETS, 65536)
        self._listeners: list[_Listener] = []
        self._dialled: dict[int, _Dialled] = {}
        self._peers: dict[int, tuple[_Listener, bytes]] = {}
        self._pids: dict[int, int] = {}  # at the other ends of links within this host, from the kernel
        self._next_link = 1
        self._readers: dict[zmq.Socket[bytes], Callable[[], None]] = {}
        self._hot: dict[zmq.Socket[bytes], None] = {}  # sockets that may have something to read
        self._sent: dict[zmq.Socket[bytes], None] = {}  # sockets sent on since after_sends
        self._zap: Zap | None = None
        self.admits: Callable[[IpcPeer], bool] = lambda peer: False  # of another user, as a server
        self.spare = 0  # descriptors that are not for links that we dial
        self.listeners_first = False  # what has come to listeners is read before anything of dialled sockets

    # --- opening and closing ---

    def listen(self, endpoint: str) -> str:
        """Bind a ROUTER; returns the endpoint with the port that was really taken. Raises zmq.ZMQError; at ipc OSError."""
        if self._zap is None:
            self._zap = zap = Zap(
                self.context, self._keys, self._owner.on_stranger, lambda peer: self.admits(peer)
            )
            self._watch(zap.socket, lambda: self._serve(zap.socket, zap.take))
        socket = self.context.socket(zmq.ROUTER)
        ipc = endpoint.startswith("ipc://")
        socket_options(socket, ipc=ipc)
        if ipc:
            secure_ipc(socket)
        else:
            secure_listener(socket, self._keys)
        watch = None if ipc else RefusalWatch(socket, self._owner.on_stranger)
        try:
            socket.bind(endpoint)
        except zmq.ZMQError as error:
            if watch is not None:
                watch.close()
            socket.close(0)
            if ipc:
                raise OSError(error.errno, error.strerror, endpoint) from error
            raise
        if ipc:
            os.chmod(endpoint.removeprefix("ipc://"), 0o600)
        listener = _Listener(
            socket, socket.getsockopt_string(zmq.LAST_ENDPOINT), not ipc and self._keys is not None
        )
        listener.watch = watch
        if watch is not None:
            watch.admitted = lambda: len(listener.links)
            self._watch(watch.socket, lambda: self._serve(watch.socket, watch.take))
        self._listeners.append(listener)
        self._watch(socket, lambda: self._read_listener(listener))
        return listener.endpoint

    def dial(self, endpoint: str, *, role: str, foreign_key: bytes | None = None) -> int:
        """Start a connection; on_link_up or on_link_down follows. Numeric addresses only: libzmq resolves names by blocking.

        With the key of a foreign cluster's listener it is a knock: both ends hear that it is refused. Raises OSError when there
        are no descriptors for it.
        """
        ipc = endpoint.startswith("ipc://")
        look_for_descriptors(LINK_DESCRIPTORS, self.spare, endpoint)
        socket = self.context.socket(zmq.DEALER)
        socket_options(socket, ipc=ipc)
        if foreign_key is not None:
            secure_knock(socket, foreign_key)
        elif not ipc:
            secure_dialler(socket, self._keys, role)
        monitor = socket.get_monitor_socket(_WATCHED)
        link = self._take_link()
        dialled = _Dialled(socket, monitor, link, endpoint)
        self._dialled[link] = dialled
        self._watch(socket, lambda: self._read_dialled(dialled))
        self._watch(monitor, lambda: self._read_monitor(dialled))
        socket.connect(endpoint)
        return link

    def close_link(self, link: int) -> None:
        """Forget a link; what was sent on it may still leave. No on_link_down follows."""
        self._pids.pop(link, None)
        peer = self._peers.pop(link, None)
        if peer is not None:
            peer[0].close(peer[1])
            return
        dialled = self._dialled.pop(link, None)
        if dialled is None:
            return
        dialled.socket.disable_monitor()
        for socket in (dialled.monitor, dialled.socket):
            self._unwatch(socket)
        dialled.monitor.close(0)
        dialled.socket.close(100)  # ms: a farewell that was just sent may leave

    def close(self) -> None:
        """Close everything; what is unsent is dropped after at most 0.1 s (sessions confirm what matters)."""
        for link in list(self._dialled):
            self.close_link(link)
        for listener in self._listeners:
            self._unwatch(listener.socket)
            if listener.watch is not None:
                self._unwatch(listener.watch.socket)
                listener.watch.close()
            listener.socket.close(100)
            if listener.endpoint.startswith("ipc://"):
                path = listener.endpoint.removeprefix("ipc://")
                if os.path.exists(path):
                    os.unlink(path)
        self._listeners.clear()
        self._peers.clear()
        self._pids.clear()
        if self._zap is not None:
            self._unwatch(self._zap.socket)
        self.context.destroy(linger=100)

    def pid_of(self, link: int) -> int:
        """The process of this host at the other end, as the kernel tells; 0: not known."""
        return self._pids.get(link, 0)

    def tells_end(self, link: int) -> bool:
        """Whether we connected to it by ipc: then the kernel tells when the other end is gone."""
        dialled = self._dialled.get(link)
        return dialled is not None and dialled.endpoint.startswith("ipc://")

    # --- sending ---

    def send(self, link: int, frames: Sequence[Buffer]) -> bool:
        """Give one message to libzmq; False when the link is gone."""
        dialled = self._dialled.get(link)
        if dialled is not None:
            socket = dialled.socket
            try:
                send_message(socket, frames)
            except zmq.Again:  # its connection is gone, the monitor's word is on the way
                self._hot[socket] = None  # a send that fails takes the edge as well
                return False
            self._sent[socket] = None
            return True
        peer = self._peers.get(link)
        if peer is None:
            return False
        listener, routing_id = peer
        try:
            listener.socket.send(routing_id, _NOBLOCK_MORE)
            send_message(listener.socket, frames)
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            self._hot[listener.socket] = None
            return False
        self._sent[listener.socket] = None
        return True

    def after_sends(self) -> None:
        """Look again at the sockets that were sent on: an edge may have been consumed by the send."""
        if self._sent:
            sent, self._sent = self._sent, {}
            for socket in sent:
                if socket in self._readers and is_readable(socket):
                    self._hot[socket] = None
        if self._hot:  # also those found before: whoever was to read them may have sent instead
            self._owner.turn_soon()

    # --- receiving ---

    def pump(self, *, whole: bool = False) -> None:
        """Read what is there, from every socket that may have something; `whole`: until no socket has anything."""
        if whole:
            self.look_at_all()
        self._read_hot()
        while whole and self._hot:
            self._read_hot()
        if self._hot:
            self._owner.turn_soon()

    def _read_hot(self) -> None:
        hot, self._hot = self._hot, {}
        if hot and self.listeners_first and any(dialled.socket in hot for dialled in self._dialled.values()):
            self._read_listeners(hot)
        for socket in hot:
            reader = self._readers.get(socket)
            if reader is not None:
                reader()

    def _read_listeners(self, hot: dict[zmq.Socket[bytes], None]) -> None:
        """All that they have, though the loop may not have been told of it. Nothing is confirmed meanwhile, so credit bounds it."""
        for listener in self._listeners:
            hot.pop(listener.socket, None)
            while is_readable(listener.socket):
                self._read_listener(listener)
            self._hot.pop(listener.socket, None)

    @property
    def has_more(self) -> bool:
        """True when the last pump left something unread."""
        return bool(self._hot)

    def look_at_all(self) -> None:
        """Mark every socket as perhaps readable: taking over from, or giving back to, another thread must miss no edge."""
        self._hot.update(dict.fromkeys(self._readers))

    def descriptors(self) -> list[int]:
        """The FDs that say when to pump."""
        return [descriptor_of(socket) for socket in self._readers]

    def _read_listener(self, listener: _Listener) -> None:
        socket, links = listener.socket, listener.links
        for _ in range(DRAIN_MAX):
            try:
                routing_id = socket.recv(_NOBLOCK)
            except zmq.Again:
                return
            link = links.get(routing_id)
            if link is None:
                link = self._meet(listener, routing_id)
                if not link:
                    continue
            else:
                self._owner.on_message(link, receive_message(socket))
            if not is_readable(socket):  # cheaper than an exception
                return
        self._hot[socket] = None

    def _meet(self, listener: _Listener, routing_id: bytes) -> int:
        """The first message of a peer: take its role from its key, give it a link."""
        frames = listener.socket.recv_multipart(_NOBLOCK, copy=False)
        if routing_id in listener.closed:
            return 0
        ipc = listener.endpoint.startswith("ipc://")
        user = str(frames[0].get("User-Id")) if ipc or listener.proven else ""
        role = user if listener.proven else None
        link = self._take_link()
        if ipc:
            role = "server" if is_of_another_user(user) else None
            self._pids[link] = pid_of_user(user)
        else:
            self._pids[link] = pid_behind(int(frames[0].get(zmq.SRCFD)))
        listener.links[routing_id] = link
        self._peers[link] = (listener, routing_id)
        self._owner.on_link_up(link, dialled=False, role=role)
        self._owner.on_message(link, [frame.bytes for frame in frames])
        return link

    def _serve(self, socket: zmq.Socket[bytes], take: Callable[[list[bytes]], None]) -> None:
        """What is asked and told of those who connect."""
        for _ in range(DRAIN_MAX):
            try:
                frames = socket.recv_multipart(_NOBLOCK)
            except zmq.Again:
                return
            take(frames)
        self._hot[socket] = None

    def _read_dialled(self, dialled: _Dialled) -> None:
        socket = dialled.socket
        for _ in range(DRAIN_MAX):
            try:
                frames = receive_message(socket)
            except zmq.Again:
                return
            if not dialled.up:
                self._went_up(dialled)
            self._owner.on_message(dialled.link, frames)
            if dialled.link not in self._dialled:  # the owner closed it
                return
            if not is_readable(socket):  # cheaper than an exception
                return
        self._hot[socket] = None

    def _read_monitor(self, dialled: _Dialled) -> None:
        while dialled.link in self._dialled and is_readable(dialled.monitor):
            message = recv_monitor_message(dialled.monitor, _NOBLOCK)
            event, value = zmq.Event(message["event"]), int(message["value"])
            if event == zmq.EVENT_CONNECTED:
                dialled.descriptor = value
            elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                if not dialled.up:
                    self._went_up(dialled)
            elif event in _DOWN or event & HANDSHAKE_FAILURES:
                failed = event not in _DOWN
                reason = explain_handshake_failure(event, value) if failed else _DOWN[event]
                if event == zmq.EVENT_DISCONNECTED:
                    self._read_rest(dialled)
                self.close_link(dialled.link)
                self._owner.on_link_down(dialled.link, reason, refused=failed and is_refusal(event, value))

    def _read_rest(self, dialled: _Dialled) -> None:
        """What had arrived before the connection broke is still good."""
        while dialled.link in self._dialled and is_readable(dialled.socket):
            self._read_dialled(dialled)

    def _went_up(self, dialled: _Dialled) -> None:
        dialled.up = True
        self._pids[dialled.link] = pid_behind(dialled.descriptor)  # who has not accepted it yet is not seen
        self._owner.on_link_up(dialled.link, dialled=True, role=None)

    # --- the loop ---

    def _watch(self, socket: zmq.Socket[bytes], reader: Callable[[], None]) -> None:
        self._readers[socket] = reader
        self._loop.add_reader(descriptor_of(socket), self._on_edge, socket)
        self._hot[socket] = None
        self._owner.turn_soon()

    def _unwatch(self, socket: zmq.Socket[bytes]) -> None:
        if self._readers.pop(socket, None) is not None:
            self._loop.remove_reader(descriptor_of(socket))
            self._hot.pop(socket, None)
            self._sent.pop(socket, None)

    def _on_edge(self, socket: zmq.Socket[bytes]) -> None:
        self._hot[socket] = None
        self._owner.turn()

    def _take_link(self) -> int:
        link = self._next_link
        self._next_link += 1
        return link


def send_message(socket: zmq.Socket[bytes], frames: Sequence[Buffer]) -> None:
    """All frames of a message, or of the rest of one. Raises zmq.ZMQError at the first, or never."""
    for frame in frames[:-1]:
        socket.send(frame, _NOBLOCK_MORE)
    socket.send(frames[-1], _NOBLOCK)


def receive_message(socket: zmq.Socket[bytes]) -> list[bytes]:
    """All frames of a message, or of the rest of one. Raises zmq.Again when there is none."""
    frames = [socket.recv(_NOBLOCK)]
    while socket.getsockopt(_MORE):
        frames.append(socket.recv(_NOBLOCK))
    return frames


def is_readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message waits; asking also makes libzmq do what is pending."""
    return int(socket.getsockopt(_EVENTS)) & _READABLE != 0


def descriptor_of(socket: zmq.Socket[bytes]) -> int:
    """The FD that becomes readable, edge-triggered, when EVENTS may have changed."""
    return int(socket.getsockopt(zmq.FD))

"""Decides who may speak to this cluster: the secret, the keys made of it, and the check of each connection.

All keys come from one secret, but for the listeners' where files give it (certificates.py). Every listening
socket of the cluster has the same key pair, so that a dialler knows whom it expects without knowing the
listener's role; the dialler's own key pair proves its role. One
with another secret expects another listener key: the listener cannot open its first message
(HANDSHAKE_FAILED_PROTOCOL there) and closes the connection (HANDSHAKE_FAILED_NO_DETAIL at the dialler). A key
that is not one of ours, under the right listener key, is refused by ZAP (HANDSHAKE_FAILED_AUTH at both ends),
which is told the address. The first kind is over before anyone can be sure to have asked whence it came;
so one who meets a foreign cluster by discovery knocks with the listener key announced there, to be refused.
"""

from __future__ import annotations

import hmac
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import zmq

from .secret import SECRET_BYTES, Secret

Role = Literal["scheduler", "node", "client", "viewer"]
ROLES: Final[tuple[Role, ...]] = ("scheduler", "node", "client", "viewer")

TCP_DOMAIN = b"dispycos"
IPC_DOMAIN = b"dispycos-ipc"
ZAP_ENDPOINT = "inproc://zeromq.zap.01"

FRAME_MAX = 256 * 1024 + 4 * 1024
HANDSHAKE_MS = 3000
HEARTBEAT_MS = 1000


class KeyPair(NamedTuple):
    public: bytes  # both as Z85, the form that zmq takes
    private: bytes


@dataclass(frozen=True, slots=True)
class Keys:
    """Everything a process needs to prove itself and to check others."""

    listener: KeyPair = field(repr=False)
    by_role: Mapping[str, KeyPair] = field(repr=False)
    tag: str

    @classmethod
    def from_secret(cls, secret: Secret, listener: KeyPair | None = None) -> Keys:
        """`listener`: a pair of its own (certificates.py) in the place of the derived one; then the cluster is another one."""
        return cls(
            listener=listener or _key_pair(secret.data, "listener"),
            by_role={role: _key_pair(secret.data, role) for role in ROLES},
            tag=secret.tag if listener is None else secret.tag_with(listener.public),
        )

    def role_of(self, raw_public_key: bytes) -> str | None:
        for role, pair in self.by_role.items():
            if hmac.compare_digest(_z85(raw_public_key), pair.public):
                return role
        return None


def _key_pair(secret: bytes, role: str) -> KeyPair:
    private = _z85(derive(secret, f"dispycos curve {role}"))
    return KeyPair(zmq.curve_public(private), private)


def derive(secret: bytes, purpose: str) -> bytes:
    """HKDF-SHA256 (RFC 5869) with one block of output."""
    inner = hmac.digest(b"dispycos", secret, "sha256")
    return hmac.digest(inner, purpose.encode() + b"\x01", "sha256")


_Z85: Final = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"


def _z85(raw: bytes) -> bytes:
    words = struct.unpack(f">{len(raw) // 4}I", raw)
    return bytes(_Z85[word // 85**place % 85] for word in words for place in (4, 3, 2, 1, 0))


def socket_options(socket: zmq.Socket[bytes], *, ipc: bool = False) -> None:
    """The options of DESIGN section 4 that hold for every socket of a link; before bind or connect.

    By ipc there are no heartbeats: the kernel tells when the other end is gone, so all they would end is links of processes
    that are paused (a debugger, SIGSTOP), among them those of servers, which end with their agent's link.
    """
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.SNDHWM, 0)
    socket.setsockopt(zmq.RCVHWM, 0)
    socket.setsockopt(zmq.MAXMSGSIZE, FRAME_MAX)
    socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
    if not ipc:
        socket.setsockopt(zmq.HEARTBEAT_IVL, HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 3 * HEARTBEAT_MS)
        socket.setsockopt(zmq.HEARTBEAT_TTL, 3000)
    socket.setsockopt(zmq.CONNECT_TIMEOUT, 2000)
    # We reconnect ourselves, since libzmq never tries again after a refusal. Not -1 for never: at a disconnect that
    # throws away what had arrived.
    socket.setsockopt(zmq.RECONNECT_IVL, 2**31 - 1)
    socket.setsockopt(zmq.IPV6, 1)
    if socket.type == zmq.ROUTER:
        socket.setsockopt(zmq.ROUTER_MANDATORY, 1)


def secure_listener(socket: zmq.Socket[bytes], keys: Keys | None) -> None:
    """Before bind to tcp: nobody gets in without one of our keys. No keys is --insecure: all get in."""
    if keys is None:
        return
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.listener.private)
    _enforce_domain(socket, TCP_DOMAIN)


def secure_ipc(socket: zmq.Socket[bytes]) -> None:
    """Before bind to ipc: ZAP is told uid, gid and pid of whoever connects."""
    _enforce_domain(socket, IPC_DOMAIN)


def secure_dialler(socket: zmq.Socket[bytes], keys: Keys | None, role: str) -> None:
    """Before connect to tcp. An ipc dialler needs nothing, and nothing is what --insecure has."""
    if keys is None:
        return
    pair = keys.by_role[role]
    socket.setsockopt(zmq.CURVE_SERVERKEY, keys.listener.public)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, pair.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, pair.private)


def secure_knock(socket: zmq.Socket[bytes], listener_public: bytes) -> None:
    """Before connect to a foreign cluster, with the key it announces, so that both ends hear of the refusal.

    Whoever accepts such a connection proves nothing: send nothing on it, believe nothing that comes.
    """
    public, private = zmq.curve_keypair()
    socket.setsockopt(zmq.CURVE_SERVERKEY, listener_public)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, private)


def _enforce_domain(socket: zmq.Socket[bytes], domain: bytes) -> None:
    socket.setsockopt(zmq.ZAP_DOMAIN, domain)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)  # without it a missing handler lets everyone in


class IpcPeer(NamedTuple):
    uid: int
    gid: int
    pid: int


OnRefused = Callable[[str, str], None]  # address, reason


class Zap:
    """Answers libzmq's question, for each new connection of a Context, whether it may stay.

    One per Context, bound before the first listener; its owner reads `socket`, and has each question taken. The User-Id of
    every message that comes over such a connection is the role of its key, or `ipc:UID:PID`.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: Keys | None,
        on_refused: OnRefused,
        admits: Callable[[IpcPeer], bool] = lambda peer: False,
    ) -> None:
        self._keys = keys
        self._on_refused = on_refused
        self._admits = admits  # whether a process of another user may connect by ipc, as one of our servers
        self.socket = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ZAP_ENDPOINT)

    def take(self, question: Sequence[bytes]) -> None:
        self.socket.send_multipart(self._answer(question), zmq.NOBLOCK)

    def _answer(self, frames: Sequence[bytes]) -> list[bytes]:
        version, request, domain, address, _, mechanism, *credentials = frames
        who = address.decode("latin-1")
        if mechanism == b"CURVE" and domain == TCP_DOMAIN:
            user = self._curve_user(credentials)
        elif mechanism == b"NULL" and domain == IPC_DOMAIN:
            user = self._ipc_user(who)
        else:
            user = None
        if user is None:
            self._on_refused(readable_address(who), self._reason(mechanism, who))
            return [version, request, b"400", b"not of this cluster", b"", b""]
        return [version, request, b"200", b"OK", user.encode(), b""]

    def _curve_user(self, credentials: list[bytes]) -> str | None:
        if self._keys is None or len(credentials) != 1 or len(credentials[0]) != SECRET_BYTES:
            return None
        return self._keys.role_of(credentials[0])

    def _ipc_user(self, address: str) -> str | None:
        peer = ipc_peer(address)
        if peer is None or (peer.uid != os.getuid() and not self._admits(peer)):
            return None
        return f"ipc:{peer.uid}:{peer.pid}"

    def _reason(self, mechanism: bytes, address: str) -> str:
        peer = ipc_peer(address)
        if peer is not None:
            return f"process {peer.pid} of user {peer.uid} may not connect here"
        return "it has another secret" if mechanism == b"CURVE" else "it has no key"


def is_of_another_user(user: str) -> bool:
    """Whether Zap let in a process of another user than this one's."""
    kind, _, numbers = user.partition(":")
    return kind == "ipc" and int(numbers.partition(":")[0]) != os.getuid()


def pid_of_user(user: str) -> int:
    """The process behind a User-Id that Zap gave to an ipc connection; 0: it is of another namespace, or not ipc's."""
    kind, _, numbers = user.partition(":")
    return int(numbers.partition(":")[2]) if kind == "ipc" else 0


def ipc_peer(address: str) -> IpcPeer | None:
    """libzmq's `localhost:UID:GID:PID`, from SO_PEERCRED; None for any other address."""
    host, *numbers = address.rsplit(":", 3)
    if host != "localhost" or len(numbers) != 3 or not all(n.isdecimal() for n in numbers):
        return None
    return IpcPeer(*map(int, numbers))


def readable_address(address: str) -> str:
    """IPv4 as people write it, though the sockets are IPv6."""
    return address.removeprefix("::ffff:")

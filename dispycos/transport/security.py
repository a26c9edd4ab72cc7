"""Decides who may speak to this cluster: the secret, the keys made of it, and the check of each connection.

All keys come from one secret. Every listening socket of the cluster has the same key pair, so that a dialler
knows whom it expects without knowing the listener's role; the dialler's own key pair proves its role. One
with another secret expects another listener key: the listener cannot open its first message
(HANDSHAKE_FAILED_PROTOCOL there) and closes the connection (HANDSHAKE_FAILED_NO_DETAIL at the dialler). A key
that is not one of ours, under the right listener key, is refused by ZAP (HANDSHAKE_FAILED_AUTH at both ends),
which is told the address. The first kind is over before anyone can be sure to have asked whence it came;
so one who meets a foreign cluster by discovery knocks with the listener key announced there, to be refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import hmac
import logging
import os
import secrets
import socket as sockets
import stat
import struct
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, NamedTuple

import zmq

from ..config import PASSPHRASE_MIN, Failure
from .door import Door, strangers_max
from .folders import find_folders, make_missing

log = logging.getLogger("dispycos")

Role = Literal["scheduler", "node", "client", "viewer"]
ROLES: Final[tuple[Role, ...]] = ("scheduler", "node", "client", "viewer")

SECRET_VARIABLE = "DISPYCOS_SECRET"
SECRET_FILE_VARIABLE = "DISPYCOS_SECRET_FILE"
SECRET_BYTES = 32
SECRET_FILE_MAX = 4096
SCRYPT_N = 2**16
SCRYPT_MEMORY = 128 * 1024 * 1024
SALT = b"dispycos passphrase 1"  # the same on all hosts: they have nothing else in common

TCP_DOMAIN = b"dispycos"
IPC_DOMAIN = b"dispycos-ipc"
ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_BATCH = 64  # answers per turn of the loop: strangers who knock must not hold up the others

FRAME_MAX = 256 * 1024 + 4 * 1024
HANDSHAKE_MS = 3000
HEARTBEAT_MS = 1000
REPORT_AGAIN_S = 60.0
REPORTS_MAX = 1000


class SecretError(Failure):
    """There is no secret that we would trust."""


@dataclass(frozen=True, slots=True)
class Secret:
    data: bytes = field(repr=False)
    source: str

    @property
    def text(self) -> str:
        """As it stands in a secret file."""
        return self.data.hex()

    @property
    def tag(self) -> str:
        """Tells clusters apart in public without telling the secret."""
        return hmac.digest(self.data, b"discovery", "sha256")[:8].hex()

    @classmethod
    def load_or_make(
        cls,
        path: Path | None = None,
        passphrase: str | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Secret:
        """The passphrase, else the file, else what the environment says, else the user's own file, made if missing."""
        environ = os.environ if environ is None else environ
        if passphrase is not None:
            return cls(secret_bytes(passphrase, "the passphrase"), "the passphrase given with --secret")
        if path is not None:
            return cls(read_secret(path), str(path))
        if environ.get(SECRET_VARIABLE):
            return cls(secret_bytes(environ[SECRET_VARIABLE], SECRET_VARIABLE), SECRET_VARIABLE)
        if environ.get(SECRET_FILE_VARIABLE):
            return cls.load_or_make(Path(environ[SECRET_FILE_VARIABLE]).expanduser())
        path = find_folders(environ).secret_file
        if not path.exists():
            make_secret(path)
        return cls(read_secret(path), str(path))


def secret_bytes(text: str, name: str) -> bytes:
    """The bytes that `secret show` printed, or what a passphrase of at least 16 characters comes to."""
    text = text.strip()
    if len(text) == 2 * SECRET_BYTES and all(c in "0123456789abcdefABCDEF" for c in text):
        return bytes.fromhex(text)
    if len(text) < PASSPHRASE_MIN:
        raise SecretError(
            f"{name} has {len(text)} characters, which is too easy to guess",
            f"use at least {PASSPHRASE_MIN} characters, or a secret file: dispycos secret show",
        )
    return hashlib.scrypt(
        text.encode(), salt=SALT, n=SCRYPT_N, r=8, p=1, maxmem=SCRYPT_MEMORY, dklen=SECRET_BYTES
    )


def read_secret(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            _refuse_open_to_others(path, os.fstat(file.fileno()))
            text = file.read(SECRET_FILE_MAX + 1)
    except OSError as error:
        raise SecretError(
            f"the secret file {path} cannot be read: {error.strerror}",
            "copy it from a host of the cluster, where `dispycos secret show` prints it",
        ) from None
    try:
        if len(text) > SECRET_FILE_MAX:
            raise UnicodeError
        return secret_bytes(text.decode(), f"the secret in {path}")
    except UnicodeError:
        raise SecretError(
            f"{path} does not hold a secret", "it should hold what `dispycos secret show` prints"
        ) from None


def _refuse_open_to_others(path: Path, found: os.stat_result) -> None:
    """A secret mounted by Kubernetes or systemd is root's, and may be readable by a group."""
    if os.name != "posix":
        return
    if not stat.S_ISREG(found.st_mode):
        raise SecretError(f"the secret file {path} is not a file")
    if found.st_uid not in (0, os.getuid()):
        raise SecretError(
            f"the secret file {path} belongs to another user (uid {found.st_uid})",
            f"copy it for yourself: install -m 600 {path} FILE",
        )
    allowed = 0o740 if found.st_uid == 0 else 0o700
    if found.st_mode & 0o777 & ~allowed:
        raise SecretError(
            f"the secret file {path} can be read or changed by others (mode {found.st_mode & 0o777:o})",
            f"chmod 600 {path}",
        )


def make_secret(path: Path) -> None:
    """Makes the file whole or not at all; two processes that make it at once end up with the same secret."""
    part = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        make_missing(path.parent)
        _write_new(part, secrets.token_hex(SECRET_BYTES) + "\n")
        try:
            with contextlib.suppress(FileExistsError):
                _publish(part, path)
        finally:
            part.unlink()
    except OSError as error:
        raise SecretError(
            f"the secret file {path} cannot be made: {error.strerror}",
            "name one with --secret_file, or make the folder writable",
        ) from error


def _write_new(path: Path, text: str) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _publish(part: Path, path: Path) -> None:
    """A hard link appears whole and never replaces; some file systems have none."""
    try:
        os.link(part, path)
    except FileExistsError:
        raise
    except OSError:
        _write_new(path, part.read_text())


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
    def from_secret(cls, secret: Secret) -> Keys:
        return cls(
            listener=_key_pair(secret.data, "listener"),
            by_role={role: _key_pair(secret.data, role) for role in ROLES},
            tag=secret.tag,
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


def own_uid_only(peer: IpcPeer) -> bool:
    return peer.uid == os.getuid()


OnRefused = Callable[[str, str], None]  # address, reason


class Zap:
    """Answers libzmq's question, for each new connection of a Context, whether it may stay.

    One per Context, on the loop that owns it, bound before the first listener. The User-Id of every message
    that comes over such a connection is the role of its key, or `ipc:UID:PID`.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        keys: Keys | None,
        on_refused: OnRefused,
        ipc_allows: Callable[[IpcPeer], bool] = own_uid_only,
    ) -> None:
        self._keys = keys
        self._on_refused = on_refused
        self._ipc_allows = ipc_allows
        self._loop = asyncio.get_running_loop()
        self._socket = context.socket(zmq.REP)
        self._socket.setsockopt(zmq.LINGER, 0)
        self._socket.bind(ZAP_ENDPOINT)
        self._fd = self._socket.fileno()
        self._loop.add_reader(self._fd, self.serve)
        self._loop.call_soon(self.serve)

    def close(self) -> None:
        if not self._socket.closed:
            self._loop.remove_reader(self._fd)
            self._socket.close()

    def serve(self) -> None:
        """The descriptor tells of changes only, so all questions are taken, or the rest in the next turn."""
        for _ in range(ZAP_BATCH):
            if self._socket.closed:
                return
            try:
                frames = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._socket.send_multipart(self._answer(frames), zmq.NOBLOCK)
        self._loop.call_soon(self.serve)

    def _answer(self, frames: list[bytes]) -> list[bytes]:
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
        if peer is None or not self._ipc_allows(peer):
            return None
        return f"ipc:{peer.uid}:{peer.pid}"

    def _reason(self, mechanism: bytes, address: str) -> str:
        peer = ipc_peer(address)
        if peer is not None:
            return f"process {peer.pid} of user {peer.uid} may not connect here"
        return "it has another secret" if mechanism == b"CURVE" else "it has no key"


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
SECRET_REMEDY = "copy the secret file from one host to the other (`dispycos secret show` prints it)"


class RefusalWatch:
    """Tells who was turned away by a listening socket before ZAP saw a key; the others ZAP reports. Keeps its door.

    The monitor names the local end only, so the peer's address is asked of the descriptor once accepted; if
    that is closed already, the address stays unknown. Each (address, reason) is told once a minute, however
    often it knocks.
    """

    def __init__(self, listener: zmq.Socket[bytes], on_refused: OnRefused) -> None:
        self._on_refused = on_refused
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self.admitted: Callable[[], int] = lambda: 0  # how many of those inside have proved themselves
        self._door: Door | None = None
        self._peers: dict[int, str] = {}
        self._reason = ""
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()
        events = zmq.EVENT_LISTENING | zmq.EVENT_ACCEPTED | zmq.EVENT_DISCONNECTED | HANDSHAKE_FAILURES
        self._monitor = listener.get_monitor_socket(events)
        self._monitor.setsockopt(zmq.LINGER, 0)
        self._fd = self._monitor.fileno()
        self._loop.add_reader(self._fd, self.serve)
        self._loop.call_soon(self.serve)

    def close(self) -> None:
        """Before the listener is closed."""
        if not self._monitor.closed:
            self._loop.remove_reader(self._fd)
            self._listener.disable_monitor()
            self._monitor.close()
        if self._door is not None:
            self._door.close()
            self._door = None

    def serve(self) -> None:
        for _ in range(ZAP_BATCH):
            if self._monitor.closed:
                return
            try:
                frames = self._monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            self._on_event(*struct.unpack("=HI", frames[0]))
        self._loop.call_soon(self.serve)

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
            if reason and self._is_news(address, reason):
                self._on_refused(address, reason)

    def _mind_the_door(self) -> None:
        if self._door is None:
            return
        strangers = len(self._peers) - self.admitted()
        self._door.see(strangers)
        if not self._door.is_open and self._is_news("", "crowded"):
            log.warning(
                "%d connections at %s have not proved that they are of this cluster: until some have ended, others that come there "
                "wait, but not processes of this host and user",
                strangers,
                self._listener.getsockopt_string(zmq.LAST_ENDPOINT),
            )

    def _is_news(self, address: str, reason: str) -> bool:
        now = self._loop.time()
        if self._told.get((address, reason), 0.0) > now:
            return False
        self._told[address, reason] = now + REPORT_AGAIN_S
        self._told.move_to_end((address, reason))
        while len(self._told) > REPORTS_MAX:
            self._told.popitem(last=False)
        return True


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

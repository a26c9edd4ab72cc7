"""Who is let in: the secret file, the keys, and real sockets that knock with right and wrong ones."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import zmq

from dispycos.transport.refusals import HANDSHAKE_FAILURES, UNKNOWN, RefusalWatch, explain_handshake_failure
from dispycos.transport.secret import Secret, SecretError
from dispycos.transport.security import (
    IpcPeer,
    Keys,
    Zap,
    derive,
    ipc_peer,
    pid_of_user,
    secure_dialler,
    secure_ipc,
    secure_knock,
    secure_listener,
    socket_options,
)

Context = zmq.Context[zmq.Socket[bytes]]
OURS = Keys.from_secret(Secret(b"o" * 32, "test"))
THEIRS = Keys.from_secret(Secret(b"t" * 32, "test"))


# --- the secret ---


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}


def test_the_secret_is_made_on_first_use_for_the_user_alone(home: dict[str, str], tmp_path: Path) -> None:
    secret = Secret.load_or_make(environ=home)

    path = tmp_path / ".config" / "dispycos" / "secret"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert path.read_text() == secret.text + "\n"
    assert len(secret.data) == 32
    assert [p.name for p in path.parent.iterdir()] == ["secret"]
    assert Secret.load_or_make(environ=home) == secret
    assert secret.text not in repr(secret)


def test_processes_that_make_the_secret_at_once_end_up_with_the_same(home: dict[str, str]) -> None:
    program = "from dispycos.transport.security import Secret; print(Secret.load_or_make().text)"
    started = [
        subprocess.Popen(
            [sys.executable, "-c", program], env={**os.environ, **home}, stdout=subprocess.PIPE, text=True
        )
        for _ in range(4)
    ]
    assert len({p.communicate(timeout=30)[0] for p in started}) == 1


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o602, 0o604])
def test_a_secret_file_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_text("ab" * 32)
    path.chmod(mode)
    if os.getuid() == 0 and mode == 0o640:
        pytest.skip("root's own secret may be readable by a group")
    with pytest.raises(SecretError) as caught:
        Secret.load_or_make(path)
    assert str(path) in caught.value.text and f"{mode:o}" in caught.value.text
    assert caught.value.remedy == f"chmod 600 {path}"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to make a file of root")
def test_a_mounted_secret_may_be_a_link_to_a_file_of_root_for_a_group(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("ab" * 32)
    (tmp_path / "data").chmod(0o440)
    (tmp_path / "secret").symlink_to("data")
    assert Secret.load_or_make(tmp_path / "secret").data == b"\xab" * 32


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to give a file away")
def test_a_secret_of_another_user_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("ab" * 32)
    path.chmod(0o600)
    os.chown(path, 12345, -1)
    with pytest.raises(SecretError, match="another user"):
        Secret.load_or_make(path)


@pytest.mark.parametrize(
    ("content", "complaint"), [(b"", "0 characters"), (b"\xff" * 40, "not hold"), (b"x" * 5000, "not hold")]
)
def test_a_file_that_holds_no_secret_is_refused(tmp_path: Path, content: bytes, complaint: str) -> None:
    path = tmp_path / "secret"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SecretError, match=complaint):
        Secret.load_or_make(path)


def test_a_secret_file_that_is_missing_is_not_made_where_the_user_named_it(tmp_path: Path) -> None:
    with pytest.raises(SecretError, match="No such file"):
        Secret.load_or_make(tmp_path / "secret")
    assert not list(tmp_path.iterdir())


def test_a_passphrase_gives_the_same_secret_everywhere_and_a_short_one_none() -> None:
    first = Secret.load_or_make(passphrase="correct horse battery")
    assert first.data == Secret.load_or_make(environ={"DISPYCOS_SECRET": "correct horse battery"}).data
    assert first.data != Secret.load_or_make(passphrase="correct horse batterx").data
    assert "horse" not in first.source
    with pytest.raises(SecretError, match="15 characters"):
        Secret.load_or_make(passphrase="x" * 15)


def test_what_secret_show_prints_may_be_given_as_a_passphrase() -> None:
    assert Secret.load_or_make(passphrase=Secret(b"\x01" * 32, "").text).data == b"\x01" * 32


def test_the_environment_may_name_the_secret_file(tmp_path: Path, home: dict[str, str]) -> None:
    path = tmp_path / "of the cluster"
    path.write_text("ab" * 32)
    path.chmod(0o600)
    named = {**home, "DISPYCOS_SECRET_FILE": str(path)}
    assert Secret.load_or_make(environ=named).data == b"\xab" * 32
    assert Secret.load_or_make(environ={**named, "DISPYCOS_SECRET": "cd" * 32}).data == b"\xcd" * 32


def test_keys_differ_by_role_and_by_secret() -> None:
    publics = {pair.public for keys in (OURS, THEIRS) for pair in (keys.listener, *keys.by_role.values())}
    assert len(publics) == 10
    assert Keys.from_secret(Secret(b"o" * 32, "elsewhere")) == OURS
    assert OURS.tag != THEIRS.tag and len(bytes.fromhex(OURS.tag)) == 8
    assert OURS.by_role["node"].private.decode() not in repr(OURS)


def test_derivation_is_hkdf_of_rfc_5869() -> None:
    """The figure is another implementation's HKDF(SHA256, 32, salt=b"dispycos", info=b"purpose")."""
    expected = "b60ae748c07f193ac5658763ba0d0f7fcf8648780e4e676918e9fc723443b594"
    assert derive(b"s" * 32, "purpose").hex() == expected


@pytest.mark.parametrize(
    ("user", "pid"), [("ipc:1000:42", 42), ("ipc:0:0", 0), ("client", 0), ("node", 0), ("", 0)]
)
def test_only_the_user_of_an_ipc_connection_names_a_process(user: str, pid: int) -> None:
    assert pid_of_user(user) == pid


def test_only_libzmqs_form_names_an_ipc_peer() -> None:
    assert ipc_peer("localhost:1000:100:42") == IpcPeer(1000, 100, 42)
    for other in ("127.0.0.1", "fe80::1:2:3", "localhost", "localhost:1:2", "localhost:a:b:c"):
        assert ipc_peer(other) is None


# --- real connections ---


class Door:
    """A listener of our cluster on loopback, and what was said of those who knocked."""

    def __init__(self) -> None:
        self.context: Context = zmq.Context()
        self.diallers: list[Dialler] = []
        self.refused: list[tuple[str, str]] = []
        self.zap = Zap(self.context, OURS, lambda *refusal: self.refused.append(refusal))
        self.listener = self.context.socket(zmq.ROUTER)
        socket_options(self.listener)
        secure_listener(self.listener, OURS)
        self.watch = RefusalWatch(self.listener, lambda *refusal: self.refused.append(refusal))
        self.listener.bind("tcp://127.0.0.1:*")
        self.endpoint = self.listener.getsockopt_string(zmq.LAST_ENDPOINT)

    def serve(self) -> None:
        """As a mailbox does."""
        for one in (self.zap, self.watch):
            while not one.socket.closed and one.socket.poll(0):
                one.take(one.socket.recv_multipart())

    @property
    def port(self) -> int:
        return int(self.endpoint.rsplit(":", 1)[1])

    def dial(self, secure: Callable[[zmq.Socket[bytes]], None]) -> Dialler:
        self.diallers.append(Dialler(self.context, secure, self.endpoint))
        return self.diallers[-1]

    async def first_received(self) -> list[tuple[str, bytes]]:
        await until(lambda: bool(self.listener.poll(0)))
        return self.received()

    def received(self) -> list[tuple[str, bytes]]:
        """(user, body) of each message that is there."""
        found = []
        while self.listener.poll(0):
            frames = self.listener.recv_multipart(copy=False)
            found.append((str(frames[1].get("User-Id")), frames[1].bytes))
        return found


class Dialler:
    def __init__(self, context: Context, secure: Callable[[zmq.Socket[bytes]], None], endpoint: str) -> None:
        self.socket = context.socket(zmq.DEALER)
        socket_options(self.socket)
        secure(self.socket)
        self.monitor = self.socket.get_monitor_socket(HANDSHAKE_FAILURES)
        self.socket.connect(endpoint)
        with contextlib.suppress(zmq.Again):  # it was refused already
            self.socket.send(b"let me in", zmq.NOBLOCK)

    async def refusal(self) -> str:
        await until(lambda: bool(self.monitor.poll(0)), 1.0)
        return explain_handshake_failure(*struct.unpack("=HI", self.monitor.recv_multipart()[0]))


@asynccontextmanager
async def a_door() -> AsyncIterator[Door]:
    door = Door()
    serving = asyncio.create_task(serve(door.serve))
    try:
        yield door
    finally:
        serving.cancel()
        door.watch.close()
        door.context.destroy(linger=0)


async def serve(look: Callable[[], None]) -> None:
    while True:
        look()
        await asyncio.sleep(0.001)


async def until(condition: Callable[[], bool], timeout_s: float = 5.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():
            await asyncio.sleep(0.005)


def run(story: Callable[[Door], Awaitable[None]]) -> None:
    async def main() -> None:
        async with a_door() as door:
            await story(door)

    asyncio.run(main())


@pytest.mark.parametrize("role", ["scheduler", "node", "client", "viewer"])
def test_the_right_key_passes_and_proves_its_role(role: str) -> None:
    async def story(door: Door) -> None:
        door.dial(lambda s: secure_dialler(s, OURS, role))
        assert await door.first_received() == [(role, b"let me in")]
        assert door.refused == []

    run(story)


def test_a_wrong_secret_is_refused_and_both_ends_say_so_within_a_second() -> None:
    async def story(door: Door) -> None:
        dialler = door.dial(lambda s: secure_dialler(s, THEIRS, "client"))
        assert await dialler.refusal() == "refused: it has another secret"
        await until(lambda: bool(door.refused), 1.0)
        ((address, reason),) = door.refused
        assert reason == "it has another secret"
        assert address in ("127.0.0.1", UNKNOWN)  # the connection may be gone before it is looked at
        assert door.received() == []

    run(story)


def test_a_key_of_no_role_under_the_right_listener_key_is_refused_by_name() -> None:
    mixed = Keys(OURS.listener, THEIRS.by_role, OURS.tag)

    async def story(door: Door) -> None:
        dialler = door.dial(lambda s: secure_dialler(s, mixed, "client"))
        assert "does not accept our key" in await dialler.refusal()
        await until(lambda: bool(door.refused), 1.0)
        assert door.refused == [("127.0.0.1", "it has another secret")]
        assert door.received() == []

    run(story)


def test_one_who_knocks_with_the_announced_key_is_refused_with_its_address() -> None:
    async def story(door: Door) -> None:
        dialler = door.dial(lambda s: secure_knock(s, OURS.listener.public))
        assert "another secret" in await dialler.refusal()
        await until(lambda: bool(door.refused), 1.0)
        assert door.refused == [("127.0.0.1", "it has another secret")]
        assert door.received() == []

    run(story)


def test_a_dialler_without_keys_gets_nowhere_on_tcp() -> None:
    async def story(door: Door) -> None:
        dialler = door.dial(lambda s: None)
        assert "--insecure" in await dialler.refusal()
        await until(lambda: bool(door.refused), 1.0)
        ((address, reason),) = door.refused
        assert reason == "it came without a key"
        assert address in ("127.0.0.1", UNKNOWN)
        assert door.received() == []

    run(story)


def test_one_who_leaves_in_the_middle_of_the_handshake_is_not_said_to_be_refused() -> None:
    async def story(door: Door) -> None:
        for words in (b"", b"\xff" + bytes(8) + b"\x7f\x03"):  # the beginning of a greeting
            with socket.create_connection(("127.0.0.1", door.port)) as visitor:
                visitor.sendall(words)
                await asyncio.sleep(0.05)
        door.dial(lambda s: secure_dialler(s, OURS, "client"))
        await door.first_received()
        assert door.refused == []

    run(story)


def test_without_a_zap_handler_nobody_gets_in() -> None:
    async def story(door: Door) -> None:
        door.zap.socket.close()
        door.dial(lambda s: secure_dialler(s, OURS, "client"))
        await asyncio.sleep(0.3)
        assert door.received() == []

    run(story)


def test_a_stranger_with_raw_bytes_gets_nowhere_and_costs_little_memory() -> None:
    async def story(door: Door) -> None:
        before = memory()
        strangers = [socket.create_connection(("127.0.0.1", door.port), timeout=5) for _ in range(200)]
        for number, stranger in enumerate(strangers):
            stranger.setblocking(False)
            knock(stranger, number)
        await asyncio.sleep(0.5)
        for number, stranger in enumerate(strangers):
            knock(stranger, number)
        await asyncio.sleep(0.2)
        grown = memory() - before
        for stranger in strangers:
            stranger.close()
        print(f"200 strangers: {grown / 2**20:.1f} MiB")
        assert grown < 10 * 2**20
        assert door.received() == []
        door.dial(lambda s: secure_dialler(s, OURS, "client"))
        assert await door.first_received() == [("client", b"let me in")]

    run(story)


def knock(stranger: socket.socket, number: int) -> None:
    greeting = b"\xff" + b"\0" * 8 + b"\x7f\x03\x01" + b"CURVE".ljust(20, b"\0") + b"\0" * 32
    huge = greeting + b"\x06" + struct.pack(">Q", 2**40) + b"x" * 100_000
    bytes_of = [b"GET / HTTP/1.1\r\n\r\n" * 5000, huge, os.urandom(100_000), b""][number % 4]
    try:
        stranger.send(bytes_of)
    except (BlockingIOError, ConnectionError):
        pass  # it was thrown out


def memory() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


@pytest.mark.parametrize("is_ours", [True, False])
def test_ipc_is_for_processes_of_our_own_user(
    is_ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uid = os.getuid()
    refused: list[str] = []

    async def main() -> None:
        context: Context = zmq.Context()
        zap = Zap(context, None, lambda address, reason: refused.append(reason))
        listener = context.socket(zmq.ROUTER)
        socket_options(listener)
        secure_ipc(listener)
        endpoint = f"ipc://{tmp_path}/s"
        listener.bind(endpoint)
        try:
            dialler = Dialler(context, lambda s: None, endpoint)
            await until(lambda: bool(zap.socket.poll(0)))
            if not is_ours:
                monkeypatch.setattr(os, "getuid", lambda: uid + 1)
            zap.take(zap.socket.recv_multipart())
            if is_ours:
                await until(lambda: bool(listener.poll(0)))
                assert not dialler.monitor.poll(0)
                frames = listener.recv_multipart(copy=False)
                assert (str(frames[1].get("User-Id")), frames[1].bytes) == (
                    f"ipc:{uid}:{os.getpid()}",
                    b"let me in",
                )
            else:
                await until(lambda: bool(dialler.monitor.poll(0)))
                assert not listener.poll(0)
        finally:
            context.destroy(linger=0)

    asyncio.run(main())
    assert refused == ([] if is_ours else [f"process {os.getpid()} of user {uid} may not connect here"])


@pytest.fixture(autouse=True)
def no_secret_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("DISPYCOS_SECRET", raising=False)
    yield

"""Real sockets on loopback: links come up, bring messages in order, go down with a reason, and no edge is lost."""

from __future__ import annotations

import asyncio
import errno
import os
import resource
import socket
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import zmq

from dispycos.transport.mailbox import (
    CLOSED_MAX,
    DRAIN_MAX,
    LINK_DESCRIPTORS,
    Buffer,
    Mailbox,
    _Dialled,
    _Listener,
    is_readable,
)
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys

pytestmark = pytest.mark.timeout(30)

OURS = Keys.from_secret(Secret(b"o" * 32, "test"))
THEIRS = Keys.from_secret(Secret(b"t" * 32, "test"))
ANY_PORT = "tcp://127.0.0.1:*"
WAIT_S = 5.0


class Up(NamedTuple):
    link: int
    dialled: bool
    role: str | None


class Down(NamedTuple):
    link: int
    reason: str
    refused: bool


class Owner:
    """Writes down what the mailbox tells, and pumps when it says so."""

    def __init__(self, keys: Keys | None) -> None:
        self.mailbox = Mailbox(asyncio.get_running_loop(), self, keys)
        self.ups: list[Up] = []
        self.downs: list[Down] = []
        self.messages: list[tuple[int, list[bytes]]] = []
        self.strangers: list[tuple[str, str]] = []
        self.changed = asyncio.Event()
        self.on_each: Callable[[int, list[bytes]], None] = lambda link, frames: None
        self.pumps = 0
        self.asleep = False  # its loop has no time for it
        self._soon = False

    def on_link_up(self, link: int, *, dialled: bool, role: str | None) -> None:
        self.ups.append(Up(link, dialled, role))
        self.changed.set()

    def on_link_down(self, link: int, reason: str, *, refused: bool) -> None:
        self.downs.append(Down(link, reason, refused))
        self.changed.set()

    def on_message(self, link: int, frames: Sequence[Buffer]) -> None:
        received = [bytes(frame) for frame in frames]
        self.messages.append((link, received))
        self.changed.set()
        self.on_each(link, received)

    def on_stranger(self, address: str, reason: str) -> None:
        self.strangers.append((address, reason))
        self.changed.set()

    def turn(self) -> None:
        self._soon = False
        if self.asleep:
            return
        self.pumps += 1
        self.mailbox.pump()
        self.mailbox.after_sends()

    def turn_soon(self) -> None:
        if not self._soon:
            self._soon = True
            asyncio.get_running_loop().call_soon(self._turn_if_due)

    def _turn_if_due(self) -> None:
        if self._soon:
            self.turn()

    def send(self, link: int, *frames: bytes) -> bool:
        sent = self.mailbox.send(link, frames)
        self.turn_soon()
        return sent

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


def play(scene: Callable[..., Awaitable[None]], *keys: Keys | None) -> None:
    """Runs the scene with an owner for each of the keys, closed at its end."""

    async def main() -> None:
        owners = [Owner(key) for key in keys]
        try:
            async with asyncio.timeout(20):
                await scene(*owners)
        finally:
            for owner in owners:
                owner.mailbox.close()

    asyncio.run(main())


@asynccontextmanager
async def linked(here: Owner, there: Owner, endpoint: str = ANY_PORT) -> AsyncIterator[tuple[int, int]]:
    """`here` dials `there`; gives the link's number at both, after one message."""
    endpoint = there.mailbox.listen(endpoint)
    link = here.mailbox.dial(endpoint, role="client")
    await here.until(lambda: here.ups)
    here.send(link, b"hello")
    await there.until(lambda: there.messages)
    yield link, there.ups[0].link


# --- up, there and back, down ---


def test_a_dialled_link_comes_up_before_anything_is_said() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        link = here.mailbox.dial(there.mailbox.listen(ANY_PORT), role="client")
        await here.until(lambda: here.ups)
        assert here.ups == [Up(link, True, None)]
        assert there.ups == []  # a ROUTER hears of a peer with its first message

    play(scene, OURS, OURS)


def test_messages_go_both_ways_frame_by_frame() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (link, back):
            here.send(link, b"one", b"", b"three" * 1000)
            await there.until(lambda: len(there.messages) == 2)
            assert there.messages[1] == (back, [b"one", b"", b"three" * 1000])
            there.send(back, b"answer")
            there.send(back, b"a", b"b")
            await here.until(lambda: len(here.messages) == 2)
            assert here.messages == [(link, [b"answer"]), (link, [b"a", b"b"])]

    play(scene, OURS, OURS)


@pytest.mark.parametrize("role", ["client", "node", "scheduler", "viewer"])
def test_a_peers_role_comes_from_its_key(role: str) -> None:
    async def scene(here: Owner, there: Owner) -> None:
        link = here.mailbox.dial(there.mailbox.listen(ANY_PORT), role=role)
        here.send(link, b"hello")
        await there.until(lambda: there.messages)
        assert [(up.dialled, up.role) for up in there.ups] == [(False, role)]

    play(scene, OURS, OURS)


def test_processes_of_this_host_meet_by_a_file_that_is_theirs_alone(tmp_path: Path) -> None:
    path = tmp_path / "n.sock"

    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there, f"ipc://{path}"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert there.ups[0].role is None  # who it is, it says itself: the user is the same

    play(scene, None, OURS)
    assert not path.exists()


def test_the_process_behind_a_link_within_the_host_is_known_while_the_link_lasts(tmp_path: Path) -> None:
    async def scene(here: Owner, there: Owner, other: Owner) -> None:
        async with (
            linked(here, there, f"ipc://{tmp_path}/n.sock") as (forth, back),
            linked(here, other) as (far, further),
        ):
            assert there.mailbox.pid_of(back) == os.getpid()
            assert other.mailbox.pid_of(further) == here.mailbox.pid_of(far) == os.getpid()
            assert here.mailbox.pid_of(forth) == os.getpid() and here.mailbox.tells_end(forth)
            assert not any(owner.mailbox.tells_end(link) for owner, link in ((here, far), (there, back)))
            there.mailbox.close_link(back)
            assert there.mailbox.pid_of(back) == 0

    play(scene, OURS, OURS, OURS)


def test_the_process_that_accepts_a_connection_late_is_known_too() -> None:
    """The kernel connects to who listens; until it has accepted, no process has the connection."""

    async def pump(source: asyncio.StreamReader, drain: asyncio.StreamWriter) -> None:
        while data := await source.read(4096):
            drain.write(data)
        drain.close()

    async def scene(here: Owner, there: Owner) -> None:
        behind = int(there.mailbox.listen(ANY_PORT).rpartition(":")[2])

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            further, back = await asyncio.open_connection("127.0.0.1", behind)
            await asyncio.gather(pump(reader, back), pump(further, writer))

        with socket.create_server(("127.0.0.1", 0)) as busy:
            link = here.mailbox.dial(f"tcp://127.0.0.1:{busy.getsockname()[1]}", role="client")
            await asyncio.sleep(0.2)
            server = await asyncio.start_server(serve, sock=busy)
            await here.until(lambda: here.ups)
            assert here.mailbox.pid_of(link) == os.getpid()
            here.mailbox.close()
            server.close()

    play(scene, OURS, OURS)


def test_the_process_is_what_the_kernel_says_whatever_the_peer_says(tmp_path: Path) -> None:
    path = f"{tmp_path}/n.sock"

    async def claim(peer: socket.socket) -> None:
        """A ZMTP 3.0 handshake by hand (rfc.zeromq.org/spec/23), with a User-Id of the peer's own; then a message."""
        loop = asyncio.get_running_loop()
        ready = b"\x05READY"
        for name, value in ((b"Socket-Type", b"DEALER"), (b"Identity", b""), (b"User-Id", b"ipc:0:1")):
            ready += bytes([len(name)]) + name + len(value).to_bytes(4, "big") + value
        peer.setblocking(False)
        await loop.sock_connect(peer, path)
        await loop.sock_sendall(peer, b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(52, b"\0"))
        await loop.sock_sendall(peer, b"\x04" + bytes([len(ready)]) + ready)
        heard = b""
        while b"READY" not in heard:
            heard += await loop.sock_recv(peer, 4096)
        await loop.sock_sendall(peer, b"\x00\x05hello")

    async def scene(there: Owner) -> None:
        there.mailbox.listen(f"ipc://{path}")
        with socket.socket(socket.AF_UNIX) as peer:
            await claim(peer)
            await there.until(lambda: there.messages)
            assert there.messages[0][1] == [b"hello"]
            assert there.mailbox.pid_of(there.ups[0].link) == os.getpid()

    play(scene, OURS)


def test_a_link_that_breaks_is_told_with_a_reason() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (link, _):
            there.mailbox.close()
            await here.until(lambda: here.downs)
            assert here.downs == [Down(link, "connection lost", False)]
            assert not here.send(link, b"too late")

    play(scene, OURS, OURS)


def test_what_was_sent_before_the_break_arrives() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (link, back):
            for number in range(500):
                there.send(back, b"%d" % number)
            there.mailbox.close()
            await here.until(lambda: here.downs)
            assert [frames for _, frames in here.messages] == [[b"%d" % number] for number in range(500)]
            assert here.downs[0].link == link

    play(scene, OURS, OURS)


def test_where_nobody_listens_the_attempt_ends_with_a_reason() -> None:
    async def scene(here: Owner) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            link = here.mailbox.dial(f"tcp://127.0.0.1:{probe.getsockname()[1]}", role="client")
            await here.until(lambda: here.downs)
        assert here.ups == []
        assert [(down.link, down.refused) for down in here.downs] == [(link, False)]
        assert here.downs[0].reason

    play(scene, OURS)


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_a_handshake_that_nobody_answers_is_no_refusal(
    transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a process that is paused: the kernel accepts for it."""
    for module in ("security", "refusals"):
        monkeypatch.setattr(f"dispycos.transport.{module}.HANDSHAKE_MS", 200)

    async def scene(here: Owner) -> None:
        family, place = (
            (socket.AF_INET, ("127.0.0.1", 0))
            if transport == "tcp"
            else (socket.AF_UNIX, str(tmp_path / "s"))
        )
        with socket.socket(family) as paused:
            paused.bind(place)
            paused.listen()
            endpoint = (
                f"tcp://127.0.0.1:{paused.getsockname()[1]}" if transport == "tcp" else f"ipc://{place}"
            )
            link = here.mailbox.dial(endpoint, role="client")
            await here.until(lambda: here.downs)
        assert here.downs == [Down(link, "it does not answer: no handshake within 0.2 s", False)]

    play(scene, OURS)


def test_a_member_of_another_cluster_is_refused_and_both_hear_why() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        link = here.mailbox.dial(there.mailbox.listen(ANY_PORT), role="client")
        here.send(link, b"let me in")
        await here.until(lambda: here.downs)
        assert [(down.link, down.refused) for down in here.downs] == [(link, True)]
        assert here.downs[0].reason
        assert there.messages == [] and there.ups == []

    play(scene, THEIRS, OURS)


def test_a_knock_with_the_announced_key_is_heard_on_both_sides() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        endpoint = there.mailbox.listen(ANY_PORT)
        here.mailbox.dial(endpoint, role="client", foreign_key=OURS.listener.public)
        await here.until(lambda: here.downs)
        assert here.downs[0].refused
        await there.until(lambda: there.strangers)
        assert there.strangers[0][0].startswith("127.0.0.1")

    play(scene, THEIRS, OURS)


def test_a_port_that_is_taken_is_an_error_and_leaves_nothing_open() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        endpoint = there.mailbox.listen(ANY_PORT)
        before = len(here.mailbox.descriptors())
        with pytest.raises(zmq.ZMQError) as info:
            here.mailbox.listen(endpoint)
        assert info.value.errno == zmq.EADDRINUSE
        assert len(here.mailbox.descriptors()) <= before + 1  # the ZAP handler stays
        assert here.mailbox.listen(ANY_PORT) != endpoint

    play(scene, OURS, OURS)


def test_without_a_descriptor_a_link_is_an_error_and_leaves_nothing_open() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        endpoint = there.mailbox.listen(ANY_PORT)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        free = os.dup(0)
        os.close(free)
        for more, here.mailbox.spare in (0, 0), (LINK_DESCRIPTORS - 1, 0), (LINK_DESCRIPTORS + 9, 10):
            resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, hard))
            try:
                with pytest.raises(OSError) as info:
                    here.mailbox.dial(endpoint, role="client")
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert info.value.errno == errno.EMFILE
        left = os.dup(0)
        os.close(left)
        assert left == free
        assert here.mailbox.dial(endpoint, role="client")

    play(scene, OURS, OURS)


# --- closing ---


def test_a_closed_link_says_nothing_more() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (link, back):
            there.mailbox.close_link(back)
            here.send(link, b"are you there?")
            marker = here.mailbox.dial(there.mailbox._listeners[0].endpoint, role="client")
            here.send(marker, b"marker")
            await there.until(lambda: len(there.messages) == 2)
            assert there.messages[1][1] == [b"marker"]
            assert len(there.ups) == 2 and there.downs == []
            assert not there.send(back, b"no")

    play(scene, OURS, OURS)


def test_a_farewell_just_before_the_close_arrives() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (link, _):
            here.send(link, b"bye")
            here.mailbox.close_link(link)
            await there.until(lambda: len(there.messages) == 2)
            assert there.messages[1][1] == [b"bye"]
            assert here.downs == []  # who closes need not be told

    play(scene, OURS, OURS)


def test_closing_a_link_twice_or_an_unknown_one_is_nothing() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (link, back):
            for _ in range(2):
                here.mailbox.close_link(link)
                there.mailbox.close_link(back)
            here.mailbox.close_link(4711)
            assert here.downs == [] and there.downs == []

    play(scene, OURS, OURS)


def test_links_are_numbered_once() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        endpoint = there.mailbox.listen(ANY_PORT)
        numbers = []
        for _ in range(5):
            numbers.append(here.mailbox.dial(endpoint, role="client"))
            here.mailbox.close_link(numbers[-1])
        assert numbers == sorted(set(numbers))

    play(scene, OURS, OURS)


def test_a_closed_mailbox_leaves_no_descriptor_behind() -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there):
            pass

    play(scene, OURS, OURS)  # what is made once per process
    before = open_files()
    for _ in range(3):
        play(scene, OURS, OURS)
    assert open_files() <= before


def test_a_listener_remembers_a_bounded_number_of_closed_links() -> None:
    listener = _Listener(None, "", False)  # type: ignore[arg-type]
    for number in range(CLOSED_MAX + 10):
        listener.close(b"%d" % number)
    assert len(listener.closed) == CLOSED_MAX
    assert b"9" not in listener.closed and b"%d" % (CLOSED_MAX + 9) in listener.closed


# --- edges ---


def test_more_messages_than_one_turn_reads_all_come_in_order() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (link, _):
            count = 5 * DRAIN_MAX + 3
            for number in range(count):
                here.mailbox.send(link, [b"%d" % number])
            here.turn_soon()
            await there.until(lambda: len(there.messages) == count + 1)
            assert [frames for _, frames in there.messages[1:]] == [
                [b"%d" % number] for number in range(count)
            ]

    play(scene, OURS, OURS)


def test_one_peer_that_floods_does_not_hold_up_the_others() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (loud, _):
            other = there.mailbox.listen(ANY_PORT)
            quiet = here.mailbox.dial(other, role="client")
            here.send(quiet, b"hello")
            await there.until(lambda: len(there.messages) == 2)
            for number in range(20 * DRAIN_MAX):
                here.mailbox.send(loud, [b"%d" % number])
            here.mailbox.send(quiet, [b"me too"])
            _until_readable(there)
            at: list[int] = []
            there.on_each = lambda link, frames: (
                at.append(len(there.messages)) if frames == [b"me too"] else None
            )
            there.mailbox.look_at_all()  # the other thread took the edges
            there.turn_soon()
            await there.until(lambda: at)
            assert at[0] <= 2 + 2 * DRAIN_MAX + 1

    play(scene, OURS, OURS)


def _until_readable(owner: Owner) -> None:
    """All listeners have something; the loop waits for this, and so reads nothing meanwhile."""
    assert all(listener.socket.poll(2000) for listener in owner.mailbox._listeners)


def test_what_was_found_readable_is_read_though_nothing_more_is_sent() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (link, _):
            here.mailbox.send(link, [b"read me"])
            _until_readable(there)
            there.mailbox.look_at_all()
            there.mailbox.after_sends()
            await there.until(lambda: [b"read me"] in [frames for _, frames in there.messages])

    play(scene, OURS, OURS)


def test_a_send_that_fails_takes_no_edge() -> None:
    async def scene(here: Owner, there: Owner, third: Owner) -> None:
        async with linked(here, there) as (link, back):
            other = third.mailbox.dial(there.mailbox._listeners[0].endpoint, role="client")
            third.send(other, b"hello")
            await there.until(lambda: len(there.messages) == 2)
            here.mailbox.close_link(link)
            while there.mailbox.send(back, [b"are you there?"]):  # until libzmq has seen the end of it
                there.mailbox.after_sends()
                await asyncio.sleep(0)
            third.mailbox.send(other, [b"read me"])
            _until_readable(there)
            assert not there.mailbox.send(back, [b"are you there?"])
            there.mailbox.after_sends()
            await there.until(lambda: [b"read me"] in [frames for _, frames in there.messages])

    play(scene, OURS, OURS, OURS)


class Arrived:
    """A socket to which all this has come: of a real one nobody can tell what is still on its way."""

    def __init__(self, *frames: bytes) -> None:
        self.frames = list(frames)

    def recv(self, _flags: int) -> bytes:
        if not self.frames:
            raise zmq.Again
        return self.frames.pop(0)

    def getsockopt(self, option: int) -> int:
        if option == zmq.EVENTS:
            return int(zmq.POLLIN) if self.frames else 0
        assert option == zmq.RCVMORE
        return 0


def test_what_listeners_have_is_read_first_and_whole_where_that_is_asked_for() -> None:
    """A server's last words come by its client's listener, and that it is dead by the dialled scheduler."""

    async def scene(client: Owner) -> None:
        lane: Any = Arrived(*(b"server", b"word") * (2 * DRAIN_MAX))
        link: Any = Arrived(b"it is dead")
        mailbox = client.mailbox
        listener = _Listener(lane, ANY_PORT, proven=False)
        listener.links[b"server"] = 1
        dialled = _Dialled(link, link, 2, ANY_PORT)
        mailbox._readers[link] = lambda: mailbox._read_dialled(dialled)
        mailbox._listeners.append(listener)
        mailbox._dialled[2] = dialled
        mailbox._hot[link] = None  # the loop was told of this alone
        mailbox.listeners_first = True
        mailbox.pump()
        assert client.messages == [(1, [b"word"])] * (2 * DRAIN_MAX) + [(2, [b"it is dead"])]
        mailbox._listeners.clear()
        mailbox._dialled.clear()

    play(scene, OURS)


def test_a_message_that_comes_while_we_send_is_read_without_another_edge() -> None:
    """libzmq's FD is edge-triggered, and a send takes the edge: whoever does not look again waits for ever."""
    rounds = 300

    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (link, back):
            for number in range(rounds):
                there.mailbox.send(back, [b"ping %d" % number])
                here.mailbox.send(link, [b"pong %d" % number])  # takes here's edge, if it came already
                if number % 3:
                    await asyncio.sleep(0)
                here.mailbox.after_sends()
                there.mailbox.after_sends()
            await here.until(lambda: len(here.messages) == rounds)
            await there.until(lambda: len(there.messages) == rounds + 1)

    play(scene, OURS, OURS)


def test_looking_at_all_finds_what_another_thread_left() -> None:
    """The relief thread's polls take edges; whoever takes over looks at every socket."""

    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (link, back):
            here.asleep = True
            loop = asyncio.get_running_loop()
            for descriptor in here.mailbox.descriptors():
                loop.remove_reader(descriptor)  # as if the edge were gone
            there.send(back, b"unheard")
            _until_has_message(here, link)  # meanwhile the loop reads nothing
            assert here.messages == []
            here.mailbox.look_at_all()
            here.mailbox.pump()
            assert here.messages == [(link, [b"unheard"])]

    play(scene, OURS, OURS)


def test_a_pump_of_the_whole_reads_each_socket_empty_though_nobody_was_told_of_it() -> None:
    async def scene(here: Owner) -> None:
        mailbox, count = here.mailbox, 3 * DRAIN_MAX
        sockets: list[Any] = [Arrived(*[b"word"] * count), Arrived(*[b"word"] * count)]
        for link, each in enumerate(sockets, start=1):
            dialled = mailbox._dialled[link] = _Dialled(each, each, link, ANY_PORT)
            dialled.up = True
            mailbox._readers[each] = partial(mailbox._read_dialled, dialled)
        mailbox.pump(whole=True)
        assert sorted(here.messages) == [(1, [b"word"])] * count + [(2, [b"word"])] * count
        mailbox._dialled.clear()

    play(scene, OURS)


def _until_has_message(owner: Owner, link: int) -> None:
    socket_ = owner.mailbox._dialled[link].socket
    for _ in range(500):
        if is_readable(socket_):
            return
        time.sleep(0.01)
    raise AssertionError("nothing came")


def test_the_owner_may_close_a_link_in_the_middle_of_its_messages() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (link, back):
            for number in range(10):
                there.mailbox.send(back, [b"%d" % number])
            there.turn_soon()
            _until_has_message(here, link)  # meanwhile the loop reads nothing
            here.on_each = lambda of, frames: here.mailbox.close_link(of) if frames == [b"3"] else None
            here.mailbox.look_at_all()  # the other thread took the edge
            here.turn_soon()
            await here.until(lambda: len(here.messages) >= 4)
            here.mailbox.look_at_all()
            here.mailbox.pump()
            assert [frames for _, frames in here.messages] == [[b"0"], [b"1"], [b"2"], [b"3"]]

    play(scene, OURS, OURS)


def test_a_listeners_owner_may_close_a_link_in_the_middle_of_its_messages() -> None:
    async def scene(here: Owner, there: Owner) -> None:
        async with linked(here, there) as (link, _):
            there.on_each = lambda of, frames: there.mailbox.close_link(of) if frames == [b"3"] else None
            for number in range(10):
                here.mailbox.send(link, [b"%d" % number])
            here.turn_soon()
            await there.until(lambda: len(there.messages) >= 5)
            marker = here.mailbox.dial(there.mailbox._listeners[0].endpoint, role="client")
            here.send(marker, b"marker")
            await there.until(lambda: there.messages[-1][1] == [b"marker"])
            assert [frames for _, frames in there.messages] == [
                [b"hello"],
                *([b"%d" % number] for number in range(4)),
                [b"marker"],
            ]

    play(scene, OURS, OURS)

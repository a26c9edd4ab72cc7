"""Two drivers on real sockets: messages both ways, turns on other threads, and proof that none waits for ever."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import zmq

from dispycos.config import Refused
from dispycos.machine import Log, Send
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Buffer, Envelope
from dispycos.runtime import Runtime
from dispycos.session.links import LinkLost, LinkReady
from dispycos.session.liveness import Patience
from dispycos.session.router import Event
from dispycos.session.session import PeerReset
from dispycos.transport.mailbox import DRAIN_MAX
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys
from dispycos.turns import ROUNDS_MAX
from tests.kit.programs import wait_until

pytestmark = pytest.mark.timeout(40)

KEYS = Keys.from_secret(Secret(b"o" * 32, "test"))
INBOX = 50
ANY_PORT = "tcp://127.0.0.1:*"


class Inbox:
    """An actor that keeps what it gets, and wakes whoever waits for it, from any thread."""

    def __init__(self, runtime: Runtime, actor: int = INBOX) -> None:
        self.loop = runtime.loop
        self.got: list[Envelope] = []
        self.threads: set[int] = set()
        self.address = runtime.attach_inbox(actor, self.receive)
        self._changed = asyncio.Event()

    def receive(self, envelope: Envelope, now: float) -> None:
        self.got.append(envelope)
        self.threads.add(threading.get_ident())
        self.loop.call_soon_threadsafe(self._changed.set)

    def texts(self) -> list[str]:
        return [envelope.message.text for envelope in self.got]

    async def until(self, condition: Callable[[], Any], seconds: float = 5.0) -> None:
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()


class Role:
    """A role whose machine is a list of things to do, and a deadline."""

    def __init__(self) -> None:
        self.machine = self
        self.effects: list[object] = []
        self.due: float | None = None
        self.woken: list[float] = []
        self.got: list[Envelope] = []
        self.carried: list[object] = []
        self.events: list[Event] = []
        self.on_drain: Callable[[], None] = lambda: None

    def receive(self, envelope: Envelope, now: float) -> None:
        self.got.append(envelope)

    def wake(self, now: float) -> None:
        self.woken.append(now)
        self.due = None

    def deadline(self) -> float | None:
        return self.due

    def drain(self) -> list[object]:
        self.on_drain()
        effects, self.effects = self.effects, []
        return effects

    def on_event(self, event: Event, now: float) -> None:
        self.events.append(event)

    def carry_out(self, effect: object, now: float) -> None:
        self.carried.append(effect)


def play(scene: Callable[..., Awaitable[None]], *keys: Keys | None) -> None:
    """Runs the scene with a runtime for each of the keys; whatever the loop complains about fails the test."""

    async def main() -> None:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        runtimes = [Runtime("node", f"runtime-{number}", key) for number, key in enumerate(keys)]
        try:
            async with asyncio.timeout(30):
                await scene(*runtimes)
        finally:
            for runtime in runtimes:
                await runtime.close()
        await asyncio.sleep(0)
        assert complaints == []

    asyncio.run(main())


async def link(here: Runtime, there: Runtime, endpoint: str = ANY_PORT) -> None:
    assert await here.dial([there.listen(endpoint)]).ready == there.epoch


async def acquainted(here: Runtime, there: Runtime, endpoint: str = ANY_PORT) -> tuple[Inbox, Inbox]:
    """Linked, and both sessions greeted: the inboxes hold one message each."""
    mine, yours = Inbox(here), Inbox(there)
    await link(here, there, endpoint)
    here.send(note(yours.address, "hello", mine.address))
    there.send(note(mine.address, "hello", yours.address))
    await mine.until(lambda: mine.got)
    await yours.until(lambda: yours.got)
    return mine, yours


def note(to: Address, text: str, sender: Address = Address(0, 0), payload: Any = None) -> Envelope:
    return Envelope(to, sender, messages.Notice(text), 0, payload)


# --- messages ---


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_messages_go_both_ways_in_order(transport: str, tmp_path: Path) -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        mine, yours = Inbox(here), Inbox(there)
        await link(here, there, ANY_PORT if transport == "tcp" else f"ipc://{tmp_path}/t.sock")
        for number in range(300):
            here.send(note(yours.address, f"{number}", mine.address, b"x" * number))
            there.send(note(mine.address, f"-{number}", yours.address))
        await yours.until(lambda: len(yours.got) == 300)
        await mine.until(lambda: len(mine.got) == 300)
        assert yours.texts() == [f"{number}" for number in range(300)]
        assert mine.texts() == [f"-{number}" for number in range(300)]
        assert [bytes(cast("bytes", envelope.payload or b"")) for envelope in yours.got] == [
            b"x" * n for n in range(300)
        ]
        assert {envelope.sender for envelope in yours.got} == {mine.address}

    play(scene, KEYS, KEYS)


@pytest.mark.parametrize("size", [0, 1, 16 * 1024, 16 * 1024 + 1, 300_000, 3_000_000])
def test_a_payload_of_any_size_arrives_whole(size: int) -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        yours = Inbox(there)
        await link(here, there)
        data = random.Random(size).randbytes(size)
        here.send(note(yours.address, "data", payload=data))
        here.send(note(yours.address, "after"))
        await yours.until(lambda: len(yours.got) == 2, 10.0)
        assert yours.texts() == ["data", "after"]
        assert bytes(cast("bytes", yours.got[0].payload)) == data

    play(scene, KEYS, KEYS)


def test_what_is_sent_before_the_link_is_up_arrives_then() -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        yours = Inbox(there)
        there_endpoint = there.listen(ANY_PORT)
        here.send(note(yours.address, "early"))
        assert await here.dial([there_endpoint]).ready == there.epoch
        await yours.until(lambda: yours.got)
        assert yours.texts() == ["early"]

    play(scene, KEYS, KEYS)


def test_messages_to_oneself_need_no_socket() -> None:
    async def scene(here: Runtime) -> None:
        mine = Inbox(here)
        here.send(note(mine.address, "self", payload=b"bytes"))
        assert mine.got == []  # never inside send: a machine is not called while it works
        await mine.until(lambda: mine.got)
        assert (mine.texts(), mine.got[0].payload) == (["self"], b"bytes")

    play(scene, None)


@pytest.mark.parametrize("may_leave", [False, True])
def test_everything_sent_in_one_turn_leaves_as_one_zeromq_message(may_leave: bool) -> None:
    """DESIGN section 4: batching is what makes it fast."""

    async def scene(here: Runtime, there: Runtime) -> None:
        mine, yours = await acquainted(here, there)
        assert await here.quiet(2.0) and await there.quiet(2.0)
        sent: list[int] = []
        send = here.mailbox.send

        def counted(link: int, frames: Sequence[Buffer]) -> bool:
            sent.append(link)
            return send(link, frames)

        here.mailbox.send = counted  # type: ignore[method-assign]
        for number in range(30):
            here.send(note(yours.address, f"{number}", mine.address), may_leave=may_leave)
        assert len(sent) == may_leave, "who waits for the answer to one does not wait for the loop"
        await asyncio.sleep(0)
        assert len(sent) == 1 + may_leave
        await yours.until(lambda: len(yours.got) == 31)
        sent.clear()
        here.turn()
        here.send(note(yours.address, "again", mine.address), may_leave=may_leave)
        assert len(sent) == may_leave
        await yours.until(lambda: len(yours.got) == 32)

    play(scene, KEYS, KEYS)


def test_within_a_turn_nothing_leaves_before_its_end() -> None:
    """Else a machine would be fed, or drained, while it works."""

    async def scene(here: Runtime, there: Runtime) -> None:
        mine, yours = await acquainted(here, there)
        texts: list[list[str]] = []

        def answer(envelope: Envelope, now: float) -> None:
            here.send(note(mine.address, "to myself"), may_leave=True)
            texts.append(mine.texts())

        asked = here.attach_inbox(INBOX + 1, answer)
        there.send(note(asked, "question", yours.address))
        await mine.until(lambda: "to myself" in mine.texts())
        assert texts == [["hello"]]

    play(scene, KEYS, KEYS)


# --- actors that are not there ---


@pytest.mark.parametrize(
    ("word", "correlation", "answer"),
    [
        (messages.Tell(), 7, messages.Delivered(0)),
        (messages.AwaitsMessage(), 7, messages.Delivered(0)),
        (messages.Ask(), 7, messages.Reply(ok=False)),
        (messages.Watch(), 7, messages.Ended(0, "it had ended before")),
        (messages.Tell(), 0, None),
        (messages.Notice("x"), 7, None),
    ],
)
def test_who_asks_an_actor_that_has_ended_gets_an_answer(
    word: messages.Message, correlation: int, answer: messages.Message | None
) -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        mine = Inbox(here)
        await link(here, there)
        here.send(Envelope(there.address(99), mine.address, word, correlation))
        here.send(Envelope(there.address(99), mine.address, messages.Ask(), 1000))
        await mine.until(lambda: mine.got and mine.got[-1].correlation == 1000)
        got = [(envelope.message, envelope.correlation, envelope.sender.actor) for envelope in mine.got[:-1]]
        assert got == ([(answer, correlation, 99)] if answer is not None else [])

    play(scene, KEYS, KEYS)


def test_the_fallback_may_take_care_of_it() -> None:
    async def scene(here: Runtime) -> None:
        mine = Inbox(here)
        taken: list[Envelope] = []

        def fallback(envelope: Envelope) -> bool:
            taken.append(envelope)
            return envelope.correlation == 1

        here.fallback = fallback
        for correlation in (1, 2):
            here.send(Envelope(here.address(99), mine.address, messages.Ask(), correlation))
        await mine.until(lambda: mine.got)
        assert [envelope.correlation for envelope in taken] == [1, 2]
        assert [(envelope.message, envelope.correlation) for envelope in mine.got] == [
            (messages.Reply(ok=False), 2)
        ]

    play(scene, None)


def test_a_detached_actor_gets_nothing_more() -> None:
    async def scene(here: Runtime) -> None:
        mine, other = Inbox(here), Inbox(here, 51)
        here.send(note(mine.address, "before"))
        await mine.until(lambda: mine.got)
        here.detach(INBOX)
        here.detach(INBOX)
        here.send(note(mine.address, "after"))
        here.send(note(other.address, "marker"))
        await other.until(lambda: other.got)
        assert mine.texts() == ["before"]

    play(scene, None)


# --- roles ---


def test_a_machine_is_fed_drained_and_its_effects_are_carried_out(caplog: pytest.LogCaptureFixture) -> None:
    async def scene(here: Runtime) -> None:
        role, mine = Role(), Inbox(here)
        address = here.attach(7, role)
        assert address == here.address(7)
        role.effects = [Send(note(mine.address, "by the machine")), Log("warning", "look here"), "its own"]
        here.send(note(address, "for the machine"))
        await mine.until(lambda: mine.got)
        assert [envelope.message.text for envelope in role.got] == ["for the machine"]
        assert mine.texts() == ["by the machine"]
        assert role.carried == ["its own"]
        here.remove(7, role)
        role.effects = ["nobody looks"]
        here.turn()
        assert role.carried == ["its own"]

    play(scene, None)
    assert [(record.levelname, record.message) for record in caplog.records] == [("WARNING", "look here")]


def test_a_machine_is_woken_at_its_deadline_not_before() -> None:
    async def scene(here: Runtime) -> None:
        role = Role()
        here.attach(7, role)
        due = role.due = here.clock() + 0.05
        here.turn_soon()
        async with asyncio.timeout(5):
            while not role.woken:
                await asyncio.sleep(0.005)
        assert role.woken[0] >= due

    play(scene, None)


def test_an_earlier_deadline_takes_the_timer() -> None:
    async def scene(here: Runtime) -> None:
        role = Role()
        here.attach(7, role)
        role.due = here.clock() + 60.0
        here.turn()
        role.due = here.clock() + 0.02
        here.turn()
        async with asyncio.timeout(5):
            while not role.woken:
                await asyncio.sleep(0.005)

    play(scene, None)


def test_a_role_hears_of_links_that_come_and_go() -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        role = Role()
        here.attach(7, role)
        await link(here, there)
        named = [type(event).__name__ for event in role.events if getattr(event, "epoch", 0) == there.epoch]
        assert "LinkReady" in named
        await there.close()
        async with asyncio.timeout(5):
            while "LinkLost" not in [type(event).__name__ for event in role.events]:
                await asyncio.sleep(0.005)

    play(scene, KEYS, KEYS)


def test_two_machines_that_talk_for_ever_leave_the_loop_its_turns() -> None:
    async def scene(here: Runtime) -> None:
        rounds = 0

        class Echo(Role):
            def receive(self, envelope: Envelope, now: float) -> None:
                nonlocal rounds
                rounds += 1
                if rounds < 10 * ROUNDS_MAX:
                    self.effects.append(Send(note(envelope.sender, "again", envelope.to)))

        first, second = here.attach(7, Echo()), here.attach(8, Echo())
        here.send(note(second, "go", first))
        here.turn()
        assert 0 < rounds <= ROUNDS_MAX
        async with asyncio.timeout(5):
            while rounds < 10 * ROUNDS_MAX:
                await asyncio.sleep(0)

    play(scene, None)


# --- deferred calls ---


def test_what_is_deferred_runs_soon_on_the_loop_in_order_and_outside_the_lock() -> None:
    async def scene(here: Runtime) -> None:
        ran: list[tuple[int, int, bool]] = []
        done = asyncio.Event()

        def free() -> bool:
            """Whether another thread can have the lock now."""
            got: list[bool] = []

            def probe() -> None:
                got.append(cast(Any, here.lock).acquire(timeout=1.0))
                if got[0]:
                    cast(Any, here.lock).release()

            thread = threading.Thread(target=probe)
            thread.start()
            thread.join()
            return got[0]

        def call(number: int) -> None:
            ran.append((number, threading.get_ident(), free()))
            if number == 3:
                done.set()

        here.defer(lambda: call(1))
        with here.lock:
            here.defer(lambda: call(2))
        thread = threading.Thread(target=lambda: here.defer(lambda: call(3)))
        thread.start()
        assert ran == []
        await asyncio.wait_for(done.wait(), 5)
        thread.join()
        me = threading.get_ident()
        assert ran == [(1, me, True), (2, me, True), (3, me, True)]

    play(scene, None)


def test_what_is_deferred_by_a_deferred_call_comes_later() -> None:
    async def scene(here: Runtime) -> None:
        ran: list[str] = []
        done = asyncio.Event()

        def third() -> None:
            ran.append("third")
            done.set()

        def first() -> None:
            here.defer(third)
            ran.append("first")

        here.defer(first)
        here.defer(lambda: ran.append("second"))
        await asyncio.wait_for(done.wait(), 5)
        assert ran == ["first", "second", "third"]

    play(scene, None)


def test_a_deferred_call_that_fails_does_not_hold_up_the_others() -> None:
    async def main() -> list[str]:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, complaint: complaints.append(complaint))
        here = Runtime("node", "here", None)
        ran: list[str] = []

        def fail() -> None:
            raise ValueError("in a callback")

        try:
            here.defer(fail)
            here.defer(lambda: ran.append("next"))
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(complaints) == 1 and isinstance(complaints[0]["exception"], ValueError)
            return ran
        finally:
            await here.close()

    assert asyncio.run(main()) == ["next"]


def test_a_thousand_threads_worth_of_deferring_loses_nothing() -> None:
    async def scene(here: Runtime) -> None:
        ran: list[int] = []
        count = 2000

        def work(first: int) -> None:
            for number in range(first, first + count):
                here.defer(lambda number=number: ran.append(number))  # type: ignore[misc]

        threads = [threading.Thread(target=work, args=(first,)) for first in range(0, 4 * count, count)]
        for thread in threads:
            thread.start()
        async with asyncio.timeout(10):
            while len(ran) < 4 * count:
                await asyncio.sleep(0.001)
        for thread in threads:
            thread.join()
        assert sorted(ran) == list(range(4 * count))
        for first in range(0, 4 * count, count):
            assert [n for n in ran if first <= n < first + count] == list(range(first, first + count))

    play(scene, None)


# --- other threads ---


def test_another_thread_may_send() -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        yours = Inbox(there)
        await link(here, there)

        def work() -> None:
            for number in range(200):
                here.send(note(yours.address, f"{number}"))

        await asyncio.to_thread(work)
        await yours.until(lambda: len(yours.got) == 200)
        assert yours.texts() == [f"{number}" for number in range(200)]

    play(scene, KEYS, KEYS)


def test_another_thread_may_run_the_turn_while_the_loop_is_kept() -> None:
    """As the relief thread does beside a long step; `defer` waits for the loop."""

    async def scene(here: Runtime, there: Runtime) -> None:
        mine, yours = await acquainted(here, there)
        deferred: list[int] = []
        mine.threads.clear()

        def receive(envelope: Envelope, now: float) -> None:
            mine.receive(envelope, now)
            here.defer(lambda: deferred.append(threading.get_ident()))

        here.attach_inbox(INBOX, receive)
        there.send(note(mine.address, "are you there?", yours.address))
        there.push()
        stop = threading.Event()

        def relief() -> None:
            for _ in range(1000):
                here.turn_elsewhere()
                if len(mine.got) > 1 or stop.wait(0.002):
                    return

        thread = threading.Thread(target=relief)
        thread.start()
        thread.join(5.0)  # keeps the loop
        stop.set()
        assert mine.texts() == ["hello", "are you there?"]
        assert mine.threads == {thread.ident}
        assert deferred == []
        here.hand_back()
        async with asyncio.timeout(5):
            while not deferred:
                await asyncio.sleep(0.001)
        assert deferred == [threading.get_ident()]

        there.send(note(mine.address, "once more", yours.address))
        await mine.until(lambda: len(mine.got) == 3)

    play(scene, KEYS, KEYS)


def test_a_deadline_set_on_another_thread_is_kept_after_the_hand_back() -> None:
    async def scene(here: Runtime) -> None:
        role = Role()
        here.attach(7, role)

        def elsewhere() -> None:
            role.due = here.clock() + 0.02
            here.turn_elsewhere()
            here.hand_back()

        await asyncio.to_thread(elsewhere)
        async with asyncio.timeout(5):
            while not role.woken:
                await asyncio.sleep(0.005)

    play(scene, None)


def test_push_sends_now_without_reading() -> None:
    """A step that will not give the loop its turn says first that it began."""

    async def scene(here: Runtime, there: Runtime) -> None:
        mine, yours = await acquainted(here, there)
        there.send(note(mine.address, "unread", yours.address))
        there.push()
        here.send(note(yours.address, "began"))
        here.push()

        def look() -> None:
            for _ in range(1000):
                there.turn_elsewhere()
                if len(yours.got) > 1:
                    return
                threading.Event().wait(0.002)

        thread = threading.Thread(target=look)
        thread.start()
        thread.join(5.0)  # keeps the loop
        assert yours.texts() == ["hello", "began"]
        assert mine.texts() == ["hello"]
        here.take_back()
        there.take_back()
        await mine.until(lambda: len(mine.got) == 2)

    play(scene, KEYS, KEYS)


# --- the lost edge ---


@pytest.fixture
def nothing_heals(monkeypatch: pytest.MonkeyPatch) -> None:
    """No retransmission, ping or late acknowledgement brings the edge that was lost: what waits, waits for ever."""
    monkeypatch.setattr("dispycos.session.session.ACK_DELAY", 1e6)
    monkeypatch.setattr("dispycos.session.session.Session._timeout", lambda session: 1e6)
    monkeypatch.setattr("dispycos.session.neighbours.patience_for", lambda own, peer: None)


async def chat(
    chance: random.Random, runtimes: tuple[Runtime, Runtime], inboxes: tuple[Inbox, Inbox], count: int
) -> None:
    """Both sides send when they like, in bursts and alone; now and then all is silent until everything has come."""
    sent = [1, 1]  # they are acquainted

    async def hear_all() -> None:
        for to in (0, 1):
            await inboxes[to].until(lambda to=to: len(inboxes[to].got) == sent[1 - to], 3.0)  # type: ignore[misc]

    while min(sent) < count:
        side = chance.randrange(2)
        for _ in range(chance.choice((1, 1, 1, 2, 5, 70))):
            payload = bytes(chance.choice((0, 10, 1000, 20_000)))
            receiver, sender = inboxes[1 - side].address, inboxes[side].address
            runtimes[side].send(note(receiver, f"{sent[side]}", sender, payload))
            sent[side] += 1
        if chance.random() < 0.3:
            runtimes[chance.randrange(2)].push()
        if chance.random() < 0.5:
            await asyncio.sleep(0)
        if chance.random() < 0.2:
            await hear_all()
    await hear_all()
    for to in (0, 1):
        assert inboxes[to].texts()[1:] == [f"{number}" for number in range(1, sent[1 - to])]


def relieve(runtime: Runtime, stop: threading.Event, seed: int) -> None:
    """Now and then a turn on this thread, handed back as the relief thread does."""
    chance = random.Random(seed)
    while not stop.wait(chance.random() * 0.004):
        for _ in range(chance.randrange(3)):
            runtime.turn_elsewhere()
        runtime.hand_back()


def test_a_new_link_is_let_in_while_the_loop_is_kept(tmp_path: Path) -> None:
    async def scene(here: Runtime) -> None:
        path = here.listen_ipc(tmp_path)
        let_in: list[int] = []

        def elsewhere() -> None:
            with zmq.Context() as context, context.socket(zmq.DEALER) as visitor:
                monitor = visitor.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
                visitor.connect(f"ipc://{path}")
                while not monitor.poll(1):
                    here.turn_elsewhere()
                let_in.append(1)
                visitor.disable_monitor()
                monitor.close(0)

        thread = threading.Thread(target=elsewhere, daemon=True)
        thread.start()
        thread.join(10)
        assert let_in

    play(scene, None)


@pytest.mark.usefixtures("nothing_heals")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_no_message_waits_for_ever_however_sends_and_reads_fall(
    seed: int, transport: str, tmp_path: Path
) -> None:
    """libzmq's FD is edge-triggered: an edge taken by a send must be looked for again."""

    async def scene(here: Runtime, there: Runtime) -> None:
        endpoint = ANY_PORT if transport == "tcp" else f"ipc://{tmp_path}/t.sock"
        inboxes = await acquainted(here, there, endpoint)
        await chat(random.Random(seed), (here, there), inboxes, 2000)

    play(scene, KEYS, KEYS)


@pytest.mark.usefixtures("nothing_heals")
@pytest.mark.parametrize("seed", range(4))
def test_no_message_waits_for_ever_when_other_threads_run_turns(seed: int) -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        inboxes = await acquainted(here, there)
        stop = threading.Event()
        threads = [
            threading.Thread(target=relieve, args=(runtime, stop, seed + number))
            for number, runtime in enumerate((here, there))
        ]
        for thread in threads:
            thread.start()
        try:
            await chat(random.Random(seed), (here, there), inboxes, 2000)
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    play(scene, KEYS, KEYS)


def test_a_thousand_round_trips_are_never_later_than_the_timers() -> None:
    """A lost edge that only a retransmission or a ping heals shows as a round trip of 0.2 s or more."""

    async def scene(here: Runtime, there: Runtime) -> None:
        await link(here, there)
        times: list[float] = []
        came: list[asyncio.Future[None]] = [asyncio.get_running_loop().create_future()]
        here.attach_inbox(INBOX, lambda envelope, now: here.defer(lambda: came[0].set_result(None)))
        there.attach_inbox(
            INBOX, lambda envelope, now: there.send(note(envelope.sender, "pong", envelope.to))
        )
        for _ in range(1000):
            came[0] = asyncio.get_running_loop().create_future()
            start = here.clock()
            here.send(note(there.address(INBOX), "ping", here.address(INBOX)))
            await asyncio.wait_for(came[0], 5)
            times.append(here.clock() - start)
        assert sorted(times)[990] < 0.15, "one in a hundred may meet a busy machine"

    play(scene, KEYS, KEYS)


# --- the end ---


def test_quiet_is_true_when_everything_is_confirmed() -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        yours = Inbox(there)
        await link(here, there)
        for number in range(100):
            here.send(note(yours.address, f"{number}"))
        assert await here.quiet(5.0)
        assert len(yours.got) == 100

    play(scene, KEYS, KEYS)


def test_quiet_gives_up_on_who_does_not_confirm() -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        await acquainted(here, there)
        there.mailbox.pump = lambda **_: None  # type: ignore[method-assign]
        here.send(note(there.address(INBOX), "unheard"))
        assert not await here.quiet(0.05)

    play(scene, KEYS, KEYS)


def test_quiet_does_not_wait_for_who_cannot_be_reached() -> None:
    async def scene(here: Runtime) -> None:
        here.send(note(Address(12345, 6), "nobody"))
        async with asyncio.timeout(1.0):
            assert await here.quiet(10.0)

    play(scene, None)


def test_a_closed_runtime_says_so_and_stays_still() -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        mine = Inbox(here)
        await link(here, there)
        await here.close()
        with pytest.raises(RuntimeError, match="closed"):
            here.send(note(mine.address, "late"))
        here.turn()
        here.turn_elsewhere()
        here.take_back()
        await here.close()
        there.send(note(mine.address, "to nobody"))
        await asyncio.sleep(0.02)
        assert mine.got == []

    play(scene, KEYS, KEYS)


def test_a_close_drops_the_port_so_that_another_may_have_it() -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        endpoint = here.listen(ANY_PORT)
        with pytest.raises(zmq.ZMQError):
            there.listen(endpoint)
        await here.close()
        assert there.listen(endpoint) == endpoint

    play(scene, KEYS, KEYS)


def test_after_the_close_no_dialler_tries_again() -> None:
    """One that was in its pause is no link of the router's, and must be stopped all the same."""

    async def scene(here: Runtime) -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            dialler = here.dial([f"tcp://127.0.0.1:{held.getsockname()[1]}"])
            async with asyncio.timeout(5):
                while dialler._retry is None:
                    await asyncio.sleep(0.001)
            await here.close()
            await asyncio.sleep(0.2)

    play(scene, None)


def test_after_the_close_no_dialler_complains_of_silence(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dispycos.transport.dialler.SILENCE_MAX", 0.1)

    async def scene(here: Runtime) -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            dialler = here.dial([f"tcp://127.0.0.1:{held.getsockname()[1]}"], keep=False)
            async with asyncio.timeout(5):
                while "127.0.0.1" not in dialler._last_reason:
                    await asyncio.sleep(0.001)
            await here.close()
            await asyncio.sleep(0.15)

    with caplog.at_level(logging.INFO, logger="dispycos"):
        play(scene, None)
    assert caplog.messages == []


def test_a_stranger_is_told_with_the_remedy() -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        heard: list[str] = []
        there.on_refused = heard.append
        knock = here.dial([there.listen(ANY_PORT)], keep=False, foreign_key=KEYS.listener.public)
        with pytest.raises(Refused):
            await asyncio.wait_for(knock.ready, 5)
        async with asyncio.timeout(5):
            while not heard:
                await asyncio.sleep(0.005)
        assert heard[0].startswith("refused 127.0.0.1")
        assert "secret" in heard[0]

    play(scene, Keys.from_secret(Secret(b"t" * 32, "test")), KEYS)


def test_every_runtime_has_a_name_of_its_own() -> None:
    async def scene(*runtimes: Runtime) -> None:
        epochs = {runtime.epoch for runtime in runtimes}
        assert len(epochs) == len(runtimes)
        assert all(0 < epoch < 2**63 for epoch in epochs)

    play(scene, *[None] * 5)


# --- processes of this host that end ---

PEER = """
import asyncio, sys
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope
from dispycos.runtime import Runtime
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys

async def main(role, endpoint, inbox):
    peer = Runtime(role, "peer", Keys.from_secret(Secret(b"o" * 32, "test")))
    dialler = peer.dial([endpoint])
    there = Address(await dialler.ready, int(inbox))
    print(peer.epoch, flush=True)
    while (order := (await asyncio.to_thread(sys.stdin.readline)).split()) != ["end"]:
        if order == ["unlink"]:
            dialler.stop()
        for number in range(int(order[1]) if order[0] == "say" else 0):
            peer.send(Envelope(there, peer.address(7), messages.Notice(f"{number}")))
            peer.push()
        print("done", flush=True)
    await peer.close()

asyncio.run(main(*sys.argv[1:]))
"""


def until_moved(pid: int) -> None:
    """Until libzmq's I/O threads of that process sleep: all they could move has been moved. Keeps the loop."""

    def sleep() -> bool:
        tasks = [
            task for task in Path(f"/proc/{pid}/task").iterdir() if "ZMQbg/IO" in (task / "comm").read_text()
        ]
        assert tasks
        return all((task / "stat").read_text().rpartition(")")[2].split()[0] == "S" for task in tasks)

    wait_until(sleep, 5, f"the I/O threads of {pid} sleep")


class Peer:
    """A process of its own, linked to a runtime here; it does what it is told, a line each."""

    def __init__(self, role: str, endpoint: str) -> None:
        command = [sys.executable, "-c", PEER, role, endpoint, str(INBOX)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.epoch = 0

    async def __aenter__(self) -> Peer:
        self.epoch = int(await asyncio.to_thread(self.hear))
        return self

    async def __aexit__(self, *error: object) -> None:
        self.process.kill()
        self.process.communicate()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def order(self, order: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{order}\n")
        self.process.stdin.flush()

    async def obey(self, order: str) -> None:
        self.order(order)
        assert await asyncio.to_thread(self.hear) == "done\n"

    def news(self, role: Role) -> list[str]:
        """What the role heard of its coming and going."""
        kinds = LinkReady | LinkLost | PeerReset
        return [type(e).__name__ for e in role.events if isinstance(e, kinds) and e.epoch == self.epoch]


async def until(condition: Callable[[], Any]) -> None:
    """Well below the seconds that silence takes."""
    async with asyncio.timeout(2.5):
        while not condition():
            await asyncio.sleep(0.002)


needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this platform has no pidfd")


@needs_pidfd
def test_of_a_killed_process_first_its_last_words_are_heard_then_the_end_of_its_link_then_its_own(
    tmp_path: Path,
) -> None:
    async def scene(here: Runtime) -> None:
        role, mine = Role(), Inbox(here)
        here.attach(7, role)
        heard_before: list[int] = []

        def on_event(event: Event, now: float) -> None:
            role.events.append(event)
            heard_before.append(len(mine.got))

        role.on_event = on_event  # type: ignore[method-assign]
        async with Peer("client", here.listen(f"ipc://{tmp_path}/t.sock")) as peer:
            await peer.obey("say 1")  # their sessions have met
            await mine.until(lambda: mine.got)
            peer.order(f"say {3 * DRAIN_MAX}")  # more than one turn reads
            assert peer.hear() == "done\n"  # keeps the loop, so that words and end come to light together
            until_moved(peer.process.pid)  # what its I/O thread had not written would never have been sent
            peer.process.kill()
            peer.process.wait()
            until_moved(os.getpid())
            await until(lambda: "PeerReset" in peer.news(role))
            assert peer.news(role) == ["LinkReady", "LinkLost", "PeerReset"]
            assert heard_before[-2:] == [1 + 3 * DRAIN_MAX] * 2
            assert not here.is_linked(peer.epoch) and here.mailbox.pid_of(1) == 0

    play(scene, KEYS)


@needs_pidfd
def test_what_is_sent_to_a_process_that_is_dead_comes_back(tmp_path: Path) -> None:
    async def scene(here: Runtime) -> None:
        role = Role()
        here.attach(7, role)
        async with Peer("client", here.listen(f"ipc://{tmp_path}/t.sock")) as peer:
            here.mailbox.send = lambda link, frames: True  # type: ignore[method-assign]
            here.send(note(Address(peer.epoch, 7), "early"))
            peer.process.kill()
            await until(lambda: "PeerReset" in peer.news(role))
            here.send(note(Address(peer.epoch, 7), "late"))
            await until(lambda: peer.news(role).count("PeerReset") == 2)
            resets = [event for event in role.events if isinstance(event, PeerReset)]
            assert [[e.message.text for e in reset.unconfirmed] for reset in resets] == [["early"], ["late"]]

    play(scene, KEYS)


@needs_pidfd
def test_a_process_that_had_lost_its_link_before_is_known_to_be_dead_all_the_same(tmp_path: Path) -> None:
    """Its sockets are closed before it is dead: who just sends to it may find the link gone first."""

    async def scene(here: Runtime) -> None:
        role = Role()
        here.attach(7, role)
        async with Peer("client", here.listen(f"ipc://{tmp_path}/t.sock")) as peer:
            await peer.obey("unlink")
            await until(lambda: "LinkLost" in peer.news(role))
            peer.process.kill()
            await until(lambda: "PeerReset" in peer.news(role))
            assert peer.news(role) == ["LinkReady", "LinkLost", "PeerReset"]

    play(scene, KEYS)


@needs_pidfd
def test_the_session_of_a_process_that_lives_is_not_forgotten_and_its_death_is_told_all_the_same(
    tmp_path: Path,
) -> None:
    async def scene(here: Runtime) -> None:
        role = Role()
        here.attach(7, role)
        async with Peer("client", here.listen(f"ipc://{tmp_path}/t.sock")) as peer:
            here.forget_later(peer.epoch, 0.0)  # still linked: nothing happens
            here.turn_soon()
            await asyncio.sleep(0.01)
            assert here.witness._watched
            await peer.obey("unlink")
            await until(lambda: "LinkLost" in peer.news(role))
            here.forget_later(peer.epoch, 0.0)
            here.turn_soon()
            await asyncio.sleep(0.05)
            assert here.lives(peer.epoch)
            peer.process.kill()
            await until(lambda: "PeerReset" in peer.news(role))
            assert not here.lives(peer.epoch)

    play(scene, KEYS)


@needs_pidfd
def test_a_process_that_ends_in_order_is_dead_after_its_farewell(tmp_path: Path) -> None:
    async def scene(here: Runtime) -> None:
        role = Role()
        here.attach(7, role)
        async with Peer("client", here.listen(f"ipc://{tmp_path}/t.sock")) as peer:
            peer.order("end")
            await until(lambda: "PeerReset" in peer.news(role))
            assert peer.news(role) == ["LinkReady", "LinkLost", "PeerReset"]
            assert not here.witness._watched

    play(scene, KEYS)


def test_servers_are_their_agents_to_watch(tmp_path: Path) -> None:
    async def scene(here: Runtime) -> None:
        async with Peer("server", here.listen(f"ipc://{tmp_path}/t.sock")) as peer:
            await peer.obey("say 1")
            assert here.is_linked(peer.epoch) and not here.lives(peer.epoch)

    play(scene, KEYS)


@needs_pidfd
def test_a_process_of_this_host_is_known_by_tcp_too() -> None:
    async def scene(here: Runtime) -> None:
        role = Role()
        here.attach(7, role)
        async with Peer("client", here.listen(ANY_PORT)) as peer:
            await peer.obey("say 1")
            assert here.lives(peer.epoch)
            peer.process.kill()
            await until(lambda: "PeerReset" in peer.news(role))
            assert not here.lives(peer.epoch)

    play(scene, KEYS)


@needs_pidfd
@pytest.mark.parametrize("transport", ["ipc", "tcp"])
def test_one_of_this_host_that_is_stopped_is_not_asked_and_its_session_goes_on(
    transport: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than between hosts; by tcp heartbeats may end the link, but the session lasts."""
    monkeypatch.setattr("dispycos.session.liveness.CLIENT", Patience(0.02, 0.02, 3))

    async def scene(here: Runtime) -> None:
        role = Role()
        here.attach(7, role)
        endpoint = here.listen(ANY_PORT if transport == "tcp" else f"ipc://{tmp_path}/t.sock")
        async with Peer("client", endpoint) as peer:
            await peer.obey("say 1")
            peer.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.5)
            assert peer.news(role) == ["LinkReady"] and here.lives(peer.epoch)
            peer.process.send_signal(signal.SIGCONT)
            await peer.obey("say 1")
            assert peer.news(role) == ["LinkReady"]

    play(scene, KEYS)


def test_a_server_that_is_paused_keeps_its_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a debugger or SIGSTOP; nobody asks servers whether they live, so nothing at all may end that link."""
    monkeypatch.setattr("dispycos.transport.security.HEARTBEAT_MS", 50)

    async def scene(here: Runtime) -> None:
        role = Role()
        here.attach(7, role)
        async with Peer("server", here.listen(f"ipc://{tmp_path}/t.sock")) as peer:
            await peer.obey("say 1")
            peer.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.5)
            peer.process.send_signal(signal.SIGCONT)
            await peer.obey("say 1")
            await asyncio.sleep(0.2)  # it would dial again
            assert peer.news(role) == ["LinkReady"]

    play(scene, KEYS)

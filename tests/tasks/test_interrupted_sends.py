"""KeyboardInterrupts in steps that send: the sessions and the lock stay whole, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from dispycos.actors.shipping.pickling import loads
from dispycos.actors.tasks.cell import Cell
from dispycos.actors.tasks.ends import Outcome, Raised
from dispycos.actors.tasks.host import TaskHost
from dispycos.actors.tasks.running.interrupts import Interrupts
from dispycos.actors.tasks.submitting import Task
from dispycos.actors.tasks.windows import Taken
from dispycos.protocol import messages
from dispycos.protocol.addresses import FIRST_TASK, HOST, Address
from dispycos.protocol.envelope import Envelope
from dispycos.runtime import Runtime
from tests.kit.local_tasks import until
from tests.kit.stage import Plain
from tests.kit.strikes import OpcodeSignal

pytestmark = pytest.mark.timeout(110)

INTERRUPTS = 300
SETTLED_EACH = 100

Begin = Callable[[], Awaitable[None]]
Play = Callable[[TaskHost, Callable[[], None], Begin], Awaitable[None]]


@pytest.fixture
def interrupts() -> Iterator[Interrupts]:
    interrupts = Interrupts()
    interrupts.install()
    before = sys.getswitchinterval()
    sys.setswitchinterval(0.0002)  # the thread that interrupts gets the interpreter wherever the step then is
    cpus = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cpus)})  # two threads that fight for the interpreter crawl on two idle CPUs
    yield interrupts
    os.sched_setaffinity(0, cpus)
    sys.setswitchinterval(before)
    interrupts.uninstall()


def test_interrupts_at_random_moments_of_a_step_that_sends_break_no_session(
    tmp_path: Path, interrupts: Interrupts
) -> None:
    """By another thread, as they come."""
    chance = random.Random(5)

    async def play(host: TaskHost, send: Callable[[], None], begin: Begin) -> None:
        def send_for_ever() -> None:
            while True:
                send()

        for _ in range(INTERRUPTS):
            await begin()
            outcome = await _run_until_interrupted(host, send_for_ever, chance.random() * 5e-4)
            assert isinstance(outcome, Raised) and isinstance(outcome.error, KeyboardInterrupt), outcome

    asyncio.run(_interrupt_senders(tmp_path, interrupts, play))


def test_a_signal_at_any_bytecode_of_a_send_breaks_no_session(tmp_path: Path, interrupts: Interrupts) -> None:
    async def play(host: TaskHost, send: Callable[[], None], begin: Begin) -> None:
        interrupted = 0
        for position in range(5_000):  # 0: Python 3.12 traces opcodes from the next time on
            signal_at = OpcodeSignal(interrupts, position)

            def send_twice() -> None:
                sys.settrace(signal_at)  # noqa: B023
                try:
                    send()
                    send()
                finally:
                    sys.settrace(None)

            await begin()
            interrupted += isinstance(await _run(host, send_twice), Raised)
            if signal_at.count < position:
                assert interrupted > 50
                return
        raise AssertionError("a send has more bytecodes than that?")

    asyncio.run(_interrupt_senders(tmp_path, interrupts, play))


async def _interrupt_senders(folder: Path, interrupts: Interrupts, play: Play) -> None:
    """`play` has steps that send; before each it begins a round, in which all that is to hold between two is looked at."""
    here, there = Runtime("server", "here", None), Runtime("node", "there", None)
    received: list[tuple[int, int]] = []
    taken = Taken()

    def take(envelope: Envelope, now: float) -> None:
        received.append(loads(envelope.payload))
        amount = taken.take(envelope)
        if amount is not None:
            credit = messages.Credit(*amount)
            there.send(Envelope(Address(here.epoch, HOST), envelope.to, credit))

    there.attach_inbox(FIRST_TASK, take)
    endpoint = f"ipc://{folder}/there.sock"
    there.listen(endpoint)
    await here.dial([endpoint], uplink=True).ready
    host = TaskHost(here, Plain(), interrupts)
    target = Task.__new__(Task)._bind(
        host, Address(there.epoch, FIRST_TASK), "there", None, direct=Address(there.epoch, FIRST_TASK)
    )
    sent: list[int] = []  # how many each round knows to have sent: one more may have left

    def send() -> None:
        target.send((len(sent), sent[-1]))
        sent[-1] += 1

    compared = 0

    async def compare() -> None:
        nonlocal compared
        await until(lambda: not host.windows.waits(target.home))
        await _settle(here, there)
        _compare(received, sent, compared)
        received.clear()
        compared = len(sent)

    async def begin() -> None:
        with here.lock:
            here.router.check()
            host.windows.check()
        if len(sent) - compared >= SETTLED_EACH:
            await compare()
        sent.append(0)

    await play(host, send, begin)
    await compare()
    await here.close()
    await there.close()


def _compare(received: list[tuple[int, int]], sent: list[int], first: int) -> None:
    """All that was sent since round `first` came once and in order; the last of each round may have been cut short."""
    expected = []
    arrived = set(received)
    for number in range(first + 1, len(sent) + 1):
        count = sent[number - 1]
        expected += [(number, index) for index in range(count + ((number, count) in arrived))]
    assert received == expected, "lost, doubled or out of order"


def _prepare(host: TaskHost) -> tuple[Cell, asyncio.Future[Outcome]]:
    ended: asyncio.Future[Outcome] = host.loop.create_future()

    def on_end(cell: Cell, outcome: Outcome) -> None:
        ended.set_result(outcome)

    with host.shield, host.runtime.lock:
        return host.prepare("sender", on_end=on_end), ended


async def _run(host: TaskHost, function: Callable[[], None]) -> Outcome:
    cell, ended = _prepare(host)
    host.loop.call_soon(cell.begin, function, (), {})
    return await asyncio.wait_for(ended, 5)


async def _run_until_interrupted(host: TaskHost, function: Callable[[], None], delay: float) -> Outcome:
    cell, ended = _prepare(host)
    begun = threading.Event()

    def strike() -> None:
        begun.wait(5)
        time.sleep(delay)
        cell.terminate()
        while not ended.done():
            time.sleep(0.001)
            host.interrupts.nudge()  # as the relief thread does

    thread = threading.Thread(target=strike)
    thread.start()
    host.loop.call_soon(begun.set)
    host.loop.call_soon(cell.begin, function, (), {})
    outcome = await asyncio.wait_for(ended, 10)
    await asyncio.to_thread(thread.join, 5)
    return outcome


async def _settle(*runtimes: Runtime) -> None:
    for runtime in runtimes:
        assert await runtime.quiet(5.0), "a session does not come to rest"

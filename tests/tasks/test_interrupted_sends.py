"""KeyboardInterrupts at random moments of steps that send: the sessions and the lock stay whole, nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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

pytestmark = pytest.mark.timeout(110)

INTERRUPTS = 3000
SETTLED_EACH = 100


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


def test_three_thousand_interrupts_at_a_step_that_sends_break_no_session(
    tmp_path: Path, interrupts: Interrupts
) -> None:
    asyncio.run(_interrupt_senders(tmp_path, interrupts))


async def _interrupt_senders(folder: Path, interrupts: Interrupts) -> None:
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

    def sender() -> None:
        while True:
            target.send((len(sent), sent[-1]))
            sent[-1] += 1

    chance = random.Random(5)
    for number in range(1, INTERRUPTS + 1):
        sent.append(0)
        outcome = await _run_until_interrupted(host, sender, chance.random() * 5e-4)
        assert isinstance(outcome, Raised) and isinstance(outcome.error, KeyboardInterrupt), outcome
        with here.lock:
            here.router.check()
            host.windows.check()
        if number % SETTLED_EACH == 0:
            await until(lambda: not host.windows.waits(target.home))
            await _settle(here, there)
            _compare(received, sent, number - SETTLED_EACH)
            received.clear()
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


async def _run_until_interrupted(host: TaskHost, function: Any, delay: float) -> Outcome:
    ended: asyncio.Future[Outcome] = host.loop.create_future()
    begun = threading.Event()

    def on_end(cell: Cell, outcome: Outcome) -> None:
        ended.set_result(outcome)

    with host.shield, host.runtime.lock:
        cell = host.prepare("sender", on_end=on_end)

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
    outcome = await ended
    await asyncio.to_thread(thread.join, 5)
    return outcome


async def _settle(*runtimes: Runtime) -> None:
    for runtime in runtimes:
        assert await runtime.quiet(5.0), "a session does not come to rest"

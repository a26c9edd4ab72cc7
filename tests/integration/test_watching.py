"""Who watches a node is told what runs on its servers, with which arguments, and where it is now: real processes."""

from __future__ import annotations

import asyncio
from typing import TypeVar

import pytest

from dispycos.protocol.addresses import NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Message, ServerReport, TaskId, TaskReport
from dispycos.protocol.watching import ARGUMENTS, MAILBOXES, SERVERS, Look, NodeSight, StackGiven, StackWanted
from dispycos.runtime import Runtime
from dispycos.transport.addresses import tcp_endpoint
from dispycos.transport.certificates import load_listener
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys
from tests.kit.programs import Program, User, port_of

pytestmark = pytest.mark.timeout(60)

TASKS = """
import asyncio, time
import dispycos

class Raising:
    def __repr__(self):
        raise ValueError("no")

class Hanging:
    def __repr__(self):
        time.sleep(1e6)

class Spinning:
    def __repr__(self):
        while True:
            pass

async def nap(seconds, *others, task=None, **named):
    beside = asyncio.create_task(asyncio.sleep(seconds))
    await deeper(seconds)

async def deeper(seconds):
    await asyncio.sleep(seconds)  # it naps

def steps(model, others=(), *, task=None):
    while True:
        yield within(task)

def within(task):
    message = yield task.receive()  # it waits

def spin(label, turns, *, limit):
    count = 0
    while count != limit:
        count += 1  # it computes

def fails():
    raise ValueError

async def main():
    async with dispycos.Client([fails, nap, steps, spin, Raising, Hanging, Spinning]) as client:
        await asyncio.wait([client.submit(fails) for _ in range(2)])
        await client.io_rtask(nap, 1000, {"a": 1}, colour="red")
        for model in Raising(), Hanging(), Spinning():
            await client.io_rtask(steps, model, [model])
        reader = await client.io_rtask(steps, "fine")
        for number in range(5):
            await reader.deliver(number)
        await client.rtask(spin, "north", [0] * 100_000, limit=-1)
        for number in range(3):
            await reader.deliver(number)
        print("runs", flush=True)
        await asyncio.sleep(1000)

asyncio.run(main())
"""

ME = 20
M = TypeVar("M", bound=Message)


class Viewer:
    """As `dispycos status`, and as the monitor."""

    def __init__(self, runtime: Runtime, node: int) -> None:
        self._runtime = runtime
        self._node = Address(node, NODE)
        self._answers: dict[int, asyncio.Future[Message]] = {}
        runtime.attach_inbox(
            ME, lambda envelope, now: self._answers[envelope.correlation].set_result(envelope.message)
        )

    async def ask(self, word: Message, kind: type[M]) -> M:
        number = len(self._answers) + 1
        self._answers[number] = asyncio.get_running_loop().create_future()
        self._runtime.send(Envelope(self._node, self._runtime.address(ME), word, number))
        answer = await asyncio.wait_for(self._answers[number], 10)
        assert isinstance(answer, kind)
        return answer

    async def server(self, parts: int) -> ServerReport:
        [server] = (await self.ask(Look(parts), NodeSight)).servers
        return server

    async def stack(self, server: ServerReport, task: TaskReport) -> StackGiven:
        wanted = StackWanted(server.spot.epoch, TaskId(task.owner, task.number, task.attempt))
        return await self.ask(wanted, StackGiven)


def test_a_viewer_sees_arguments_mailboxes_and_stacks_and_what_became_of_the_lease() -> None:
    with User() as user:
        node = user.node("ash", cpus=1)
        script = user.script("survey.py", TASKS)
        script.wait_line("runs")
        asyncio.run(watch(user, port_of(node), script))


async def watch(user: User, port: int, script: Program) -> None:
    secret = Secret.load_or_make(user.secret_file, None)
    runtime = Runtime("viewer", "test", Keys.from_secret(secret, load_listener(None, None)))
    try:
        node = await runtime.dial([tcp_endpoint("127.0.0.1", port)], keep=False).ready
        viewer = Viewer(runtime, node)
        await look(viewer)
        script.interrupt()
        await look_back(viewer)
    finally:
        await runtime.close()


async def look(viewer: Viewer) -> None:
    server = await viewer.server(SERVERS | ARGUMENTS | MAILBOXES)
    while any(
        task.args is None for task in server.tasks
    ):  # on a busy machine not all come with the first look
        server = await viewer.server(SERVERS | ARGUMENTS | MAILBOXES)
    nap, raising, hanging, spinning, reader, spin = server.tasks
    listed = [task.function for task in server.tasks]
    assert listed == ["nap", "steps", "steps", "steps", "steps", "spin"]
    assert nap.args == "seconds=1000, *others=({'a': 1},), colour='red'"
    broken = "<Raising: its __repr__ raised ValueError>"
    assert raising.args == f"model={broken}, others=[{broken}]"
    assert hanging.args == "model=<Hanging: its __repr__ takes too long>"
    assert spinning.args == "model=<Spinning: its __repr__ takes too long>"
    assert reader.args == "model='fine', others=()"
    assert spin.args == "'north', [0, 0, 0, 0, 0, 0, ...], limit=-1"
    assert reader.messages >= 3 and reader.messages + reader.taken == 8, (
        "it takes none while another computes"
    )
    assert reader.actor and (nap.messages, nap.taken) == (0, 0)
    assert server.use is not None and server.use.cpu_s > 0 and 0 < server.use.memory <= server.use.peak

    stack = await viewer.stack(server, spin)
    assert [(frame.function, frame.code.partition("  #")[0]) for frame in stack.frames] in (
        [("spin", "while count != limit:")],
        [("spin", "count += 1")],
    )
    stack = await viewer.stack(server, nap)
    told = [(frame.function, frame.code) for frame in stack.frames]
    assert told[:2] == [
        ("nap", "await deeper(seconds)"),
        ("deeper", "await asyncio.sleep(seconds)  # it naps"),
    ]
    assert stack.frames[0].file.endswith("/survey.py") and stack.frames[1].line > stack.frames[0].line
    assert stack.text == "it has 1 asyncio Task beside"
    stack = await viewer.stack(server, reader)
    assert [(frame.function, frame.code) for frame in stack.frames] == [
        ("steps", "yield within(task)"),
        ("within", "message = yield task.receive()  # it waits"),
    ]
    assert stack.text == "it waits in receive()"
    stack = await viewer.stack(server, spin._replace(number=spin.number + 1))
    assert (stack.frames, stack.text) == ([], "it has ended")


async def look_back(viewer: Viewer) -> None:
    """At the lease, when it has ended."""
    sight = await viewer.ask(Look(), NodeSight)
    while not sight.summaries:
        assert sight.client is not None and sight.client.name == "survey.py"
        await asyncio.sleep(0.05)
        sight = await viewer.ask(Look(), NodeSight)
    [summary] = sight.summaries
    assert (sight.client, summary.client, summary.unknown) == (None, "survey.py", 0)
    assert (summary.ended, summary.failed, summary.failures) == (8, 2, [("fails", "ValueError", 2)])
    assert 0 < summary.cpu_s < 60 and 0 < summary.seconds < 60
    assert sight.machine is not None and sight.machine.memory > 0

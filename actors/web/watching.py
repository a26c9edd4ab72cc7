"""The monitor's body: asks the cluster once a tick while somebody reads, and carries wishes to who can fulfil them.

It lives on the loop of the web server's thread, so that a page is served while the program computes. Words leave by the runtime
of the process, and their answers are handed over from there.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from typing import Any, Final, Protocol

import msgspec

from dispycos.protocol.addresses import CLIENT, NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Message, TaskId
from dispycos.protocol.watching import Enclosed, Granting, StackGiven, StackWanted, Wish, disclosed

from .desk import Done
from .queries import LIMIT_MAX, choose
from .reading import Reader
from .tables import Tables

MONITOR: Final = 24  # our actor
ANSWER_S: Final = 0.8  # of a tick's second: after it what is there is shown
WISH_S: Final = 5.0
FRESH_S: Final = 2.0
ALWAYS: Final = frozenset(("meta",))

log = logging.getLogger("dispycos")


class Post(Protocol):
    """What is needed of a runtime."""

    def send(self, envelope: Envelope) -> None: ...
    def address(self, actor: int) -> Address: ...
    def attach_inbox(self, actor: int, receive: Callable[[Envelope, float], None]) -> Address: ...
    def detach(self, actor: int) -> None: ...


class Keeper(Protocol):
    """Who is told of each tick, and for whom these tables are looked at though nobody reads them (recording.py)."""

    names: frozenset[str]

    def __call__(self, tables: Tables, now: float) -> None: ...
    def close(self) -> None: ...


class Monitor:
    """Desk of a cluster (desk.py).

    Parameters
    ----------
    post: the runtime that words leave by. poll_sec: seconds from one look to the next. before_tick: what the process knows better
    than the reader, told to that before each tick. keeper: a recorder.
    """

    def __init__(
        self,
        post: Post,
        reader: Reader,
        poll_sec: float,
        *,
        before_tick: Callable[[Reader], None] = lambda reader: None,
        keeper: Keeper | None = None,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.reader = reader
        self.tables = reader.tables
        self.poll_sec = reader.poll_sec = poll_sec
        self._post = post
        self._before_tick = before_tick
        self._keeper = keeper
        post.attach_inbox(MONITOR, self._on_answer)
        self._readers: Counter[str] = Counter()
        self._wakes = asyncio.Event()
        self._ticked = asyncio.Event()
        self._correlations = count(1)
        self._asked: dict[int, asyncio.Future[Message]] = {}
        self._open = 0  # answers that the present tick waits for
        self._tick = 0  # its correlation
        self._all_heard = asyncio.Event()
        if keeper is not None:
            self._wakes.set()
        self._running = self.loop.create_task(self._run())
        self._running.add_done_callback(_report)

    async def close(self) -> None:
        self._running.cancel()
        if self._keeper is not None:
            await self._take_tick()  # the end is what is looked for later
            self._keeper.close()
        self._post.detach(MONITOR)

    # --- Desk: reading ---

    @contextmanager
    def reading(self, names: frozenset[str]) -> Iterator[None]:
        """While somebody reads these tables."""
        self._readers.update(names)
        self._wakes.set()
        try:
            yield
        finally:
            self._readers.subtract(names)
            self._readers = +self._readers

    async def fresh(self, names: frozenset[str]) -> None:
        """One look at these tables."""
        with self.reading(names):
            for _ in range(2):  # the present tick may not ask for them
                ticked = self._ticked
                try:
                    async with asyncio.timeout(FRESH_S):
                        await ticked.wait()
                except TimeoutError:
                    return

    async def ticked(self) -> None:
        await self._ticked.wait()

    # --- the ticks ---

    async def _run(self) -> None:
        while True:
            await self._wakes.wait()
            began = self.loop.time()
            await self._take_tick()
            if not self._readers and not self._kept():
                self._wakes.clear()
                continue
            self._wakes.clear()
            pause = max(0.05, self.poll_sec - (self.loop.time() - began))
            try:
                async with asyncio.timeout(pause):
                    await self._wakes.wait()  # somebody new: the next tick comes at once
                await asyncio.sleep(0.05)
            except TimeoutError:
                self._wakes.set()

    def _kept(self) -> frozenset[str]:
        return self._keeper.names if self._keeper is not None else frozenset()

    async def _take_tick(self) -> None:
        wanted = frozenset(self._readers) | self._kept() | ALWAYS
        now = time.time()
        self._before_tick(self.reader)
        questions = self.reader.questions(wanted, now, args=bool(self._readers))
        self._tick = next(self._correlations)
        self._open = len(questions)
        self._all_heard.clear()
        for question in questions:
            self._send(question.to, question.word, self._tick)
        if questions:
            try:
                async with asyncio.timeout(min(ANSWER_S, self.poll_sec)):
                    await self._all_heard.wait()
            except TimeoutError:
                pass
        now = time.time()
        self.reader.sample(now)
        self.tables.commit(now)
        if self._keeper is not None:
            self._keeper(self.tables, now)
        self._ticked.set()
        self._ticked = asyncio.Event()

    def _send(self, to: Address, word: Message, correlation: int) -> None:
        try:
            self._post.send(Envelope(to, self._post.address(MONITOR), word, correlation))
        except RuntimeError:
            log.debug("the runtime of the monitor is closed")

    def _on_answer(self, envelope: Envelope, now: float) -> None:
        """Within a turn of the runtime, on any of its threads."""
        try:
            self.loop.call_soon_threadsafe(self._heard, envelope)
        except RuntimeError:
            log.debug("the web server has ended: %s is not heard", envelope.message)

    def _heard(self, envelope: Envelope) -> None:
        waiter = self._asked.pop(envelope.correlation, None)
        if waiter is not None:
            if not waiter.done():
                waiter.set_result(envelope.message)
            return
        message = envelope.message
        if isinstance(message, Enclosed):
            try:
                message = disclosed(envelope.payload)
            except msgspec.DecodeError as error:
                log.warning("what client %s tells cannot be read: %s", envelope.sender, error)
        self.reader.hear(envelope.sender, message, time.time())
        if envelope.correlation == self._tick:
            self._open -= 1
            if self._open <= 0:
                self._all_heard.set()

    async def _ask(self, to: Address, word: Message) -> Message:
        """Raises TimeoutError."""
        correlation = next(self._correlations)
        answer: asyncio.Future[Message] = self.loop.create_future()
        self._asked[correlation] = answer
        self._send(to, word, correlation)
        try:
            async with asyncio.timeout(WISH_S):
                return await answer
        finally:
            self._asked.pop(correlation, None)

    # --- Desk: acting ---

    async def act(self, action: str, ids: list[str], args: dict[str, Any]) -> Done:
        if action == "options":
            return self._set_options(args)
        if action == "terminate":
            return await self._terminate(ids)
        if action == "terminate_where":
            return await self._terminate_where(args["filter"])
        if action == "end_lease":
            return await self._end_lease(ids)
        return await self._control(action, ids)

    def _set_options(self, args: dict[str, Any]) -> Done:
        if "poll_sec" in args:
            self.poll_sec = self.reader.poll_sec = args["poll_sec"]
        if "show_args" in args:
            self.reader.show_args = args["show_args"]
        return Done(len(args), [])

    async def _terminate(self, ids: list[str]) -> Done:
        refused: list[tuple[str, str]] = []
        numbers: dict[int, list[int]] = {}
        for task in ids:
            found = self.reader.task_named(task)
            if found is None:
                refused.append((task, "there is no such task, or its client has ended"))
            else:
                numbers.setdefault(found[0].epoch, []).append(found[1])
        wishes = {epoch: [Wish("terminate", tasks)] for epoch, tasks in numbers.items()}
        return await self._wish_all(wishes, refused, self._task_id)

    async def _terminate_where(self, chosen: dict[str, str]) -> Done:
        """All tasks that this filter fits: a client ends also those that are not listed here."""
        if chosen.get("text"):
            return await self._terminate(self._listed(chosen))
        node = self.reader.node_named(chosen.get("node", ""))
        if chosen.get("node") and node is None:
            return Done(0, [("", f"there is no node {chosen['node']!r}")])
        where = chosen.get("function", ""), node.info.epoch if node is not None else 0
        states = [chosen["state"]] if chosen.get("state") else ["queued", "running"]
        wishes = {
            epoch: [Wish("terminate", [], *where, state) for state in states]
            for epoch, client in self.reader.clients.items()
            if client.state != "ended"
        }
        return await self._wish_all(wishes, [], self._task_id)

    def _listed(self, chosen: dict[str, str]) -> list[str]:
        """Tasks by what is shown of them, which their client does not know."""
        tasks = [row for row in self.tables.rows("tasks").values() if row["end"] is None]
        return [row["id"] for row in choose(tasks, chosen | {"limit": str(LIMIT_MAX)})]

    def _task_id(self, epoch: int, number: int) -> str:
        return self.reader.clients[epoch].task_id(number)

    async def _control(self, action: str, ids: list[str]) -> Done:
        """suspend, resume, close or restart: nodes and servers, by the clients that have them."""
        wishes: dict[int, Wish] = {}
        names: dict[int, str] = {}
        refused: list[tuple[str, str]] = []
        for wanted in ids:
            place = self.reader.place_named(wanted)
            if place is None:
                refused.append((wanted, "there is no such node or server"))
                continue
            client, node, server = place
            if client is None:
                refused.append((wanted, "no client has it: there is nobody whose tasks it could get"))
                continue
            wish = wishes.setdefault(client.epoch, Wish(action, nodes=[], servers=[]))
            (wish.servers if server else wish.nodes).append(server or node)
            names[server or node] = wanted
        each = {epoch: [wish] for epoch, wish in wishes.items()}
        return await self._wish_all(each, refused, lambda epoch, what: names.get(what, ""))

    async def _end_lease(self, ids: list[str]) -> Done:
        """By the client, which takes its leave; by its nodes, if it does not answer."""
        done, refused = 0, []
        for wanted in ids:
            client = self.reader.client_named(wanted)
            if client is None or client.state == "ended":
                refused.append((wanted, "there is no such client any more"))
                continue
            try:
                await self._ask(Address(client.epoch, CLIENT), Wish("end_lease"))
            except TimeoutError:
                nodes = [node.info.epoch for node in self.reader.nodes.values() if node.client == client.id]
                for epoch in nodes:
                    self._send(Address(epoch, NODE), Wish("end_lease", client=client.epoch), 0)
                if not nodes:
                    refused.append((wanted, "it does not answer, and it has no node"))
                    continue
            done += 1
        return Done(done, refused)

    async def _wish_all(
        self, wishes: dict[int, list[Wish]], refused: list[tuple[str, str]], name: Callable[[int, int], str]
    ) -> Done:
        done = 0
        for epoch, wish in [(epoch, wish) for epoch, several in wishes.items() for wish in several]:
            try:
                granting = await self._ask(Address(epoch, CLIENT), wish)
            except TimeoutError:
                client = self.reader.clients[epoch]
                refused.append((client.id, f"{client.name} does not answer: only its lease can be ended"))
                continue
            assert isinstance(granting, Granting)
            done += granting.done
            refused += [(name(epoch, what), why) for what, why in granting.refused]
        self._wakes.set()
        return Done(done, refused)

    # --- Desk: stacks ---

    async def stack(self, task: str) -> dict[str, Any]:
        """Raises LookupError, in words."""
        found = self.reader.running_at(task)
        if found is None:
            raise LookupError(f"task {task} does not run: it has ended, or waits")
        client, number, server = found
        word = StackWanted(server.epoch, TaskId(client.epoch, number))
        try:
            given = await self._ask(Address(server.node, NODE), word)
        except TimeoutError:
            raise LookupError(f"node {server.node_id} does not answer") from None
        assert isinstance(given, StackGiven)
        return {
            "task": task,
            "function": given.function,
            "server": server.id,
            "node": server.node_id,
            "at": time.time(),
            "frames": [frame._asdict() for frame in given.frames],
            "text": given.text,
        }


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("the monitor has failed, and shows nothing new", exc_info=task.exception())

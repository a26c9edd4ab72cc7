"""That the cluster is asked only while somebody reads, and that wishes go to who can fulfil them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dispycos.actors.web import watching
from dispycos.actors.web.reading import RINGS, Reader
from dispycos.actors.web.tables import Tables
from dispycos.actors.web.watching import MONITOR, Monitor
from dispycos.protocol.addresses import CLIENT, NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import TaskId
from dispycos.protocol.watching import (
    Frame,
    Granting,
    LiveTask,
    Look,
    NodeSight,
    StackGiven,
    StackWanted,
    Wish,
)

from .test_reading import ME, node_info, server, sight

TASK = "9abcdef0.17"


class Cluster:
    """A runtime whose client and node answer at once, or not at all."""

    def __init__(self) -> None:
        self.sent: list[Envelope] = []
        self.is_silent = False
        self.answers: dict[type, Callable[[Any], Any]] = {
            Look: self._look,
            Wish: lambda wish: Granting(max(1, len(wish.tasks))),
            StackWanted: lambda word: StackGiven([Frame("f.py", 3, "f", "x = 1")], "", "f"),
        }

    def _look(self, look: Look) -> Any:
        live = [LiveTask(17, 1, "f", 1001, "running", 3.0, 1.0, False, "")]
        return sight(live=live, servers=[server()])

    def address(self, actor: int) -> Address:
        return Address(ME, actor)

    def attach_inbox(self, actor: int, receive: Callable[[Envelope, float], None]) -> Address:
        assert actor == MONITOR
        self._receive = receive
        return self.address(actor)

    def detach(self, actor: int) -> None:
        self._receive = lambda envelope, now: None

    def send(self, envelope: Envelope) -> None:
        self.sent.append(envelope)
        if self.is_silent:
            return
        word = envelope.message
        if envelope.to.actor == NODE and isinstance(word, Look):
            answer: Any = NodeSight(node_info(), None, 0.0, None, [], [], [])
        else:
            answer = self.answers[type(word)](word)
        self._receive(Envelope(envelope.sender, envelope.to, answer, envelope.correlation), 0.0)

    def words(self, kind: type) -> list[tuple[Address, Any]]:
        return [(one.to, one.message) for one in self.sent if isinstance(one.message, kind)]


def monitored(scene: Callable[[Monitor, Cluster], Any]) -> None:
    async def play() -> None:
        cluster = Cluster()
        monitor = Monitor(cluster, Reader(Tables("e", RINGS), "client", "survey.py", ME, 0.0), 0.2)
        try:
            async with asyncio.timeout(20):
                await scene(monitor, cluster)
        finally:
            await monitor.close()

    asyncio.run(play())


def test_nobody_is_asked_while_nobody_reads() -> None:
    async def scene(monitor: Monitor, cluster: Cluster) -> None:
        await asyncio.sleep(0.5)
        assert cluster.sent == []
        with monitor.reading(frozenset(("nodes",))):
            await monitor.ticked()
            await monitor.ticked()
        await asyncio.sleep(0.3)
        count = len(cluster.sent)
        await asyncio.sleep(0.5)
        assert len(cluster.sent) == count > 0, "the last reader has gone"

    monitored(scene)


def test_a_request_gets_what_is_there_now() -> None:
    async def scene(monitor: Monitor, cluster: Cluster) -> None:
        await monitor.fresh(frozenset(("tasks", "nodes")))
        assert list(monitor.tables.rows("tasks")) == [TASK] and monitor.tables.rows("nodes")

    monitored(scene)


def test_a_cluster_that_does_not_answer_holds_nobody_up_for_long() -> None:
    async def scene(monitor: Monitor, cluster: Cluster) -> None:
        cluster.is_silent = True
        await monitor.fresh(frozenset(("tasks",)))
        assert monitor.tables.rows("meta")

    monitored(scene)


def test_wishes_go_to_the_client_that_has_the_place() -> None:
    async def scene(monitor: Monitor, cluster: Cluster) -> None:
        await monitor.fresh(frozenset(("nodes", "servers", "tasks")))
        assert (await monitor.act("suspend", ["n1:9706", "10.0.0.1:9707", "x"], {})) == (
            1,
            [("x", "there is no such node or server")],
            "",
        )
        assert cluster.words(Wish) == [(Address(ME, CLIENT), Wish("suspend", nodes=[101], servers=[1001]))]
        done = await monitor.act("terminate", [TASK, "nobody.1", "9abcdef0.x"], {})
        assert done.done == 1 and [one for one, _ in done.refused] == ["nobody.1", "9abcdef0.x"]
        assert cluster.words(Wish)[-1][1] == Wish("terminate", [17])

    monitored(scene)


def test_all_that_a_filter_means_are_ended_and_no_others() -> None:
    async def scene(monitor: Monitor, cluster: Cluster) -> None:
        await monitor.fresh(frozenset(("nodes", "servers", "tasks")))
        await monitor.act(
            "terminate_where", [], {"filter": {"function": "f", "state": "queued", "node": "n1:9706"}}
        )
        assert cluster.words(Wish) == [(Address(ME, CLIENT), Wish("terminate", [], "f", 101, "queued"))]
        cluster.sent.clear()
        await monitor.act(
            "terminate_where", [], {"filter": {"text": "10.0.0.1", "function": "", "state": ""}}
        )
        assert [word for _, word in cluster.words(Wish)] == [Wish("terminate", [17])]
        cluster.sent.clear()
        assert (await monitor.act("terminate_where", [], {"filter": {"text": "nothing has this"}})).done == 0
        done = await monitor.act("terminate_where", [], {"filter": {"node": "n9:1"}})
        assert done == (0, [("", "there is no node 'n9:1'")], "")
        assert cluster.words(Wish) == []

    monitored(scene)


def test_of_a_client_that_does_not_answer_its_nodes_end_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WISH_S", 0.1)

    async def scene(monitor: Monitor, cluster: Cluster) -> None:
        await monitor.fresh(frozenset(("nodes", "servers", "tasks")))
        cluster.is_silent = True
        done = await monitor.act("terminate", [TASK], {})
        assert done.done == 0 and "only its lease can be ended" in done.refused[0][1]
        assert (await monitor.act("end_lease", ["9abcdef0"], {})).done == 1
        assert [to for to, word in cluster.words(Wish) if word.what == "end_lease"] == [
            Address(ME, CLIENT),
            Address(101, NODE),
        ]

    monitored(scene)


def test_a_stack_is_asked_of_the_node_that_has_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "WISH_S", 0.1)

    async def scene(monitor: Monitor, cluster: Cluster) -> None:
        await monitor.fresh(frozenset(("nodes", "servers", "tasks")))
        stack = await monitor.stack(TASK)
        assert (stack["function"], stack["frames"][0]["line"], stack["node"]) == ("f", 3, "n1:9706")
        assert cluster.words(StackWanted) == [(Address(101, NODE), StackWanted(1001, TaskId(ME, 17)))]
        with pytest.raises(LookupError, match="does not run"):
            await monitor.stack("9abcdef0.99")
        cluster.is_silent = True
        with pytest.raises(LookupError, match="does not answer"):
            await monitor.stack(TASK)

    monitored(scene)


def test_options_change_what_is_asked() -> None:
    async def scene(monitor: Monitor, cluster: Cluster) -> None:
        assert (await monitor.act("options", [], {"poll_sec": 2.5, "show_args": False})).done == 2
        assert monitor.poll_sec == monitor.reader.poll_sec == 2.5 and not monitor.reader.show_args

    monitored(scene)

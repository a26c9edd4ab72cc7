"""`dispycos status`: who is asked, how the answers are shown, and what is said when there is nobody."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dispycos.cli import lookout as lookout_module
from dispycos.cli.lookout import Lookout
from dispycos.cli.process import Process
from dispycos.cli.status import as_object, as_text, run
from dispycos.config import CommonSettings, NothingFound, Refused, StatusSettings
from dispycos.protocol import messages
from dispycos.protocol.addresses import NODE, SCHEDULER
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Availability,
    ClientReport,
    NodeInfo,
    NodeReport,
    SchedulerReport,
    ServerReport,
    Spot,
    TaskReport,
)
from dispycos.runtime import Runtime
from dispycos.transport.discovery import Registry
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys
from dispycos.values import HostPort

pytestmark = pytest.mark.timeout(30)

LEFT = Availability(50.0, 1000, 2000, 3000)
BOX = NodeInfo("box", "127.0.0.5", 9700, 2, "Linux-6", (3, 11), 900, LEFT)
TASK = TaskReport("compute", 0xABC, 17, 1, False, "running", 1.25)
SERVER = ServerReport(Spot("127.0.0.5", 9701, 1001, "box/server-1"), 4711, [TASK])
IDLE = ServerReport(Spot("127.0.0.5", 9702, 1002, "box/server-2"), 4712, [])
NODE_REPORT = NodeReport(BOX, "anna's job", [SERVER, IDLE], 3)
CLIENT = ClientReport("anna's job", "host", 99, "running", 5, 1, 20)
SCHEDULER_REPORT = SchedulerReport(
    "main", "127.0.0.4", 9705, False, [CLIENT], [("box", "127.0.0.5", 9700, "initialized")]
)
# Who is there answers within this, on a busy machine too; and within ANSWERS_S where a test has to wait for one who does not.
SETTINGS = StatusSettings(ip_addr=("127.0.0.1",), timeout=10.0)
ANSWERS_S = 1.0


class Deaf:
    """mDNS of a network where nobody is."""

    def __init__(self, addresses: Any = ()) -> None: ...
    async def open(self) -> str:
        return ""

    async def browse(self, found: Any) -> None: ...
    async def close(self) -> None: ...


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """The command sets levels for its whole process, which is ours here."""
    kept = [(logger, logger.level) for logger in map(logging.getLogger, ("dispycos", "asyncio", "zeroconf"))]
    yield
    for logger, level in kept:
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the user's is touched, no packet leaves this host, and looking takes no time."""
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("DISPYCOS_IP_ADDR", "127.0.0.1")
    monkeypatch.delenv("DISPYCOS_SECRET", raising=False)
    monkeypatch.setattr(lookout_module, "Multicast", Deaf)
    monkeypatch.setattr(lookout_module, "LOOK_S", 0.01)
    return tmp_path


def own_keys() -> Keys:
    return Keys.from_secret(Secret.load_or_make())


class Answering:
    """A process that answers Inventory with what it is given."""

    def __init__(
        self,
        *reports: tuple[int, messages.Message],
        role: str = "scheduler",
        keys: Keys | None = None,
        late: float = 0.0,  # seconds until the first of these is given
    ) -> None:
        settings = CommonSettings(ip_addr=("127.0.0.1",))
        self.process = Process(role, "main", settings, keys or own_keys())
        self.asked = 0
        for actor, report in reports:
            self.process.runtime.attach_inbox(actor, self._answer(actor, report, late))
            late = 0.0

    def _answer(self, actor: int, report: messages.Message, late: float) -> Callable[[Envelope, float], None]:
        def receive(envelope: Envelope, now: float) -> None:
            self.asked += 1
            assert isinstance(envelope.message, messages.Inventory)
            runtime = self.process.runtime
            answer = Envelope(envelope.sender, runtime.address(actor), report, envelope.correlation)
            runtime.loop.call_soon_threadsafe(lambda: runtime.loop.call_later(late, runtime.send, answer))

        return receive


def look(
    scene: Callable[[Lookout], Awaitable[None]],
    *there: Callable[[], Answering],
    settings: StatusSettings = SETTINGS,
) -> None:
    """The scene with a view, while these processes are announced in the registry."""

    async def main() -> None:
        async with asyncio.timeout(20):
            processes = [make().process for make in there]
            for process in processes:
                await process.__aenter__()
                process.listen_tcp(0)
                process.listen_ipc()
                await process.announce(multicast=False)
            keys = own_keys()
            view = Lookout(Runtime("viewer", "status", keys), keys.tag, settings)
            try:
                await scene(view)
            finally:
                await view.runtime.close()
                for process in processes:
                    await process.__aexit__(None, None, None)

    asyncio.run(main())


def view_of(*reports: messages.Message) -> Lookout:
    """The view after these answers, without any process."""
    made: list[Lookout] = []

    async def main() -> None:
        view = Lookout(Runtime("viewer", "status", None), "", SETTINGS)
        for number, report in enumerate(reports):
            sender = view.runtime.address(SCHEDULER)._replace(epoch=number + 1)
            view._on_answer(Envelope(view.runtime.address(20), sender, report, number), 0.0)
        made.append(view)
        await view.runtime.close()

    asyncio.run(main())
    return made[0]


# --- asking ---


def test_a_scheduler_and_a_node_are_asked_and_answer() -> None:
    report = SchedulerReport("main", "127.0.0.4", 9705, False, [CLIENT], [])  # nodes would be dialled

    async def scene(view: Lookout) -> None:
        await view.look()
        assert list(view.schedulers.values()) == [report]
        assert list(view.nodes.values()) == [NODE_REPORT]

    look(
        scene,
        lambda: Answering((SCHEDULER, report)),
        lambda: Answering((NODE, NODE_REPORT), role="node"),
    )


@pytest.mark.parametrize("first", [SCHEDULER, NODE])
def test_a_private_process_answers_for_both_of_its_roles_at_whatever_time(first: int) -> None:
    """Both may have to ask others: a scheduler its client, a node its servers."""
    private = SchedulerReport("private-9", "127.0.0.1", 0, True, [CLIENT], [])

    async def scene(view: Lookout) -> None:
        await view.look()
        assert list(view.schedulers.values()) == [private]
        assert list(view.nodes.values()) == [NODE_REPORT]

    reports = sorted(((SCHEDULER, private), (NODE, NODE_REPORT)), key=lambda report: report[0] != first)
    look(scene, lambda: Answering(*reports, late=0.3))


def test_a_process_that_does_not_answer_holds_nobody_up_for_longer_than_the_timeout() -> None:
    async def scene(view: Lookout) -> None:
        start = view.runtime.clock()
        await view.look()
        assert view.runtime.clock() - start < SETTINGS.timeout
        assert list(view.nodes.values()) == [NODE_REPORT]
        assert view.schedulers == {}

    look(
        scene,
        lambda: Answering(role="scheduler"),
        lambda: Answering((NODE, NODE_REPORT), role="node"),
        settings=StatusSettings(ip_addr=("127.0.0.1",), timeout=ANSWERS_S),
    )


def test_a_process_is_asked_once_however_often_it_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    answering: list[Answering] = []

    def make() -> Answering:
        answering.append(Answering((NODE, NODE_REPORT), role="node"))
        return answering[0]

    class Echo(Deaf):
        async def browse(self, found: Any) -> None:
            process = answering[0].process
            for _ in range(3):
                found(Registry(process.folders.registry).read()[0])

    monkeypatch.setattr(lookout_module, "Multicast", Echo)

    async def scene(view: Lookout) -> None:
        await view.look()
        assert answering[0].asked == 1

    look(scene, make)


def test_looked_at_again_who_does_not_answer_is_not_there_and_who_has_come_is() -> None:
    settings = StatusSettings(ip_addr=("127.0.0.1",), timeout=ANSWERS_S)

    async def scene(view: Lookout) -> None:
        await view.look(stays=True)
        assert len(view.nodes) == 1
        late = Answering((SCHEDULER, SCHEDULER_REPORT))
        async with late.process as process:
            process.listen_tcp(0)
            await process.announce(multicast=False)
            node[0].process.runtime.detach(NODE)
            await view.look_again()
            assert view.nodes == {}
            while not view.schedulers:
                await view.look_again()
            assert list(view.schedulers.values()) == [SCHEDULER_REPORT]
        await view.close()

    node: list[Answering] = []

    def make() -> Answering:
        node.append(Answering((NODE, NODE_REPORT), role="node"))
        return node[0]

    look(scene, make, settings=settings)


def test_what_is_named_is_asked_too() -> None:
    async def main() -> None:
        answering = Answering((NODE, NODE_REPORT), role="node")
        async with answering.process as process, asyncio.timeout(10):
            port = process.listen_tcp(0)
            settings = StatusSettings(ip_addr=("127.0.0.1",), peer=(HostPort("127.0.0.1", port),))
            view = Lookout(Runtime("viewer", "status", own_keys()), own_keys().tag, settings)
            try:
                await view.look()
                assert list(view.nodes.values()) == [NODE_REPORT]
            finally:
                await view.runtime.close()

    asyncio.run(main())


def test_nodes_that_only_a_scheduler_knows_are_asked_and_those_that_do_not_answer_are_named() -> None:
    """mDNS ends where the network does."""

    async def main() -> None:
        node, scheduler = Answering(role="node"), Answering(role="scheduler")
        async with node.process, scheduler.process, asyncio.timeout(10):
            port = node.process.listen_tcp(0)
            near = NodeReport(BOX._replace(name="near", addr="127.0.0.1", port=port), "", [], 0)
            nodes = [("near", "127.0.0.1", port, "idle"), ("cut off", "127.0.0.5", 1, "idle")]
            node.process.runtime.attach_inbox(NODE, node._answer(NODE, near, 0.0))
            report = SchedulerReport("main", "127.0.0.1", 9705, False, [], nodes)
            scheduler.process.runtime.attach_inbox(SCHEDULER, scheduler._answer(SCHEDULER, report, 0.0))
            scheduler.process.listen_tcp(0)
            await scheduler.process.announce(multicast=False)
            settings = StatusSettings(ip_addr=("127.0.0.1",), timeout=3.0)
            view = Lookout(Runtime("viewer", "status", own_keys()), own_keys().tag, settings)
            try:
                await view.look()
                assert list(view.nodes.values()) == [near]
                *_, last = as_text(view).splitlines()
                assert last == (
                    "node cut off at 127.0.0.5:1, idle by what scheduler main knows: no answer from there"
                )
            finally:
                await view.runtime.close()

    asyncio.run(main())


def test_tasks_of_a_client_that_does_not_answer_are_not_counted() -> None:
    silent = CLIENT._replace(queued=None, running=None, done=None)
    report = SchedulerReport("private-9", "127.0.0.1", 0, True, [silent], [])
    view = view_of(report)
    assert as_text(view).splitlines()[1:] == [
        "  client anna's job (host, pid 99) running: it does not answer"
    ]
    [client] = as_object(view)["clients"]
    assert client["queued"] is client["running"] is client["done"] is None


def test_processes_of_another_cluster_are_counted_not_asked() -> None:
    theirs = Keys.from_secret(Secret(b"t" * 32, "test"))

    async def scene(view: Lookout) -> None:
        await view.look()
        assert (len(view.foreign), view.nodes, view.refused) == (1, {}, "")

    look(scene, lambda: Answering((NODE, NODE_REPORT), role="node", keys=theirs))


# --- showing ---


def test_the_text_lists_schedulers_clients_nodes_servers_and_tasks() -> None:
    assert as_text(view_of(SCHEDULER_REPORT, NODE_REPORT)).splitlines() == [
        "scheduler main at 127.0.0.4:9705",
        "  client anna's job (host, pid 99) running: 1 running, 5 queued, 20 done",
        "node box at 127.0.0.5:9700, 2 CPUs, used by anna's job",
        "  box/server-1 at 127.0.0.5:9701 (pid 4711): compute running 1.2 s",
        "  box/server-2 at 127.0.0.5:9702 (pid 4712): idle",
    ]


def test_the_text_of_a_free_node_and_a_private_scheduler() -> None:
    free = NodeReport(BOX, "", [], 0)
    private = SchedulerReport("private-9", "127.0.0.1", 0, True, [], [])
    assert as_text(view_of(private, free)).splitlines() == [
        "scheduler private-9, private",
        "node box at 127.0.0.5:9700, 2 CPUs, free",
    ]


def test_a_private_scheduler_is_shown_with_its_client_instead_of_a_port_that_it_has_not() -> None:
    view = view_of(SchedulerReport("private-9", "127.0.0.1", 0, True, [CLIENT], []))
    assert as_text(view).splitlines() == [
        "scheduler private-9, private, of anna's job",
        "  client anna's job (host, pid 99) running: 1 running, 5 queued, 20 done",
    ]
    assert as_object(view)["schedulers"][0]["location"] is None


def test_what_is_insecure_is_said_in_capitals() -> None:
    view = view_of(
        SchedulerReport("main", "127.0.0.4", 9705, False, [], [], insecure=True),
        NodeReport(BOX, "", [], 0, insecure=True),
    )
    lines = as_text(view).splitlines()
    assert len(lines) == 2 and all(line.endswith(" INSECURE") for line in lines)


def test_nodes_are_shown_in_order_of_their_names() -> None:
    view = view_of(*(NodeReport(BOX._replace(name=name), "", [], 0) for name in ("c", "a", "b")))
    assert [line.split()[1] for line in as_text(view).splitlines()] == ["a", "b", "c"]
    assert [node["name"] for node in as_object(view)["nodes"]] == ["a", "b", "c"]


def test_the_object_has_the_shape_that_programs_read() -> None:
    shown = json.loads(json.dumps(as_object(view_of(SCHEDULER_REPORT, NODE_REPORT))))
    assert shown == {
        "schedulers": [
            {
                "name": "main",
                "location": "127.0.0.4:9705",
                "private": False,
                "insecure": False,
                "nodes": [{"name": "box", "location": "127.0.0.5:9700", "state": "initialized"}],
            }
        ],
        "clients": [
            {
                "name": "anna's job",
                "host": "host",
                "pid": 99,
                "state": "running",
                "queued": 5,
                "running": 1,
                "done": 20,
            }
        ],
        "nodes": [
            {
                "name": "box",
                "location": "127.0.0.5:9700",
                "cpus": 2,
                "resources": {},
                "platform": "Linux-6",
                "python": "3.11",
                "available": {"cpu": 50.0, "memory": 1000, "disk": 2000, "swap": 3000},
                "client": "anna's job",
                "served": 3,
                "insecure": False,
                "resting": None,
                "servers": [
                    {
                        "location": "127.0.0.5:9701",
                        "name": "box/server-1",
                        "pid": 4711,
                        "tasks": [
                            {
                                "function": "compute",
                                "id": "abc.17",
                                "io": False,
                                "state": "running",
                                "since": 1.25,
                            }
                        ],
                    },
                    {"location": "127.0.0.5:9702", "name": "box/server-2", "pid": 4712, "tasks": []},
                ],
            }
        ],
    }


def test_a_free_node_that_has_not_told_its_load_has_none() -> None:
    (node,) = as_object(view_of(NodeReport(BOX._replace(available=None), "", [], 0)))["nodes"]
    assert node["available"] is None and node["client"] is None


# --- the command ---


def test_when_there_is_nobody_it_says_what_to_start() -> None:
    with pytest.raises(NothingFound, match="no scheduler, node or client was found") as info:
        run(SETTINGS)
    assert "dispycos node" in info.value.remedy
    assert info.value.exit_code == 3


def test_what_is_named_and_silent_is_nobody() -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        place = HostPort("127.0.0.1", held.getsockname()[1])
        with pytest.raises(NothingFound, match=f"--peer {place}: no scheduler or node answers there"):
            run(StatusSettings(ip_addr=("127.0.0.1",), peer=(place,), timeout=0.2))


def test_what_is_named_and_silent_is_named_beside_what_is_found(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        place = HostPort("127.0.0.1", held.getsockname()[1])
        settings = StatusSettings(ip_addr=("127.0.0.1",), peer=(place,), timeout=ANSWERS_S)
        assert beside(lambda: Answering((NODE, NODE_REPORT), role="node"), lambda port: run(settings)) == 0
    assert [record.message for record in caplog.records] == [
        f"--peer {place}: no scheduler or node answers there"
    ]
    assert capsys.readouterr().out.startswith("node box at")


def test_a_host_that_is_named_without_a_port_is_asked_for_a_scheduler_and_a_node(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def command(port: int) -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            monkeypatch.setattr("dispycos.cli.lookout.NODE_PORT", held.getsockname()[1])
            monkeypatch.setattr("dispycos.cli.lookout.SCHEDULER_PORT", port)
            settings = StatusSettings(
                ip_addr=("127.0.0.1",), peer=(HostPort("127.0.0.1"),), timeout=SETTINGS.timeout
            )
            assert run(settings) == 0

    beside(lambda: Answering((NODE, NODE_REPORT), role="node"), command, announced=False)


def beside(
    answering: Callable[[], Answering], command: Callable[[int], Any], *, announced: bool = True
) -> Any:
    """The command in a thread of its own, while the process answers; it is given the process's port."""

    async def main() -> Any:
        process = answering().process
        async with process, asyncio.timeout(15):
            port = process.listen_tcp(0)
            if announced:
                await process.announce(multicast=False)
            return await asyncio.to_thread(command, port)

    return asyncio.run(main())


def test_others_of_another_cluster_are_mentioned() -> None:
    theirs = Keys.from_secret(Secret(b"t" * 32, "test"))

    def command(port: int) -> None:
        with pytest.raises(NothingFound, match=r"1 process of another cluster \(another secret\)"):
            run(SETTINGS)

    beside(lambda: Answering((NODE, NODE_REPORT), role="node", keys=theirs), command)


def test_a_named_place_with_another_secret_is_a_refusal_with_the_remedy() -> None:
    theirs = Keys.from_secret(Secret(b"t" * 32, "test"))

    def command(port: int) -> None:
        with pytest.raises(Refused, match=f"tcp://127.0.0.1:{port}: .") as info:
            run(StatusSettings(ip_addr=("127.0.0.1",), peer=(HostPort("127.0.0.1", port),)))
        assert "copy the secret file" in info.value.remedy
        assert info.value.exit_code == 4

    beside(lambda: Answering((NODE, NODE_REPORT), role="node", keys=theirs), command, announced=False)


@pytest.mark.parametrize("as_json", [True, False])
def test_the_answer_is_printed(as_json: bool, capsys: pytest.CaptureFixture[str]) -> None:
    settings = StatusSettings(ip_addr=("127.0.0.1",), json=as_json)
    assert beside(lambda: Answering((NODE, NODE_REPORT), role="node"), lambda port: run(settings)) == 0
    printed = capsys.readouterr().out
    if as_json:
        assert [node["name"] for node in json.loads(printed)["nodes"]] == ["box"]
    else:
        assert printed.startswith("node box at 127.0.0.5:9700")


def test_looking_leaves_nothing_behind(home: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(NothingFound):
            run(SETTINGS)
    assert len(os.listdir("/proc/self/fd")) <= before + 1
    assert [path.name for path in (home / "dispycos").iterdir()] == ["secret"]

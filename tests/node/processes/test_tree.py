"""Covers actors/node/processes/: tree, template, zygote, lines and output with real processes: how they start, speak, end."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from dispycos.actors.node.processes import output
from dispycos.actors.node.processes import tree as processes
from dispycos.actors.node.processes.exits import OomCounter
from dispycos.actors.node.processes.lines import WORD_MAX
from dispycos.actors.node.processes.output import OutputPipes
from dispycos.actors.node.processes.template import Template
from dispycos.actors.node.processes.tree import ProcessTree, ServerProcess
from dispycos.actors.node.processes.words import EndStep, ForkServer, KillServer, Prepare
from dispycos.actors.tasks.page import SINCE, STEP, PageWriter
from dispycos.actors.tasks.step import NO_STEP, Step
from dispycos.protocol.messages import Marks

HERE = __name__
ROOT = str(Path(__file__).resolve().parents[3])
PATIENCE_S = 45.0  # a hundred servers start within this on a busy machine
pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform != "linux", reason="the process tree is forked on Linux only"),
]


# --- what runs in servers ------------------------------------------------------------------------


def hold(argument: bytes, page: int, prepared: object) -> None:
    print("up", flush=True)
    time.sleep(600)


def exit_with(argument: bytes, page: int, prepared: object) -> int:
    return int(argument)


def leave_with_words(argument: bytes, page: int, prepared: object) -> None:
    sys.exit("no more")


def fail(argument: bytes, page: int = -1, prepared: object = None) -> None:
    raise LookupError("nothing of that kind")


def speak(argument: bytes, page: int, prepared: object) -> None:
    print("by print")
    os.write(1, b"by os.write\n")
    subprocess.run(["sh", "-c", "echo by a subprocess; echo its complaint >&2"], check=True)
    print("on stderr", file=sys.stderr)


def crash(argument: bytes, page: int, prepared: object) -> None:
    print("last words", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGSEGV)


def tell_place(argument: bytes, page: int, prepared: object) -> None:
    names = "DISPYCOS_SECRET_FILE", "OMP_NUM_THREADS", "MKL_NUM_THREADS"
    print(os.getcwd(), *map(os.environ.get, names))
    print(sys.path[0], sys.path[1], sys.stdin.read() == "", oct(os.stat(".").st_mode & 0o777))
    print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())


def tell_random(argument: bytes, page: int, prepared: object) -> None:
    print(random.random())


def tell_length(argument: bytes, page: int, prepared: object) -> None:
    print(len(argument), signal.getsignal(signal.SIGINT) is signal.SIG_IGN)


def flood(argument: bytes, page: int, prepared: object) -> None:
    line = b"x" * 1023 + b"\n"
    for _ in range(5 * 1024):
        os.write(1, line)
    os.write(2, b"done\n")


def leave_daemon(argument: bytes, page: int, prepared: object) -> None:
    """A grandchild in a session of its own, that holds the output pipes; its parent is gone at once."""
    if argument == b"exec":
        command = "setsid sleep 600 >/dev/null & echo $!"
        print(subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True).stdout.strip())
    elif os.fork() == 0:
        os.setsid()
        daemon = os.fork()
        if daemon:
            os.write(1, b"%d\n" % daemon)
            os._exit(0)
        time.sleep(600)
    else:
        os.wait()
    time.sleep(600)


def leave_daemon_and_end(argument: bytes, page: int, prepared: object) -> None:
    subprocess.Popen(["setsid", "sleep", "600"])


def start_child_in_group(argument: bytes, page: int, prepared: object) -> None:
    print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
    time.sleep(600)


def leave_child_in_group(argument: bytes, page: int, prepared: object) -> None:
    print(subprocess.Popen(["sleep", "600"]).pid, flush=True)


def take_steps(argument: bytes, page: int, prepared: object) -> None:
    """One step after the other, each as long as the argument says in seconds, and told when it begins."""
    words = PageWriter(page).words
    while True:
        words[SINCE] = time.monotonic_ns()
        words[STEP] = 7
        print(words[SINCE], flush=True)
        time.sleep(float(argument))
        words[STEP] = 0


def prepare(argument: bytes, frames: list[bytes], ask: Callable[[bytes], bytes]) -> list[bytes]:
    print("preparing", argument.decode(), len(frames), os.getcwd())
    os.write(2, b"with a complaint\n")
    return [*frames, ask(argument)]


def tell_prepared(argument: bytes, page: int, prepared: list[bytes]) -> None:
    print([len(part) for part in prepared], prepared[-1].decode(), os.getppid(), flush=True)


# --- the agent in this process ------------------------------------------------------------------------------


class Agent:
    """tree.Owner, who keeps what he is told."""

    tree: ProcessTree

    def __init__(self, template: Template, folder: Path) -> None:
        self.template = template
        self.folder = folder
        self.zygotes = 0
        self.ready = 0
        self.prepared: list[str] = []
        self.zygote_ends: list[str] = []
        self.exits: list[tuple[int, str]] = []
        self.known: dict[int, ServerProcess] = {}  # the last one of each number
        self.ended: dict[ServerProcess, str] = {}
        self.ended_for_step: list[int] = []
        self.late: list[bytes] = []
        self.refused: list[tuple[int, str]] = []
        self.said: dict[tuple[int, int], bytes] = {}

    def tell(self, told: Callable[..., None], *words: object) -> None:
        asyncio.get_running_loop().call_soon(partial(told, *words, time.monotonic()))

    def zygote_born(self, now: float) -> None:
        self.ready += 1

    def zygote_ready(self, now: float) -> None:
        self.prepared.append("")

    def setup_failed(self, text: str, now: float) -> None:
        self.prepared.append(text)

    def code_asked(self, request: bytes, now: float) -> None:
        self.tree.answer_code("" if request == b"known" else "nobody knows it", [request.upper()])

    def zygote_failed(self, text: str, now: float) -> None:
        self.zygote_ends.append(text)
        self.ended_before = len(self.exits)

    def server_failed_to_start(self, number: int, text: str, now: float) -> None:
        self.refused.append((number, text))

    def server_exited(
        self, number: int, death: str, marks: Marks, now: float, *, for_step: bool = False
    ) -> None:
        self.exits.append((number, death))
        if number in self.known:
            self.ended[self.known[number]] = death
        self.ended_for_step += [number] if for_step else []

    def output(self, number: int, stream: int, text: bytes, mark: int, now: float) -> None:
        if self.known.get(number) in self.ended:  # the last one of this number, which others had before
            self.late.append(text)
        self.said[number, stream] = self.said.get((number, stream), b"") + text

    def text(self, number: int = 1, stream: int = 1) -> str:
        return self.said.get((number, stream), b"").decode()

    def begin_zygote(self, name: str = "lease") -> None:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        self.tree.start_zygote(str(folder))

    async def zygote(self, name: str = "lease") -> int:
        """Its pid."""
        ready = self.ready
        self.begin_zygote(name)
        await wait_until(lambda: self.ready > ready)
        assert self.tree._zygote is not None
        return self.tree._zygote.pid

    async def start(self, entry: Callable[..., Any], argument: bytes = b"", number: int = 1) -> ServerProcess:
        self.tree.start_server(ForkServer(number, f"{HERE}:{entry.__name__}", argument))
        server = self.known[number] = self.tree.servers[number]
        await wait_until(lambda: server.pid)
        return server

    async def end_of(self, server: ServerProcess) -> str:
        self.known[server.number] = server
        await wait_until(lambda: server in self.ended)
        return self.ended[server]

    async def run(self, entry: Callable[..., Any], argument: bytes = b"", number: int = 1) -> str:
        """How a server ended."""
        return await self.end_of(await self.start(entry, argument, number))


async def within(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, PATIENCE_S)


async def wait_until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    give_up = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < give_up, "it did not come true in time"
        await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def with_agent(tmp_path: Path, scenario: Callable[[Agent], Awaitable[None]]) -> Agent:
    """Run a scenario in an agent, end the agent, and see that none of its processes is left."""
    opened = len(os.listdir("/proc/self/fd"))
    template = Template.fork([HERE])
    agent = Agent(template, tmp_path)

    async def main() -> None:
        agent.tree = ProcessTree(template, asyncio.get_running_loop(), agent, agent.tell)
        try:
            await asyncio.wait_for(scenario(agent), 40)
        finally:
            await within(agent.tree.close())
            await asyncio.sleep(0)

    before = {child.pid for child in psutil.Process().children(recursive=True)} - {template.pid}
    asyncio.run(main())
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    for child in left:
        with suppress(psutil.Error):
            child.kill()
    assert not left
    assert not agent.late, "output after the end was told"
    agent.ended.clear()  # with their pages
    agent.known.clear()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == opened
    return agent


# --- how servers start, speak and end -----------------------------------------------------------------------


def test_a_server_tells_its_exit_code_its_exception_and_its_last_words(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        assert await agent.run(exit_with, b"3") == "exited with code 3"
        assert await agent.run(exit_with, b"0") == "exited with code 0"
        assert await agent.run(fail) == "exited with code 1"
        assert await agent.run(leave_with_words, number=2) == "exited with code 1"

    agent = with_agent(tmp_path, scenario)
    assert agent.text(1, 2).endswith("\nLookupError: nothing of that kind\n")
    assert agent.text(2, 2) == "no more\n"
    assert len(agent.exits) == 4


def test_the_words_before_a_segfault_arrive_with_the_place_where_it_was(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        assert await agent.run(crash) == "killed by SIGSEGV (11)"

    said = with_agent(tmp_path, scenario).text(1, 2)
    assert said.startswith("last words\n") and "in crash" in said


def test_an_entry_that_does_not_exist_is_an_error_in_the_servers_own_words(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        agent.tree.start_server(ForkServer(1, "no_such_module:run"))
        assert await agent.end_of(agent.tree.servers[1]) == "exited with code 1"

    said = with_agent(tmp_path, scenario).text(1, 2)
    assert said.endswith("ModuleNotFoundError: No module named 'no_such_module'\n")


def test_a_zygote_whose_folder_has_gone_says_so_and_shows_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async def scenario(agent: Agent) -> None:
        agent.tree.start_zygote(str(tmp_path / "none"))
        await wait_until(lambda: agent.zygote_ends)

    agent = with_agent(tmp_path, scenario)
    assert f"the folder {tmp_path}/none cannot be entered: No such file or directory" in agent.zygote_ends[0]
    assert "Traceback" not in capfd.readouterr().err


def test_print_file_descriptors_and_subprocesses_are_heard_on_both_streams(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        await agent.run(speak)

    agent = with_agent(tmp_path, scenario)
    assert agent.text(1, 1) == "by print\nby os.write\nby a subprocess\n"
    assert agent.text(1, 2) == "its complaint\non stderr\n"


def test_a_server_runs_in_its_folder_with_its_environment_in_a_session_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPYCOS_SECRET_FILE", "/a/secret")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)

    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        await agent.run(tell_place)

    agent = with_agent(tmp_path, scenario)
    folder = f"{tmp_path}/lease/dispycosproc-1"
    assert agent.text() == (f"{folder} None 3 1\n{folder} {tmp_path}/lease True 0o700\nTrue True\n"), (
        agent.text(1, 2)
    )


def test_servers_draw_different_random_numbers(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        for number in (1, 2):
            await agent.run(tell_random, number=number)

    agent = with_agent(tmp_path, scenario)
    assert agent.text(1) and agent.text(2) and agent.text(1) != agent.text(2)


def test_a_long_argument_arrives(tmp_path: Path) -> None:
    length = WORD_MAX - 200

    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        await agent.run(tell_length, b"x" * length)

    assert with_agent(tmp_path, scenario).text() == f"{length} True\n"


def test_many_servers_start_at_once(tmp_path: Path) -> None:
    numbers = range(1, 101)

    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        for number in numbers:
            agent.tree.start_server(ForkServer(number, f"{HERE}:hold"))
        await wait_until(lambda: all(agent.text(number) == "up\n" for number in numbers))
        assert len({server.pid for server in agent.tree.servers.values()}) == len(numbers)

    agent = with_agent(tmp_path, scenario)
    said = "killed by SIGKILL (9), sent by its node"
    assert sorted(agent.exits) == [(number, said) for number in numbers]


def test_a_server_whose_folder_cannot_be_made_is_refused_and_the_next_one_starts(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        (tmp_path / "lease" / "dispycosproc-1").write_text("in the way")
        agent.tree.start_server(ForkServer(1, f"{HERE}:hold"))
        await wait_until(lambda: agent.refused)
        assert agent.refused[0][0] == 1 and "something else of that name" in agent.refused[0][1]
        assert await agent.run(exit_with, b"0", number=2) == "exited with code 0"

    with_agent(tmp_path, scenario)


def test_where_there_are_no_pipes_a_server_is_refused_and_the_next_one_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_page() -> int:
        raise OSError(24, "Too many open files")

    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        open_before = len(os.listdir("/proc/self/fd"))
        with monkeypatch.context() as patch:
            patch.setattr(processes, "make_page", no_page)
            agent.tree.start_server(ForkServer(1, f"{HERE}:hold"))
        await wait_until(lambda: agent.refused)
        assert agent.refused == [(1, "no pipes for another server: Too many open files")]
        assert len(os.listdir("/proc/self/fd")) == open_before
        assert await agent.run(exit_with, b"0") == "exited with code 0"

    with_agent(tmp_path, scenario)


# --- signals and sudden deaths ------------------------------------------------------------------------------


def test_a_killed_server_is_seen_at_once_and_its_neighbour_goes_on(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        first, second = await agent.start(hold, number=1), await agent.start(hold, number=2)
        await wait_until(lambda: agent.text(1) and agent.text(2))
        os.kill(first.pid, signal.SIGKILL)
        began = time.monotonic()
        assert await agent.end_of(first) == "killed by SIGKILL (9)"
        assert time.monotonic() - began < 5.0
        agent.tree.order(KillServer(1))  # void
        assert list(agent.tree.servers) == [2] and is_alive(second.pid)
        assert not exists(first.pid)

    with_agent(tmp_path, scenario)


def test_servers_that_start_together_do_not_hold_each_others_pipes(tmp_path: Path) -> None:
    def pipes(pid: int) -> set[str]:
        folder = Path(f"/proc/{pid}/fd")
        return {name for entry in folder.iterdir() if (name := os.readlink(entry)).startswith("pipe:")}

    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        servers = await asyncio.gather(*(agent.start(hold, number=number) for number in range(1, 5)))
        await wait_until(lambda: all(agent.text(number) for number in range(1, 5)))
        held = [pipes(server.pid) for server in servers]
        assert sum(map(len, held)) == len(set().union(*held)), held

    with_agent(tmp_path, scenario)


def test_kill_reaches_the_whole_group_of_a_server(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        server = await agent.start(start_child_in_group)
        await wait_until(lambda: agent.text().endswith("\n"))
        child = int(agent.text())
        assert is_alive(child)
        agent.tree.order(KillServer(1))
        assert await agent.end_of(server) == "killed by SIGKILL (9), sent by its node"
        await wait_until(lambda: not exists(child))

    with_agent(tmp_path, scenario)


def test_what_a_server_started_in_its_group_ends_with_it(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        assert await agent.run(leave_child_in_group) == "exited with code 0"
        await wait_until(lambda: not is_alive(int(agent.text())))

    with_agent(tmp_path, scenario)


def test_what_is_prepared_in_the_zygote_all_servers_have_and_what_it_prints_is_told(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        agent.tree.prepare(Prepare(f"{HERE}:prepare", b"known"), [bytes(5 << 20), b"", b"small"])
        await wait_until(lambda: agent.prepared)
        assert agent.prepared == [""]
        assert agent.text(0) == f"preparing known 3 {agent.folder / 'lease'}\n"
        assert agent.text(0, 2) == "with a complaint\n"
        for number in (1, 2):
            await agent.run(tell_prepared, number=number)
            assert agent.text(number) == f"[{5 << 20}, 0, 5, 5] KNOWN {zygote}\n"

    with_agent(tmp_path, scenario)


def test_what_cannot_be_prepared_is_told_in_words_and_the_zygote_lives(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        agent.tree.prepare(Prepare(f"{HERE}:prepare", b"strange"), [])
        await wait_until(lambda: agent.prepared)
        assert agent.prepared == ["nobody knows it"]
        assert await agent.run(exit_with, b"3") == "exited with code 3"

    with_agent(tmp_path, scenario)


def test_a_lease_that_ends_while_something_is_prepared_leaves_nothing(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        agent.tree.prepare(Prepare("time:sleep_for_ever", b""), [])
        await wait_until(lambda: agent.prepared)
        assert "has no attribute 'sleep_for_ever'" in agent.prepared[0]
        agent.code_asked = lambda request, now: None  # type: ignore[method-assign]
        agent.tree.prepare(Prepare(f"{HERE}:prepare", b"known"), [])
        await wait_until(lambda: agent.text(0))
        await within(agent.tree.end_zygote())

    with_agent(tmp_path, scenario)


def test_a_zygote_that_is_stopped_is_killed_at_the_end_of_its_lease(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        server = await agent.start(hold)
        os.kill(zygote, signal.SIGSTOP)
        await within(agent.tree.end_zygote())
        assert await agent.end_of(server) == "killed by SIGKILL (9), sent by its node"

    with_agent(tmp_path, scenario)


def test_a_server_that_is_killed_before_it_was_forked_ends(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        for number in range(1, 21):
            agent.tree.start_server(ForkServer(number, f"{HERE}:hold"))
        for number in range(1, 21):
            agent.tree.order(KillServer(number))
        await wait_until(lambda: len(agent.exits) == 20)
        assert {text for _, text in agent.exits} == {"killed by SIGKILL (9), sent by its node"}

    with_agent(tmp_path, scenario)


def test_a_server_is_deaf_to_ctrl_c_until_it_says_otherwise(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        server = await agent.start(hold)
        await wait_until(agent.text)
        os.kill(server.pid, signal.SIGINT)
        os.kill(server.pid, signal.SIGTERM)
        assert await agent.end_of(server) == "killed by SIGTERM (15)"

    with_agent(tmp_path, scenario)


# --- ending a step ------------------------------------------------------------------------------------------


def test_a_server_is_killed_for_the_very_step_that_runs(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        server = await agent.start(take_steps, b"600")
        await wait_until(lambda: agent.text().endswith("\n"))
        assert server.page.step() == Step(7, int(agent.text()))
        agent.tree.order(EndStep(1, server.page.step()))
        assert await agent.end_of(server) == "killed by SIGKILL (9), sent by its node"
        assert agent.ended_for_step == [1]

    with_agent(tmp_path, scenario)


def test_a_server_whose_step_is_over_goes_on_though_the_next_one_is_of_the_same_task(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        server = await agent.start(take_steps, b"0.02")
        await wait_until(lambda: server.page.step() != NO_STEP)
        seen = server.page.step()
        await wait_until(lambda: server.page.step().since > seen.since)
        for _ in range(20):
            agent.tree.order(EndStep(1, seen))
        other = await agent.start(hold, number=2)  # by now all of that was carried out
        told = len(agent.text())
        await wait_until(lambda: len(agent.text()) > told + 100)
        assert agent.exits == []
        os.kill(server.pid, signal.SIGKILL)
        await agent.end_of(server)
        assert agent.ended_for_step == [] and is_alive(other.pid)

    with_agent(tmp_path, scenario)


def test_an_order_for_a_server_that_has_ended_is_void(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        await agent.run(exit_with, b"3")
        agent.tree.order(EndStep(1, Step(7, 1)))
        assert await agent.run(exit_with, b"4", number=2) == "exited with code 4"

    with_agent(tmp_path, scenario)


def test_a_zygote_that_takes_no_more_orders_refuses_servers_and_is_killed_for_the_sake_of_the_others(
    tmp_path: Path,
) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        server = await agent.start(hold, number=1000)
        os.kill(zygote, signal.SIGSTOP)
        for number in range(1, 1000):
            agent.tree.start_server(ForkServer(number, f"{HERE}:hold", bytes(16384)))
            await asyncio.sleep(0)
            if agent.refused:
                break
        assert agent.refused == [(number, "its zygote is busy: Resource temporarily unavailable")]
        for _ in range(1000):
            agent.tree.order(KillServer(1000))
        assert await agent.end_of(server) == "killed by SIGKILL (9), sent by its node"
        await wait_until(lambda: agent.zygote_ends)

    with_agent(tmp_path, scenario)


def test_no_server_has_the_page_of_another(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        servers = [await agent.start(hold, number=number) for number in (1, 2, 3)]
        await wait_until(lambda: all(agent.text(server.number) for server in servers))
        for server in servers:
            links = [os.readlink(entry) for entry in Path(f"/proc/{server.pid}/fd").iterdir()]
            assert sum("dispycos-page" in link for link in links) == 1, links

    with_agent(tmp_path, scenario)


def test_a_daemon_that_holds_the_pipes_delays_the_exit_report_only_a_little(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        began = time.monotonic()
        assert await agent.run(leave_daemon_and_end) == "exited with code 0"
        assert time.monotonic() - began < 10.0

    with_agent(tmp_path, scenario)


@pytest.mark.parametrize("kind", [b"exec", b"fork"])
@pytest.mark.parametrize("way", ["ended", "killed"])
def test_what_a_server_daemonised_ends_with_its_lease(tmp_path: Path, kind: bytes, way: str) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        server = await agent.start(leave_daemon, kind)
        await wait_until(lambda: agent.text().endswith("\n"))
        daemon = int(agent.text())
        await wait_until(lambda: os.getsid(daemon) != server.pid)
        if way == "killed":
            os.kill(zygote, signal.SIGKILL)
            await wait_until(lambda: agent.zygote_ends)
        else:
            await within(agent.tree.end_zygote())
        assert not exists(daemon)

    with_agent(tmp_path, scenario)


def test_what_does_not_belong_to_the_tree_outlives_the_sweep(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        with subprocess.Popen(["sleep", "600"]) as other:
            os.kill(zygote, signal.SIGKILL)
            await wait_until(lambda: agent.zygote_ends)
            assert other.poll() is None and is_alive(agent.template.pid)
            other.kill()

    with_agent(tmp_path, scenario)


def test_the_death_of_a_zygote_is_the_death_of_its_servers_which_is_told_first(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote("lost")
        servers = [await agent.start(hold, number=n) for n in (1, 2)]
        os.kill(zygote, signal.SIGKILL)
        ended = [await agent.end_of(server) for server in servers]
        assert ended == 2 * ["killed by SIGKILL (9)"]
        await wait_until(lambda: agent.zygote_ends)
        assert agent.ended_before == 2
        assert agent.zygote_ends == [f"the zygote (pid {zygote}) killed by SIGKILL (9)"]
        agent.tree.start_server(ForkServer(1, f"{HERE}:hold"))
        await wait_until(lambda: agent.refused)
        assert agent.refused == [(1, "its zygote has ended")]
        await agent.zygote("lost")  # again, for the same lease
        assert await agent.run(exit_with, b"0") == "exited with code 0"

    with_agent(tmp_path, scenario)


def test_servers_that_are_being_started_when_their_zygote_dies_end_or_are_refused(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        for number in range(1, 21):
            agent.tree.start_server(ForkServer(number, f"{HERE}:hold"))
        await wait_until(lambda: agent.tree.servers[2].pid)
        os.kill(zygote, signal.SIGKILL)
        await wait_until(lambda: agent.zygote_ends)
        numbers = [number for number, _ in agent.exits + agent.refused]
        assert sorted(numbers) == list(range(1, 21)) and agent.refused

    with_agent(tmp_path, scenario)


def test_the_next_lease_begins_when_nothing_of_the_one_before_is_left(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote("first")
        server = await agent.start(hold)
        gone = agent.tree.end_zygote()
        agent.begin_zygote("second")
        assert not gone.done()
        await wait_until(lambda: agent.ready == 2)
        assert gone.done() and not exists(server.pid)
        assert await agent.run(exit_with, b"4") == "exited with code 4"
        assert agent.zygote_ends == [], "the first was to end"

    with_agent(tmp_path, scenario)


def test_a_lease_that_ends_before_the_one_before_has_gone_needs_no_zygote(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote("first")
        agent.tree.end_zygote()
        agent.begin_zygote("second")
        await within(agent.tree.end_zygote())
        await asyncio.sleep(0.1)
        assert agent.ready == 1
        await agent.zygote("third")

    with_agent(tmp_path, scenario)


def test_a_zygote_outlives_the_template_and_the_next_lease_gets_a_new_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote("first")
        os.kill(agent.template.pid, signal.SIGKILL)
        await wait_until(lambda: caplog.messages)
        told = f"the template (pid {agent.template.pid}) killed by SIGKILL (9); the next lease starts another"
        assert caplog.messages == [told]
        assert await agent.run(exit_with, b"4") == "exited with code 4"
        agent.tree.end_zygote()
        await agent.zygote("second")
        assert await agent.run(exit_with, b"5") == "exited with code 5"

    with_agent(tmp_path, scenario)


def test_a_template_whose_death_was_not_heard_of_yet_is_replaced_too(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        os.kill(agent.template.pid, signal.SIGKILL)
        os.waitid(os.P_PID, agent.template.pid, os.WEXITED | os.WNOWAIT)
        await agent.zygote()
        assert await agent.run(exit_with, b"5") == "exited with code 5"

    with_agent(tmp_path, scenario)


def test_a_template_that_cannot_import_forks_nothing(tmp_path: Path) -> None:
    template = Template.spawn(["no_such_module"])
    agent = Agent(template, tmp_path)

    async def scenario() -> None:
        agent.tree = ProcessTree(template, asyncio.get_running_loop(), agent, agent.tell)
        agent.begin_zygote()
        await wait_until(lambda: agent.zygote_ends)
        await within(agent.tree.close())

    asyncio.run(scenario())
    assert agent.zygote_ends == ["the zygote was not forked: its template has ended"]
    assert not exists(template.pid)


def test_an_agent_whose_callback_raises_loses_no_process(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        complaints: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: complaints.append(str(context["exception"]))
        )

        def refuse(number: int, death: str, *rest: object, for_step: bool) -> None:
            raise ValueError(death)

        agent.server_exited = refuse  # type: ignore[method-assign,assignment]
        await agent.zygote()
        for code in (b"1", b"2"):
            await agent.start(exit_with, code)
            await wait_until(lambda: not agent.tree.servers)
        await wait_until(lambda: complaints == ["exited with code 1", "exited with code 2"])

    with_agent(tmp_path, scenario)


def test_an_agent_ends_at_once_while_its_template_still_imports(tmp_path: Path) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time; time.sleep(600)")
    sys.path.insert(0, str(tmp_path))
    try:
        template = Template.spawn(["slow_to_import"])
    finally:
        sys.path.remove(str(tmp_path))
    agent = Agent(template, tmp_path)

    async def scenario() -> None:
        agent.tree = ProcessTree(template, asyncio.get_running_loop(), agent, agent.tell)
        agent.begin_zygote()
        await asyncio.sleep(0)
        await within(agent.tree.close())

    asyncio.run(scenario())
    assert not exists(template.pid)
    assert agent.ready == 0


def test_an_agent_that_ends_starts_nothing_more(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        agent.tree.end_zygote()
        agent.begin_zygote("late")
        closing = asyncio.create_task(agent.tree.close())
        await asyncio.sleep(0)
        agent.begin_zygote("later")
        await within(closing)
        agent.begin_zygote("too late")
        await asyncio.sleep(0.3)
        assert agent.ready == 1
        agent.tree.start_server(ForkServer(1, f"{HERE}:hold"))
        await wait_until(lambda: agent.refused)

    with_agent(tmp_path, scenario)


# --- output beyond measure ----------------------------------------------------------------------------------


def test_output_over_the_rate_is_dropped_in_whole_lines_and_counted(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.zygote()
        await agent.run(flood)

    agent = with_agent(tmp_path, scenario)
    lines = agent.text().splitlines()
    passed = [line for line in lines if line == "x" * 1023]
    counts = [int(line[1:].split()[0]) for line in lines if line.startswith("[")]
    assert len(passed) + len(counts) == len(lines)
    assert 512 <= len(passed) < 5 * 1024
    assert 1024 * len(passed) + sum(counts) == 5 << 20


def written_to(heard: list[bytes]) -> tuple[int, OutputPipes]:
    """The end of a pipe to write to, and who tells of what came, on the running loop."""
    read, write = os.pipe()
    return write, OutputPipes(
        asyncio.get_running_loop(), {1: read}, lambda stream, data, mark: heard.append(data)
    )


def test_the_count_of_dropped_output_comes_when_the_server_falls_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output, "RATE_MAX", 100)
    heard: list[bytes] = []

    async def scenario() -> None:
        write, told = written_to(heard)
        try:
            os.write(write, b"a" * 60 + b"\n" + b"b" * 60)
            await wait_until(lambda: len(heard) == 2)
        finally:
            os.close(write)
            told.close()

    asyncio.run(scenario())
    assert heard == [b"a" * 60 + b"\n", b"[60 bytes of output dropped: over 1 MiB/s]\n"]


def test_half_a_line_comes_before_what_was_dropped_behind_it_and_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(output, "RATE_MAX", 100)
    heard: list[bytes] = []

    async def scenario() -> None:
        write, told = written_to(heard)
        os.write(write, b"a" * 60)
        await asyncio.sleep(0.05)
        os.write(write, b"b" * 60)
        await wait_until(lambda: heard)
        os.write(write, b"the end")
        os.close(write)
        await wait_until(lambda: len(heard) == 2)
        told.close()

    asyncio.run(scenario())
    assert heard == [b"a" * 60 + b"\n[60 bytes of output dropped: over 1 MiB/s]\n", b"the end"]


def test_what_is_there_at_a_mark_comes_with_it_though_it_is_half_a_line() -> None:
    heard: list[tuple[int, bytes, int]] = []

    async def scenario() -> None:
        read, write = os.pipe()
        told = OutputPipes(asyncio.get_running_loop(), {1: read}, lambda *words: heard.append(words))
        for part in (b"one\nhal", b"f\x1e", b"7\x1e", b"and the"):
            os.write(write, part)
            await asyncio.sleep(0.02)
        os.close(write)
        told.close()

    asyncio.run(scenario())
    assert heard == [(1, b"one\n", 0), (1, b"half", 7), (1, b"and the", 0)]


def test_the_oom_counter_tells_a_rise_once(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 1\noom_kill 4\n")
    counter = OomCounter(events)
    assert not counter.has_risen(10.0)
    events.write_text("low 0\noom 1\noom_kill 5\n")
    assert counter.has_risen(11.0)
    assert counter.has_risen(11.5)  # ended with the first
    assert not counter.has_risen(12.0)
    assert not OomCounter(None).has_risen(1.0)


# --- an agent as a program of its own -----------------------------------------------------------------------

PROGRAM = f"""
import asyncio, os, sys
sys.path.insert(0, {ROOT!r})
import {HERE} as tests
from dispycos.actors.node.processes.tree import ProcessTree
from dispycos.actors.node.processes.template import Template

template = Template.fork()

async def main():
    agent = tests.Agent(template, tests.Path(sys.argv[1]))
    agent.tree = ProcessTree(template, asyncio.get_running_loop(), agent, agent.tell)
    zygote = await agent.zygote()
    servers = [await agent.start(tests.hold, number=n) for n in (1, 2)]
    servers.append(await agent.start(tests.leave_daemon, b"exec", number=3))
    print(template.pid, zygote, *(server.pid for server in servers), flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


class Program:
    def __init__(self, folder: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            process_group=0,
        )
        assert self.process.stdout is not None
        self.family = [psutil.Process(int(pid)) for pid in self.process.stdout.readline().split()]
        assert len(self.family) == 5
        self.zygote = self.family[1]
        try:
            self.daemon = self._wait_for_daemon()
        except BaseException:
            self.process.kill()
            raise

    def _wait_for_daemon(self) -> psutil.Process:
        give_up = time.monotonic() + PATIENCE_S
        while time.monotonic() < give_up:
            for process in psutil.Process(self.process.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if process.name() == "sleep":
                        return process
            time.sleep(0.01)
        raise AssertionError("the daemon did not start")

    def end(self) -> None:
        self.process.kill()
        for process in [*self.family, self.daemon]:
            with suppress(psutil.Error):
                process.kill()
        self.process.wait(PATIENCE_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


def still_alive(family: list[psutil.Process]) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(family, timeout=5)
    return [process for process in alive if is_alive(process.pid)]


@pytest.mark.parametrize("frozen", [False, True])
def test_an_agent_that_is_killed_leaves_nobody_behind(tmp_path: Path, frozen: bool) -> None:
    """Also when template and servers are stopped, and so could not end themselves."""
    program = Program(tmp_path)
    try:
        for process in program.family if frozen else []:
            if process != program.zygote:
                process.suspend()
        program.process.kill()
        assert still_alive([*program.family, program.daemon]) == []
    finally:
        program.end()


def test_servers_end_although_agent_and_zygote_are_killed_together(tmp_path: Path) -> None:
    program = Program(tmp_path)
    try:
        program.process.send_signal(signal.SIGSTOP)  # so that it does not end them itself
        program.zygote.kill()
        program.process.kill()
        assert still_alive(program.family) == []
    finally:
        program.end()


def test_ctrl_c_reaches_the_foreground_program_only(tmp_path: Path) -> None:
    program = Program(tmp_path)
    try:
        groups = {os.getpgid(process.pid) for process in program.family}
        sessions = {os.getsid(process.pid) for process in program.family}
        assert os.getpgid(program.process.pid) not in groups
        assert os.getsid(program.process.pid) not in sessions
        os.kill(program.process.pid, signal.SIGSTOP)  # so that nobody else can end them
        os.killpg(os.getpgid(program.process.pid), signal.SIGINT)
        for process in program.family:
            process.send_signal(signal.SIGINT)  # and where one arrives all the same it is ignored
        time.sleep(0.2)  # a negative: long enough for what must not happen
        assert all(is_alive(process.pid) for process in program.family)
    finally:
        program.end()

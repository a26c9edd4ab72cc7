"""Covers actors/host/ processes, children, strays, lines and zygote with real processes: how they start, speak, end."""

from __future__ import annotations

import asyncio
import importlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from dispycos.actors.host import children
from dispycos.actors.host.children import OomCounter, Output, ProcessTreeError
from dispycos.actors.host.exits import Exited, Killed, ServerExit, ZygoteExit
from dispycos.actors.host.lines import ARGUMENT_MAX, FrameReader, FromZygote, SetupDone, encode_frame
from dispycos.actors.host.page import SINCE, STEP, PageWriter
from dispycos.actors.host.processes import (
    ProcessTree,
    ServerProcess,
    ServerRefused,
    ServerSpec,
    SetupFailed,
    Template,
    TemplateLost,
    Zygote,
    ZygoteLost,
    ZygoteSpec,
)
from dispycos.actors.terminations import NO_STEP, Step

HERE = __name__
ROOT = str(Path(__file__).resolve().parent.parent)
PATIENCE_S = 15.0
pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(sys.platform != "linux", reason="the process tree is forked on Linux only"),
]


# --- what runs in servers and setups ------------------------------------------------------------------------


def hold(argument: bytes, page: int) -> None:
    print("up", flush=True)
    time.sleep(600)


def exit_with(argument: bytes, page: int) -> int:
    return int(argument)


def leave_with_words(argument: bytes, page: int) -> None:
    sys.exit("no more")


def fail(argument: bytes, page: int = -1) -> None:
    raise LookupError("nothing of that kind")


def speak(argument: bytes, page: int) -> None:
    print("by print")
    os.write(1, b"by os.write\n")
    subprocess.run(["sh", "-c", "echo by a subprocess; echo its complaint >&2"], check=True)
    print("on stderr", file=sys.stderr)


def crash(argument: bytes, page: int) -> None:
    print("last words", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGSEGV)


def tell_place(argument: bytes, page: int) -> None:
    print(os.getcwd(), os.environ.get("COLOUR"), os.environ.get("HIDDEN"), os.environ["DISPYCOS_LEASE"])
    print(sys.path[0], sys.path[1], sys.stdin.read() == "", oct(os.stat(".").st_mode & 0o777))
    print(os.getsid(0) == os.getpid(), os.getpgid(0) == os.getpid())


def tell_random(argument: bytes, page: int) -> None:
    print(random.random(), importlib.import_module("numpy.random").random())


def tell_length(argument: bytes, page: int) -> None:
    print(len(argument), signal.getsignal(signal.SIGINT) is signal.SIG_IGN)


def flood(argument: bytes, page: int) -> None:
    line = b"x" * 1023 + b"\n"
    for _ in range(5 * 1024):
        os.write(1, line)
    os.write(2, b"done\n")


def leave_daemon(argument: bytes, page: int) -> None:
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


def leave_daemon_and_end(argument: bytes, page: int) -> None:
    subprocess.Popen(["setsid", "sleep", "600"])


def start_child_in_group(argument: bytes, page: int) -> None:
    print(subprocess.Popen(["sleep", "600"]).pid, flush=True)
    time.sleep(600)


def take_steps(argument: bytes, page: int) -> None:
    """One step after the other, each as long as the argument says in seconds, and told when it begins."""
    words = PageWriter(page).words
    while True:
        words[SINCE] = time.monotonic_ns()
        words[STEP] = 7
        print(words[SINCE], flush=True)
        time.sleep(float(argument))
        words[STEP] = 0


def import_numpy(argument: bytes) -> None:
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    importlib.import_module("numpy.random")  # numpy alone would import it in each server


def leave_thread(argument: bytes) -> None:
    threading.Thread(target=time.sleep, args=(600,), name="the ticker", daemon=True).start()


def end_suddenly(argument: bytes) -> None:
    os._exit(7)


def sleep_in_setup(argument: bytes) -> None:
    Path(argument.decode()).write_text(str(os.getpid()))
    time.sleep(600)


# --- the agent in this process ------------------------------------------------------------------------------


@dataclass
class Agent:
    tree: ProcessTree
    template: Template
    folder: str
    exits: list[ServerExit] = field(default_factory=list)
    zygote_exits: list[ZygoteExit] = field(default_factory=list)
    template_exits: list[str] = field(default_factory=list)
    judged: list[tuple[int, bool]] = field(default_factory=list)
    said: dict[tuple[str, int], bytes] = field(default_factory=dict)

    def on_output(self, server: ServerProcess, stream: int, data: bytes, mark: int) -> None:
        assert server.name not in [exit.name for exit in self.exits], "output after the exit report"
        self.said[server.name, stream] = self.said.get((server.name, stream), b"") + data

    def text(self, name: str, stream: int = 1) -> str:
        return self.said.get((name, stream), b"").decode()

    async def zygote(self, tag: str = "lease", **more: Any) -> Zygote:
        return await self.tree.start_zygote(ZygoteSpec(tag, f"{self.folder}/{tag}", **more))

    async def run(
        self, zygote: Zygote, entry: Callable[[bytes, int], Any], argument: bytes = b""
    ) -> ServerExit:
        server = await start(zygote, entry, argument)
        return await within(server.wait_exit())


async def start(
    zygote: Zygote, entry: Callable[[bytes, int], Any], argument: bytes = b"", number: int = 1
) -> ServerProcess:
    return await within(
        zygote.start_server(ServerSpec(f"s{number}", number, f"{HERE}:{entry.__name__}", argument))
    )


async def within(awaitable: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(awaitable, PATIENCE_S)


async def wait_until(condition: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
    give_up = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < give_up, "it did not come true in time"
        await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def exists(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def with_agent(tmp_path: Path, scenario: Callable[[Agent], Awaitable[None]]) -> Agent:
    """Run a scenario in an agent, end the agent, and see that none of its processes is left."""
    template = Template.fork([HERE])

    @asynccontextmanager
    async def an_agent() -> AsyncIterator[Agent]:
        loop = asyncio.get_running_loop()
        agent = Agent(None, template, str(tmp_path))  # type: ignore[arg-type]
        agent.tree = ProcessTree(
            template,
            loop,
            on_exit=agent.exits.append,
            on_output=agent.on_output,
            on_zygote_exit=agent.zygote_exits.append,
            on_template_exit=agent.template_exits.append,
            on_judged=lambda server, killed: agent.judged.append((server.pid, killed)),
        )
        try:
            yield agent
        finally:
            await within(agent.tree.close())

    async def main() -> Agent:
        async with an_agent() as agent:
            await asyncio.wait_for(scenario(agent), 40)
        return agent

    before = {child.pid for child in psutil.Process().children(recursive=True)} - {template.pid}
    agent = asyncio.run(main())
    left = [child for child in psutil.Process().children(recursive=True) if child.pid not in before]
    for child in left:
        with suppress(psutil.Error):
            child.kill()
    assert not left
    return agent


# --- how servers start, speak and end -----------------------------------------------------------------------


def test_a_server_tells_its_exit_code_its_exception_and_its_last_words(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        assert (await agent.run(zygote, exit_with, b"3")).ending == Exited(3)
        assert (await agent.run(zygote, exit_with, b"0")).ending == Exited(0)
        failed = await agent.run(zygote, fail)
        assert failed.ending == Exited(1)
        assert failed.last_lines(1) == ["LookupError: nothing of that kind"]
        left = await agent.run(zygote, leave_with_words)
        assert (left.ending, left.last_lines(1)) == (Exited(1), ["no more"])

    agent = with_agent(tmp_path, scenario)
    assert [exit.code for exit in agent.exits] == [3, 0, 1, 1]


def test_the_words_before_a_segfault_arrive_with_the_place_where_it_was(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        ended = await agent.run(await agent.zygote(), crash)
        assert ended.signal_name == "SIGSEGV"
        assert ended.last_lines(99)[0] == "last words"
        assert "in crash" in ended.last_output.decode()
        assert ended.usage is not None and ended.usage.peak_rss_bytes > 1 << 20

    with_agent(tmp_path, scenario)


def test_an_entry_that_does_not_exist_is_an_error_in_the_servers_own_words(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        server = await zygote.start_server(ServerSpec("s1", 1, "no_such_module:run"))
        ended = await within(server.wait_exit())
        assert ended.code == 1
        assert ended.last_lines(1) == ["ModuleNotFoundError: No module named 'no_such_module'"]

    with_agent(tmp_path, scenario)


def test_print_file_descriptors_and_subprocesses_are_heard_on_both_streams(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.run(await agent.zygote(), speak)

    agent = with_agent(tmp_path, scenario)
    assert agent.text("s1", 1) == "by print\nby os.write\nby a subprocess\n"
    assert agent.text("s1", 2) == "its complaint\non stderr\n"


def test_a_server_runs_in_its_folder_with_its_environment_in_a_session_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIDDEN", "secret")

    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote(environment={"COLOUR": "blue", "HIDDEN": None})
        await agent.run(zygote, tell_place)

    agent = with_agent(tmp_path, scenario)
    folder = f"{tmp_path}/lease/dispycosproc-1"
    assert agent.text("s1") == (
        f"{folder} blue None lease\n{folder} {tmp_path}/lease True 0o700\nTrue True\n"
    ), agent.text("s1", 2)


def test_servers_draw_different_random_numbers(tmp_path: Path) -> None:
    pytest.importorskip("numpy")

    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote(setup=f"{HERE}:import_numpy")
        for number in (1, 2):
            server = await start(zygote, tell_random, number=number)
            await within(server.wait_exit())

    agent = with_agent(tmp_path, scenario)
    first, second = agent.text("s1").split(), agent.text("s2").split()
    assert len(first) == len(second) == 2, agent.text("s1", 2)
    assert first[0] != second[0] and first[1] != second[1]


def test_an_argument_of_16_mib_arrives_and_a_larger_one_is_refused_at_once(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        await agent.run(zygote, tell_length, b"x" * ARGUMENT_MAX)
        with pytest.raises(ValueError, match="over the limit"):
            await start(zygote, tell_length, b"x" * (ARGUMENT_MAX + 1))

    agent = with_agent(tmp_path, scenario)
    assert agent.text("s1") == f"{ARGUMENT_MAX} True\n"


def test_sixteen_servers_start_at_once(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        servers = await asyncio.gather(*(start(zygote, hold, number=n) for n in range(16)))
        await wait_until(lambda: all(agent.text(server.name) == "up\n" for server in servers))
        assert len({server.pid for server in servers}) == 16

    agent = with_agent(tmp_path, scenario)
    assert {str(exit.ending) for exit in agent.exits} == {str(Killed(9, oom=False, by_its_node=True))}
    assert len(agent.exits) == 16


def test_a_server_whose_folder_cannot_be_made_is_refused_and_the_next_one_starts(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        (tmp_path / "lease" / "dispycosproc-1").write_text("in the way")
        with pytest.raises(ServerRefused, match="something else of that name"):
            await start(zygote, hold)
        assert (await within((await start(zygote, exit_with, b"0", number=2)).wait_exit())).code == 0

    with_agent(tmp_path, scenario)


# --- signals and sudden deaths ------------------------------------------------------------------------------


def test_a_killed_server_is_seen_at_once_and_its_neighbour_goes_on(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        first, second = await start(zygote, hold, number=1), await start(zygote, hold, number=2)
        await wait_until(lambda: agent.text("s1") and agent.text("s2"))
        os.kill(first.pid, signal.SIGKILL)
        began = time.monotonic()
        ended = await within(first.wait_exit())
        assert time.monotonic() - began < 1.0
        assert isinstance(ended.ending, Killed) and not ended.ending.by_its_node
        assert not first.is_running and not first.kill()
        assert second.is_running and is_alive(second.pid)
        assert not exists(first.pid)

    with_agent(tmp_path, scenario)


def test_servers_that_start_together_do_not_hold_each_others_pipes(tmp_path: Path) -> None:
    def pipes(pid: int) -> set[str]:
        folder = Path(f"/proc/{pid}/fd")
        return {name for entry in folder.iterdir() if (name := os.readlink(entry)).startswith("pipe:")}

    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        starting = [start(zygote, hold, number=number) for number in range(1, 5)]
        servers = await asyncio.gather(*starting)
        await wait_until(lambda: all(agent.text(f"s{number}") for number in range(1, 5)))
        held = [pipes(server.pid) for server in servers]
        assert sum(map(len, held)) == len(set().union(*held)), held

    with_agent(tmp_path, scenario)


def test_kill_reaches_the_whole_group_of_a_server(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        server = await start(await agent.zygote(), start_child_in_group)
        await wait_until(lambda: agent.text("s1").endswith("\n"))
        child = int(agent.text("s1"))
        assert is_alive(child) and server.kill(signal.SIGTERM)
        assert (await within(server.wait_exit())).signal == signal.SIGTERM
        await wait_until(lambda: not exists(child))

    with_agent(tmp_path, scenario)


def test_a_server_deaf_to_ctrl_c_until_it_says_otherwise(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        server = await start(await agent.zygote(), hold)
        await wait_until(lambda: agent.text("s1"))
        server.kill(signal.SIGINT)
        server.kill(signal.SIGTERM)
        assert (await within(server.wait_exit())).signal == signal.SIGTERM

    with_agent(tmp_path, scenario)


# --- ending a step ------------------------------------------------------------------------------------------


def test_a_server_is_killed_for_the_very_step_that_runs(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        server = await start(await agent.zygote(), take_steps, b"600")
        await wait_until(lambda: agent.text("s1").endswith("\n"))
        assert server.page.step() == Step(7, int(agent.text("s1")))
        server.end_step(server.page.step())
        certificate = await within(server.wait_exit())
        assert certificate.ending == Killed(signal.SIGKILL, oom=False, by_its_node=True)
        assert agent.judged == [(server.pid, True)]

    with_agent(tmp_path, scenario)


def test_a_server_whose_step_is_over_goes_on_though_the_next_one_is_of_the_same_task(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        server = await start(await agent.zygote(), take_steps, b"0.02")
        await wait_until(lambda: server.page.step() != NO_STEP)
        seen = server.page.step()
        await wait_until(lambda: server.page.step().since > seen.since)
        for _ in range(20):
            server.end_step(seen)
        await wait_until(lambda: len(agent.judged) == 20)
        assert agent.judged == 20 * [(server.pid, False)]
        told = len(agent.text("s1"))
        await wait_until(lambda: len(agent.text("s1")) > told + 100)
        assert server.is_running

    with_agent(tmp_path, scenario)


def test_a_server_that_has_ended_is_not_judged(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        server = await start(await agent.zygote(), exit_with, b"3")
        await within(server.wait_exit())
        server.end_step(Step(7, 1))
        await asyncio.sleep(0.1)
        assert agent.judged == []

    with_agent(tmp_path, scenario)


def test_no_server_has_the_page_of_another(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        servers = [await start(zygote, hold, number=number) for number in (1, 2, 3)]
        await wait_until(lambda: all(agent.text(server.name) for server in servers))
        for server in servers:
            links = [os.readlink(entry) for entry in Path(f"/proc/{server.pid}/fd").iterdir()]
            assert sum("dispycos-page" in link for link in links) == 1, links

    with_agent(tmp_path, scenario)


def test_a_daemon_that_holds_the_pipes_delays_the_exit_report_only_a_little(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        began = time.monotonic()
        assert (await agent.run(zygote, leave_daemon_and_end)).code == 0
        assert time.monotonic() - began < 3.0

    with_agent(tmp_path, scenario)


@pytest.mark.parametrize("kind", [b"exec", b"fork"])
@pytest.mark.parametrize("way", ["closed", "killed"])
def test_what_a_server_daemonised_ends_with_its_lease(tmp_path: Path, kind: bytes, way: str) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        server = await start(zygote, leave_daemon, kind)
        await wait_until(lambda: agent.text("s1").endswith("\n"))
        daemon = int(agent.text("s1"))
        await wait_until(lambda: os.getsid(daemon) != server.pid)
        if way == "killed":
            assert zygote.pid is not None
            os.kill(zygote.pid, signal.SIGKILL)
            await wait_until(lambda: agent.zygote_exits)
        else:
            await zygote.close()
        assert not exists(daemon)
        assert agent.zygote_exits[0].left == ()

    with_agent(tmp_path, scenario)


def test_the_death_of_a_zygote_is_the_death_of_its_servers_and_of_no_others(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        lost, other = await agent.zygote("lost"), await agent.zygote("other")
        servers = [await start(lost, hold, number=n) for n in (1, 2)]
        survivor = await start(other, hold, number=3)
        assert lost.pid is not None
        os.kill(lost.pid, signal.SIGKILL)
        ended = [await within(server.wait_exit()) for server in servers]
        assert all(exit.signal == signal.SIGKILL and exit.zygote_ended for exit in ended)
        await wait_until(lambda: agent.zygote_exits)
        assert agent.zygote_exits[0].tag == "lost"
        with pytest.raises(ZygoteLost, match=r"lease lost .* killed by SIGKILL \(9\)"):
            await start(lost, hold)
        assert is_alive(survivor.pid)
        assert (await agent.run(await agent.zygote("anew"), exit_with, b"0")).code == 0

    with_agent(tmp_path, scenario)


def test_zygotes_outlive_the_template_and_the_next_lease_gets_a_new_one(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote("first")
        os.kill(agent.template.pid, signal.SIGKILL)
        await wait_until(lambda: agent.template_exits)
        assert "killed by SIGKILL (9)" in agent.template_exits[0]
        assert (await agent.run(zygote, exit_with, b"4")).code == 4
        assert (await agent.run(await agent.zygote("second"), exit_with, b"5")).code == 5

    with_agent(tmp_path, scenario)


def test_a_template_that_cannot_import_says_why(tmp_path: Path) -> None:
    async def scenario() -> None:
        template = Template.spawn(["no_such_module"])
        loop = asyncio.get_running_loop()
        tree = ProcessTree(template, loop, lambda ended: None, lambda server, stream, data: None)
        try:
            with pytest.raises(TemplateLost, match="No module named 'no_such_module'"):
                await within(tree.start_zygote(ZygoteSpec("lease", str(tmp_path))))
        finally:
            await within(tree.close())
        assert not exists(template.pid)

    asyncio.run(scenario())


def test_an_agent_whose_callback_raises_loses_no_process(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        complaints: list[str] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: complaints.append(str(context["exception"]))
        )

        def refuse(certificate: ServerExit) -> None:
            raise ValueError("not now")

        agent.tree._on_exit = refuse
        zygote = await agent.zygote()
        for code in (b"1", b"2"):
            assert (await agent.run(zygote, exit_with, code)).code == int(code)
        await wait_until(lambda: complaints == ["not now", "not now"])

    with_agent(tmp_path, scenario)


# --- the setup ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setup", "said"),
    [
        ("fail", "LookupError: nothing of that kind"),
        ("leave_thread", "left 1 thread(s) running: 'the ticker'"),
        ("no_such_function", "has no attribute 'no_such_function'"),
    ],
)
def test_a_setup_that_fails_is_told_in_its_own_words(tmp_path: Path, setup: str, said: str) -> None:
    async def scenario(agent: Agent) -> None:
        with pytest.raises(SetupFailed) as failed:
            await agent.zygote(setup=f"{HERE}:{setup}")
        assert said in str(failed.value)
        assert agent.tree.zygotes == []
        assert (await agent.run(await agent.zygote("next"), exit_with, b"0")).code == 0

    with_agent(tmp_path, scenario)


def test_a_setup_that_ends_its_process_is_told_with_the_exit_code(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        with pytest.raises(ZygoteLost, match="exited with code 7"):
            await agent.zygote(setup=f"{HERE}:end_suddenly")

    with_agent(tmp_path, scenario)


def test_a_setup_that_nobody_waits_for_any_more_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"

    async def scenario(agent: Agent) -> None:
        waiting = asyncio.create_task(
            agent.zygote(setup=f"{HERE}:sleep_in_setup", setup_argument=str(note).encode())
        )
        await wait_until(lambda: note.exists() and note.read_text())
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await wait_until(lambda: not exists(int(note.read_text())))

    with_agent(tmp_path, scenario)


def test_an_agent_ends_at_once_while_its_template_still_imports(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "slow_to_import.py").write_text("import time; time.sleep(600)")
        sys.path.insert(0, str(tmp_path))
        try:
            template = Template.spawn(["slow_to_import"])
        finally:
            sys.path.remove(str(tmp_path))
        loop = asyncio.get_running_loop()
        tree = ProcessTree(template, loop, lambda ended: None, lambda server, stream, data: None)
        waiting = asyncio.create_task(tree.start_zygote(ZygoteSpec("lease", str(tmp_path))))
        await asyncio.sleep(0)
        await within(tree.close())
        with pytest.raises(TemplateLost):
            await waiting
        assert not exists(template.pid)

    asyncio.run(scenario())


def test_an_agent_that_ends_starts_nothing_more(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        zygote = await agent.zygote()
        await agent.tree.close()
        with pytest.raises(ZygoteLost):
            await start(zygote, hold)
        with pytest.raises(ProcessTreeError, match="ending"):
            await agent.zygote("late")

    with_agent(tmp_path, scenario)


# --- output beyond measure ----------------------------------------------------------------------------------


def test_output_over_the_rate_is_dropped_in_whole_lines_and_counted(tmp_path: Path) -> None:
    async def scenario(agent: Agent) -> None:
        await agent.run(await agent.zygote(), flood)

    agent = with_agent(tmp_path, scenario)
    lines = agent.text("s1").splitlines()
    passed = [line for line in lines if line == "x" * 1023]
    counts = [int(line[1:].split()[0]) for line in lines if line.startswith("[")]
    assert len(passed) + len(counts) == len(lines)
    assert 512 <= len(passed) < 5 * 1024
    assert 1024 * len(passed) + sum(counts) == 5 << 20
    assert agent.exits[0].last_lines(1) == ["done"]


def test_the_count_of_dropped_output_comes_when_the_server_falls_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(children, "OUTPUT_RATE_MAX", 100)
    heard: list[bytes] = []

    async def scenario() -> None:
        read, write = os.pipe()
        output = Output(
            asyncio.get_running_loop(), {1: read}, lambda stream, data, mark: heard.append(data), lambda: None
        )
        try:
            os.write(write, b"a" * 60 + b"\n" + b"b" * 60)
            await wait_until(lambda: len(heard) == 2)
        finally:
            os.close(write)
            output.close()

    asyncio.run(scenario())
    assert heard == [b"a" * 60 + b"\n", b"[60 bytes of output dropped: over 1 MiB/s]\n"]


def test_the_oom_counter_tells_a_rise_once_and_none_where_there_is_no_counter(tmp_path: Path) -> None:
    events = tmp_path / "memory.events"
    events.write_text("low 0\noom 1\noom_kill 4\n")
    counter = OomCounter(events)
    assert counter.has_risen(10.0) is False
    events.write_text("low 0\noom 1\noom_kill 5\n")
    assert counter.has_risen(11.0) is True
    assert counter.has_risen(11.5) is True  # ended with the first
    assert counter.has_risen(12.0) is False
    assert OomCounter(None).has_risen(1.0) is None


# --- what travels on the lines ------------------------------------------------------------------------------


def test_a_line_refuses_words_that_are_too_long_or_unknown() -> None:
    reader: FrameReader[FromZygote] = FrameReader(FromZygote)
    reader._buffer += encode_frame(SetupDone())
    assert list(reader.words()) == [SetupDone()]
    reader._buffer += b"\xff\xff\xff\xff"
    with pytest.raises(ValueError, match="over the limit"):
        list(reader.words())
    other: FrameReader[FromZygote] = FrameReader(FromZygote)
    other._buffer += b"\x00\x00\x00\x01\xc1"
    with pytest.raises(ValueError):
        list(other.words())


# --- an agent as a program of its own -----------------------------------------------------------------------

PROGRAM = f"""
import asyncio, os, sys
sys.path.insert(0, {ROOT!r})
import {HERE} as tests
from dispycos.actors.host.processes import *

template = Template.fork()

async def main():
    loop = asyncio.get_running_loop()
    said = lambda server, stream, data: None
    tree = ProcessTree(template, loop, lambda ended: print("exit", ended.name, flush=True), said)
    zygote = await tree.start_zygote(ZygoteSpec("orphans", sys.argv[1]))
    servers = [await zygote.start_server(ServerSpec(f"s{{n}}", n, "{HERE}:hold")) for n in (1, 2)]
    servers.append(await zygote.start_server(ServerSpec("s3", 3, "{HERE}:leave_daemon", b"exec")))
    print(template.pid, zygote.pid, *(server.pid for server in servers), flush=True)
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

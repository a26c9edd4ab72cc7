"""The commands as a person at terminals uses them: start, look, share, end."""

from __future__ import annotations

import ast
import json
import os
import pty
import re
import resource
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from dispycos.cli.process import OPEN_FILES_MAX
from tests.kit.programs import Program, User, free_port, is_running, port_of, wait_until

pytestmark = pytest.mark.timeout(60)

FEW = 512  # descriptors
LOOK_S = 0.25  # between two looks by `dispycos status`, a process each

LONG = """
    import os, sys, time
    import dispycos

    def compute(seconds):
        time.sleep(seconds)
        return os.getpid()

    async def main():
        async with dispycos.Client([compute]) as client:
            handle = await client.rtask(compute, float(sys.argv[1]))
            print("from", time.monotonic())
            print("runs on", *sorted({server.port for server in await client.servers()}), flush=True)
            await handle
            print("until", time.monotonic())
        print("done", flush=True)

    dispycos.run(main)
"""

HELD = """
    import pathlib, time
    import dispycos

    def compute(file):
        while not pathlib.Path(file).exists():
            time.sleep(0.05)

    async def main():
        async with dispycos.Client([compute]) as client:
            handle = await client.rtask(compute, str(pathlib.Path("let go").resolve()))
            print("from", time.monotonic())
            print("runs on", *[server.port for server in await client.servers()], flush=True)
            await handle
            print("until", time.monotonic())
        print("done", flush=True)

    dispycos.run(main)
"""


def let_go(user: User) -> None:
    """What runs HELD may end now: however slow this machine is, it did not before."""
    user.write({"let go": ""})


def status_of(user: User) -> dict[str, Any]:
    found = json.loads(user.command("status", "--json").succeed())
    assert isinstance(found, dict)
    return found


# --- Ctrl-C -------------------------------------------------------------------------------------------------


def check_ctrl_c(program: Program, codes: tuple[int, ...]) -> None:
    """It ends before what it started would be killed (after 5 s), says two lines at most, and leaves no process."""
    family = program.family()
    before = len(program.lines)
    program.interrupt()
    code = program.wait(4.5)
    said = [line.text for line in program.lines[before:] if "another secret" not in line.text]
    wait_until(lambda: not any(map(is_running, family)), 1, f"its processes end: {family}")
    assert code in codes and len(said) <= 2, (code, said)


def test_ctrl_c_ends_a_node(user: User) -> None:
    check_ctrl_c(user.node("n"), (0, 130))


def test_ctrl_c_ends_a_scheduler(user: User) -> None:
    check_ctrl_c(user.scheduler(), (0, 130))


def test_ctrl_c_ends_a_script_and_its_private_cluster(user: User) -> None:
    program = user.script("long.py", LONG, "30")
    program.wait_line("runs on")
    assert len(program.family()) >= 4  # client, private process, template, zygote, servers
    check_ctrl_c(program, (130, -signal.SIGINT))
    assert user.processes() == []


def test_ctrl_c_ends_a_script_that_uses_nodes_and_they_are_free_again(cluster: User) -> None:
    program = cluster.script("long.py", LONG, "30")
    program.wait_line("runs on")
    check_ctrl_c(program, (130, -signal.SIGINT))
    wait_until(
        lambda: all(not node["client"] for node in status_of(cluster)["nodes"]), 5, "nodes are free", LOOK_S
    )
    assert cluster.script("long.py", LONG, "0").succeed().endswith("done\n")


NEVER_CLOSES = """
    import time, dispycos

    def sleep(seconds):
        time.sleep(seconds)

    def main(*, task):
        client = dispycos.Client([sleep])
        yield client.schedule()
        yield client.rtask(sleep, 30)
        print("runs on", flush=True)
        yield task.receive()
        yield client.close()

    dispycos.run(main)
"""


def check_nodes_are_freed(cluster: User, timeout: float) -> None:
    wait_until(
        lambda: all(not node["client"] for node in status_of(cluster)["nodes"]),
        timeout,
        "the nodes are free",
        LOOK_S,
    )
    assert cluster.script("long.py", LONG, "0").succeed().endswith("done\n")


def test_ctrl_c_of_a_script_that_never_closes_frees_its_nodes(user: User) -> None:
    user.node("n", cpus=1)
    program = user.script("never_closes.py", NEVER_CLOSES)
    program.wait_line("runs on")
    check_ctrl_c(program, (130, -signal.SIGINT))
    check_nodes_are_freed(user, 5)


def test_kill_9_of_a_client_frees_the_nodes_it_used(user: User) -> None:
    user.node("n", cpus=1)
    program = user.script("never_closes.py", NEVER_CLOSES)
    program.wait_line("runs on")
    program.kill()
    check_nodes_are_freed(user, 15)


def test_ctrl_c_ends_a_script_that_is_just_starting(user: User) -> None:
    program = user.script("long.py", LONG, "30")
    wait_until(lambda: len(program.family()) > 1, 10, "its private process starts")
    check_ctrl_c(program, (130, -signal.SIGINT))


def test_ctrl_c_ends_a_node_while_a_task_runs_and_the_client_hears(user: User) -> None:
    node = user.node("n")
    script = user.script("long.py", LONG, "30")
    script.wait_line("runs on")
    check_ctrl_c(node, (0, 130))
    assert script.wait(5) == 1
    assert "Task" in script.err.splitlines()[-1] and "node" in script.err.splitlines()[-1], script.told()


def test_sigterm_ends_a_node_as_ctrl_c_does(user: User) -> None:
    node = user.node("n")
    family = node.family()
    os.kill(node.pid, signal.SIGTERM)
    assert node.wait(3) == 0
    wait_until(lambda: not any(map(is_running, family)), 1, "its processes end")


# --- status, secret -----------------------------------------------------------------------------------------


def test_status_without_anything_is_exit_3_and_says_what_to_do(user: User) -> None:
    status = user.command("status")
    assert status.wait() == 3
    assert status.out == "" and len(status.err.splitlines()) <= 2 and "dispycos node" in status.err


def test_status_shows_nodes_servers_and_what_runs(cluster: User) -> None:
    program = cluster.script("long.py", HELD)
    program.wait_line("runs on")
    found = status_of(cluster)
    assert [node["name"] for node in found["nodes"]] == ["a", "b"]
    assert all(node["location"].startswith("127.0.0.1:") and node["cpus"] == 2 for node in found["nodes"])
    servers = [server for node in found["nodes"] for server in node["servers"]]
    assert len(servers) == len({server["location"] for server in servers}) == 4
    assert [task["function"] for server in servers for task in server["tasks"]] == ["compute"]
    assert [client["name"] for client in found["clients"]] == ["long.py"]
    assert [scheduler["private"] for scheduler in found["schedulers"]] == [True]
    text = cluster.command("status").succeed()
    assert (
        "node a at 127.0.0.1:" in text and "compute running" in text and "long.py" in text and "idle" in text
    )
    let_go(cluster)
    program.succeed()
    wait_until(lambda: not status_of(cluster)["clients"], 10, "the client is gone", LOOK_S)


def test_status_sees_a_private_cluster(user: User) -> None:
    program = user.script("long.py", LONG, "30")
    program.wait_line("runs on")
    found = status_of(user)
    assert [scheduler["private"] for scheduler in found["schedulers"]] == [True]
    assert [client["name"] for client in found["clients"]] == ["long.py"]
    assert [t["function"] for n in found["nodes"] for s in n["servers"] for t in s["tasks"]] == ["compute"]


def test_secret_show_prints_the_secret_and_only_that(user: User) -> None:
    shown = user.command("secret", "show").succeed()
    assert shown.strip() == user.secret_file.read_text().strip() and len(shown.split()) == 1
    assert user.secret_file.stat().st_mode & 0o777 == 0o600
    assert user.command("secret", "show").succeed() == shown


# --- sharing ------------------------------------------------------------------------------------------------


def test_a_shared_scheduler_gives_its_nodes_to_one_client_after_the_other(user: User) -> None:
    user.scheduler()
    user.node("n", cpus=1)
    first = user.script("long.py", HELD)
    first.wait_line("runs on")
    second = user.script("second.py", LONG, "0")
    wait_until(lambda: len(status_of(user)["clients"]) == 2, 10, "the second is in the queue", LOOK_S)
    third = user.script("third.py", LONG, "0")
    wait_until(lambda: len(status_of(user)["clients"]) == 3, 10, "the third is in the queue", LOOK_S)
    waits = second.wait_line(r"wait|queue")
    assert waits.stream == "err" and "long.py" in waits.text, second.told()
    assert second.started + 2.5 < waits.at, "it is told after 3 s"
    assert not second.out and first.is_alive()
    let_go(user)
    ends = [
        re.findall(r"^(?:from|until) (.*)$", each.succeed(), re.MULTILINE) for each in (first, second, third)
    ]
    times = [float(end) for pair in ends for end in pair]
    assert len(times) == 6 and times == sorted(times)


def test_a_killed_first_client_frees_the_cluster_for_the_second(user: User) -> None:
    user.scheduler()
    user.node("n", cpus=1)
    first = user.script("long.py", LONG, "60")
    first.wait_line("runs on")
    second = user.script("second.py", LONG, "0")
    wait_until(lambda: len(status_of(user)["clients"]) == 2, 10, "the second is in the queue", LOOK_S)
    first.kill()
    start = time.monotonic()
    second.wait_line("runs on", 5)  # the kernel tells; silence would take 10 s
    print(f"the next client got the cluster {time.monotonic() - start:.2f} s after the kill")
    second.succeed()


def test_a_killed_client_that_waited_leaves_no_ghost_in_the_queue(user: User) -> None:
    user.scheduler()
    user.node("n", cpus=1)
    first = user.script("long.py", LONG, "60")
    first.wait_line("runs on")
    second = user.script("second.py", LONG, "0")
    wait_until(lambda: len(status_of(user)["clients"]) == 2, 10, "the second is in the queue", LOOK_S)
    second.kill()
    wait_until(lambda: len(status_of(user)["clients"]) == 1, 10, "it is gone from the queue", LOOK_S)
    assert first.is_alive()


def test_a_client_that_gives_up_waiting_leaves_no_ghost_in_the_queue(user: User) -> None:
    user.scheduler()
    user.node("n", cpus=1)
    first = user.script("long.py", HELD)
    first.wait_line("runs on")
    impatient = user.script(
        "impatient.py",
        """
        import dispycos

        async def main():
            try:
                await dispycos.Client().schedule(timeout=0.5)
            except TimeoutError as error:
                print("gave up:", error)

        dispycos.run(main)
        """,
    )
    gave_up = impatient.succeed()
    assert gave_up.startswith("gave up: schedule(): not within 0.5 s: long.py on ")
    assert gave_up.endswith(" has the cluster; place 1 in the queue\n")
    assert len(status_of(user)["clients"]) == 1
    second = user.script("second.py", LONG, "0")
    let_go(user)
    first.succeed()
    second.succeed()


def test_nodes_that_appear_later_join_a_running_client(user: User) -> None:
    user.node("first", cpus=1)
    program = user.script(
        "joins.py",
        """
        import asyncio, dispycos

        async def main():
            async with dispycos.Client() as client:
                print(len(await client.servers()), flush=True)
                async with asyncio.timeout(10):
                    while len(await client.servers()) < 3:
                        await asyncio.sleep(0.01)
                print(await (await client.rtask_at("second", int, 5)))

        dispycos.run(main)
        """,
    )
    program.wait_line("^1$")
    user.node("second", cpus=2)
    assert program.succeed() == "1\n5\n"


TAKES_IT = """
    import os, sys, time
    import dispycos

    def wait_for(name):
        while not os.path.exists(name):
            time.sleep(0.01)

    async def main():
        client = dispycos.Client()
        await client.schedule(*sys.argv[2:])
        print("scheduled", len(await client.servers()), flush=True)
        await client.submit(wait_for, os.path.abspath(sys.argv[1]))
        print("done", len(await client.servers()), flush=True)
        await client.close()

    dispycos.run(main)
"""


@pytest.mark.parametrize("shared", [True, False], ids=["two schedulers", "no scheduler"])
def test_a_node_goes_from_one_program_to_the_next_which_is_told_who_has_it(user: User, shared: bool) -> None:
    places: list[list[str]] = [[], []]
    for place in places if shared else []:
        place.append(f"127.0.0.1:{port_of(user.scheduler())}")
    user.node("n", cpus=1)
    first = user.script("first.py", TAKES_IT, "first is done", *places[0])
    first.wait_line("scheduled 1")
    user.write({"second is done": ""})
    second = user.script("second.py", TAKES_IT, "second is done", *places[1])
    second.wait_line("scheduled 0")
    second.wait_line(rf"node n \(.*\) declined: held by first\.py \(.*, pid {first.pid}\) for \d+ s")
    assert first.is_alive() and second.is_alive()
    user.write({"first is done": ""})
    assert first.succeed().endswith("done 1\n")
    assert second.succeed().endswith("done 1\n")


def test_a_client_waits_at_a_scheduler_without_nodes_and_is_told_what_is_missing(user: User) -> None:
    user.scheduler()
    program = user.script("long.py", LONG, "0")
    line = program.wait_line("dispycos node", 8)
    assert line.stream == "err"
    user.node("n", cpus=1)
    program.wait_line("runs on", 5)
    program.succeed()


def test_a_node_finds_a_scheduler_named_by_peer_and_a_scheduler_a_node_named_by_node(user: User) -> None:
    """Without the registry: each has a home of its own, and the secret copied."""
    scheduler = user.scheduler()
    with User() as other:
        other.secret_file.parent.mkdir(parents=True)
        other.secret_file.write_text(user.secret_file.read_text())
        other.secret_file.chmod(0o600)
        other.node("far", "--peer", f"127.0.0.1:{port_of(scheduler)}", cpus=1)
        wait_until(
            lambda: "far" in [n["name"] for s in status_of(user)["schedulers"] for n in s["nodes"]],
            5,
            "it is there",
            LOOK_S,
        )
        user.script("long.py", LONG, "0").succeed()


# --- options ------------------------------------------------------------------------------------------------


def test_cpus_is_the_number_of_servers(user: User) -> None:
    node = user.node("one", cpus=1)
    assert "1 server," in node.lines[0].text
    assert len(user.script("long.py", LONG, "0").wait_line("runs on").text.split()) == 3


NODES = """
    import sys, dispycos

    async def main():
        async with dispycos.Client(nodes=eval(sys.argv[1])) as client:
            names = {await (await client.rtask_at(s, named)) for s in await client.servers()}
            print(len(await client.servers()), *sorted(names))

    def named():
        import os
        return os.path.basename(os.path.dirname(os.getcwd()))

    dispycos.run(main)
"""


def test_nodes_restricts_a_client_to_those(cluster: User) -> None:
    for text, servers in (
        ("['a']", 2),
        ("[dispycos.DispycosNodeAllocate('b', cpus=1)]", 1),
        ("[dispycos.DispycosNodeAllocate('a', cpus=0), dispycos.DispycosNodeAllocate('*')]", 2),
        ("'127.0.0.1'", 4),
    ):
        program = cluster.script("nodes.py", NODES, text)
        assert program.succeed().split()[0] == str(servers), (text, program.told())


FOLDERS = """
    import os, sys
    import dispycos

    def look():
        return os.getcwd(), sys.path[:2], sorted(os.listdir(os.pardir)), open("../given.txt").read()

    async def main():
        async with dispycos.Client(["given.txt"]) as client:
            for server in sorted(await client.servers()):
                print(*await (await client.rtask_at(server, look)), sep="|")

    dispycos.run(main)
"""


def test_a_node_keeps_the_files_of_its_clients_where_dest_path_says(user: User) -> None:
    kept = user.folder / "kept"
    user.node("n", "--dest_path", str(kept))
    user.write({"given.txt": "a word"})
    said = user.script("folders.py", FOLDERS).succeed().splitlines()
    folders = []
    for line in said:
        folder, path, beside, text = line.split("|")
        folders.append(Path(folder))
        assert path == str([folder, str(folders[-1].parent)]), "both are found by import"
        assert {"dispycosproc-1", "dispycosproc-2", "given.txt"} <= set(ast.literal_eval(beside))
        assert text == "a word"
    assert [folder.name for folder in folders] == ["dispycosproc-1", "dispycosproc-2"]
    assert folders[0].parent == folders[1].parent and folders[0].is_relative_to(kept)
    wait_until(lambda: not folders[0].parent.exists(), 5, "the client's folder goes with it")


def test_a_scheduler_keeps_its_records_where_dest_path_says_until_it_ends_in_order(user: User) -> None:
    kept = user.folder / "kept" / "below"
    scheduler = user.scheduler("--dest_path", str(kept), port=free_port())
    (record,) = kept.iterdir()
    assert record.read_text()
    scheduler.interrupt()
    scheduler.succeed()
    assert not record.exists()


def test_a_cluster_with_nothing_to_do_says_who_is_there_and_falls_silent(user: User) -> None:
    scheduler = user.scheduler("--name", "head")
    node = user.node("n", "--peer", f"127.0.0.1:{port_of(scheduler)}")
    scheduler.wait_line(r"node n \(127\.0\.0\.1:\d+\) is here")
    time.sleep(1)  # both have dialled by then, and one of the two links is given up
    assert len(node.lines) == 1 and "node n: 2 servers, port " in node.lines[0].text, node.told()
    assert len(scheduler.lines) == 2 and "scheduler head: port " in scheduler.lines[0].text, scheduler.told()


def test_a_second_node_of_a_host_gets_a_name_and_ports_of_its_own(user: User) -> None:
    first = user.command("node", "--cpus", "1", "--daemon", "--tcp_ports", "0")
    first.wait_line("port")
    second = user.command("node", "--cpus", "1", "--daemon", "--tcp_ports", "0")
    second.wait_line("port")
    names = [node["name"] for node in status_of(user)["nodes"]]
    assert len(set(names)) == 2 and names[1] == f"{names[0]}-2"


def test_serve_1_ends_a_node_after_one_client(user: User) -> None:
    node = user.node("once", "--serve", "1", cpus=1)
    user.script("long.py", LONG, "0").succeed()
    assert node.wait(5) == 0


# --- descriptors --------------------------------------------------------------------------------------------


@pytest.fixture
def few_files() -> Iterator[int]:
    """What is started has this soft limit, as a person with the default one has; gives the hard one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def open_files_max(process: psutil.Process) -> int:
    return int(process.rlimit(psutil.RLIMIT_NOFILE)[0])


def test_schedulers_and_agents_take_all_descriptors_that_they_may_have(user: User, few_files: int) -> None:
    wanted = min(few_files, OPEN_FILES_MAX)
    programs = [user.node("a"), user.scheduler()]
    assert [open_files_max(psutil.Process(program.pid)) for program in programs] == [wanted] * 2


def test_a_private_process_takes_all_descriptors_that_it_may_have_and_what_runs_users_code_does_not(
    user: User, few_files: int
) -> None:
    program = user.script("long.py", LONG, "30")
    program.wait_line("runs on")
    client = psutil.Process(program.pid)
    (private,) = client.children()
    assert open_files_max(private) == min(few_files, OPEN_FILES_MAX)
    servers = private.children(recursive=True)
    assert servers and {open_files_max(process) for process in (client, *servers)} == {FEW}


# --- kill -9 ------------------------------------------------------------------------------------------------


def test_kill_9_of_a_client_leaves_none_of_its_private_processes(user: User) -> None:
    program = user.script("long.py", LONG, "30")
    program.wait_line("runs on")
    assert len(user.processes()) >= 4
    program.kill()
    took = wait_until(lambda: not user.processes(), 2, "all private processes end")
    print(f"all gone {took:.2f} s after the kill")


def test_kill_9_of_a_node_is_said_at_its_client_and_ends_its_servers(user: User) -> None:
    node = user.node("dies", cpus=1)
    script = user.script("long.py", LONG, "60")
    script.wait_line("runs on")
    servers = [process for process in user.processes() if process.pid not in (node.pid, script.pid)]
    node.kill()
    assert script.wait_line("node dies: .*link is down", 5).stream == "err"
    wait_until(lambda: is_gone(servers, script), 2, "the node's servers end with it")


def is_gone(processes: list[psutil.Process], client: Program) -> bool:
    """All but those that are the client's own."""
    own = {process.pid for process in client.family()}
    return not any(is_running(process) for process in processes if process.pid not in own)


def test_a_killed_node_that_is_started_again_gives_its_tasks_up_at_once_and_works(user: User) -> None:
    port = free_port()
    node = user.node("again", cpus=1, port=port)
    script = user.script(
        "survives.py",
        """
        import time, dispycos

        async def main():
            async with dispycos.Client() as client:
                handle = await client.rtask(time.sleep, 60)
                print("runs", flush=True)
                try:
                    await handle
                except dispycos.TaskLost as error:
                    print(error, flush=True)
                print(await client.submit(int, 5))

        dispycos.run(main)
        """,
    )
    script.wait_line("runs")
    node.kill()
    script.wait_line("link is down", 5)
    user.node("again", cpus=1, port=port)
    assert "again" in script.wait_line("^(node|server) again|again .*(anew|gone|new)", 8).text
    assert script.succeed().splitlines()[-1] == "5"


def test_kill_9_of_a_private_process_is_heard_at_its_client(user: User) -> None:
    script = user.script("long.py", LONG, "60")
    script.wait_line("runs on")
    private = next(p for p in psutil.Process(script.pid).children() if "private" in p.cmdline())
    private.kill()
    assert script.wait(10) == 1
    assert "private scheduler" in script.err, script.told()
    wait_until(lambda: not user.processes(), 2, "its servers end with it")


# --- the node's console, names, and its last client ----------------------------------------------------------


@pytest.fixture
def console() -> Iterator[tuple[int, int]]:
    """(what is typed at, what the program reads): a terminal that controls nobody."""
    ours, theirs = pty.openpty()
    yield ours, theirs
    os.close(ours)
    os.close(theirs)


WORKS_UNTIL = """
    import pathlib, sys, time
    import dispycos

    def work(file):
        try:
            while not pathlib.Path(file).exists():
                time.sleep(0.05)
            return "worked"
        except KeyboardInterrupt:
            time.sleep(1)
            return "had a second more"

    async def main():
        async with dispycos.Client([work]) as client:
            handle = await client.rtask(work, str(pathlib.Path(sys.argv[1]).resolve()))
            print("started", flush=True)
            print(await handle, flush=True)

    dispycos.run(main)
"""


@pytest.mark.parametrize(
    ("word", "value"), [("quit", "worked"), ("exit", "worked"), ("terminate", "had a second more")]
)
def test_the_console_ends_a_node_after_its_tasks_or_with_them(
    user: User, console: tuple[int, int], word: str, value: str
) -> None:
    ours, theirs = console
    node = user.command("node", "--name", "n", "--cpus", "1", "--tcp_ports", "0", stdin=theirs)
    node.wait_line(r"node n: ")
    os.write(ours, b"stop\n")
    node.wait_line("unknown command 'stop': there are status, close, quit, exit, terminate")
    client = user.script("works.py", WORKS_UNTIL, "let go")
    client.wait_line("started")
    os.write(ours, b"status\n")
    node.wait_line(r"n/server-1 at \S+ \(pid \d+\): work running ")
    os.write(ours, f"{word}\n".encode())
    if word != "terminate":
        node.wait_line("ends when the tasks of works.py")
        let_go(user)
    assert client.succeed() == f"started\n{value}\n"
    assert node.wait() == 0
    if word != "terminate":
        node.wait_line("used by works.py; takes nothing new: the operator of node n ends it")


CLOSED = """
    import asyncio, time
    import dispycos

    def work(seconds):
        time.sleep(seconds)

    async def main():
        async with dispycos.Client([work]) as client:
            handle = await client.rtask(work, 30)
            print("started", flush=True)
            for waited in (handle, client.rtask(work, 0)):
                try:
                    await waited
                except Exception as error:
                    print(type(error).__name__, error, flush=True)

    try:
        dispycos.run(main)
    except dispycos.ScheduleError as error:
        print("end:", error)
"""


def test_close_ends_a_client_in_words_and_the_next_has_the_node(user: User, console: tuple[int, int]) -> None:
    ours, theirs = console
    user.scheduler()
    node = user.command("node", "--name", "n", "--cpus", "1", "--tcp_ports", "0", stdin=theirs)
    node.wait_line(r"node n: ")
    os.write(ours, b"close\n")
    node.wait_line("no client uses this node")
    client = user.script("closed.py", CLOSED)
    client.wait_line("started")
    os.write(ours, b"close\n")
    node.wait_line(r"the lease of closed.py \(.*\) ends: its tasks are interrupted, and killed after 5 s")
    _, ended, refused = client.succeed(10).splitlines()
    assert ended == "TaskTerminated work was terminated: the operator of node n closed it"
    # Or it is submitted before that is known.
    assert refused.startswith(("ScheduleError ", "TaskLost ")), refused
    assert refused.endswith("the operator of node n closed it")
    assert user.script("works.py", WORKS_UNTIL, ".").succeed() == "started\nworked\n"
    os.write(ours, b"\n")
    node.wait_line("clients served: 2")


def test_nodes_that_start_together_beside_a_scheduler_have_the_hosts_name_and_numbers(user: User) -> None:
    user.scheduler()
    nodes = [user.command("node", "--daemon", "--cpus", "1") for _ in range(3)]
    names = {node.wait_line(r"node \S+: ").text.split("node ")[1].split(":")[0] for node in nodes}
    host = socket.gethostname()
    assert names == {host, f"{host}-2", f"{host}-3"}
    assert len({port_of(node) for node in nodes}) == 3


def test_a_node_for_one_client_is_not_given_to_the_next(user: User) -> None:
    user.scheduler()
    node = user.node("n", "--serve", "1", cpus=1)
    first = user.script("works.py", WORKS_UNTIL, "let go")
    first.wait_line("started")
    second = user.script("works.py", WORKS_UNTIL, ".")
    let_go(user)
    assert first.succeed() == "started\nworked\n"
    assert node.wait(5) == 0
    user.node("n", "--serve", "1", cpus=1)
    assert second.succeed() == "started\nworked\n"
    said = second.err.splitlines()
    assert all(line.startswith("no node found: ") for line in said), second.told()  # a node may take its time

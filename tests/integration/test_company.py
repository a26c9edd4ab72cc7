"""Rough company: other users of the host who look, strangers on the network, containers that share folders, other Pythons."""

from __future__ import annotations

import os
import resource
import select
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.kit.programs import Program, User, is_running, port_of, wait_until

pytestmark = pytest.mark.timeout(60)

PASSPHRASE = "seventeen wet horses"

WAIT = """
    import dispycos

    async def wait(task=None):
        await task.sleep(30)

    async def main():
        async with dispycos.Client([wait]) as client:
            await client.rtask(wait)
            print("runs", flush=True)
            await dispycos.Task(wait).finish()

    dispycos.run(main)
"""


# --- who looks ----------------------------------------------------------------------------------------------


def shown_by(processes: Iterable[psutil.Process], text: str) -> list[str]:
    """The files of /proc in which it can be read."""
    found = []
    for process in processes:
        for name in ("cmdline", "environ"):
            path = Path(f"/proc/{process.pid}/{name}")
            if text.encode() in path.read_bytes():
                found.append(str(path))
    return found


def core_files_of(processes: Iterable[psutil.Process]) -> set[tuple[int, int]]:
    return {process.rlimit(psutil.RLIMIT_CORE) for process in processes}


def test_no_process_of_a_node_shows_its_passphrase_or_leaves_a_core_file(user: User) -> None:
    node = user.node("hidden", "-s", PASSPHRASE, cpus=1)
    scheduler = user.scheduler(f"--secret={PASSPHRASE}")
    client = user.script("wait.py", WAIT, DISPYCOS_SECRET=PASSPHRASE)
    client.wait_line("runs")
    family = [*node.family(), *scheduler.family()]
    assert len(family) >= 5
    assert shown_by(family, PASSPHRASE) == []
    assert core_files_of(family) == {(0, 0)}


def test_what_a_client_starts_does_not_show_the_passphrase_of_its_environment(user: User) -> None:
    client = user.script("wait.py", WAIT, DISPYCOS_SECRET=PASSPHRASE)
    client.wait_line("runs")
    _, *started = client.family()
    assert len(started) >= 3
    assert shown_by(started, PASSPHRASE) == shown_by(started, "DISPYCOS_SECRET") == []
    assert core_files_of(started) == {(0, 0)}


# --- who shares folders -------------------------------------------------------------------------------------

LEAVE_AND_LOOK = """
    import os, sys
    import dispycos

    async def leave_and_look(seconds, task=None):
        open("left", "w").close()
        print("works in", os.getcwd())
        await task.sleep(seconds)
        return os.path.exists("left")

    async def main():
        async with dispycos.Client([leave_and_look]) as client:
            print("still there:", await client.submit(leave_and_look, float(sys.argv[1])))

    dispycos.run(main)
"""


def in_a_container(user: User, script: str, *arguments: str) -> Program:
    """With pids and a loopback of its own, and the folders of all."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("namespaces need root and the command `unshare`")
    unshare = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    probe = subprocess.run([*unshare, "true"], capture_output=True, text=True, timeout=10)
    if probe.returncode != 0:
        pytest.skip(f"the kernel refuses namespaces: {probe.stderr}")
    inside = [*unshare, "sh", "-c", 'ip link set lo up; exec "$@"', "sh"]
    program = Program([*inside, sys.executable, script, *arguments], user.folder, user.environment())
    user.programs.append(program)
    return program


def test_containers_that_share_their_folders_leave_each_others_alone(user: User) -> None:
    user.write({"look.py": LEAVE_AND_LOOK})
    long = in_a_container(user, "look.py", "5")
    long.wait_line("works in")
    assert "still there: True" in in_a_container(user, "look.py", "0").succeed()
    assert "still there: True" in long.succeed()


def test_what_a_killed_node_left_goes_with_the_next_one(user: User) -> None:
    node = user.node("left", cpus=1)
    client = user.script("look.py", LEAVE_AND_LOOK, "30")
    folder = Path(client.wait_line("works in").text.partition("works in ")[2]).parents[1]
    user.node("beside", cpus=1)
    servers = node.family()[1:]
    assert folder.exists()
    node.kill()
    client.kill()
    wait_until(lambda: not any(map(is_running, servers)), 5, "its servers end")
    user.node("next", cpus=1)
    wait_until(lambda: not folder.exists(), 5, "the folder goes")
    assert sorted(path.name.split("-")[0] for path in folder.parent.iterdir()) == ["beside", "next"]


START_OTHERS = """
    import subprocess, sys, time
    import dispycos

    def start_another():
        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid

    async def main():
        async with dispycos.Client([start_another]) as client:
            for server in await client.servers():
                task = await client.rtask_at(server, start_another)
                print("started", server.port, await task, flush=True)
            time.sleep(60)

    dispycos.run(main)
"""


def test_a_node_that_sweeps_up_after_a_dead_lease_spares_that_of_its_neighbour(user: User) -> None:
    """Both hold a lease of the same client."""
    nodes = [user.node("a", cpus=1), user.node("b", cpus=1)]
    client = user.script("others.py", START_OTHERS)
    wait_until(lambda: client.out.count("started") == 2, 15, "a process of each node's server")
    started = [psutil.Process(int(line.split()[2])) for line in client.out.splitlines()]
    of_a = {process.pid for process in nodes[0].family()}
    own, neighbours = sorted(started, key=lambda process: process.pid not in of_a)
    zygote = own.parent().parent()
    zygote.kill()
    wait_until(lambda: not is_running(own), 5, "what the lease of a had started ends")
    time.sleep(0.5)
    assert is_running(neighbours)


# --- who connects and says nothing --------------------------------------------------------------------------

FEW = 1024  # descriptors, as systems allow by default
STRANGERS = 1500

COUNT = """
    import sys
    import dispycos

    def double(n):
        return 2 * n

    async def main():
        client = dispycos.Client([double])
        await client.schedule(*sys.argv[1:])
        print("sum", sum([value async for _, value in client.map(double, range(50))]), flush=True)
        await client.close()

    dispycos.run(main)
"""


@pytest.fixture
def many_files() -> Iterator[None]:
    """For the strangers, who are of this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 3 * STRANGERS
    if hard != resource.RLIM_INFINITY and hard < wanted:
        pytest.skip(f"needs {wanted} open files, may have {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def with_few_files(user: User, *arguments: str) -> Program:
    limited = f"ulimit -n {FEW}; exec {shlex.join([sys.executable, '-m', 'dispycos', *arguments])}"
    program = Program(["sh", "-c", limited], user.folder, user.environment())
    user.programs.append(program)
    return program


class Strangers:
    """So many idle connections to each port; those that are closed there are made anew, until the end of the block."""

    def __init__(self, *ports: int) -> None:
        self._ports = ports
        self._held: dict[int, tuple[socket.socket, int]] = {}
        self._poll = select.poll()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        self._thread.join()
        for stranger, _ in self._held.values():
            stranger.close()

    def _run(self) -> None:
        for port in self._ports:
            for _ in range(STRANGERS):
                self._knock(port)
        while not self._ended.is_set():
            for descriptor, _ in self._poll.poll(50):
                self._poll.unregister(descriptor)
                gone, port = self._held.pop(descriptor)
                gone.close()
                self._knock(port)

    def _knock(self, port: int) -> None:
        stranger = socket.socket()
        stranger.setblocking(False)
        stranger.connect_ex(("127.0.0.1", port))
        self._held[stranger.fileno()] = stranger, port
        self._poll.register(stranger, select.POLLIN)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere strangers can use up all descriptors")
def test_idle_connections_of_strangers_leave_a_node_and_a_scheduler_their_descriptors(
    user: User, many_files: None
) -> None:
    scheduler = with_few_files(user, "scheduler", "--tcp_port", "0", "--daemon")
    node = with_few_files(user, "node", "--tcp_ports", "0", "--cpus", "2", "--daemon")
    ports = port_of(scheduler), port_of(node)
    with Strangers(*ports):
        scheduler.wait_line("have not proved that they are of this cluster")
        for _ in range(3):
            assert user.script("count.py", COUNT).succeed(20) == "sum 2450\n"
    assert scheduler.is_alive() and node.is_alive()
    assert "Errno" not in scheduler.err + node.err
    # And when they have left, whoever comes from another host is served too.
    assert user.script("count.py", COUNT, f"127.0.0.1:{ports[0]}").succeed(20) == "sum 2450\n"


# --- other Pythons ------------------------------------------------------------------------------------------

ANOTHER_PYTHON = """
    import os, sys, time
    from dispycos.transport.discovery import Presence, Registry
    from dispycos.transport.folders import find_folders
    from dispycos.transport.secret import Secret

    python = (sys.version_info[0], sys.version_info[1] + 1)
    tag = Secret.load_or_make().tag
    registry = Registry(find_folders().registry)
    registry.announce(Presence("node", "newer", ("127.0.0.1",), 9, tag, 77, python=python, pid=os.getpid()))
    print("announced", flush=True)
    time.sleep(60)
"""

VERSION = """
    import sys
    import dispycos

    def version():
        return sys.version_info[:2]

    async def main():
        async with dispycos.Client() as client:
            print(await client.submit(version) == sys.version_info[:2])

    dispycos.run(main)
"""


def test_a_node_of_another_python_leaves_a_program_to_its_own_and_is_named(user: User) -> None:
    # As such a node announces itself: no interpreter of another version is needed for what is decided by that.
    newer = user.script("newer.py", ANOTHER_PYTHON)
    newer.wait_line("announced")
    program = user.script("version.py", VERSION)
    assert program.succeed() == "True\n"
    assert "not used: node newer at 127.0.0.1:9 runs Python" in program.err

"""Tasks that run as another user than their node: by --user, as root, and by a set-user-ID interpreter."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.kit.programs import Program, User, wait_until
from tests.kit.users import ROOT, as_user, open_to_all, why_no_users

REASON = why_no_users()
pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(bool(REASON), reason=REASON)]

AGENT, TASKS = 54321, 54322  # users without a name

# What a task can do to the paths that it is told, and what it is.
SCRIPT = """
import json, os, signal, subprocess, sys, time
import dispycos

def attack(paths):
    done = []
    for path in paths:
        for name, attempt in (("list", os.listdir), ("read", lambda p: open(p, "rb").read()),
                              ("write", lambda p: open(p, "a").write("x")),
                              ("add", lambda p: open(os.path.join(p, "added"), "w")), ("remove", os.unlink)):
            try:
                attempt(path)
            except OSError:
                pass
            else:
                done.append([name, path])
    return done

def be_somewhere():
    with open("mine", "w") as file:
        file.write("secret of a client")
    os.chmod("mine", 0o644)
    open("../shared", "w").close()
    ids = [os.getresuid(), os.getresgid(), os.getgroups()]
    return os.path.abspath("mine"), ids, os.environ["HOME"], os.access(os.environ["HOME"], os.W_OK)

def misbehave():
    subprocess.Popen(["sleep", "600"], start_new_session=True)
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(8)

KNOCK = '''
import sys, zmq
socket = zmq.Context().socket(zmq.DEALER)
socket.linger = 0
socket.connect("ipc://" + sys.argv[1])
socket.send(b"let me in")
socket.poll(600)
'''

def knock(path):
    subprocess.run([sys.executable, "-c", KNOCK, path], check=True)

async def main():
    function, argument, node = sys.argv[1], json.loads(sys.argv[2]), sys.argv[3:]
    async with dispycos.Client(nodes=node or None) as client:
        print(json.dumps(await client.submit(globals()[function], *argument)), flush=True)
        if "--stay" in sys.argv:
            input()

dispycos.run(main)
"""


class Site(User):
    """Root, with a folder that others may enter as TMPDIR."""

    def __init__(self) -> None:
        self.shared = Path(tempfile.mkdtemp(prefix="dt-", dir="/tmp"))
        os.chmod(self.shared, 0o755)
        super().__init__(TMPDIR=str(self.shared), DT_SITE=str(self.shared))
        self.prefix = open_to_all()

    def close(self) -> None:
        shutil.rmtree(self.shared, ignore_errors=True)

    def processes_of(self, uid: int) -> list[int]:
        """Those of this test, also what its tasks left; other tests have such users too."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.uids().effective == uid and process.environ().get("DT_SITE") == str(self.shared):
                    found.append(process.pid)
        return found

    def wait_until_gone(self, uid: int) -> None:
        """The processes of a client, when it has ended."""
        try:
            wait_until(lambda: not self.processes_of(uid), 10, "processes of a client go with it")
        except AssertionError as error:
            left = [
                psutil.Process(pid).as_dict(["ppid", "status", "cmdline"]) for pid in self.processes_of(uid)
            ]
            raise AssertionError(f"{error}; there are {left}") from None

    def start(self, *command: str, stdin: int | None = None) -> Program:
        program = Program([*self.prefix, *command], self.folder, self.environment(), stdin)
        self.programs.append(program)
        return program

    def node_for(self, user: str, *options: str) -> Program:
        node = self.start(
            *(sys.executable, "-m", "dispycos", "node", "--name", f"for-{user}", "--cpus", "1"),
            *("--tcp_ports", "0", "--daemon", "--user", user, *options),
        )
        node.wait_line(f"tasks run as user {user}")
        return node

    def client(self, function: str, *argument: object, node: str = "", stdin: int | None = None) -> Program:
        self.write({"script.py": SCRIPT})
        where = [node] if node else []
        return self.start(sys.executable, "script.py", function, json.dumps(argument), *where, stdin=stdin)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    try:
        with site:
            yield site
    finally:
        site.close()


def files_of_node(site: Site) -> list[str]:
    """All that is not a task's: the secret, the registry, pid and lock files, sockets, the node's folders, and where they are."""
    own = [site.folder, *site.folder.rglob("*")]
    shared = [
        path for path in site.shared.rglob("*") if "lease-" not in str(path) and path.name != "supython"
    ]
    return [str(path) for path in [*own, *shared]]


def test_a_task_can_touch_neither_the_files_of_its_node_nor_those_of_another_user(site: Site) -> None:
    site.node_for("nobody")
    site.node_for("daemon")
    holder, typed = os.pipe()
    stays = site.client("be_somewhere", node="for-daemon", stdin=holder)
    stays.command.append("--stay")
    path, ids, home, may_write = json.loads(stays.wait_line(r"^\[").text)
    assert ids == [[1, 1, 1], [1, 1, 1], [1]] and may_write and path.startswith(home)
    node_files = files_of_node(site)
    assert any(name.endswith("/secret") for name in node_files)
    assert any("/registry/" in name for name in node_files)
    others = [path, str(Path(path).parent), home]
    done = json.loads(site.client("attack", [*node_files, *others], node="for-nobody").succeed())
    assert done == []
    os.close(typed)
    os.close(holder)


def test_who_is_no_server_of_the_lease_is_refused_by_the_agent(site: Site) -> None:
    node = site.node_for("nobody")
    (socket,) = [str(path) for path in site.shared.rglob("*.sock")]
    site.client("knock", socket).succeed()
    node.wait_line(r"refused localhost:\S*: process \d+ of user 65534 may not connect here")


def test_what_a_client_of_another_user_left_is_ended_and_removed(site: Site) -> None:
    """Its tasks also kill the very process that ends them."""
    node = site.node_for("nobody")
    path, *_ = json.loads(site.client("be_somewhere").succeed())
    wait_until(lambda: not Path(path).exists(), 10, "files of a client go with it")
    lost = site.client("misbehave")
    assert lost.wait() == 1 and "TaskLost" in lost.err
    site.wait_until_gone(65534)
    node.interrupt()
    assert node.wait(10) == 0
    assert [path for path in site.shared.rglob("*") if path.is_file() or path.is_socket()] == []


def test_a_user_who_cannot_run_python_is_refused_with_the_folder_that_is_in_the_way(
    site: Site, tmp_path: Path
) -> None:
    shut = site.folder / "shut" / "modules"
    shut.mkdir(parents=True, mode=0o700)
    site.variables["PYTHONPATH"] = str(shut)
    node = site.start(sys.executable, "-m", "dispycos", "node", "--user", "nobody", "--daemon")
    assert node.wait() == 1
    assert node.err == (
        f"dispycos node: tasks cannot run as nobody: {site.folder} cannot be entered, and Python needs {shut}\n"
        "use a Python that every user can read, as /usr/bin/python3 with a venv in /opt, or open that folder\n"
    )


def test_a_folder_for_files_that_tasks_cannot_enter_is_refused(site: Site) -> None:
    given = site.shared / "given"
    given.mkdir(mode=0o700)
    node = site.start(
        *(sys.executable, "-m", "dispycos", "node", "--user", "nobody", "--daemon", "--dest_path", str(given))
    )
    assert node.wait() == 1
    assert f"{given} cannot be entered, and tasks are to run below {given}" in node.err


# --- a set-user-ID interpreter -----------------------------------------------------------------------------


class Lent(Site):
    """A user whose interpreter belongs to another, as spec 6.12 has it made."""

    # Not below TMPDIR, which the loader drops for such an interpreter.
    agents = Path(f"/tmp/dispycos-{AGENT}-{TASKS}")

    def __init__(self, *groups: int) -> None:
        super().__init__()
        os.chown(self.folder, AGENT, AGENT)
        self.interpreter = str(self.shared / "supython")
        shutil.copy(Path(sys._base_executable).resolve(), self.interpreter)  # type: ignore[attr-defined]
        os.chown(self.interpreter, TASKS, TASKS)
        os.chmod(self.interpreter, 0o6755)
        self.variables |= {
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, sys.path)]),
            "PYTHONHOME": os.pathsep.join([sys.base_prefix, sys.base_exec_prefix]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self.prefix = [*open_to_all(), *as_user(AGENT, AGENT, *groups)]
        (self.folder / "run").mkdir(mode=0o700)
        os.chown(self.folder / "run", AGENT, AGENT)

    def close(self) -> None:
        super().close()
        shutil.rmtree(self.agents, ignore_errors=True)


def start_lent(site: Lent) -> Program:
    return site.start(
        *(site.interpreter, "-m", "dispycos", "node", "--name", "lent", "--cpus", "1", "--tcp_ports", "0"),
        "--daemon",
    )


def test_by_a_set_user_id_interpreter_the_agent_is_who_started_it_and_tasks_are_its_owner() -> None:
    site = Lent(TASKS)
    try:
        with site:
            node = start_lent(site)
            node.wait_line(f"tasks run as user {TASKS}")
            path, ids, _, may_write = json.loads(site.client("be_somewhere").succeed())
            assert ids[:2] == [[TASKS] * 3, [TASKS] * 3] and may_write
            assert {p.uids() for p in site.processes() if "supython" in p.name()} == {(AGENT, AGENT, TASKS)}
            done = json.loads(
                site.client("attack", [*files_of_node(site), *map(str, site.agents.rglob("*"))]).succeed()
            )
            assert done == []
            lost = site.client("misbehave")
            assert lost.wait() == 1 and "TaskLost" in lost.err
            site.wait_until_gone(TASKS)
            wait_until(lambda: not Path(path).exists(), 10, "files of a client go with it")
            node.interrupt()
            assert node.wait(10) == 0
            assert list(site.agents.rglob("*")) == [site.agents / "nodes"]
    finally:
        site.close()


def test_who_is_not_in_the_group_of_the_interpreter_is_told() -> None:
    site = Lent(AGENT)
    try:
        with site:
            node = start_lent(site)
            assert node.wait() == 1
            assert re.search(rf"cannot be opened to the group {TASKS}, .*\n.*usermod -a -G", node.err)
    finally:
        site.close()

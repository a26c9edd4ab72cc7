"""The files for containers. No engine builds them here: their rules are looked at, and what a container does to a node is tried."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from configparser import ConfigParser
from fnmatch import fnmatch
from pathlib import Path

import psutil
import pytest
import yaml

from dispycos.cli.docker_files import DATA
from dispycos.cli.main import run
from tests.kit.programs import Program, User

ROOT = Path(__file__).parents[2]
SCRIPT = """
import dispycos

def compute(n):
    return n * n

async def main():
    async with dispycos.Client([compute]) as client:
        print(await client.submit(compute, 7))

dispycos.run(main)
"""


def instructions() -> list[tuple[str, str]]:
    """What the Dockerfile says, in order, lines that go on joined."""
    text = (DATA / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def one(word: str) -> str:
    (found,) = [rest for name, rest in instructions() if name == word]
    return found


def test_the_files_are_named_and_copied_but_never_over_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["docker-files"]) == 0
    named = [Path(line) for line in capsys.readouterr().out.split()]
    assert [path.name for path in named] == ["Dockerfile", "compose.yaml"]
    assert run(["docker-files", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"files": [str(path) for path in named]}
    assert run(["docker-files", "--copy", str(tmp_path / "new")]) == 0
    copies = [Path(line) for line in capsys.readouterr().out.split()]
    assert [(c.parent, c.read_bytes()) for c in copies] == [(tmp_path / "new", n.read_bytes()) for n in named]
    copies[0].write_text("mine")
    copies[1].unlink()
    assert run(["docker-files", "--copy", str(tmp_path / "new")]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"dispycos docker-files: {copies[0]} is there already",
        "remove it, or name another folder",
    ]
    assert copies[0].read_text() == "mine"


def test_a_wheel_has_them_and_the_name_that_is_copied() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    patterns = setup["options.package_data"]["dispycos"].split()
    packed = {path for pattern in patterns for path in (ROOT / "dispycos").glob(pattern)}
    assert {DATA / "Dockerfile", DATA / "compose.yaml"} <= packed
    assert fnmatch(f"{setup['metadata']['name']}-0.1.0-py3-none-any.whl", one("COPY").split()[0])


def test_the_image_runs_no_task_as_root_and_no_shell_between_signals_and_node() -> None:
    words = [word for word, _ in instructions()]
    assert words[0] == "FROM" and "slim" in one("FROM")
    (made,) = re.findall(
        r"useradd .* (\w+)$", "\n".join(rest for word, rest in instructions() if word == "RUN"), re.M
    )
    assert one("USER") == made != "root"
    # Only they need root.
    assert max(n for n, word in enumerate(words) if word == "RUN") < words.index("USER")
    assert one("STOPSIGNAL") == "SIGTERM"
    command = json.loads(one("CMD"))  # the exec form is JSON
    assert command[0] == "dispycos" and main_takes(command[1:])
    assert one("WORKDIR") == f"/home/{made}"


def main_takes(arguments: list[str]) -> bool:
    return run([*arguments, "--help"]) == 0


def test_the_compose_file_has_one_scheduler_and_two_nodes_that_dial_it() -> None:
    found = yaml.safe_load((DATA / "compose.yaml").read_text())
    services = found["services"]
    commands = {name: service["command"] for name, service in services.items()}
    assert sorted(commands) == ["node-1", "node-2", "scheduler"]
    assert commands["scheduler"] == ["dispycos", "scheduler", "--daemon"]
    assert commands["node-1"] == commands["node-2"] == ["dispycos", "node", "--daemon", "--peer", "scheduler"]
    assert all(main_takes(command[1:]) for command in commands.values())
    assert services["scheduler"]["ports"] == ["9705:9705"]
    assert {service["hostname"] for service in services.values()} == set(services)  # nodes are named by it
    for service in services.values():
        assert service["build"] == "." and service["user"] and service["secrets"] == list(found["secrets"])
        (secret,) = service["secrets"]
        assert service["environment"] == {"DISPYCOS_SECRET_FILE": f"/run/secrets/{secret}"}


# --- what a container does to a node: it is process 1, nobody types ----------------------------------------

PID_1 = ["unshare", "--pid", "--fork", "--mount-proc"]


def why_no_process_1() -> str:
    if shutil.which("unshare") is None:
        return "to be process 1 needs the command unshare"
    tried = subprocess.run([*PID_1, "true"], capture_output=True, text=True, timeout=20)
    return "" if tried.returncode == 0 else f"to be process 1 needs root: {tried.stderr.strip()}"


@pytest.fixture
def user() -> Iterator[User]:
    with User() as user:
        yield user


def node_as_process_1(user: User, *options: str) -> Program:
    command = [*PID_1, *PYTHON_NODE, "--name", "box", "--cpus", "1", "--tcp_ports", "0", *options]
    node = Program(command, user.folder, user.environment())
    user.programs.append(node)
    node.wait_line("node box: ")
    return node


PYTHON_NODE = [sys.executable, "-m", "dispycos", "node"]


@pytest.mark.skipif(bool(why_no_process_1()), reason=why_no_process_1())
def test_as_process_1_a_node_ends_at_the_stop_signal(user: User) -> None:
    node = node_as_process_1(user)
    (inner,) = [p for p in psutil.Process(node.pid).children() if p.ppid() == node.pid]
    os.kill(inner.pid, signal.SIGTERM)
    assert node.wait(10) == 0
    assert "node box has ended" in node.err


@pytest.mark.skipif(bool(why_no_process_1()), reason=why_no_process_1())
def test_each_client_gets_a_node_of_its_own_in_a_loop(user: User) -> None:
    """while :; do docker run ... dispycos node --serve 1; done"""
    for _ in range(2):
        node = node_as_process_1(user, "--serve", "1")
        assert user.script("square.py", SCRIPT).succeed() == "49\n"
        assert node.wait(10) == 0

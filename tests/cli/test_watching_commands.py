"""The commands that look at tasks, tried at a cluster of real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.kit.programs import Program, User, wait_until

pytestmark = [pytest.mark.timeout(60), pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")]

PROGRAM = """
    import dispycos

    def simulate(n, *, task):
        yield task.sleep(n)

    def quick(i):
        if i == 1:
            raise ValueError("bad sample")
        return i

    def client(*, task):
        client = dispycos.Client([simulate, quick])
        http = dispycos.HTTPServer(client, port=0, poll_sec=0.2, record="run.rec")
        yield client.schedule()
        for i in range(3):
            job = yield client.rtask(quick, i)
            try:
                yield job()
            except Exception:
                pass
        for i in range(2):
            job = yield client.rtask(simulate, 100)
        print("started", flush=True)
        yield task.receive(timeout=60)
        yield client.close(terminate=True)

    dispycos.run(client)
"""


class Scene:
    def __init__(self, user: User, program: Program) -> None:
        self.user, self.program = user, program

    def says(self, *words: str, code: int = 0) -> str:
        """Standard output of `dispycos WORDS`, which ends with this code."""
        command = self.user.command(*words)
        assert command.wait() == code, command.told()
        return command.out

    def rows(self, *words: str) -> list[dict[str, object]]:
        told = json.loads(self.says("tasks", "--json", *words))
        assert set(told) == {"rows", "total", "kept", "dropped_until"}
        rows: list[dict[str, object]] = told["rows"]
        return rows


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with User() as user:
        user.node("ash", cpus=2)
        program = user.script("run.py", PROGRAM)
        program.wait_line("started")
        yield Scene(user, program)


def test_tasks_lists_what_ended_and_what_runs(scene: Scene) -> None:
    rows = scene.rows()
    assert sorted(str(row["state"]) for row in rows) == ["done", "done", "failed", "running", "running"]
    *table, last = scene.says("tasks", "--failed").splitlines()
    assert table[0].split() == ["TASK", "FUNCTION", "STATE", "NODE", "START", "RUN", "ERROR"]
    assert "ValueError: bad sample" in table[1]
    assert last == "1 of 1 failed or lost task shown"


def test_a_node_that_is_not_there_is_exit_3_and_those_that_are_are_named(scene: Scene) -> None:
    command = scene.user.command("tasks", "--node", "elm")
    assert command.wait() == 3
    assert "--node elm: no such node" in command.err and "there are ash:" in command.err


def test_stack_shows_where_a_task_is(scene: Scene) -> None:
    task = str(scene.rows("--running")[0]["id"])
    text = scene.says("stack", task)
    assert text.startswith(f"task {task}, simulate, at ")
    assert "run.py:5 in simulate" in text and "yield task.sleep(n)" in text
    number = task.rpartition(".")[2]  # which is enough: there is one client only
    assert json.loads(scene.says("stack", "--json", number))["frames"][-1]["function"] == "simulate"


def test_a_task_that_does_not_run_has_no_stack(scene: Scene) -> None:
    command = scene.user.command("stack", "nonsense")
    assert command.wait() == 3 and "task nonsense does not run" in command.err


def test_doctor_finds_the_node_and_nothing_that_stops_it(scene: Scene) -> None:
    found = json.loads(scene.says("doctor", "--json"))["findings"]
    (node,) = [one["text"] for one in found if one["check"] == "cluster" and " ash " in one["text"]]
    assert node.startswith("node ash at 127.0.0.1:")
    lines = scene.says("doctor").splitlines()
    assert any(line.startswith("ok") and "node ash at" in line for line in lines)
    assert "error" not in lines[-1]


def test_doctor_says_what_has_another_secret(scene: Scene) -> None:
    doctor = scene.user.command("doctor", "--json", DISPYCOS_SECRET="another passphrase")
    assert doctor.wait() == 0
    texts = [one["text"] for one in json.loads(doctor.out)["findings"] if one["check"] == "cluster"]
    assert any(text.startswith("node ash at ") and "has another secret" in text for text in texts)


def test_top_is_one_snapshot_where_there_is_no_terminal(scene: Scene) -> None:
    first, second, *rest = scene.says("top").splitlines()
    assert first.startswith("1 node  2 of 2 servers busy")
    assert second.startswith("running 2  queued 0  done 2  failed 1  0.0 tasks/s")
    assert any(line.startswith("ash:") for line in rest)
    assert {row["name"] for row in json.loads(scene.says("top", "--json"))["nodes"]} == {"ash"}


def test_status_watch_shows_it_again_until_it_is_interrupted(scene: Scene) -> None:
    watch = scene.user.command("status", "--watch", "0.2", "--json")
    wait_until(lambda: watch.out.count("\n") >= 2, 15, "two snapshots")
    watch.interrupt()
    assert watch.wait(5) == 130
    first, second = (json.loads(line) for line in watch.out.splitlines()[:2])
    assert first["time"] < second["time"]
    assert [node["name"] for node in second["nodes"]] == ["ash"]


def test_top_on_a_terminal_ends_with_q_and_leaves_it_as_it_was(scene: Scene) -> None:
    import pty
    import termios

    ours, theirs = pty.openpty()
    try:
        before = termios.tcgetattr(theirs)
        top = subprocess.Popen(
            [sys.executable, "-m", "dispycos", "top"],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=scene.user.folder,
            env={
                **scene.user.environment(),
                "TERM": "xterm",
                "NO_COLOR": "1",
                "COLUMNS": "80",
                "LINES": "24",
            },
            start_new_session=True,
        )
        try:
            shown = b""
            until = time.monotonic() + 20
            while b"simulate" not in shown and time.monotonic() < until:
                shown += os.read(ours, 65536)
            assert b"q quits" in shown and b"ash:" in shown and b"\x1b[31m" not in shown
            assert not termios.tcgetattr(theirs)[3] & termios.ICANON
            os.write(ours, b"q")
            assert top.wait(10) == 0
            assert termios.tcgetattr(theirs) == before
        finally:
            if top.poll() is None:
                top.kill()
                top.wait()
    finally:
        os.close(ours)
        os.close(theirs)


def test_cancel_of_what_is_not_there_is_exit_3(scene: Scene) -> None:
    command = scene.user.command("cancel", "--function", "nothing", "--state", "queued", "--yes")
    assert command.wait() == 3 and "no task of nothing is queued" in command.err


def test_cancel_asks_before_it_ends_several_and_then_says_how_many_were_told(scene: Scene) -> None:
    """The last one: it ends what the others look at."""
    asked = scene.user.command("cancel", "--function", "simulate")
    assert asked.wait() == 2
    assert "End 2 tasks of simulate (2 running)?" in asked.err and "give --yes" in asked.err
    assert scene.says("cancel", "--function", "simulate", "--yes") == "2 tasks were told to end\n"


def test_what_httpserver_recorded_is_served_again(scene: Scene) -> None:
    import urllib.request

    web = scene.user.command("web", "--replay", "run.rec", "--speed", "0")
    url, _, token = web.wait_line("http://").text.partition("/?token=")
    request = urllib.request.Request(f"{url}/api/v1/tasks", headers={"Authorization": f"Bearer {token}"})

    def states() -> list[str]:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return sorted(row["state"] for row in json.load(answer)["rows"])

    wait_until(lambda: states() == ["cancelled"] * 2 + ["done"] * 2 + ["failed"], 10, "the end of it")
    web.interrupt()
    assert web.wait(8) == 130


@pytest.mark.parametrize(
    "module", ["dispycos", "dispycos.cli.main", "dispycos.cli.node", "dispycos.cli.status"]
)
def test_what_only_monitors_need_is_not_imported_without_them(module: str) -> None:
    names = ("rich", "starlette", "uvicorn")
    code = f"import sys, {module}; print([name for name in {names} if name in sys.modules])"
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert told.stdout == "[]\n"

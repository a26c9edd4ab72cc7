"""What happens in a zygote before the first server: files, and a function that is run as a task is, in a loop of its own."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dispycos.actors.server import setup
from dispycos.actors.server.setup import Prepared, SetupFailed, call_in_loop, prepare, refuse_value
from dispycos.actors.shipping.mirror import Mirror
from dispycos.actors.shipping.words import CodeBundle, NodeSetup, Value
from dispycos.actors.tasks.ends import Raised, Returned
from dispycos.actors.tasks.step import Preparation
from tests.kit.shipping_mains import given_back


@pytest.fixture
def mirror(folder: Path) -> Iterator[Mirror]:
    with given_back():
        yield Mirror(node="rhea")


def prepared(files: dict[str, bytes], size_max: int = 0) -> Prepared:
    told = msgspec.msgpack.encode(Preparation("script.py", "rhea", size_max))
    frames = [msgspec.msgpack.encode(NodeSetup(CodeBundle(1), list(files))), *files.values()]
    with given_back():
        return prepare(told, frames, lambda request: b"")


# --- files


def test_files_lie_in_the_nodes_folder_with_their_folders_and_by_a_name_that_only_one_has(
    folder: Path,
) -> None:
    prepared({"data/a.csv": b"1", "x/same": b"2", "y/same": b"3", "empty": b""})
    texts = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert texts == {"data/a.csv": b"1", "a.csv": b"1", "x/same": b"2", "y/same": b"3", "empty": b""}


@pytest.mark.parametrize("name", ["../out", "/tmp/out", "x/../../out"])
def test_nothing_is_written_outside(folder: Path, name: str) -> None:
    with pytest.raises(SetupFailed, match="does not lie below the node's folder"):
        prepared({name: b"1"})


def test_a_file_over_the_limit_is_not_written_though_the_client_sent_it(folder: Path) -> None:
    with pytest.raises(
        SetupFailed, match="component big has 11 bytes, more than the 10 that this node takes"
    ):
        prepared({"big": bytes(11)}, 10)
    assert not list(folder.iterdir())


def test_a_file_that_cannot_be_written_is_named(folder: Path) -> None:
    (folder / "taken").mkdir()
    with pytest.raises(SetupFailed, match="component taken cannot be written: Is a directory"):
        prepared({"taken": b"1"})


def test_what_tasks_changed_stays_when_the_zygote_is_started_again(folder: Path) -> None:
    prepared({"data": b"1"})
    (folder / "data").write_bytes(b"changed")
    prepared({"data": b"1"})
    assert (folder / "data").read_bytes() == b"changed"


# --- the function


def plain(n: int) -> int:
    return n


def old(n: int, task: Any = None) -> Any:
    value = yield n
    yield task.sleep(0)
    yield asyncio.sleep(0)
    return (yield nested(value))


def nested(n: int) -> Any:
    yield
    return n


async def new(n: int, *, task: Any) -> int:
    await task.sleep(0)
    async with asyncio.TaskGroup() as group:
        made = group.create_task(asyncio.sleep(0, n))
    return made.result()


@pytest.mark.parametrize("function", [plain, old, new])
def test_it_may_be_of_each_kind_that_a_task_may_be(function: Any) -> None:
    assert call_in_loop(function, (5,), {}) == Returned(5)


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit("bye"), KeyboardInterrupt()])
def test_what_it_raises_is_how_it_ended(error: BaseException) -> None:
    def fails() -> None:
        raise error

    assert call_in_loop(fails, (), {}) == Raised(error)


def test_a_call_that_does_not_fit_is_how_it_ended() -> None:
    outcome = call_in_loop(plain, (), {})
    assert isinstance(outcome, Raised) and isinstance(outcome.error, TypeError)


def test_who_wants_to_talk_hears_that_there_is_no_network() -> None:
    async def talks(*, task: Any) -> None:
        await task.receive()

    outcome = call_in_loop(talks, (), {})
    assert isinstance(outcome, Raised) and "runs without network" in str(outcome.error)


@pytest.mark.parametrize("value", [0, None, False])
def test_nothing_and_zero_are_success(value: object) -> None:
    refuse_value("node_setup", value)


@pytest.mark.parametrize("value", [1, -1, "0", [], 0.0])
def test_all_else_is_none(value: object) -> None:
    with pytest.raises(SetupFailed, match="it returned"):
        refuse_value("node_setup", value)


def test_threads_that_are_left_are_named() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="the loader")
    thread.start()
    try:
        with pytest.raises(SetupFailed, match=r"left threads running \(.*the loader"):
            setup._refuse_threads()
    finally:
        stop.set()
        thread.join()


def test_where_there_is_no_fork_it_is_not_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[str] = []
    monkeypatch.setattr(setup, "run_node_setup", lambda mirror, name, call: ran.append(name))
    monkeypatch.setattr(setup, "_refuse_threads", lambda: None)  # other tests' are in this process
    told = msgspec.msgpack.encode(Preparation("script.py", "rhea", 0))
    frames = [msgspec.msgpack.encode(NodeSetup(CodeBundle(1), [], "load")), b"call"]
    for forks in (True, False):
        monkeypatch.setattr(setup, "FORKS", forks)
        with given_back():
            prepare(told, frames, lambda request: b"")
    assert ran == ["load"]


# --- globals


def value_of(name: str, data: bytes, digest: bytes) -> CodeBundle:
    return CodeBundle(1, steps=[Value(name, data, digest)], made_of=[(name, [digest])])


def test_what_a_setup_assigned_is_not_overwritten_by_what_the_client_has(mirror: Mirror) -> None:
    five, six = b"\x80\x05K\x05.", b"\x80\x05K\x06."
    mirror.install(value_of("table", five, b"1"))
    mirror.install(value_of("other", five, b"2"))
    main = vars(sys.modules["__main__"])
    with mirror.owning():
        main["table"] = "loaded"
        main["fresh"] = "made here"
    for name in ("table", "other", "fresh"):
        mirror.install(value_of(name, six, b"3" + name.encode()))
    assert (main["table"], main["other"], main["fresh"]) == ("loaded", 6, "made here")


def test_what_came_from_the_client_while_a_setup_ran_stays_the_clients(mirror: Mirror) -> None:
    with mirror.owning():
        mirror.install(value_of("late", b"\x80\x05K\x05.", b"1"))
    mirror.install(value_of("late", b"\x80\x05K\x06.", b"2"))
    assert vars(sys.modules["__main__"])["late"] == 6

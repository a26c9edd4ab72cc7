"""Where a task is now: what another thread reads of its step, and of what it awaits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator
from typing import Any, cast

import pytest

from dispycos import Task
from dispycos.actors.server.stacks import FRAMES_MAX, stack_of
from dispycos.actors.tasks.cell import Cell
from dispycos.actors.tasks.current import current_cell
from dispycos.protocol.watching import Frame
from tests.kit.local_tasks import play, until

pytestmark = [pytest.mark.timeout(60), pytest.mark.usefixtures("own_home")]

Told = tuple[list[Frame], str]


def look(cell: Cell) -> Told:
    return stack_of(cell, cell.host.interrupts)


def names(frames: list[Frame]) -> list[str]:
    return [frame.function.rpartition(".")[2] for frame in frames]


# --- suspended


def suspended(function: Callable[..., Any]) -> Told:
    """Of a local task that runs this, when it waits."""
    cells: list[Cell] = []
    told: list[Told] = []

    async def scene() -> None:
        cast(Any, current_cell()).host.adopt_subtasks()  # as in a server
        handle = Task(function, cells)
        await until(lambda: cells and cells[0].execution is not None)
        await asyncio.sleep(0.01)
        told.append(look(cells[0]))
        handle.terminate()
        await asyncio.wait([handle])

    play(scene)
    return told[0]


def note(cells: list[Cell]) -> None:
    cells.append(cast(Cell, current_cell()))


class Awaitable:
    def __await__(self) -> Generator[Any, None, None]:
        yield from asyncio.sleep(100).__await__()


async def items() -> AsyncIterator[int]:
    yield 1
    await asyncio.sleep(100)


async def awaits_object(cells: list[Cell]) -> None:
    note(cells)
    await Awaitable()


async def awaits_items(cells: list[Cell]) -> None:
    note(cells)
    async for _ in items():
        pass


async def awaits_task(cells: list[Cell]) -> None:
    note(cells)
    await asyncio.create_task(asyncio.sleep(100), name="sleeper")


async def awaits_handle(cells: list[Cell]) -> None:
    note(cells)
    await Task(sleeps)


async def sleeps(task: Any = None) -> None:
    await asyncio.sleep(100)


async def receives(cells: list[Cell], task: Any = None) -> None:
    note(cells)
    await task.receive()


def generates(cells: list[Cell], task: Any = None) -> Generator[Any, Any, None]:
    note(cells)
    yield generates_more(task)


def generates_more(task: Any) -> Generator[Any, Any, None]:
    yield from generates_last(task)


def generates_last(task: Any) -> Generator[Any, Any, None]:
    yield task.receive(5)


async def has_others(cells: list[Cell]) -> None:
    note(cells)
    others = [asyncio.create_task(asyncio.sleep(100)) for _ in range(2)]
    await asyncio.sleep(100)
    del others


@pytest.mark.parametrize(
    ("function", "frames", "text"),
    [
        (awaits_object, ["awaits_object", "__await__", "sleep"], ""),
        (awaits_items, ["awaits_items", "items", "sleep"], ""),
        (awaits_task, ["awaits_task"], "it waits for the asyncio Task sleeper"),
        (awaits_handle, ["awaits_handle"], "it waits for the task sleeps"),
        (receives, ["receives"], "it waits in receive()"),
        (generates, ["generates", "generates_more", "generates_last"], "it waits in receive()"),
        (has_others, ["has_others", "sleep"], "it has 2 asyncio Tasks beside"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_of_a_task_that_waits_the_chain_of_what_it_awaits(
    function: Callable[..., Any], frames: list[str], text: str
) -> None:
    found, said = suspended(function)
    assert names(found) == frames
    assert text in said if text else said == ""
    own = [frame for frame in found if frame.file == __file__]
    assert all(frame.code for frame in found) and own[0].function == function.__name__


def test_a_task_whose_call_is_not_there_has_no_frames() -> None:
    async def scene() -> None:
        host = cast(Cell, current_cell()).host
        cell = Cell(host, "fetched")
        assert look(cell) == ([], "its call, or code that it needs, is fetched from its client")
        cell.ended = True
        assert look(cell) == ([], "it has ended")

    play(scene)


# --- running


class Beside:
    """A thread that looks at the running task until it has seen what it waits for."""

    def __init__(self, is_enough: Callable[[Told], bool]) -> None:
        self.cell = cast(Cell, current_cell())
        self.told: list[Told] = []
        self.is_over = threading.Event()
        self.is_enough = is_enough
        threading.Thread(target=self._look, daemon=True).start()

    def _look(self) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            self.told.append(look(self.cell))
            if self.is_enough(self.told[-1]):
                break
        self.is_over.set()


def run(function: Callable[..., Any]) -> Beside:
    found: list[Beside] = []

    async def scene() -> None:
        found.append(await Task(function))

    play(scene)
    return found[0]


def test_of_a_function_that_computes_its_frames_from_the_users_own_inwards() -> None:
    def computes() -> Beside:
        return inner(Beside(lambda told: names(told[0])[-1:] == ["inner"]))

    def inner(beside: Beside) -> Beside:
        while not beside.is_over.is_set():
            sum(range(100))  # in Python
        return beside

    frames, text = run(computes).told[-1]
    assert names(frames) == ["computes", "inner"]
    assert frames[0].code.startswith("return inner(")
    assert frames[1].line > frames[0].line
    assert "C code" not in text


def test_a_function_that_computes_or_waits_in_c_code_is_said_to() -> None:
    def waits() -> Beside:
        beside = Beside(lambda told: "C code" in told[1] and names(told[0])[1] == "wait")
        beside.is_over.wait()  # in C
        return beside

    frames, text = run(waits).told[-1]
    assert names(frames)[:2] == ["waits", "wait"]
    assert text == "it is in C code, or in a system call, of its last line: only Python frames are shown"


def test_the_step_of_a_coroutine_and_of_its_asyncio_tasks() -> None:
    async def computes() -> Beside:
        return spin(Beside(lambda told: names(told[0])[-1:] == ["spin"]))

    def spin(beside: Beside) -> Beside:
        while not beside.is_over.is_set():
            sum(range(100))
        return beside

    frames, text = run(computes).told[-1]
    assert names(frames) == ["computes", "spin"]
    assert "asyncio" not in text

    async def lets_compute() -> Beside:
        cast(Any, current_cell()).host.adopt_subtasks()
        beside: Beside = await asyncio.create_task(computes())
        return beside

    frames, text = run(lets_compute).told[-1]
    assert names(frames) == ["computes", "spin"]
    assert "one of its asyncio Tasks runs" in text


def test_of_a_deep_recursion_the_ends_are_shown() -> None:
    def recurses(depth: int = 300) -> Beside:
        if depth:
            return recurses(depth - 1)
        beside = Beside(lambda told: "left out" in told[1] and names(told[0])[-1] == "recurses")
        while not beside.is_over.is_set():
            pass
        return beside

    frames, text = run(recurses).told[-1]
    assert len(frames) == FRAMES_MAX
    assert "left out" in text
    assert {*names(frames)[:50]} == {"recurses"}


def test_a_line_of_code_that_has_no_file_is_empty() -> None:
    space: dict[str, Any] = {}
    exec(compile("async def unfiled(note):\n    note()\n    await wait()\n", "<nowhere>", "exec"), space)

    async def wait() -> None:
        await asyncio.sleep(100)

    space["wait"] = wait

    async def filed(cells: list[Cell]) -> None:
        await space["unfiled"](lambda: note(cells))

    found, _ = suspended(filed)
    assert [(frame.function, frame.line, frame.code) for frame in found if frame.file == "<nowhere>"] == [
        ("unfiled", 3, "")
    ]

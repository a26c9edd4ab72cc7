"""Where a task of this process is now, read from another thread: the frames of its running step, or of what it awaits.

Frames are not held: while somebody has one, what its function has let go stays alive.
"""

from __future__ import annotations

import gc
import linecache
import sys
import threading
import time
from asyncio import Future
from asyncio import Task as AsyncioTask
from types import AsyncGeneratorType, CodeType, CoroutineType, FrameType, GeneratorType
from typing import Any, Final, NamedTuple

from dispycos.protocol.watching import Frame

from ..tasks.cell import Cell
from ..tasks.ends import is_ours
from ..tasks.running.execution import Execution
from ..tasks.running.interrupts import Interrupts
from ..tasks.running.subtasks import Subtask
from ..tasks.submitting import Task

FRAMES_MAX: Final = 100  # the outermost and the innermost
LOOKS: Final = 3  # until the main thread is said to be in C code
LOOK_S: Final = 0.005
CHAIN_MAX: Final = 10_000
BUILTINS: Final = ("builtins", "_asyncio")  # where awaitables are from that do not tell what they await


class Where(NamedTuple):
    """A frame, without what it holds."""

    code: CodeType
    line: int
    instruction: int
    names: dict[str, Any]  # of its module


def stack_of(cell: Cell, interrupts: Interrupts) -> tuple[list[Frame], str]:
    """The frames, the outermost first, and what else there is to say."""
    running = _running(cell, interrupts)
    execution = cell.execution
    if running is not None:
        frames, notes = running
    elif execution is not None:
        frames, notes = _suspended(execution.suspended())
    elif cell.ended:
        return [], "it has ended"
    else:
        return [], "its call, or code that it needs, is fetched from its client"
    tasks = cell.subtasks.count if cell.subtasks is not None else 0
    if tasks:
        notes.append(f"it has {tasks} asyncio Task{'s' * (tasks > 1)} beside")
    left_out = len(frames) - FRAMES_MAX
    if left_out > 0:
        half = FRAMES_MAX // 2
        frames = frames[:half] + frames[-half:]
        notes.append(f"{left_out:,} frames in the middle are left out")
    return [_told(where) for where in frames], "; ".join(notes)


def _told(where: Where) -> Frame:
    """With its line, if its file is here, or came with the code of the client."""
    file = where.code.co_filename
    linecache.lazycache(file, where.names)
    linecache.checkcache(file)
    return Frame(file, where.line, where.code.co_qualname, linecache.getline(file, where.line).strip())


# --- a step that runs


def _running(cell: Cell, interrupts: Interrupts) -> tuple[list[Where], list[str]] | None:
    """Of the main thread, if a step of this task runs there."""
    step = interrupts.running
    if not interrupts.is_running(cell):
        return None
    seen = _main_thread()
    if interrupts.running != step:
        return None
    notes = []
    if any(where.code is Subtask._step.__code__ for where in seen):
        notes.append("one of its asyncio Tasks runs")
    if _is_in_c(seen):
        notes.append("it is in C code, or in a system call, of its last line: only Python frames are shown")
    return _of_user(seen), notes


def _main_thread() -> list[Where]:
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    seen = []
    while frame is not None:
        seen.append(_where(frame))
        frame = frame.f_back
    return seen[::-1]


def _where(frame: FrameType) -> Where:
    return Where(frame.f_code, frame.f_lineno or 0, frame.f_lasti, frame.f_globals)


def _of_user(seen: list[Where]) -> list[Where]:
    """What is within the first of our frames that the loop has called, and not ours."""
    in_loop = False
    for number, where in enumerate(seen):
        if in_loop and is_ours(where.names):
            return [inner for inner in seen[number:] if not is_ours(inner.names)]
        in_loop = in_loop or str(where.names.get("__name__")).startswith("asyncio.")
    return []


def _is_in_c(seen: list[Where]) -> bool:
    """Whether the main thread computes or waits without the interpreter: whoever wakes has that at once, not after an interval."""
    patience = sys.getswitchinterval() / 2
    for _ in range(LOOKS):
        start = time.perf_counter()
        time.sleep(LOOK_S)
        if time.perf_counter() - start > LOOK_S + patience:
            return False
    return _main_thread() == seen


# --- one that is suspended


def frame_of(suspended: Any) -> FrameType | None:
    kind = type(suspended)
    if kind is CoroutineType:
        frame: FrameType | None = suspended.cr_frame
    elif kind is GeneratorType:
        frame = suspended.gi_frame
    else:
        frame = suspended.ag_frame if kind is AsyncGeneratorType else None
    return frame


def _awaited_by(suspended: Any) -> Any:
    kind = type(suspended)
    if kind is CoroutineType:
        return suspended.cr_await
    if kind is GeneratorType:
        return suspended.gi_yieldfrom
    if kind is AsyncGeneratorType:
        return suspended.ag_await
    if kind.__module__ not in BUILTINS or isinstance(suspended, Future):
        return None
    wanted = (CoroutineType, GeneratorType, AsyncGeneratorType, Future)
    return next((each for each in gc.get_referents(suspended) if isinstance(each, wanted)), None)


def _suspended(parts: list[Any]) -> tuple[list[Where], list[str]]:
    """`parts`: each is within the one before. Up to where the user's code waits in a function of ours."""
    frames: list[Where] = []
    awaited: Any = None
    for part in parts:
        awaited = part
        for _ in range(CHAIN_MAX):
            frame = frame_of(awaited)
            if frame is not None and not is_ours(frame.f_globals):
                frames.append(_where(frame))
            elif frame is not None and frame.f_code is not Execution._resume.__code__:
                return frames, [f"it waits in {frame.f_code.co_name}()"]
            inner = _awaited_by(awaited)
            if inner is None:
                break
            awaited = inner
    if isinstance(awaited, Task):
        return frames, [f"it waits for the task {awaited.name}"]
    if isinstance(awaited, AsyncioTask):
        return frames, [f"it waits for the asyncio Task {awaited.get_name()}"]
    return frames, []

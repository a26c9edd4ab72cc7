"""What happens on a node before its first server: component files, the program's code, and node_setup.

It happens in the zygote, from which all servers are forked: what node_setup loads is in memory once, however many they are.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from dispycos.protocol.envelope import Buffer, Payload

from ..shipping.imports import write_file
from ..shipping.mirror import Mirror
from ..shipping.words import CodeBundle, CodeRequest, MissingCode, NodeSetup
from ..tasks.calling import with_task
from ..tasks.ends import Outcome, Raised, raised, without_our_frames
from ..tasks.running.execution import Execution
from ..tasks.running.interrupts import Interrupts
from ..tasks.step import Preparation
from .code import loads_call

THREADS: Final = Path("/proc/self/task")  # where Linux lists those of this process
# Else servers share nothing with the process in which it would run (spec 6.4: Windows).
FORKS: Final = hasattr(os, "fork")

_setups = msgspec.msgpack.Decoder(NodeSetup)
_bundles = msgspec.msgpack.Decoder(CodeBundle)
_encoder = msgspec.msgpack.Encoder()


class SetupFailed(Exception):
    """In words for the person at the client."""


class Prepared:
    """What servers inherit from their zygote: the mirror of the client's `__main__`, as node_setup left it."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror


def prepare(argument: bytes, frames: Sequence[Buffer], ask: Callable[[bytes], bytes]) -> Prepared:
    """Entry point in a zygote, in the folder of its lease: `frames` are those of SetupGiven, `ask` gets code from the client.

    Raises
    ------
    SetupFailed: in words.
    """
    told = msgspec.msgpack.decode(argument, type=Preparation)
    setup = _setups.decode(frames[0])
    for name, data in zip(setup.files, frames[1:], strict=False):
        _write(name, data, told.max_file_size)
    _link_names(setup.files)

    def pull(request: CodeRequest) -> CodeBundle:
        return _bundles.decode(ask(_encoder.encode(request)))

    mirror = Mirror(pull, told.node_name, told.client_name, Path.cwd() / "package-data")
    mirror.hold(setup.bundle)
    if setup.function and FORKS:
        run_node_setup(mirror, setup.function, list(frames[1 + len(setup.files) :]))
        _refuse_threads()
        gc.collect()
        gc.freeze()  # a collection in a server would unshare the pages of all that was loaded
    return Prepared(mirror)


def _write(name: str, data: Buffer, size_max: int) -> None:
    if os.path.isabs(name) or ".." in name.split("/"):
        raise SetupFailed(f"component {name} does not lie below the node's folder")
    if 0 < size_max < len(data):
        raise SetupFailed(
            f"component {name} has {len(data):,} bytes, more than the {size_max:,} that this node takes"
        )
    path = Path.cwd() / name
    if path.is_file():  # of the zygote before this one: tasks may have changed it
        return
    try:
        write_file(path, data)
    except OSError as error:
        raise SetupFailed(f"component {name} cannot be written: {error.strerror}") from error


def _link_names(files: Sequence[str]) -> None:
    """A name that only one file has is enough to find it: ``../table.csv`` for ``data/table.csv``."""
    taken = Counter(name.rpartition("/")[2] for name in files)
    for name in files:
        last = name.rpartition("/")[2]
        if last != name and taken[last] == 1 and not os.path.lexists(last):
            os.link(name, last)


# --- node_setup


class SetupTask:
    """What node_setup gets as `task`: here is no network, so nobody can be talked to."""

    name = "node_setup"
    location = None
    position = 0  # as interrupts.Owner

    @property
    def handle(self) -> SetupTask:
        return self

    async def sleep(self, seconds: float, alarm_value: Any = None) -> Any:
        await asyncio.sleep(seconds)
        return alarm_value

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"node_setup runs without network: its task has sleep(), but no {name!r}")


def run_node_setup(mirror: Mirror, function: str, call: Payload) -> None:
    """What it assigns to globals is the node's own from now on, whatever the client has of that name."""
    try:
        outcome = mirror.within(_run, mirror, function, call)
    except Exception as error:  # the user's code, in all its forms
        outcome = Raised(error)
    if isinstance(outcome, Raised):
        raise setup_failed("node_setup", outcome.error)
    refuse_value("node_setup", outcome.value)


def refuse_value(what: str, value: object) -> None:
    """A setup that gives anything but 0 or nothing has failed (spec 6.4)."""
    if value is not None and not (isinstance(value, int) and value == 0):
        raise SetupFailed(f"{what} failed: it returned {value!r}, and 0 or None would be success")


def setup_failed(what: str, error: BaseException) -> SetupFailed:
    text = "".join(traceback.format_exception(without_our_frames(error))).rstrip()
    return SetupFailed(f"{what} failed: {text}")


def _run(mirror: Mirror, name: str, payload: Payload) -> Outcome:
    function, args, kwargs = load_call_here(mirror, name, payload)
    with mirror.owning():
        return call_in_loop(function, args, kwargs)


def load_call_here(
    mirror: Mirror, name: str, payload: Payload
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """Gets what it misses at once."""
    while True:
        try:
            return loads_call(mirror, name, payload)
        except MissingCode as missing:
            mirror.get(missing.request)


def call_in_loop(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Outcome:
    """As a task of a server is run, in a loop of its own that ends with it."""
    task = SetupTask()
    outcomes: list[Outcome] = []

    async def run() -> None:
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def on_done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            done.set_result(None)

        given, named = with_task(function, args, kwargs, task)
        execution = Execution(task, loop, Interrupts(), contextvars.copy_context(), on_done)
        # It begins outside of any asyncio Task.
        loop.call_soon(execution.start, function, given, named)
        await done

    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        try:
            runner.run(run())
        except TypeError as error:
            return raised(error)
    return outcomes[0]


def _refuse_threads() -> None:
    """A fork copies one thread: a lock that another one holds would stay locked in every server."""
    names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if not names and THREADS.is_dir():
        others = [task for task in os.listdir(THREADS) if int(task) != os.getpid()]
        for task in others:
            with suppress(OSError):
                names.append((THREADS / task / "comm").read_text().strip())
    if names:
        raise SetupFailed(
            f"node_setup left threads running ({', '.join(names)}): servers are forked from its process, and a fork copies one "
            "thread only. End them before it returns, or start them in server_setup"
        )

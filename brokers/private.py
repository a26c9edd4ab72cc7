"""The private scheduler as its client has it: one child process, `python -m dispycos private`, that ends with its client.

It may be started ahead: while the program makes its imports the child makes its own, and asks the network who is there.
The child is told by lines of JSON on its standard input: where to ask, at once, and later what to do. It answers by such lines on
its standard output; the end of its input is its end. What runs in it is put together in cli/private.py. This file imports little.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import Future
from contextlib import suppress
from typing import Any

from dispycos.config import SECRET_VARIABLE
from dispycos.errors import ScheduleError
from dispycos.living import is_server, wants_tasks_here
from dispycos.transport.folders import find_folders

LINE_MAX = 1 << 20
START_MAX = 30.0  # seconds until a child that says nothing is given up
END_MAX = 5.0  # seconds until a child that was told to end is killed


class PrivateProcess:
    """The child and its lines."""

    def __init__(self, orders: dict[str, Any] | None = None, scheduler_id: str = "") -> None:
        """Without orders it only makes its imports, until it gets them. `scheduler_id`: what nodes know the one by whose place
        it takes."""
        self.id = scheduler_id or os.urandom(8).hex()
        environment = dict(os.environ)
        self._secret = environment.pop(SECRET_VARIABLE, None)  # others can read the environment
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dispycos", "private"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # the terminal's Ctrl-C is the client's business
        )
        self.orders: dict[str, Any] = {}
        self.has_orders = False
        self._tell({"ip_addr": (orders or {}).get("ip_addr", [])})
        if orders is not None:
            self.give(orders)
        self._reader: asyncio.StreamReader | None = None
        self._transport: asyncio.ReadTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reaped: Future[None] | None = None  # once it was told to end: done when it has

    def give(self, orders: dict[str, Any]) -> None:
        """What it is to do. Once."""
        self.orders, self.has_orders = orders, True
        if self._secret and not orders.get(
            "secret_file"
        ):  # the file that the client names is the stronger one
            orders = {**orders, "secret": self._secret}
        self._tell({**orders, "id": self.id})

    def _tell(self, words: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, which its lines will tell
            self._process.stdin.write(json.dumps(words).encode() + b"\n")
            self._process.stdin.flush()

    @property
    def pid(self) -> int:
        return self._process.pid

    async def next_line(self, timeout: float = START_MAX) -> dict[str, Any]:
        """What the child says next. Raises ScheduleError when it ended or is silent."""
        if self._reader is None:
            self._reader = asyncio.StreamReader(limit=LINE_MAX)
            protocol = asyncio.StreamReaderProtocol(self._reader)
            self._loop = asyncio.get_running_loop()
            self._transport, _ = await self._loop.connect_read_pipe(lambda: protocol, self._process.stdout)
        try:
            async with asyncio.timeout(timeout):
                line = await self._reader.readline()
        except TimeoutError:
            raise ScheduleError(
                f"the private scheduler (pid {self.pid}) said nothing for {timeout:g} s"
            ) from None
        if not line:
            code = await self.wait()
            how = (
                f"was killed by {signal.Signals(-code).name} ({-code})"
                if code < 0
                else (f"ended with exit code {code}; its last words are above")
            )
            raise ScheduleError(f"the private scheduler (pid {self.pid}) {how}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ScheduleError(answer["error"])
        return answer

    @property
    def was_killed(self) -> bool:
        """By a signal. Nobody killed one that ended in order, or could not go on."""
        code = self._process.poll()
        return code is not None and code < 0

    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def wait(self) -> int:
        """Its exit code, when it has ended."""
        return await asyncio.to_thread(self._process.wait)

    def end(self, patience: float = END_MAX) -> None:
        """End of input: it closes its servers and goes; killed after `patience` seconds. Does not wait, and needs no loop."""
        if self._reaped is not None:
            return
        self._end_input()
        self._reaped = Future()
        threading.Thread(
            target=self._reap, args=(patience, self._reaped), name="dispycos-reaper", daemon=True
        ).start()

    def in_child(self) -> None:
        """In a forked child: one that lives longer than its parent must not keep this process alive."""
        self._end_input()

    def _end_input(self) -> None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, and what it was told last is still in the buffer
            self._process.stdin.close()

    def _reap(self, patience: float, reaped: Future[None]) -> None:
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._close_output()  # not before: its last words would fail there, with a traceback
        reaped.set_result(None)

    def _close_output(self) -> None:
        assert self._process.stdout is not None
        try:
            if self._transport is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(self._transport.close)
                return
        except RuntimeError:  # the loop is closed
            pass
        self._process.stdout.close()

    async def close(self, patience: float = END_MAX) -> None:
        """End it and wait; though the waiting be cancelled, it ends, and holds up nobody: a thread of the loop's would be waited
        for by the interpreter."""
        self.end(patience)
        assert self._reaped is not None
        await asyncio.shield(asyncio.wrap_future(self._reaped))


class Waiting:
    """The child that was started and not yet taken by a client: the one of this process."""

    child: PrivateProcess | None = None

    @classmethod
    def take(cls) -> PrivateProcess | None:
        """For the client that schedules now. One that has ended is none."""
        child, cls.child = cls.child, None
        if child is not None and not child.is_alive():
            child.end()
            return None
        return child

    @classmethod
    def start_ahead(cls) -> None:
        """If one will be needed, as far as that can be told: not in a server, nor for tasks of this process, nor where a
        scheduler of this host is registered."""
        if cls.child is None and not (is_server() or wants_tasks_here() or _is_somebody_registered()):
            cls.child = PrivateProcess()

    @classmethod
    def end_ahead(cls) -> None:
        """The program's main has ended, and no client took it."""
        if cls.child is not None and not cls.child.has_orders:
            cls.child.end()
            cls.child = None

    @classmethod
    def in_child(cls) -> None:
        """In a forked child: it must not keep the parent's alive."""
        if cls.child is not None:
            cls.child.in_child()
            cls.child = None


def _is_somebody_registered() -> bool:
    with suppress(OSError), os.scandir(find_folders().registry) as entries:
        return any(entry.name.endswith(".json") for entry in entries)
    return False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Waiting.in_child)

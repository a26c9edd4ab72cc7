"""Starts the private scheduler: one child process, `python -m dispycos private`, that ends with its client.

The child is told what to do by one line of JSON on its standard input and answers by lines of JSON on its standard output;
the end of its input is its end. What runs in it is put together in cli/private.py.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from dispycos.config import Failure, PrivateSettings
from dispycos.errors import ScheduleError
from dispycos.living import refuse_in_server
from dispycos.private_options import private_settings, texts_of
from dispycos.protocol.status import Status
from dispycos.transport.addresses import find_addresses
from dispycos.transport.secret import SECRET_VARIABLE

LINE_MAX = 1 << 20
START_MAX = 30.0  # seconds until a child that says nothing is given up
END_MAX = 5.0  # seconds until a child that was told to end is killed


class PrivateProcess:
    """The child and its lines."""

    def __init__(self, orders: dict[str, Any], scheduler_id: str = "") -> None:
        """`scheduler_id`: what nodes know the scheduler by whose place it takes."""
        self.orders = orders
        self.id = scheduler_id or secrets.token_hex(8)
        told, environment = _told(orders, os.environ)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dispycos", "private"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            start_new_session=True,  # the terminal's Ctrl-C is the client's business
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({**told, "id": self.id}).encode() + b"\n")
        self._process.stdin.flush()
        self._reader: asyncio.StreamReader | None = None
        self._transport: asyncio.ReadTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reaped: Future[None] | None = None  # once it was told to end: done when it has

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
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._reaped = Future()
        threading.Thread(
            target=self._reap, args=(patience, self._reaped), name="dispycos-reaper", daemon=True
        ).start()

    def in_child(self) -> None:
        """In a forked child: one that lives longer than its parent must not keep this process alive."""
        assert self._process.stdin is not None
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


def _told(orders: dict[str, Any], own: Mapping[str, str]) -> tuple[dict[str, Any], dict[str, str]]:
    """What the child is told, and its environment: others can read that, so the secret is not in it."""
    environment = dict(own)
    secret = environment.pop(SECRET_VARIABLE, None)
    if secret and not orders.get("secret_file"):  # the file that the client names is the stronger one
        orders = {**orders, "secret": secret}
    return orders, environment


class Scheduler:
    """A private scheduler for the Client that schedules next (spec 6.3.1); its child process starts at once.

    There is no need to keep the object.

    Parameters
    ----------
    nodes: names, addresses, ``"host:port"`` of nodes to use beside those that are found.
    ip_addr: the only addresses of this host to use, mDNS included. ext_ip_addr: those by which others reach it.
    name, cpus, dest_path, max_file_size, min_pulse_interval, max_pulse_interval: as options of `dispycos node`, for the node
        that is started here where none is found.
    secret_file: file that holds the cluster's secret; the Client needs the same. debug: say more.

    Raises
    ------
    TypeError: there is no such option; the text lists those there are. ValueError: its value is of no use.
    """

    NodeDiscovered = Status.NodeDiscovered
    NodeInitialized = Status.NodeInitialized
    NodeClosed = Status.NodeClosed
    NodeDisconnected = Status.NodeDisconnected
    NodeAbandoned = Status.NodeAbandoned
    ServerDiscovered = Status.ServerDiscovered
    ServerInitialized = Status.ServerInitialized
    ServerClosed = Status.ServerClosed
    ServerAbandoned = Status.ServerAbandoned
    TaskCreated = Status.TaskCreated
    TaskStarted = Status.TaskCreated
    TaskAbandoned = Status.TaskAbandoned
    TaskTerminated = Status.TaskTerminated
    ClientClosed = Status.ClientClosed

    _waiting: PrivateProcess | None = None  # started by Scheduler(), not yet taken by a client

    def __init__(self, **options: Any) -> None:
        refuse_in_server("a Scheduler")
        orders = {**texts_of(options), "always": True}
        try:
            settings = private_settings(PrivateSettings(), texts_of(options))
            find_addresses(settings.ip_addr, settings.ext_ip_addr)
        except Failure as failure:
            raise ValueError(f"Scheduler(): {failure}") from None
        waiting = Scheduler._waiting
        if waiting is not None and waiting.is_alive():
            if waiting.orders == orders:
                return
            waiting.end()  # what was said last counts
        Scheduler._waiting = PrivateProcess(orders)

    @classmethod
    def take(cls) -> PrivateProcess | None:
        """The process that Scheduler() started, for the client that schedules now."""
        process, cls._waiting = cls._waiting, None
        return process

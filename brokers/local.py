"""Starts the private scheduler: one child process, `python -m dispycos private`, that ends with its client.

The child is told what to do by one line of JSON on its standard input and answers by lines of JSON on its standard output;
the end of its input is its end. What runs in it is put together in cli/private.py.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

from dispycos.config import Failure, PrivateSettings, private_settings, texts_of
from dispycos.errors import ScheduleError
from dispycos.protocol.status import Status
from dispycos.transport.addresses import find_addresses

LINE_MAX = 1 << 20
START_MAX = 30.0  # seconds until a child that says nothing is given up


class PrivateProcess:
    """The child and its lines."""

    def __init__(self, orders: dict[str, Any]) -> None:
        self.orders = orders
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "dispycos", "private"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # the terminal's Ctrl-C is the client's business
        )
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(orders).encode() + b"\n")
        self._process.stdin.flush()
        self._reader: asyncio.StreamReader | None = None
        self._transport: asyncio.ReadTransport | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    async def next_line(self, timeout: float = START_MAX) -> dict[str, Any]:
        """What the child says next. Raises ScheduleError when it ended or is silent."""
        if self._reader is None:
            self._reader = asyncio.StreamReader(limit=LINE_MAX)
            protocol = asyncio.StreamReaderProtocol(self._reader)
            loop = asyncio.get_running_loop()
            self._transport, _ = await loop.connect_read_pipe(lambda: protocol, self._process.stdout)
        try:
            async with asyncio.timeout(timeout):
                line = await self._reader.readline()
        except TimeoutError:
            raise ScheduleError(
                f"the private scheduler (pid {self.pid}) said nothing for {timeout:g} s"
            ) from None
        if not line:
            code = await self.wait()
            raise ScheduleError(
                f"the private scheduler (pid {self.pid}) ended with exit code {code}; its last words are above"
            )
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise ScheduleError(answer["error"])
        return answer

    def is_alive(self) -> bool:
        return self._process.poll() is None

    async def wait(self) -> int:
        """Its exit code, when it has ended."""
        return await asyncio.to_thread(self._process.wait)

    def end(self) -> None:
        """End of input: it closes its servers and goes. Does not wait."""
        assert self._process.stdin is not None
        if not self._process.stdin.closed:
            self._process.stdin.close()

    async def close(self, patience: float = 5.0) -> None:
        """End it and wait; killed after `patience` seconds."""
        self.end()
        ended = asyncio.ensure_future(self.wait())
        await asyncio.wait([ended], timeout=patience)
        if not ended.done():
            self._process.kill()
            await ended
        if self._transport is not None:
            self._transport.close()
        elif self._process.stdout is not None:
            self._process.stdout.close()


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

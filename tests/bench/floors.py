"""The least that a round trip between two processes costs with pyzmq: DEALER here, ROUTER in another process, no more.

`python -m tests.bench.floors` is that other process: it reads how to listen from standard input and ends with it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from types import TracebackType

import zmq

PATIENCE_MS = 5000


class Echo:
    """A process that sends back what it gets, over ipc, tcp, or tcp with CURVE.

    The keys last as long as this measurement and guard nothing.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def __enter__(self) -> Echo:
        self._folder = tempfile.TemporaryDirectory()
        public, secret = (key.decode() for key in zmq.curve_keypair()) if self.kind == "CURVE" else ("", "")
        orders = {
            "endpoint": f"ipc://{self._folder.name}/e" if self.kind == "ipc" else "tcp://127.0.0.1:*",
            "secret": secret,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.floors"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(orders) + "\n")
        self._process.stdin.flush()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.rcvtimeo = PATIENCE_MS
        if public:
            self._socket.curve_publickey, self._socket.curve_secretkey = zmq.curve_keypair()
            self._socket.curve_serverkey = public.encode()
        self._socket.connect(self._process.stdout.readline().strip())
        return self

    async def durations(self, count: int) -> list[float]:
        """Of so many round trips, one after the other."""
        socket, took = self._socket, []
        for _ in range(count):
            start = time.perf_counter()
            socket.send(b"x" * 100)
            socket.recv()
            took.append(time.perf_counter() - start)
        return took

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close(0)
        self._context.term()
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._folder.cleanup()


def main() -> None:
    orders = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_input, daemon=True).start()
    socket = zmq.Context().socket(zmq.ROUTER)
    socket.linger = 0
    if orders["secret"]:
        socket.curve_server = True
        socket.curve_secretkey = orders["secret"].encode()
    socket.bind(orders["endpoint"])
    print(socket.getsockopt_string(zmq.LAST_ENDPOINT).rstrip("\0"), flush=True)
    while True:
        socket.send_multipart(socket.recv_multipart())


def _end_with_input() -> None:
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()

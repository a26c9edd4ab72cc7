"""The client's half for the tests of code shipping: starts a server process and calls functions there."""

import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

from msgspec import msgpack

from dispycos.actors.shipping.pickling import dumps_call, loads
from dispycos.actors.shipping.snapshot import Snapshot
from dispycos.actors.shipping.words import CodeRequest
from dispycos.protocol.envelope import buffers_of

ANSWER_TIMEOUT = 20.0


class RemoteFailure(Exception):
    def __init__(self, kind: str, text: str, trace: str) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.text, self.trace = kind, text, trace


class Remote:
    def __init__(self, snapshot: Snapshot | None = None, node: str = "node1") -> None:
        self.snapshot = snapshot or Snapshot.of_main()
        self.pipe, theirs = Pipe()
        server = str(Path(__file__).with_name("shipping_server.py"))
        self.process = subprocess.Popen(
            [sys.executable, server, str(theirs.fileno()), node], pass_fds=[theirs.fileno()], cwd="/"
        )
        theirs.close()
        self.pulls: list[CodeRequest] = []
        self.install()  # every server asks for its client's components first

    def __enter__(self) -> "Remote":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.pipe.send(("stop",))
            self.process.wait(10)
        except (OSError, subprocess.TimeoutExpired):
            self.process.kill()
            self.process.wait()
        self.pipe.close()

    def install(self, *things: Any) -> None:
        bundle = self.snapshot.answer(self.snapshot.request_for(things))
        self.pipe.send(("install", msgpack.encode(bundle)))
        self._result()

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        payload = dumps_call(function, args, kwargs)
        frames = [bytes(buffer) for buffer in buffers_of(payload)]
        self.pipe.send(("call", self.snapshot.version(), frames))
        return self._result()

    def _result(self) -> Any:
        while True:
            assert self.pipe.poll(ANSWER_TIMEOUT), "the server does not answer"
            kind, *rest = self.pipe.recv()
            if kind == "pull":
                request = msgpack.decode(rest[0], type=CodeRequest)
                self.pulls.append(request)
                self.pipe.send(("bundle", msgpack.encode(self.snapshot.answer(request))))
            elif kind == "error":
                raise RemoteFailure(*rest[:3])
            else:
                return loads(rest[0])

"""A server process for the tests of code shipping: a Mirror behind a pipe, without the runtime."""

import os
import sys
import tempfile
import traceback
from contextvars import copy_context
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

ROOT = str(Path(__file__).parents[2])


def serve(pipe: Connection, node: str) -> None:
    from msgspec import msgpack

    from dispycos.actors.shipping.mirror import Mirror
    from dispycos.actors.shipping.pickling import dumps
    from dispycos.actors.shipping.words import CodeBundle, CodeRequest, MissingCode, ShippingError

    pulls: list[CodeRequest] = []

    def pull(request: CodeRequest) -> CodeBundle:
        pulls.append(request)
        if len(pulls) > 200:
            raise ShippingError("an endless pull")
        pipe.send(("pull", msgpack.encode(request)))
        return msgpack.decode(pipe.recv()[1], type=CodeBundle)

    mirror = Mirror(pull, node=node, client="client", folder=Path(tempfile.mkdtemp()))

    def load(payload: Any) -> Any:
        while True:
            try:
                return mirror.within(mirror.loads, payload)
            except MissingCode as missing:
                mirror.install(pull(missing.request))

    while True:
        kind, *rest = pipe.recv()
        if kind == "stop":
            return
        try:
            if kind == "install":
                mirror.install(msgpack.decode(rest[0], type=CodeBundle))
                pipe.send(("result", dumps(None)))
                continue
            version, payload = rest
            if mirror.version and mirror.version < version:
                mirror.install(pull(mirror.request()))
            function, args, kwargs = copy_context().run(load, payload)  # in one of an asyncio Task
            pipe.send(("result", dumps(mirror.context().run(partial(function, *args, **kwargs)))))
        except Exception as error:  # edge of user code
            pipe.send(("error", type(error).__name__, str(error), traceback.format_exc(), len(pulls)))


if __name__ == "__main__":
    sys.path[0] = ROOT
    serve(Connection(int(sys.argv[1])), sys.argv[2])
    os._exit(0)

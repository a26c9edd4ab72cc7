"""Pickling in a server: the client's `__main__` is mirrored here, and what is missed is pulled from that client, and only it."""

from __future__ import annotations

import select
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from dispycos.config import Failure
from dispycos.errors import RemoteError, TaskRefused
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import TaskId

from ..shipping.imports import write_file
from ..shipping.mirror import Mirror
from ..shipping.pickling import dumps, dumps_call
from ..shipping.words import CodeBundle, CodeRequest, Components, MissingCode

if TYPE_CHECKING:
    from ..tasks.host import TaskHost

_encoder = msgspec.msgpack.Encoder()
_bundles = msgspec.msgpack.Decoder(CodeBundle)
_components = msgspec.msgpack.Decoder(Components)


class ServerPayloads:
    """results.Payloads for a server process."""

    def __init__(self, client: int, client_name: str, node_name: str, max_file_size: int = 0) -> None:
        self._max_file_size = max_file_size
        self.client = Address(client, CLIENT)
        self.client_name = client_name
        self._shared = Path.cwd().parent  # by the servers of this node
        self.mirror = Mirror(self._pull, node_name, client_name, self._shared / "package-data")
        self.host: TaskHost  # the body's, which is made with this
        self.first_number = 0  # below those of the tasks that are submitted here

    # --- values ---

    dumps = staticmethod(dumps)
    dumps_call = staticmethod(dumps_call)

    def loads(self, payload: Payload) -> Any:
        return self.mirror.loads(payload)

    def loads_call(self, name: str, payload: Payload) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """(function, args, kwargs); to be called within the mirror's context."""
        function, args, kwargs = self.loads(payload)
        if function is None:  # the global of that name, made now if it is not there
            main = vars(self.mirror.main)
            function = main[name] if name in main else self.loads(_reference(name))
        return function, args, kwargs

    def version(self) -> int:
        return 0  # what a server knows it has from the client

    # --- code ---

    def is_behind(self, version: int) -> bool:
        return 0 < self.mirror.version < version

    async def catch_up(self, version: int) -> None:
        await self._get(self.mirror.request())

    async def fetch(self, missing: MissingCode) -> None:
        await self._get(missing.request)

    async def get_components(self) -> Components:
        """What Client(components) named: code, and files for the folder above the servers' own; these are put in place."""
        answer = await self._ask(None)
        self.first_number = answer.message.first
        components = _components.decode(single(answer.payload))
        for file in components.files:
            if 0 < self._max_file_size < len(file.data):
                raise Failure(
                    f"component {file.name} has {len(file.data)} bytes, more than this node takes",
                    f"start the node with --max_file_size {len(file.data)} or more",
                )
            write_file(self._shared / file.name, file.data)
        if components.at_once:
            self.mirror.install(components.bundle)
        else:
            self.mirror.hold(components.bundle)
        return components

    async def get_call(self, task: TaskId) -> Payload:
        answer = await self.host.call(self.client, messages.CallWanted(task), None, None)
        if answer is None or answer.message.error:
            raise TaskRefused(
                f"its call cannot be had from {self.client_name}: {answer.message.error if answer else 'it is gone'}"
            )
        return answer.payload

    async def _get(self, request: CodeRequest) -> None:
        answer = await self._ask(_encoder.encode(request))
        self.mirror.install(_bundles.decode(single(answer.payload)))

    async def _ask(self, payload: Payload) -> Envelope:
        """Without a bound: the client may be stopped, and its death would be told."""
        answer = await self.host.call(self.client, messages.CodeWanted(), payload, None)
        if answer is None:
            raise RemoteError(f"{self.client_name} is gone")
        if answer.message.error:
            raise RemoteError(answer.message.error)
        return answer

    def _pull(self, request: CodeRequest) -> CodeBundle:
        """An import of a running step waits for this: the step pumps the mailbox itself."""
        answers: list[Envelope | None] = []
        host, runtime = self.host, self.host.runtime
        came = threading.Event()

        def on_answer(answer: Envelope | None) -> None:
            answers.append(answer)
            came.set()

        with host.shield:
            with runtime.lock:
                correlation = host.expect(self.client.epoch, on_answer, at_once=True)
                wanted = _encoder.encode(request)
                runtime.send(Envelope(self.client, host.address, messages.CodeWanted(), correlation, wanted))
                runtime.push()
            self._pump(came)
        if not answers or answers[0] is None:
            raise ImportError(f"{', '.join(request.modules or request.names)}: {self.client_name} is gone")
        if answers[0].message.error:
            raise ImportError(answers[0].message.error)
        return _bundles.decode(single(answers[0].payload))

    def _pump(self, came: threading.Event) -> None:
        runtime = self.host.runtime
        if not runtime.is_own_thread():
            came.wait()
            return
        poller = select.poll()
        for descriptor in runtime.descriptors():
            poller.register(descriptor, select.POLLIN)
        while not came.is_set():
            runtime.turn_elsewhere()
            if not came.is_set():
                poller.poll(20)


def _reference(name: str) -> bytes:
    """A pickle of this global of `__main__`."""
    text = name.encode()
    return b"\x80\x05X\x08\0\0\0__main__X%b%b\x93." % (len(text).to_bytes(4, "little"), text)


def single(payload: Payload) -> bytes:
    """Words travel as one buffer."""
    if isinstance(payload, list):
        return bytes(payload[0])
    return bytes(payload or b"")

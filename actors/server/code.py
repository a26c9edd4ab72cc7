"""Pickling in a server: the client's `__main__` is mirrored here, and what is missed is pulled from that client, and only it."""

from __future__ import annotations

import select
import threading
from typing import TYPE_CHECKING, Any

import msgspec

from dispycos.errors import RemoteError, TaskRefused
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, Address
from dispycos.protocol.envelope import Envelope, Payload, buffers_of
from dispycos.protocol.messages import TaskId

from ..shipping.mirror import Mirror
from ..shipping.pickling import dumps, dumps_call
from ..shipping.words import CodeBundle, CodeRequest, MissingCode, ServerSetup
from ..tasks.passing import opened

if TYPE_CHECKING:
    from ..tasks.host import TaskHost

_encoder = msgspec.msgpack.Encoder()
_bundles = msgspec.msgpack.Decoder(CodeBundle)
_setups = msgspec.msgpack.Decoder(ServerSetup)


class ServerPayloads:
    """results.Payloads for a server process."""

    def __init__(self, client: int, client_name: str, mirror: Mirror) -> None:
        self.client = Address(client, CLIENT)
        self.client_name = client_name
        self.mirror = mirror
        mirror.pull = self._pull
        self.host: TaskHost  # the body's, which is made with this
        self.first_number = 0  # below those of the tasks that are submitted here

    # --- values ---

    dumps = staticmethod(dumps)
    dumps_call = staticmethod(dumps_call)

    def loads(self, payload: Payload) -> Any:
        return self.mirror.loads(payload)

    def loads_call(self, name: str, payload: Payload) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
        """(function, args, kwargs); to be called within the mirror's context."""
        return loads_call(self.mirror, name, payload)

    def version(self) -> int:
        return 0  # what a server knows it has from the client

    # --- code ---

    def is_behind(self, version: int) -> bool:
        return 0 < self.mirror.version < version

    async def catch_up(self, version: int) -> None:
        await self._get(self.mirror.request())

    async def fetch(self, missing: MissingCode) -> None:
        await self._get(missing.request)

    async def get_setup(self, wanted: messages.SetupWanted) -> tuple[ServerSetup, Payload]:
        """What has changed since the node was given the program, and how tasks are to run; and the call of server_setup.

        It comes when the client lets this server be used.
        """
        answer = await self._ask(wanted, _encoder.encode(self.mirror.request()))
        self.first_number = answer.message.first
        head, *call = buffers_of(answer.payload)
        setup = _setups.decode(head)
        if setup.at_once:
            self.mirror.install(setup.bundle)
        else:
            self.mirror.hold(setup.bundle)
        return setup, call

    async def get_call(self, task: TaskId) -> Payload:
        answer = await self.host.call(self.client, messages.CallWanted(task), None, None)
        if answer is None or answer.message.error:
            raise TaskRefused(
                f"its call cannot be had from {self.client_name}: {answer.message.error if answer else 'it is gone'}"
            )
        return answer.payload

    async def _get(self, request: CodeRequest) -> None:
        answer = await self._ask(messages.CodeWanted(), _encoder.encode(request))
        self.mirror.install(_bundles.decode(single(answer.payload)))

    async def _ask(self, question: messages.Message, payload: Payload) -> Envelope:
        """Without a bound: the client may be stopped, and its death would be told."""
        answer = await self.host.call(self.client, question, payload, None)
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


def loads_call(mirror: Mirror, name: str, payload: Payload) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """(function, args, kwargs); to be called within the mirror's context. Raises MissingCode."""
    function, args, kwargs = opened(mirror.loads, payload)
    if function is None:  # the global of that name, made now if it is not there
        main = vars(mirror.main)
        function = main[name] if name in main else mirror.loads(_reference(name))
    return function, args, kwargs


def _reference(name: str) -> bytes:
    """A pickle of this global of `__main__`."""
    text = name.encode()
    return b"\x80\x05X\x08\0\0\0__main__X%b%b\x93." % (len(text).to_bytes(4, "little"), text)


def single(payload: Payload) -> bytes:
    """Words travel as one buffer."""
    if isinstance(payload, list):
        return bytes(payload[0])
    return bytes(payload or b"")

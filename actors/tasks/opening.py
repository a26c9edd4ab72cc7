"""Values that come: bytes are unpickled here, after the code that they miss has been fetched."""

from __future__ import annotations

import asyncio
from typing import Any, Protocol

from dispycos.errors import DispycosError, RemoteError, TaskTerminated
from dispycos.protocol.envelope import Envelope, Payload

from ..shipping.words import MissingCode
from .ends import Outcome, Raised
from .handle import CANCELLED, Task
from .results import unpack_outcome


class Payloads(Protocol):
    """How values become bytes and back, and where code comes from; clients and servers differ in it."""

    def dumps(self, value: Any, what: str) -> Payload: ...
    def loads(self, payload: Payload) -> Any:
        """Raises MissingCode when `fetch` has to come first."""

    def version(self) -> int:
        """main_version to be said with what is sent."""

    def is_behind(self, version: int) -> bool: ...
    async def catch_up(self, version: int) -> None: ...
    async def fetch(self, missing: MissingCode) -> None: ...


async def open_value(payloads: Payloads, envelope: Envelope) -> tuple[bool, Any]:
    """(True, the value) or (False, the exception to raise); gets missing code first."""
    code = envelope.message.code
    if payloads.is_behind(code):
        await payloads.catch_up(code)
    while True:
        try:
            return True, payloads.loads(envelope.payload)
        except MissingCode as missing:
            await payloads.fetch(missing)
        except Exception as error:  # the user's own __setstate__ or __init__ may raise anything
            return False, error


async def open_outcome(
    payloads: Payloads,
    kind: int,
    text: str,
    payload: Payload,
    name: str,
    where: object = None,
    *,
    started: bool = True,
) -> Any:
    """The value of a task, or its exception raised; gets missing code first."""
    while True:
        try:
            return unpack_outcome(payloads, kind, text, started, payload, name, where)
        except MissingCode as missing:
            await payloads.fetch(missing)


def settle(handle: Task, outcome: Outcome) -> None:
    """Complete a handle. A KeyboardInterrupt becomes TaskTerminated: as itself it would end the loop."""
    if not isinstance(outcome, Raised):
        handle._complete(outcome.value, None)
        return
    error = outcome.error
    if isinstance(error, KeyboardInterrupt):
        error = TaskTerminated("the task was terminated")
    elif isinstance(error, asyncio.CancelledError):
        error = RemoteError(f"{handle.name} raised CancelledError: {error}", CANCELLED)
    elif not isinstance(error, Exception) or isinstance(error, StopIteration):
        error = DispycosError(f"{type(error).__name__}: {error}")
    handle._complete(None, error)

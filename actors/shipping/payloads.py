"""How values become payloads, at both ends, and what a new server is given."""

from __future__ import annotations

import pickle
import sys
from types import FunctionType
from typing import Any

import msgspec

from dispycos.protocol.codec import TRANSFER_MAX
from dispycos.protocol.envelope import Buffer, Payload, buffers_of, size_of

from . import pickling
from .words import CodeBundle

COPIED_MAX = 1 << 20  # bytes of a call up to which its buffers are copied when it is submitted


class NodeSetup(msgspec.Struct, array_like=True, frozen=True):
    """What a node is given for a lease: behind it follow the data of the files, then the pickled call of node_setup."""

    bundle: CodeBundle  # of the named code; and what the program is, which a server has to know before its first call
    files: list[str]  # paths below the node's folder
    function: str = ""  # name of node_setup; "": there is none


class ServerSetup(msgspec.Struct, array_like=True, frozen=True):
    """What a new server is given beside that: behind it follows the pickled call of server_setup."""

    bundle: CodeBundle  # what has changed since its node was given its own
    at_once: bool  # code was named, so it is made before the first call comes
    levels: bytes  # what the client's loggers let pass (logs.py)
    program_folder: bytes  # where the client runs, as the file system has it
    cwd: bytes  # the folder in which tasks are to run; b"": the server's own
    function: str = ""  # name of server_setup; "": there is none


def dumps_value(value: Any, what: str) -> Payload:
    return _plain(pickling.dumps(value, what), what)


def dumps_call(
    function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, by_name: bool = False
) -> Payload:
    return _plain(pickling.dumps_call(function, args, kwargs, by_name=by_name), "the call")


def is_found_by_name(function: Any, name: str) -> bool:
    """Whether servers find it without its pickle: a global of `__main__`, which pickle would refer to by this name."""
    if type(function) is not FunctionType or function.__module__ != "__main__":
        return False
    return function.__qualname__ == name and vars(sys.modules["__main__"]).get(name) is function


def _plain(pickled: pickling.Payload, what: str) -> Payload:
    """Out-of-band buffers as the mailbox takes them."""
    payload: Payload = pickled if isinstance(pickled, bytes) else [_raw(part) for part in pickled]
    size = len(payload) if isinstance(payload, bytes) else sum(map(size_of, buffers_of(payload)))
    if size > TRANSFER_MAX:
        raise ValueError(f"{what} has {size:,} bytes; a message takes at most {TRANSFER_MAX:,}")
    return payload


def kept_as_it_is(call: Payload, *, whole: bool) -> Payload:
    """A call that may be sent again is to be the same then: its buffers are copied, large ones only if `whole`."""
    if call is None or isinstance(call, bytes):
        return call
    buffers = buffers_of(call)
    is_large = sum(map(size_of, buffers)) > COPIED_MAX
    return call if is_large and not whole else [bytes(buffer) for buffer in buffers]


def _raw(part: pickling.Frame) -> Buffer:
    return part.raw() if isinstance(part, pickle.PickleBuffer) else part


def as_payload(payload: Payload) -> Any:
    """What came, as pickling wants it."""
    return b"" if payload is None else payload


def loads_plain(payload: Payload) -> Any:
    if isinstance(payload, list):
        return pickling.loads(payload[0], payload[1:])
    return pickling.loads(payload or b"")

"""How values become payloads, at both ends; what Client(components) names; and the client's answers to servers' pulls."""

from __future__ import annotations

import inspect
import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from dispycos.config import parse_place
from dispycos.errors import RemoteError
from dispycos.protocol.envelope import Buffer, Payload
from dispycos.transport.addresses import is_numeric

from .shipping import pickling
from .shipping.snapshot import Snapshot
from .shipping.words import CodeBundle, CodeRequest, MissingCode
from .task import Location

PLACE_REMEDY = "; the place of a scheduler belongs into schedule(), those of nodes into Client(nodes=[...])"

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(CodeRequest)


class FileComponent(msgspec.Struct, array_like=True, frozen=True):
    """A file named in components."""

    name: str
    data: bytes


class Components(msgspec.Struct, array_like=True, frozen=True):
    """What a new server is given."""

    bundle: CodeBundle | None
    files: list[FileComponent]


def dumps_value(value: Any, what: str) -> Payload:
    return _plain(pickling.dumps(value, what))


def dumps_call(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
    return _plain(pickling.dumps_call(function, args, kwargs))


def _plain(payload: pickling.Payload) -> Payload:
    """Out-of-band buffers as the mailbox takes them."""
    if isinstance(payload, bytes):
        return payload
    buffers: list[Buffer] = []
    for part in payload:
        buffers.append(part.raw() if isinstance(part, pickle.PickleBuffer) else part)
    return buffers


def as_payload(payload: Payload) -> Any:
    """What came, as pickling wants it."""
    return b"" if payload is None else payload


def loads_plain(payload: Payload) -> Any:
    if isinstance(payload, list):
        return pickle.loads(payload[0], buffers=payload[1:])
    return pickle.loads(payload or b"")


class ClientParcels:
    """opening.Parcels for a client: everything is here already, and servers pull from here.

    Raises
    ------
    TypeError: a component is neither function, class, module nor path. FileNotFoundError: a path leads nowhere.
    ValueError: two files have one name.
    """

    def __init__(self, components: Iterable[Any] = ()) -> None:
        self.snapshot = Snapshot.of_main()
        self._code: list[Any] = []
        self._files: list[Path] = []
        if isinstance(components, str | os.PathLike | Location) or not isinstance(components, Iterable):
            components = [components]
        for number, component in enumerate(components):
            self._add(number, component)

    def _add(self, number: int, component: Any) -> None:
        if isinstance(component, str | os.PathLike):
            self._add_file(number, Path(component))
        elif isinstance(component, ModuleType) or inspect.isroutine(component) or inspect.isclass(component):
            self._code.append(component)
        else:
            raise TypeError(
                f"components[{number}] must be a function, a class, a module or the path of a file, not {type(component).__name__}"
                + (PLACE_REMEDY if isinstance(component, Location) else "")
            )

    def _add_file(self, number: int, path: Path) -> None:
        if not path.is_file():
            remedy = PLACE_REMEDY if _is_place(str(path)) else ""
            raise FileNotFoundError(f"components[{number}]: no such file: {path} (in {Path.cwd()}){remedy}")
        for other in self._files:
            if other.samefile(path):
                return
            if other.name == path.name:
                raise ValueError(
                    f"components[{number}]: {path} and {other} have one name, and servers find files by it: rename one"
                )
        self._files.append(path)

    # --- values ---

    def dumps(self, value: Any, what: str) -> Payload:
        return dumps_value(value, what)

    def dumps_call(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        return dumps_call(function, args, kwargs)

    def loads(self, payload: Payload) -> Any:
        return loads_plain(payload)

    def version(self) -> int:
        return self.snapshot.version()

    def is_behind(self, version: int) -> bool:
        return False

    async def catch_up(self, version: int) -> None:
        """Nobody knows this program's code better than it does."""

    async def fetch(self, missing: MissingCode) -> None:
        raise RemoteError(f"not here: {missing.request}")

    # --- answers to servers ---

    def answer(self, request: Payload) -> tuple[str, Payload]:
        """(error, encoded answer): a CodeBundle, or Components when the request is empty."""
        try:
            if request is None:
                return "", _encoder.encode(self.components())
            return "", _encoder.encode(
                self.snapshot.answer(
                    _requests.decode(request if not isinstance(request, list) else request[0])
                )
            )
        except (
            Exception
        ) as error:  # a value's own __reduce__ may fail in any way; the server's task gets the words
            return f"{type(error).__name__}: {error}", None

    def components(self) -> Components:
        bundle = None
        if self._code:
            bundle = self.snapshot.answer(self.snapshot.request_for(self._code))
        return Components(bundle, [FileComponent(path.name, path.read_bytes()) for path in self._files])


def _is_place(text: str) -> bool:
    """Whether a missing file looks like a host."""
    try:
        place = parse_place(text)
    except ValueError:
        return False
    return place.port is not None or is_numeric(place.host) or place.host == "localhost"

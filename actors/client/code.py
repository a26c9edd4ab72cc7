"""The code that a client has: what Client(components) names, and what its servers ask for."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import msgspec

from dispycos.config import parse_place
from dispycos.errors import RemoteError
from dispycos.protocol.addresses import Location
from dispycos.protocol.envelope import Payload
from dispycos.transport.addresses import is_numeric

from ..shipping.pickling import dumps, dumps_call, loads
from ..shipping.snapshot import Snapshot
from ..shipping.words import CodeBundle, CodeRequest, Components, FileComponent, MissingCode
from ..tasks.logs import levels_here

PLACE_REMEDY = "; the place of a scheduler belongs into schedule(), those of nodes into Client(nodes=[...])"

_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(CodeRequest)


def _encoded(answer: Components | CodeBundle) -> bytes:
    try:
        return _encoder.encode(answer)
    except UnicodeEncodeError:  # a folder's name may be any bytes; at a server it is a name for people
        return _encoder.encode(_printable(msgspec.to_builtins(answer, builtin_types=(bytes,))))


def _printable(thing: Any) -> Any:
    if isinstance(thing, str):
        return thing.encode(errors="backslashreplace").decode()
    return [_printable(part) for part in thing] if isinstance(thing, list | tuple) else thing


class ClientPayloads:
    """results.Payloads for a client: everything is here already, and servers pull from here.

    Raises
    ------
    TypeError: a component is neither function, class, module nor path. FileNotFoundError: a path leads nowhere.
    ValueError: two files have one name. What folder_of raises: `cwd` is no folder.
    """

    def __init__(self, components: Iterable[Any] = (), cwd: str | os.PathLike[str] | None = None) -> None:
        self._cwd = "" if cwd is None else folder_of(cwd)
        self._program_folder = _present_folder()
        self.snapshot = Snapshot.of_main()
        self.version = self.snapshot.version
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
        if path.is_dir():
            raise IsADirectoryError(f"components[{number}]: {path} is a folder: name its files")
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

    dumps = staticmethod(dumps)
    loads = staticmethod(loads)

    def dumps_call(self, function: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Payload:
        """A function that servers find by its name does not travel."""
        return dumps_call(function, args, kwargs, by_name=is_found_by_name(function, name))

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
                return "", _encoded(self.components())
            single = request if not isinstance(request, list) else request[0]
            return "", _encoded(self.snapshot.answer(_requests.decode(single)))
        except Exception as error:  # a value's own __reduce__ may fail in any way: the task gets the words
            return f"{type(error).__name__}: {error}", None

    def components(self) -> Components:
        bundle = self.snapshot.answer(self.snapshot.request_for(self._code))
        files = [FileComponent(path.name, path.read_bytes()) for path in self._files]
        return Components(
            bundle, files, bool(self._code), levels_here(), self._program_folder, os.fsencode(self._cwd)
        )


def is_found_by_name(function: Any, name: str) -> bool:
    """Whether servers find it without its pickle: a global of `__main__`, which pickle would refer to by this name."""
    if type(function) is not FunctionType or function.__module__ != "__main__":
        return False
    return function.__qualname__ == name and vars(sys.modules["__main__"]).get(name) is function


def _present_folder() -> bytes:
    try:
        return os.getcwdb()
    except FileNotFoundError:  # somebody removed it
        return b""


def folder_of(cwd: str | os.PathLike[str]) -> str:
    """The absolute path of this folder, which must be there."""
    path = os.fspath(cwd) if isinstance(cwd, str | os.PathLike) else None
    if not isinstance(path, str):
        raise TypeError(f"cwd must be the path of a folder (str or PathLike), not {type(cwd).__name__}")
    if not path:
        raise ValueError("cwd is an empty string; leave it out, or name a folder")
    path = os.path.abspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(f"cwd: no such folder: {path}")
    if not os.path.isdir(path):
        raise NotADirectoryError(f"cwd: {path} is not a folder")
    return path


def _is_place(text: str) -> bool:
    """Whether a missing file looks like a host."""
    try:
        place = parse_place(text)
    except ValueError:
        return False
    return place.port is not None or is_numeric(place.host) or place.host == "localhost"

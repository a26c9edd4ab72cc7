"""The code that a client has: what Client(components) names, and what its servers ask for."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePath
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

import msgspec

from dispycos.errors import RemoteError
from dispycos.protocol.addresses import Location
from dispycos.protocol.envelope import Buffer, Payload, buffers_of
from dispycos.transport.addresses import is_numeric
from dispycos.values import parse_place

from ..shipping.pickling import dumps, dumps_call, kept_as_it_is, loads
from ..shipping.snapshot import Snapshot
from ..shipping.words import CodeBundle, CodeRequest, MissingCode, NodeSetup, ServerSetup
from ..tasks.calling import name_of
from ..tasks.logs import levels_here

PLACE_REMEDY = "; the place of a scheduler belongs into schedule(), those of nodes into Client(nodes=[...])"


class SetupCall(NamedTuple):
    """node_setup or server_setup, with its arguments."""

    function: Any
    name: str
    payload: Payload


_encoder = msgspec.msgpack.Encoder()
_requests = msgspec.msgpack.Decoder(CodeRequest)


def _encoded(answer: NodeSetup | ServerSetup | CodeBundle) -> bytes:
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
        self._named: list[tuple[int, Path]] = []  # components that are files, and where they were named
        self._cwd = "" if cwd is None else folder_of(cwd)
        self._program_folder = _present_folder()
        self.snapshot = Snapshot.of_main()
        self.version = self.snapshot.version
        self._code: list[Any] = []
        self._files: dict[str, Path] = {}  # by their paths below the nodes' folders
        if isinstance(components, str | os.PathLike | Location) or not isinstance(components, Iterable):
            components = [components]
        for number, component in enumerate(components):
            self._add(number, component)

    def _add(self, number: int, component: Any) -> None:
        if isinstance(component, str | os.PathLike):
            self._add_file(number, Path(component))
            self._named.append((number, Path(component).absolute()))
        elif isinstance(component, ModuleType) or inspect.isroutine(component) or inspect.isclass(component):
            self._code.append(component)
        else:
            raise TypeError(
                f"components[{number}] must be a function, a class, a module or the path of a file, not {type(component).__name__}"
                + (PLACE_REMEDY if isinstance(component, Location) else "")
            )

    def look_for_files(self) -> None:
        """Servers get them from now on. Raises FileNotFoundError: one has gone since it was named."""
        for number, path in self._named:
            if not path.is_file():
                raise FileNotFoundError(
                    f"components[{number}]: {path} was there when the Client was made, and is gone"
                )

    def _add_file(self, number: int, path: Path) -> None:
        if path.is_dir():
            raise IsADirectoryError(f"components[{number}]: {path} is a folder: name its files")
        if not path.is_file():
            remedy = PLACE_REMEDY if _is_place(str(path)) else ""
            raise FileNotFoundError(f"components[{number}]: no such file: {path} (in {Path.cwd()}){remedy}")
        name = _path_below(path)
        if name in self._files and not self._files[name].samefile(path):
            raise ValueError(
                f"components[{number}]: {path} and {self._files[name]} would both be {name} at a node: name one of them "
                "by a relative path, whose folders are kept"
            )
        self._files[name] = path.absolute()  # the program may change its folder

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
        """(error, encoded CodeBundle)."""
        return _told(lambda: _encoded(self.snapshot.answer(_requests.decode(_whole(request)))))

    def node_setup(self, call: SetupCall | None, max_file_size: int) -> tuple[str, Payload]:
        """(error, what a node is given that takes files up to so many bytes, 0: any)."""
        return _told(partial(self._node_setup, call, max_file_size))

    def _node_setup(self, call: SetupCall | None, max_file_size: int) -> Payload:
        for name, path in self._files.items():
            size = path.stat().st_size
            if 0 < max_file_size < size:
                raise ValueError(
                    f"component {name} has {size:,} bytes, more than the {max_file_size:,} that this node takes; "
                    f"start it with --max_file_size {size} or more"
                )
        wanted = [*self._code, call.function] if call is not None else self._code
        bundle = self.snapshot.answer(self.snapshot.request_for(wanted))
        setup = NodeSetup(bundle, list(self._files), call.name if call is not None else "")
        return [_encoded(setup), *(path.read_bytes() for path in self._files.values()), *_frames_of(call)]

    def server_setup(self, call: SetupCall | None, request: Payload) -> tuple[str, Payload]:
        """(error, what a server is given that has what it says in its request)."""
        return _told(partial(self._server_setup, call, request))

    def _server_setup(self, call: SetupCall | None, request: Payload) -> Payload:
        setup = ServerSetup(
            self.snapshot.answer(_requests.decode(_whole(request))),
            bool(self._code),
            levels_here(),
            self._program_folder,
            os.fsencode(self._cwd),
            call.name if call is not None else "",
        )
        return [_encoded(setup), *_frames_of(call)]

    def setup_call(self, function: Any, args: tuple[Any, ...]) -> SetupCall:
        """Raises NotPicklable."""
        name = name_of(function)
        return SetupCall(function, name, kept_as_it_is(self.dumps_call(function, name, args, {}), whole=True))


def _told(make: Callable[[], Payload]) -> tuple[str, Payload]:
    try:
        return "", make()
    except Exception as error:  # a value's own __reduce__ may fail in any way; who asked gets the words
        return f"{type(error).__name__}: {error}", None


def _whole(request: Payload) -> Any:
    return request[0] if isinstance(request, list) else request


def _frames_of(call: SetupCall | None) -> list[Buffer]:
    return list(buffers_of(call.payload)) if call is not None else []


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


def _path_below(path: Path) -> str:
    """Where a file lies at a node: relative folders are kept; else, and above the program's folder, its name is all."""
    parts = PurePath(os.path.normpath(path)).parts
    return path.name if path.is_absolute() or ".." in parts else "/".join(parts)


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

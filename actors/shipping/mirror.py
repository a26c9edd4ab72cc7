"""The server's side: a `__main__` that mirrors the client's, filled with what loads turn out to need.

A load that touches a name or module which is not here raises MissingCode, from within pickle, which looks it up as anybody
would; the caller sends the request to the client, installs the answer and loads again. A running step waits for the answer,
in the `pull` that the host gave.
"""

import errno
import linecache
import marshal
import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from importlib.machinery import ModuleSpec
from pathlib import Path
from threading import RLock, get_ident
from types import CodeType, FrameType, ModuleType
from typing import Any

from msgspec.structs import replace

from .imports import ClientFinder, ClientFolder, SourceLoader
from .modules import NEVER_LOCAL, OWN_PACKAGE, is_standard
from .pickling import Payload
from .pickling import loads as loads_here
from .program import MirrorModule
from .words import (
    CodeBundle,
    CodeRequest,
    CodeUnavailable,
    InstallFailed,
    MainInfo,
    MissingCode,
    ModuleSource,
    PackageData,
    ShippingError,
    Statement,
    Value,
)

LINES_MAX = 1_000_000
FOREIGN = ("functools", "importlib", "pkgutil", "runpy")  # importlib.resources dispatches by functools

Pull = Callable[[CodeRequest], CodeBundle]


def loads(payload: Payload, mirror: "Mirror | None" = None) -> Any:
    """Without a mirror (at the client) what is missing is an error, never a pull."""
    if isinstance(payload, list):
        stream, buffers = bytes(payload[0]), payload[1:]
        return loads_here(stream, buffers) if mirror is None else mirror.load(stream, buffers)
    return loads_here(payload) if mirror is None else mirror.load(payload)


class Mirror:
    """One a process: it replaces `__main__` and hooks imports; close() takes both back. Package data go into `folder`."""

    def __init__(
        self,
        pull: Pull | None = None,
        node: str = "this node",
        client: str = "the client",
        folder: Path = Path("package-data"),
    ) -> None:
        self.main = MirrorModule(self._require, self._attribute)
        self.version = 0
        self._pull, self._node, self._client = pull, node, client
        self._lock = RLock()
        self._loading: list[int] = []  # threads in load() or settle()
        self._steps: list[Statement | Value | ModuleSource] = []  # received, not yet made
        self._made_of: dict[str, list[bytes]] = {}
        self._modules: dict[str, ModuleSource] = {}
        self._folder = folder
        self._data: dict[tuple[str, str], PackageData] = {}
        self._refused: dict[str, str] = {}  # name, or module with a dot after it: why
        self._absent: set[str] = set()
        self._versions: dict[str, str] = {}
        self._local_names: frozenset[str] = frozenset()
        self._lines: dict[str, list[str]] = {}
        self._settings: set[bytes] = set()  # statements that define nothing, carried out
        self._lacking: set[str] = set()  # names that they need, of modules that are not installed here
        self._context = copy_context()  # where the client's code is made
        self._within = False
        self._failed = ""  # how one of them did: what runs here would not be what was meant
        self._replaced = sys.modules["__main__"], sys.argv
        # The client's local modules win over installed ones of that name; what nobody has is looked for there, too.
        self._finders = ClientFinder(self, self.source_of), ClientFinder(self, self.last_source_of)
        sys.modules["__main__"] = self.main
        sys.meta_path.insert(0, self._finders[0])
        sys.meta_path.append(self._finders[1])

    def close(self) -> None:
        for finder in self._finders:
            sys.meta_path.remove(finder)
        for name in self._modules:
            if _loader_of(sys.modules.get(name)) is not None:
                del sys.modules[name]
        for path, cached in list(sys.path_importer_cache.items()):
            if isinstance(cached, ClientFolder):
                del sys.path_importer_cache[path]
        sys.modules["__main__"], sys.argv = self._replaced

    # What the host calls.

    def load(self, stream: bytes, buffers: Sequence[Any] = ()) -> Any:
        if self._steps:
            self.settle()
        if self._failed:
            raise InstallFailed(self._failed)
        self._loading.append(get_ident())
        try:
            return loads_here(stream, buffers)
        finally:
            self._loading.remove(get_ident())

    def request(
        self, names: Sequence[str] = (), modules: Sequence[str] = (), data: Sequence[tuple[str, str]] = ()
    ) -> CodeRequest:
        """Asks for these; without any, for what changed since the version that is here."""
        with self._lock:
            for name in names:  # asked for although it was made: it was deleted here
                self._forget(self._made_of.pop(name, []))
            have = {digest for digests in self._made_of.values() for digest in digests}
            have |= {module.hash for module in self._modules.values()}
            return CodeRequest(sorted(names), sorted(modules), sorted(have), self.version, list(data))

    def within(self, function: Callable[..., Any], *args: Any) -> Any:
        """Calls what makes the client's code: it may set variables of the context that later calls find."""
        if self._within:
            return function(*args)
        self._within = True
        try:
            return self._context.run(function, *args)
        finally:
            self._within = False

    def context(self) -> Context:
        """A copy of the one that the client's code left when it was made."""
        return self._context.copy()

    def hold(self, bundle: CodeBundle) -> None:
        """Takes it; the first load makes it."""
        with self._lock:
            self._accept(bundle)

    def install(self, bundle: CodeBundle) -> None:
        """Raises InstallFailed when the client's code does; what its imports miss, the next load asks for."""
        with self._lock:
            self._accept(bundle)
            try:
                self.settle()
            except MissingCode:
                pass  # the next load asks again

    def explain(self, error: BaseException) -> None:
        """Notes on a file that was looked for by `__file__`, which leads to the client's folders, how else it can be had."""
        name = error.filename if isinstance(error, FileNotFoundError) else None
        if not isinstance(name, str):
            return
        paths = {module.path: module.name for module in self._modules.values() if module.path}
        paths |= {getattr(self.main, "__file__", ""): "__main__"}
        for path, module in paths.items():
            if path and name.startswith(os.path.dirname(path) + os.sep):
                known = self._modules.get(module)
                package = module if known is not None and known.package else module.rpartition(".")[0]
                how = (
                    f"importlib.resources.files({package!r}) reads it there"
                    if package
                    else "named in Client(components=...) it comes into the folder above that of the task"
                )
                error.add_note(
                    f"{os.path.dirname(path)} is a folder of the client's host, this is {self._node}: {how}"
                )
                return

    def settle(self) -> None:
        """Makes what was received; MissingCode leaves the rest for the next time, an error drops it."""
        with self._lock, self._loading_here():
            while self._steps:
                try:
                    self.within(self._make, self._steps[0])
                except Exception as error:
                    failed = [step.hash for step in self._steps]
                    self._steps.clear()
                    self._forget(failed)
                    raise self._install_failed(error) from error
                self._steps.pop(0)

    # What comes from the client.

    def _accept(self, bundle: CodeBundle) -> None:
        if bundle.main is not None:
            self._become(bundle.main)
        if self.version == 0 or 0 < bundle.since <= self.version:
            if bundle.main_version > self.version:  # what was refused may be sent now
                self._refused = {name: text for name, text in self._refused.items() if name.endswith(".")}
            self.version = max(self.version, bundle.main_version)
        self._versions.update(bundle.versions)
        self._take_away(bundle.absent)
        here = {digest for digests in self._made_of.values() for digest in digests}
        for name, digests in bundle.made_of:
            self._made_of[name] = list(digests)
            self._refused.pop(name, None)
        for module in bundle.modules:
            self._accept_module(module)
        for data in bundle.data:
            self._accept_data(data)
        bound: set[str] = set()
        for step in bundle.steps:
            names = _names_of(step)
            is_here = step.hash in here or (
                step.hash in self._settings and not names
            )  # two answers may bring the same
            if not is_here or (isinstance(step, Value) and step.name in bound):
                bound.update(names)
                self._steps.append(step)
        self._refused.update(bundle.errors)
        for name, _ in bundle.errors:
            if self._made_of.pop(name, None) is not None:
                vars(self.main).pop(name, None)  # an older one is not what the client means now

    def _accept_module(self, module: ModuleSource) -> None:
        known = self._modules.get(module.name)
        self._modules[module.name] = module
        self._refused.pop(module.name + ".", None)
        live = sys.modules.get(module.name)
        if live is None or module.source is None:
            return
        if known is not None and _loader_of(live) is not None:
            self._steps.append(module)  # reloaded at the client
            self._data = {key: data for key, data in self._data.items() if key[0] != module.name}
        elif not is_standard(module.name) and module.name.split(".")[0] not in NEVER_LOCAL:
            del sys.modules[module.name]  # the client's wins over the installed one

    def _accept_data(self, data: PackageData) -> None:
        if data.data is not None:
            write_file(self.data_file(data.module, data.path), data.data)
        self._data[data.module, data.path] = replace(data, data=b"" if data.data is not None else None)

    def _take_away(self, absent: Sequence[str]) -> None:
        for name in absent:
            self._absent.add(name)
            if self._made_of.pop(name, None) is not None:
                vars(self.main).pop(name, None)

    def _become(self, info: MainInfo) -> None:
        self._local_names = frozenset(info.local_names) - NEVER_LOCAL
        if info.file is not None:
            self.main.__file__ = info.file
        self.main.__package__ = info.package
        if info.spec_name is not None:
            self.main.__spec__ = ModuleSpec(info.spec_name, None, origin=info.file)
        sys.argv = [word.decode(errors="surrogatepass") for word in info.argv]

    # Making it.

    def _make(self, step: Statement | Value | ModuleSource) -> None:
        if isinstance(step, ModuleSource):
            if (loader := _loader_of(sys.modules.get(step.name))) is not None:
                loader.reload(step)
        elif isinstance(step, Statement):
            self._remember_lines(step)
            code = marshal.loads(step.code)
            if step.setting:
                self._carry_out(step, code)
            else:
                exec(code, vars(self.main))
            self._absent.difference_update(step.names)
            for name in set(step.names) - vars(self.main).keys():  # an `if` may take another way here
                self._refused[name] = (
                    f"the statement that defines {name} at {self._client} did not on {self._node}"
                )
        else:
            self._set(step)

    def _carry_out(self, step: Statement, code: CodeType) -> None:
        """In a module that is not installed here nothing is to be set; code that needs it will miss it."""
        try:
            exec(code, vars(self.main))
        except Exception as error:
            self._forget([step.hash])
            if isinstance(error, ImportError) and step.names:
                self._lacking.update(step.names)
            elif not (isinstance(error, NameError) and error.name in self._lacking):
                self._failed = self._failed or str(self._install_failed(error))
        self._settings.add(step.hash)

    def _set(self, value: Value) -> None:
        thing = pickle.loads(value.data)
        self._absent.discard(value.name)
        container = vars(self.main).get(value.name)
        if value.contents and isinstance(container, dict | list | set) and type(container) is type(thing):
            _pour(thing, container)
        else:
            setattr(self.main, value.name, thing)

    def _coming(self) -> set[str]:
        return {name for step in self._steps[1:] for name in _names_of(step)}

    def _forget(self, digests: list[bytes]) -> None:
        """What was not made is not here: it will be asked for again, and fail again, where it is used."""
        gone = set(digests)
        for name in [name for name, made_of in self._made_of.items() if gone & set(made_of)]:
            del self._made_of[name]

    def _install_failed(self, error: Exception) -> ShippingError:
        if isinstance(error, ShippingError):
            return error
        where = ""
        trace = error.__traceback__
        while trace is not None:
            if trace.tb_frame.f_globals is vars(self.main):
                where = f" at {trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}"
            trace = trace.tb_next
        return InstallFailed(
            f"the client's code failed on {self._node}{where}: {type(error).__name__}: {error}"
        )

    def _remember_lines(self, statement: Statement) -> None:
        """Tracebacks show the statement; the lines between statements that were not sent stay empty."""
        new = statement.source.splitlines(keepends=True)
        last = statement.first_line - 1 + len(new)
        if last > LINES_MAX:
            return
        lines = self._lines.setdefault(statement.file, [])
        lines += ["\n"] * (last - len(lines))
        lines[statement.first_line - 1 : last] = new
        linecache.cache[statement.file] = (sum(map(len, lines)), None, lines, statement.file)

    # What is missing.

    def _require(self, needed: tuple[str, ...]) -> None:
        """A function that travels by value looks these up when it is called."""
        known = vars(self.main).keys() | self._absent | self._coming()
        unknown = [name for name in needed if name not in known]
        for name in unknown:
            if name in self._refused:
                raise CodeUnavailable(self._refused[name])
        if unknown:
            self._get(self.request(unknown))

    def _attribute(self, name: str) -> None:
        """A load, a step that unpickles by itself, or `from __main__ import name`."""
        if name.startswith("__") or name in self._coming():
            return
        if get_ident() in self._loading:
            if why := self._why_gone(name):
                raise CodeUnavailable(why)
        elif self._pull is None or not self.version or self._why_gone(name):
            return
        self._get(self.request([name]))

    def _why_gone(self, name: str) -> str:
        """Of a name that was asked for before and is not here; to ask again would never end."""
        if name in self._absent:
            return f"{self._client} has no {name} in its __main__"
        return self._refused.get(name, "")

    def _get(self, request: CodeRequest) -> None:
        """A load is given up and repeated; a step waits."""
        if get_ident() in self._loading or self._pull is None:
            raise MissingCode(request)
        self.install(self._pull(request))

    def _may_be_local(self, module: str) -> bool:
        if module in self._modules or module + "." in self._refused:
            return False
        top = module.split(".")[0]
        if top in self._modules:
            return self._modules[top].source is not None
        return top in self._local_names

    # The import hook asks here.

    def source_of(self, name: str) -> ModuleSource | None:
        known = self._modules.get(name)
        if known is None and self._may_be_local(name):
            known = self._fetch(name)
        return known

    def last_source_of(self, name: str) -> ModuleSource | None:
        top = name.split(".")[0]
        if top in NEVER_LOCAL or is_standard(name) or not self._imported_by_client_code():
            return None
        if "." in name and _loader_of(sys.modules.get(top)) is None:
            return None  # part of an installed package: its import tells
        if name + "." not in self._refused and name not in self._modules and self.version:
            source = self._fetch(name)
            if source is not None:
                return source
        raise ModuleNotFoundError(self._why_missing(name), name=name)

    def _fetch(self, name: str) -> ModuleSource | None:
        try:
            self._get(self.request(modules=[name]))
        except Exception as error:  # the host's: a timeout, a client that is gone
            raise ImportError(
                f"module {name!r} could not be fetched from {self._client}: {error or type(error).__name__}",
                name=name,
            ) from error
        return self._modules.get(name)

    # Package data (DataHost).

    def package_data(self, module: str, path: str) -> PackageData:
        key = module, path
        if key not in self._data and ".." not in path.split("/"):
            self._get(self.request(data=[key]))
        found = self._data.get(key) or PackageData(module, path)
        if found.error:
            raise OSError(
                errno.EREMOTE,
                f"this file of {self._client} does not travel: {found.error} "
                "(files named in Client(components=...) lie in the folder above that of the task)",
                f"{module}/{path}",
            )
        return found

    def data_file(self, module: str, path: str) -> Path:
        return self._folder / module / path

    def _why_missing(self, name: str) -> str:
        known = self._modules.get(name)
        if known is not None and known.source is None:
            return (
                f"No module named {name!r} on {self._node}: {known.path} of {self._client} has compiled parts, or no text "
                "that could travel; install it on the nodes"
            )
        version = self._versions.get(name.split(".")[0])
        why = self._refused.get(name + ".") or (f"the client has version {version}" if version else "")
        return f"No module named {name!r} on {self._node}{f': {why}' if why else ''}"

    def _imported_by_client_code(self) -> bool:
        """Whether the client's code imports; libraries try imports that they can do without."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            name = frame.f_globals.get("__name__") or ""
            if name == __name__ and frame.f_code.co_name in ("load", "_set"):
                return True  # a pickle imports
            if name == "__main__" or name in self._modules:
                return True
            is_machinery = "importlib" in frame.f_code.co_filename or name.split(".")[0] in FOREIGN
            if not is_machinery and not name.startswith(f"{OWN_PACKAGE}.actors.shipping."):
                return False
            frame = frame.f_back
        return False

    @contextmanager
    def _loading_here(self) -> Iterator[None]:
        self._loading.append(get_ident())
        try:
            yield
        finally:
            self._loading.remove(get_ident())


def _pour(thing: Any, container: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(thing)
    else:
        container.update(thing)


def _names_of(step: Statement | Value | ModuleSource) -> list[str]:
    return step.names if isinstance(step, Statement) else [step.name]


def write_file(path: Path, data: bytes) -> None:
    """Whole or not at all; servers of one node may write the same file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)


def _loader_of(module: ModuleType | None) -> SourceLoader | None:
    """Of a module that the client sent."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return loader if isinstance(loader, SourceLoader) else None

"""The server's side: a `__main__` that mirrors the client's, filled with what loads turn out to need.

A load that touches a name or module which is not here raises MissingCode, from within pickle, which looks it up as anybody
would; the caller sends the request to the client, installs the answer and loads again. A running step waits for the answer,
in the `pull` that the host gave.
"""

import linecache
import marshal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import Context, copy_context
from importlib import import_module
from importlib.machinery import ModuleSpec
from pathlib import Path
from threading import RLock, get_ident
from types import CodeType
from typing import Any

from dispycos.protocol.envelope import Payload

from .imports import ClientModules
from .pickling import loads
from .program import MirrorModule
from .words import (
    FIRST,
    CodeBundle,
    CodeRequest,
    CodeUnavailable,
    InstallFailed,
    MainInfo,
    MissingCode,
    ModuleSource,
    ShippingError,
    Statement,
    Value,
)

LINES_MAX = 1_000_000

Pull = Callable[[CodeRequest], CodeBundle]


class Mirror:
    """One a process: it replaces `__main__`, and hooks imports. Package data go into `folder`."""

    def __init__(
        self,
        pull: Pull | None = None,  # may be another one later: of a server that was forked with this mirror
        node: str = "this node",
        client: str = "the client",
        folder: Path = Path("package-data"),
    ) -> None:
        self.main = MirrorModule(self._require, self._attribute)
        self.version = 0
        self.pull, self._node, self._client = pull, node, client
        self._lock = RLock()
        self._loading: list[int] = []  # threads in loads() or settle()
        self._steps: list[Statement | Value | ModuleSource] = []  # received, not yet made
        self._made_of: dict[str, list[bytes]] = {}
        self._refused: dict[str, str] = {}  # why
        self._absent: set[str] = set()
        self._lines: dict[str, list[str]] = {}
        self._settings: set[bytes] = set()  # statements that define nothing, carried out
        self._lacking: set[str] = set()  # names that they need, of modules that are not installed here
        self._context = copy_context()  # where the client's code is made
        self._within = False
        # Globals that a setup assigned here: what the client has of that name is another thing.
        self._owned: set[str] = set()
        self._failed = ""  # how one of them did: what runs here would not be what was meant
        self.modules = ClientModules(self._get, node, client, folder)
        sys.modules["__main__"] = self.main

    # What the host calls.

    def loads(self, payload: Payload) -> Any:
        if self._steps:
            self.settle()
        if self._failed:
            raise InstallFailed(self._failed)
        self._loading.append(get_ident())
        try:
            return loads(payload)
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
            have |= self.modules.hashes()
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

    @contextmanager
    def owning(self) -> Iterator[None]:
        """Names that are bound within, and not by what the client sends, belong to this process and those forked from it."""
        before = dict(vars(self.main))
        try:
            yield
        finally:
            for name, thing in vars(self.main).items():
                is_sent = name in self._made_of and name not in before
                if not is_sent and (name not in before or before[name] is not thing):
                    self._owned.add(name)
                    self._absent.discard(name)

    def get(self, request: CodeRequest) -> None:
        """Ask the client for it and wait, outside of any load."""
        if self.pull is None:
            raise MissingCode(request)
        self.install(self.pull(request))

    @staticmethod
    def note(error: BaseException) -> None:
        """What else there is to say, by what the program has imported first."""

    def explain(self, error: BaseException) -> None:
        """Notes on a file that was looked for by `__file__`, which leads to the client's folders, how else it can be had."""
        self.note(error)
        name = error.filename if isinstance(error, FileNotFoundError) else None
        file = getattr(self.main, "__file__", "")
        if isinstance(name, str) and (note := self.modules.how_to_get(name, file)):
            error.add_note(note)

    def settle(self) -> None:
        """Makes what was received; MissingCode leaves the rest for the next time, an error drops it."""
        with self._lock:
            self._loading.append(get_ident())
            try:
                while self._steps:
                    self.within(self._make, self._steps[0])
                    self._steps.pop(0)
            except Exception as error:
                failed = [step.hash for step in self._steps]
                self._steps.clear()
                self._forget(failed)
                raise self._install_failed(error) from error
            finally:
                self._loading.remove(get_ident())

    # What comes from the client.

    def _accept(self, bundle: CodeBundle) -> None:
        if bundle.main is not None:
            self._become(bundle.main)
        if self.version == 0 or 0 < bundle.since <= self.version:
            if bundle.main_version > self.version:  # what was refused may be sent now
                self._refused.clear()
            self.version = max(self.version, bundle.main_version)
        self._steps += self.modules.accept(bundle)
        self._absent.update(bundle.absent)
        for name in bundle.absent:
            self._take_away(name)
        here = {digest for digests in self._made_of.values() for digest in digests}
        for name, digests in bundle.made_of:
            self._made_of[name] = list(digests)
            self._refused.pop(name, None)
        bound: set[str] = set()
        for step in bundle.steps:
            names = _names_of(step)
            if names and self._owned.issuperset(names):
                continue
            # Two answers may bring the same.
            is_here = step.hash in here or (step.hash in self._settings and not names)
            if not is_here or (isinstance(step, Value) and step.name in bound):
                bound.update(names)
                self._steps.append(step)
        for name, text in bundle.errors:
            self._refused[name] = text
            self._take_away(name)  # an older one is not what the client means now

    def _take_away(self, name: str) -> None:
        if name not in self._owned and self._made_of.pop(name, None) is not None:
            vars(self.main).pop(name, None)

    def _become(self, info: MainInfo) -> None:
        for name in info.first:
            if name in FIRST:
                import_module(name)
        if info.file is not None:
            self.main.__file__ = info.file
        self.main.__package__ = info.package
        if info.spec_name is not None:
            self.main.__spec__ = ModuleSpec(info.spec_name, None, origin=info.file)
        sys.argv = [word.decode(errors="surrogatepass") for word in info.argv]
        if info.authkey:  # as children of multiprocessing have that of their parent
            import_module("multiprocessing.process").current_process().authkey = info.authkey

    # Making it.

    def _make(self, step: Statement | Value | ModuleSource) -> None:
        if isinstance(step, ModuleSource):
            self.modules.reload(step)
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
        thing = loads(value.data)
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
            self._get(names=unknown)

    def _attribute(self, name: str) -> None:
        """A load, a step that unpickles by itself, or `from __main__ import name`."""
        if name.startswith("__") or name in self._coming():
            return
        if get_ident() in self._loading:
            if why := self._why_gone(name):
                raise CodeUnavailable(why)
        elif self.pull is None or not self.version or self._why_gone(name):
            return
        self._get(names=[name])

    def _why_gone(self, name: str) -> str:
        """Of a name that was asked for before and is not here; to ask again would never end."""
        if name in self._absent:
            return f"{self._client} has no {name} in its __main__"
        return self._refused.get(name, "")

    def _get(self, **wanted: Any) -> None:
        """A load is given up and repeated; a step waits."""
        request = self.request(**wanted)
        if get_ident() in self._loading:
            raise MissingCode(request)
        self.get(request)


def _pour(thing: Any, container: Any) -> None:
    container.clear()
    if isinstance(container, list):
        container.extend(thing)
    else:
        container.update(thing)


def _names_of(step: Statement | Value | ModuleSource) -> list[str]:
    return step.names if isinstance(step, Statement) else [step.name]

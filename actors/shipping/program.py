"""Finds the user's program: its `__main__`, and the texts that this runs from (a script, `-m`, `-c`, cells of a notebook).

cProfile, profile and trace (of older Pythons), runpy.run_module() and asyncio's REPL leave their own module as
`sys.modules["__main__"]`, and run the program in a dictionary that is no module's. Nothing of it could be pickled by
name then, here or in any other library. So that namespace gets the module that it lacks, as later Pythons' cProfile
does it by itself. So does a script that multiprocessing executes again, as `__mp_main__`, in the processes that it
starts by spawn or forkserver.
"""

import builtins
import linecache
import os
import sys
import zipimport
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from inspect import CO_NEWLOCALS
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import Any

from dispycos.errors import ScheduleError

from .by_value import REQUIRE
from .modules import TextLoader, candidates, read_source
from .statements import Unit, codes_of_text, cut
from .words import FIRST, MainInfo

LOOK_UP = "__dispycos_look_up__"
EXECUTED_AGAIN = "__mp_main__"  # multiprocessing's name for it
CELLS_MAX = 10_000
SOURCE_ORDERS = 1 << 44  # room for the orders of one source


def program_main() -> ModuleType:
    """`__main__`, which is the user's program from now on."""
    main = sys.modules["__main__"]
    if any(f.f_globals.get("__name__") == EXECUTED_AGAIN for f in module_frames()):
        raise ScheduleError(
            "multiprocessing executes this script once more in a process that it started, and there it has come to a Client "
            'again: put what only the program itself should do under `if __name__ == "__main__":`'
        )
    if main.__name__ == EXECUTED_AGAIN:
        return _named_main(main)
    scopes = [f.f_globals for f in module_frames() if f.f_globals.get("__name__") == "__main__"]
    is_launcher = any(scope is vars(main) for scope in scopes[1:]) and scopes[0] is not vars(main)
    if not is_launcher:
        return main
    made = sys.modules["__main__"] = NamespaceModule(scopes[0])
    return made


def _named_main(again: ModuleType) -> ModuleType:
    """The script under its own name; the module that multiprocessing made has a copy of its namespace only."""
    scopes = (thing.__globals__ for thing in vars(again).values() if isinstance(thing, FunctionType))
    scope = next((scope for scope in scopes if scope["__name__"] == EXECUTED_AGAIN), vars(again))
    made = sys.modules["__main__"] = NamespaceModule(scope)
    made.__name__ = "__main__"
    _rename(scope.values())
    return made


def _rename(things: Iterable[Any]) -> None:
    for thing in things:
        has_own = isinstance(thing, type) or type(thing).__module__ != EXECUTED_AGAIN
        if has_own and getattr(thing, "__module__", None) == EXECUTED_AGAIN:
            thing.__module__ = "__main__"
            _rename(vars(thing).values() if isinstance(thing, type) else ())


def module_frames() -> Iterator[FrameType]:
    """Those that execute the text of a module now, in any thread; of each the innermost comes first."""
    for frame in list(sys._current_frames().values()):
        current: FrameType | None = frame
        while current is not None:
            if not current.f_code.co_flags & CO_NEWLOCALS:
                yield current
            current = current.f_back


class MirrorModule(ModuleType):
    """The `__main__` of a server: tells its mirror what is looked up."""

    def __init__(self, require: Callable[[tuple[str, ...]], None], look_up: Callable[[str], None]) -> None:
        super().__init__("__main__")
        vars(self).update({"__builtins__": builtins, REQUIRE: require, LOOK_UP: look_up})

    def __getattr__(self, name: str) -> Any:
        vars(self)[LOOK_UP](name)
        if name in vars(self):
            return vars(self)[name]
        raise AttributeError(f"module '__main__' has no attribute {name!r}", name=name, obj=self)


class NamespaceModule(ModuleType):
    """A module over a dictionary that exists already."""

    def __init__(self, scope: dict[str, Any]) -> None:  # ModuleType's own would set __name__ and others
        object.__setattr__(self, "_scope", scope)

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]
        scope: dict[str, Any] = object.__getattribute__(self, "_scope")
        return scope

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__[name]
        except KeyError:
            raise AttributeError(
                f"module '__main__' has no attribute {name!r}", name=name, obj=self
            ) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self.__dict__[name] = value

    def __delattr__(self, name: str) -> None:
        del self.__dict__[name]


# --- its texts ---


def _authkey() -> bytes:
    processes = sys.modules.get("multiprocessing.process")
    return bytes(processes.current_process().authkey) if processes is not None else b""


class Source:
    """One text with its statements; `base` puts the cells of a notebook in the order of their execution."""

    def __init__(self, file: str, text: str, base: int) -> None:
        self.file, self.text = file, text
        self.units = cut(text, file, base)

    @cached_property
    def codes(self) -> frozenset[CodeType]:
        return frozenset(codes_of_text(self.text, self.file))


class MainSources:
    """All sources of `__main__`: a script's text as it was on disk at the start, cells as they come."""

    def __init__(self, main: ModuleType) -> None:
        self._main = main
        self.changes = 0  # of the texts: what was concluded from them no longer holds
        self._sources: dict[str, Source] = {}
        file, text = _program(main)
        if text is not None:
            self._add(file, text)
        self._running: dict[str, int] = {}
        self._definers: dict[str, list[Unit]] = {}
        self._extenders: dict[str, list[Unit]] = {}
        self.refresh()

    def info(self, local_names: list[str]) -> MainInfo:
        spec = getattr(self._main, "__spec__", None)
        return MainInfo(
            file=_text(getattr(self._main, "__file__", None)),
            package=_text(getattr(self._main, "__package__", None)),
            spec_name=_text(getattr(spec, "name", None)),
            argv=[str(word).encode(errors="surrogatepass") for word in sys.argv],
            local_names=local_names,
            first=[name for name in FIRST if name in sys.modules],
            authkey=_authkey(),
        )

    def refresh(self) -> None:
        """Sees new cells, and which statement of each source is being executed now."""
        for file, text in _cells(self._main):
            known = self._sources.get(file)
            if known is None or known.text != text:
                self._add(file, text)
        self._running = dict(_running_lines(vars(self._main)))
        self._definers, self._extenders = defaultdict(list), defaultdict(list)
        for unit in self.units():
            for name in unit.names:
                self._definers[name].append(unit)
            for name in unit.extends:
                self._extenders[name].append(unit)

    def units(self) -> Iterator[Unit]:
        """Those executed so far, in order; of one being executed (a `with` around all), what is inside."""
        for source in self._sources.values():
            yield from self._executed(source.units, self._running.get(source.file, sys.maxsize))

    def rebound(self) -> frozenset[str]:
        """Globals that functions of these texts bind when they are called."""
        units = [unit for source in self._sources.values() for unit in source.units]
        return frozenset(name for unit in units for name in unit.rebinds)

    def definers(self, name: str) -> list[Unit]:
        return self._definers.get(name, [])

    def extenders(self, name: str) -> list[Unit]:
        """Statements that fill what it is bound to."""
        return self._extenders.get(name, [])

    def holds(self, code: CodeType) -> bool:
        """The code was compiled from the texts kept here; what a server's mirror has is what it got."""
        source = self._sources.get(code.co_filename)
        return source is not None and (code in source.codes or isinstance(self._main, MirrorModule))

    def is_own(self, code: CodeType) -> bool:
        return code.co_filename in self._sources or code.co_filename == getattr(self._main, "__file__", None)

    def _add(self, file: str, text: str) -> None:
        if len(self._sources) < CELLS_MAX:
            self._sources.pop(file, None)  # it comes last now
            source = self._sources[file] = Source(file, text, self.changes * SOURCE_ORDERS)
            for unit in source.units:
                unit.star_names |= _star_names(unit, getattr(self._main, "__package__", None) or "")
            self.changes += 1

    def _executed(self, units: list[Unit], line: int) -> Iterator[Unit]:
        for unit in units:
            if unit.last_line < line:
                yield unit
            elif unit.first_line <= line:
                yield from self._executed(unit.inside, line)


def _text(found: object) -> str | None:
    """Debuggers and launchers set what they like: a subclass of str, for one."""
    return str(found) if isinstance(found, str) else None


def _program(main: ModuleType) -> tuple[str, str | None]:
    """The file that it runs from, and its text."""
    loader = getattr(getattr(main, "__spec__", None), "loader", None) or getattr(main, "__loader__", None)
    file = getattr(main, "__file__", None)
    if not isinstance(file, str):
        return "<string>", _command()
    # A server may be a client too: then what it got of its client's script is what it runs.
    is_mirror = isinstance(main, MirrorModule)
    if isinstance(loader, TextLoader | zipimport.zipimporter):
        text: str | None = loader.get_source(getattr(main.__spec__, "name", main.__name__))
    else:
        text = "".join(linecache.getlines(file)) if is_mirror else read_source(file)
    return str(file), text  # pdb has a subclass of str


def _command() -> str | None:
    """The text of `python -c TEXT`."""
    if not sys.argv or sys.argv[0] != "-c":
        return None
    for option, text in zip(sys.orig_argv[1:], sys.orig_argv[2:], strict=False):
        if option.startswith("-") and not option.startswith("--") and option.endswith("c"):
            return text
    return None


def _cells(main: ModuleType) -> Iterator[tuple[str, str]]:
    """IPython, its kernel and the REPL from 3.13 on keep the text of what they executed in linecache."""
    named = _files_of(main)
    for file, entry in list(linecache.cache.items()):
        if not isinstance(file, str) or len(entry) != 4 or entry[1] is not None:
            continue
        is_cell = file.startswith(("<ipython-input-", "<python-input-")) or "ipykernel_" in file
        if (is_cell or file in named) and not os.path.exists(file):
            yield file, "".join(entry[2])


def _files_of(main: ModuleType) -> set[str]:
    live = [value for value in list(vars(main).values()) if isinstance(value, FunctionType)]
    return {f.__code__.co_filename for f in live if f.__module__ == "__main__"}


def _running_lines(scope: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """The line at which each source of `__main__` is now, in any thread; the outermost frame comes last."""
    for frame in module_frames():
        if frame.f_globals is scope:
            yield frame.f_code.co_filename, frame.f_lineno


def _star_names(unit: Unit, package: str) -> set[str]:
    """What `from module import *` bound."""
    found: set[str] = set()
    for imported in unit.imports:
        if "*" not in imported.names or unit.is_definition:
            continue
        module = sys.modules.get(candidates([imported], package)[0])
        public = [name for name in vars(module) if not name.startswith("_")] if module else []
        found |= set(getattr(module, "__all__", public))
    return found

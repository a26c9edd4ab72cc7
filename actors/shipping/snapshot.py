"""The client's side: answers requests for code from a snapshot of `__main__`, and notices what was rebound.

What travels is decided in items.py, in which order in ordering.py. Not seen, as with multiprocessing's spawn:
changes inside an object (an item of a dictionary, an attribute of a class), and names that are looked up
dynamically (globals()["x"]).
"""

import linecache
import logging
import marshal
import sys
from collections.abc import Iterable, Mapping
from itertools import repeat
from operator import is_
from threading import RLock
from types import FunctionType, ModuleType
from typing import Any

from .by_value import Names
from .items import BUILTINS, Item, Items
from .modules import LocalModules, candidates, is_standard, version_of
from .ordering import Cycle, Step, in_order
from .program import MainSources, program_main
from .settings import Settings
from .statements import Unit
from .words import CodeBundle, CodeRequest, ModuleSource, Statement, Value

log = logging.getLogger(__name__)

LAST = 1 << 61  # the order of values that no statement defines
ABSENT = object()


class Snapshot:
    """Safe to use from several threads: answers may be made by another one while the program computes."""

    def __init__(self, main: ModuleType) -> None:
        sources = MainSources(main)
        self._main = main
        self._lock = RLock()
        self._items = Items(main, sources, getattr(main, "__package__", None) or "")
        self._modules = LocalModules()
        self._info = sources.info(self._modules.names())
        self._version = 1
        self._changed: dict[str, int] = {}  # name or module: the version that changed it last
        self._settings: dict[bytes, tuple[Unit, int]] = {}  # with the version that they came with
        self._looked_at: set[bytes] = set()  # statements of which it is known whether they are settings
        self._said: set[bytes] = set()  # settings that cannot travel
        self._texts = -1  # in linecache, where cells come to
        self._names: dict[str, Any] = {}  # what was sent, or found absent, and was bound to
        self._specs: dict[str, Any] = {}

    @classmethod
    def of_main(cls) -> "Snapshot":
        return cls(program_main())

    def version(self) -> int:
        """Grows when a name that was sent is bound to another object, or a module that was sent reloaded."""
        names = self._names
        live = map(vars(self._main).get, names, repeat(ABSENT))
        same = all(map(is_, live, names.values())) and (not self._specs or self._same_modules(self._specs))
        return self._version if same and self._texts == len(linecache.cache) else self._note_changes()

    def changes(self, since: int) -> CodeBundle:
        """What changed after that version, with what it needs."""
        return self.answer(CodeRequest(main_version=since))

    def request_for(self, things: Iterable[Any]) -> CodeRequest:
        """Names the functions, classes and modules among the components of a Client."""
        names = Names(self._main)
        wanted: set[str] = set()
        modules: set[str] = set()
        for thing in things:
            if isinstance(thing, ModuleType):
                modules.add(thing.__name__)
            elif getattr(thing, "__module__", None) == "__main__":
                wanted.add((names.name_of(thing) or "").split(".")[0])
            elif isinstance(thing, FunctionType | type):
                modules.add(thing.__module__)
        return CodeRequest(names=sorted(wanted - {""}), modules=sorted(modules))

    def answer(self, request: CodeRequest) -> CodeBundle:
        with self._lock:
            version = self._note_changes()
            asked = [*request.names, *self._changed_names(request.main_version)]
            items, absent, errors = self._closure(asked)
            if errors:
                errors += self._errors_of_dependents(set(asked))
            have = set(request.have)
            wanted = set(items)
            settings = self._settings_for(request.main_version, items, absent)
            try:
                steps = in_order(list(items.values()), self._last_line, settings)
            except Cycle as cycle:
                text = f"cannot be made at a server, since each needs the next: {cycle}"
                items, steps = {}, []
                errors += [(name, text) for name in asked if not name.endswith(".")]
            modules, module_errors, versions = self._modules_for(request, items.values(), settings)
            self._track(items, absent, modules)
            optional = {*settings, *(u for n, item in items.items() if n not in wanted for u in item.units)}
            return CodeBundle(
                main_version=version,
                since=request.main_version,
                steps=_on_the_wire(steps, have, optional),
                modules=[module for module in modules if module.hash not in have],
                made_of=[(item.name, item.hashes) for item in items.values()],
                absent=sorted(absent),
                versions=versions,
                main=None if request.main_version else self._info,
                errors=errors + module_errors,
                data=[self._modules.data(module, path) for module, path in request.data],
            )

    def _same_modules(self, specs: dict[str, Any]) -> bool:
        """A reload gives a module another spec."""
        live = map(getattr, map(sys.modules.get, specs), repeat("__spec__"), repeat(None))
        return all(map(is_, live, specs.values()))

    def _changed_names(self, since: int) -> list[str]:
        """Nothing for an asker that starts: it has no old version of anything."""
        return [name for name, version in self._changed.items() if 0 < since < version]

    def _note_changes(self) -> int:
        with self._lock:
            self._items.refresh()
            is_first, self._texts = self._texts < 0, len(linecache.cache)
            live = vars(self._main)
            changed = [n for n, thing in self._names.items() if live.get(n, ABSENT) is not thing]
            reloaded = [n for n, spec in self._specs.items() if _spec_of(n) is not spec]
            fresh = self._fresh_settings()
            if changed or reloaded or (fresh and not is_first):
                self._version += 1
            self._settings |= {unit.hash: (unit, self._version) for unit in fresh}
            for name in changed:
                self._names[name] = live.get(name, ABSENT)
                self._changed[name] = self._version
            for name in reloaded:
                self._specs[name] = _spec_of(name)
                self._changed[name + "."] = self._version  # the dot tells modules from names
            return self._version

    def _fresh_settings(self) -> list[Unit]:
        """Statements executed since this was asked last that set something; calls that are not among them are said once."""
        settings = Settings(self._main, self._items.sources.definers)
        fresh: list[Unit] = []
        for unit in self._items.sources.units():
            if unit.hash in self._looked_at:
                continue
            self._looked_at.add(unit.hash)
            setting = settings.of(unit)
            if setting is not None:
                fresh.append(setting)
            else:
                self._say_unset(unit, *settings.why_not(unit))
        return fresh

    def _settings_for(self, since: int, items: dict[str, Item], absent: set[str]) -> list[Unit]:
        """What the asker does not have; what they need is added to items and absent."""
        found: list[Unit] = []
        for unit, version in self._settings.values():
            if version <= since:
                continue
            needed, missing, why = self._needs_of(unit, items)
            if why:
                self._say_unset(unit, logging.WARNING, why)
                continue
            found.append(unit)
            items |= needed
            absent |= missing
        return found

    def _needs_of(self, unit: Unit, items: Mapping[str, Item]) -> tuple[dict[str, Item], set[str], str]:
        live, definers = vars(self._main), self._items.sources.definers
        for name in sorted(unit.needs_now - unit.names - BUILTINS):
            if name not in live:
                return {}, set(), f"{name} is gone"
            if len(definers(name)) > 1 and not isinstance(live[name], ModuleType | FunctionType | type):
                return {}, set(), f"{name} was perhaps bound to something else then"
        needed, missing, errors = self._closure(sorted(unit.needs - unit.names - items.keys()))
        return needed, missing - unit.names, "; ".join(f"{name}: {text}" for name, text in errors)

    def _say_unset(self, unit: Unit, level: int, why: str) -> None:
        if level and unit.hash not in self._said:
            self._said.add(unit.hash)
            log.log(level, "%s:%d is not carried out at servers: %s", unit.file, unit.first_line, why)

    def _closure(self, asked: list[str]) -> tuple[dict[str, Item], set[str], list[tuple[str, str]]]:
        """Items of the names asked for and all they need; without roots that need what cannot be sent."""
        items: dict[str, Item] = {}
        absent: set[str] = set()
        errors: list[tuple[str, str]] = []
        for root in dict.fromkeys(name for name in asked if not name.endswith(".")):
            found, missing, error = self._closure_of(root, items)
            if error:
                errors.append((root, error))
                self._track(found, missing, [])  # bound to others, they may be sendable
            else:
                items |= found
                absent |= missing
        return items, absent, errors

    def _closure_of(self, root: str, known: Mapping[str, Item]) -> tuple[dict[str, Item], set[str], str]:
        live = vars(self._main)
        found: dict[str, Item] = {}
        absent: set[str] = set()
        todo = [root]
        while todo:
            name = todo.pop()
            if name in found or name in known or name in absent:
                continue
            if name not in live:
                if name not in BUILTINS:
                    absent.add(name)
                continue
            item = found[name] = self._items.of(name)
            if item.error:
                return found, absent, item.error if name == root else f"it needs {name}: {item.error}"
            todo += item.needs
        return found, absent, ""

    def _errors_of_dependents(self, asked: set[str]) -> list[tuple[str, str]]:
        """What was sent and needs what cannot be sent any more: a server would go on with the old one."""
        live = [name for name in self._names if name not in asked and name in vars(self._main)]
        closures = ((name, self._closure_of(name, {})) for name in live)
        return [(name, error) for name, (_, _, error) in closures if error]

    def _modules_for(
        self, request: CodeRequest, items: Iterable[Item], settings: Iterable[Unit]
    ) -> tuple[list[ModuleSource], list[tuple[str, str]], list[tuple[str, str]]]:
        imported = {name for item in items for name in self._items.imports_of(item)}
        imported |= {name for unit in settings for name in candidates(unit.imports, self._items.package)}
        reloaded = [n[:-1] for n in self._changed_names(request.main_version) if n.endswith(".")]
        sources = self._modules.with_needs({*request.modules, *imported, *reloaded})
        local = {source.name for source in sources}
        errors = [(f"{name}.", self._modules.why_not(name)) for name in request.modules if name not in local]
        installed = {name.split(".")[0] for name in imported - local if name and not is_standard(name)}
        versions = [(name, version) for name in sorted(installed) if (version := version_of(name))]
        return sources, errors, versions

    def _track(self, items: Mapping[str, Item], absent: set[str], modules: list[ModuleSource]) -> None:
        names, specs = dict(self._names), dict(self._specs)
        for name, item in items.items():
            names.setdefault(name, item.thing)
        for name in absent:
            names.setdefault(name, ABSENT)
        for module in modules:
            specs.setdefault(module.name, _spec_of(module.name))
        self._names, self._specs = names, specs  # replaced whole: version() reads them without the lock

    def _last_line(self, name: str) -> int:
        return max((unit.order for unit in self._items.sources.definers(name)), default=LAST)


def _on_the_wire(steps: list[Step], have: set[bytes], optional: set[Unit]) -> list[Statement | Value]:
    found: list[Statement | Value] = []
    bound: set[str] = set()  # by statements, also to what it was before, where they bind other names too
    for made in (step.made for step in steps):
        if isinstance(made, Unit):
            if made.hash not in have:
                bound |= made.names
                text = made.file, made.first_line, made.source
                names, code = sorted(made.names), marshal.dumps(made.code)
                found.append(Statement(names, code, made.hash, *text, made in optional))
        elif made.value_hash not in have or made.name in bound:
            found.append(Value(made.name, made.value or b"", made.value_hash, bool(made.units)))
    return found


def _spec_of(name: str) -> Any:
    return getattr(sys.modules.get(name), "__spec__", None)

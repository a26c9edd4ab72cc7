"""The client's side: answers requests for code from a snapshot of `__main__`, and notices what was rebound.

How each name travels is decided in items.py. Not seen, as with multiprocessing's spawn: changes inside an object (an item of
a dictionary, an attribute of a class), if they were not made by the cells of a notebook; and names that are looked up
dynamically (globals()["x"]).
"""

import linecache
import logging
import marshal
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import repeat
from operator import attrgetter, is_
from threading import RLock
from types import FunctionType, ModuleType
from typing import Any

from .by_value import Names
from .imports import is_standard
from .items import BUILTINS, Item, Items
from .modules import AUTORELOAD, LocalModules, candidates, edited_at, version_of
from .program import MainSources, program_main
from .settings import Settings
from .statements import Unit
from .words import CodeBundle, CodeRequest, ModuleSource, Statement, Value

Errors = list[tuple[str, str]]  # names that cannot be sent, and why
Found = dict[str, Item | None]  # how names travel; None: the client does not have it (yet)

log = logging.getLogger(__name__)
LOOKED_AT_MAX = 1 << 20  # bytes of a value, up to which each cell of a notebook has it looked at again
LAST = 1 << 61  # the order of values that no statement defines
ABSENT = object()


class Snapshot:
    """Safe to use from several threads: answers may be made by another one while the program computes."""

    def __init__(self, main: ModuleType) -> None:
        sources = MainSources(main)
        self._main = main
        self._lock = RLock()
        self._items = Items(main, sources, getattr(main, "__package__", None) or "")
        self._book = Settings(main, sources.definers)
        self._modules = LocalModules()
        self._info = sources.info(self._modules.names())
        self._version = 1
        self._changed: dict[str, int] = {}  # name or module: the version that changed it last
        self._settings: dict[bytes, tuple[Unit, int]] = {}  # with the version that they came with
        self._texts = -1  # in linecache, where cells come to
        self._names: dict[str, Any] = {}  # what was sent, or found absent, and was bound to
        self._specs: dict[str, Any] = {}
        self._edited: dict[str, int] = {}  # those, when they were sent
        self._sent: dict[str, list[bytes]] = {}  # of what each was made, when it was sent
        self._cells = sources.changes
        self._drawn: Counter[str] = Counter()  # what draws random numbers: to how many servers it went

    @classmethod
    def of_main(cls) -> "Snapshot":
        return cls(program_main())

    def version(self) -> int:
        """Grows when a name that was sent is bound to another object, or a module that was sent reloaded."""
        names = self._names
        live = map(vars(self._main).get, names, repeat(ABSENT))
        same = all(map(is_, live, names.values())) and (not self._specs or self._same_modules(self._specs))
        return self._version if same and self._texts == len(linecache.cache) else self._note_changes()

    def request_for(self, things: Iterable[Any]) -> CodeRequest:
        """Names the functions, classes and modules among the components of a Client."""
        names = Names(self._main)
        wanted: set[str] = set()
        modules: set[str] = set()
        for thing in things:
            if isinstance(thing, ModuleType):
                modules.add(thing.__name__)
            elif getattr(thing, "__module__", None) == "__main__":
                wanted.add(names.global_of(thing))
            elif isinstance(thing, FunctionType | type):
                modules.add(thing.__module__)
        return CodeRequest(names=sorted(wanted - {""}), modules=sorted(modules))

    def answer(self, request: CodeRequest) -> CodeBundle:
        """What is asked for, and what changed after the asker's version, with all that it needs."""
        with self._lock:
            version = self._note_changes()
            asked = [*request.names, *self._changed_names(request.main_version)]
            found, errors = self._closure(asked)
            if errors:
                errors += self._errors_of_dependents(set(asked))
            wanted = set(found)
            settings = self._settings_for(request.main_version, found)
            items = {name: item for name, item in found.items() if item is not None}
            try:
                steps = in_order(list(items.values()), self._last_line, settings)
            except CycleError as error:
                cycle = " -> ".join(map(str, reversed(error.args[1])))
                text = f"cannot be made at a server, since each needs the next: {cycle}"
                items, steps = {}, []
                errors += [(name, text) for name in asked if not name.endswith(".")]
            modules, module_errors, versions = self._modules_for(request, items.values(), settings)
            self._track(found, modules)
            optional = {*settings, *(u for n, item in items.items() if n not in wanted for u in item.units)}
            have = set(request.have)
            for item in items.values():
                if item.draws and item.value_hash not in have:
                    self._tell_who_draws(item.name)
            return CodeBundle(
                main_version=version,
                since=request.main_version,
                steps=_on_the_wire(steps, have, optional),
                modules=[module for module in modules if module.hash not in have],
                made_of=[(item.name, item.hashes) for item in items.values()],
                absent=sorted(name for name, item in found.items() if item is None),
                versions=versions,
                main=None if request.main_version else self._info,
                errors=errors + module_errors,
                data=[self._modules.data(module, path) for module, path in request.data],
            )

    def _tell_who_draws(self, name: str) -> None:
        self._drawn[name] += 1
        if self._drawn[name] == 2:
            log.warning(
                "%s draws random numbers, and goes to each server as it is in the program: they draw the same ones. Make one "
                "in the function, as numpy.random.default_rng(), or give each call a seed",
                name,
            )

    def _same_modules(self, specs: dict[str, Any]) -> bool:
        """A reload gives a module another spec, but not that of %autoreload."""
        live = map(getattr, map(sys.modules.get, specs), repeat("__spec__"), repeat(None))
        if not all(map(is_, live, specs.values())):
            return False
        return AUTORELOAD not in sys.modules or all(edited_at(n) == self._edited[n] for n in specs)

    def _changed_names(self, since: int) -> list[str]:
        """Nothing for an asker that starts: it has no old version of anything."""
        return [name for name, version in self._changed.items() if 0 < since < version]

    def _note_changes(self) -> int:
        with self._lock:
            self._items.refresh()
            is_first, self._texts = self._texts < 0, len(linecache.cache)
            live = vars(self._main)
            changed = [n for n, thing in self._names.items() if live.get(n, ABSENT) is not thing]
            changed += self._changed_inside(changed)
            reloaded = [
                n
                for n, spec in self._specs.items()
                if _spec_of(n) is not spec or edited_at(n) != self._edited[n]
            ]
            fresh = self._book.fresh(self._items.sources.units())
            if changed or reloaded or (fresh and not is_first):
                self._version += 1
            self._settings |= {unit.hash: (unit, self._version) for unit in fresh}
            for name in changed:
                self._names[name] = live.get(name, ABSENT)
                self._changed[name] = self._version
            for name in reloaded:
                self._edited[name], self._specs[name] = edited_at(name), _spec_of(name)
                self._changed[name + "."] = self._version  # the dot tells modules from names
            return self._version

    def _changed_inside(self, rebound: list[str]) -> list[str]:
        """In a notebook: what a cell has put into a global, as `params["lr"] = 2` or `Limits.most = 2`, which servers may have."""
        if self._cells == self._items.sources.changes:
            return []
        self._cells = self._items.sources.changes
        made_of = {name: self._items.of(name).hashes for name in self._sent if name not in rebound}
        changed = [name for name, hashes in made_of.items() if hashes != self._sent[name]]
        self._sent |= made_of
        return changed

    def _settings_for(self, since: int, known: Found) -> list[Unit]:
        """What the asker does not have; what they need is added."""
        settings: list[Unit] = []
        for unit, version in self._settings.values():
            if version <= since:
                continue
            found: Found = {}
            why = self._book.why_stale(unit)
            if not why:
                found, errors = self._closure(sorted(unit.needs - unit.names), known)
                why = "; ".join(f"{name}: {text}" for name, text in errors)
            if why:
                self._book.say(unit, logging.WARNING, why)
                continue
            settings.append(unit)
            known |= {n: item for n, item in found.items() if item is not None or n not in unit.names}
        return settings

    def _closure(self, asked: list[str], known: Found | None = None) -> tuple[Found, Errors]:
        """The names asked for and all they need; without roots that need what cannot be sent, and without what is known."""
        closure: Found = {}
        errors: Errors = []
        for root in dict.fromkeys(name for name in asked if not name.endswith(".")):
            found, error = self._closure_of(root, closure | (known or {}))
            if error:
                errors.append((root, error))
                self._track(found, [])  # bound to others, they may be sendable
            else:
                closure |= found
        return closure, errors

    def _closure_of(self, root: str, known: Found) -> tuple[Found, str]:
        live = vars(self._main)
        found: Found = {}
        todo = [root]
        while todo:
            name = todo.pop()
            if name in found or name in known or (name in BUILTINS and name not in live):
                continue
            item = found[name] = self._items.of(name) if name in live else None
            if item is not None and item.error:
                return found, item.error if name == root else f"it needs {name}: {item.error}"
            todo += () if item is None else item.needs
        return found, ""

    def _errors_of_dependents(self, asked: set[str]) -> Errors:
        """What was sent and needs what cannot be sent any more: a server would go on with the old one."""
        live = [name for name in self._names if name not in asked and name in vars(self._main)]
        return [(name, error) for name in live if (error := self._closure_of(name, {})[1])]

    def _modules_for(
        self, request: CodeRequest, items: Iterable[Item], settings: Iterable[Unit]
    ) -> tuple[list[ModuleSource], Errors, list[tuple[str, str]]]:
        imported = {name for item in items for name in self._items.imports_of(item)}
        imported |= {name for unit in settings for name in candidates(unit.imports, self._items.package)}
        reloaded = [n[:-1] for n in self._changed_names(request.main_version) if n.endswith(".")]
        sources = self._modules.with_needs({*request.modules, *imported, *reloaded})
        local = {source.name for source in sources}
        errors = [(f"{name}.", self._modules.why_not(name)) for name in request.modules if name not in local]
        installed = {name.split(".")[0] for name in imported - local if name and not is_standard(name)}
        versions = [(name, version) for name in sorted(installed) if (version := version_of(name))]
        return sources, errors, versions

    def _track(self, found: Found, modules: list[ModuleSource]) -> None:
        """Replaced whole: version() reads them without the lock."""
        things = {name: ABSENT if item is None else item.thing for name, item in found.items()}
        self._names = things | self._names
        for name, item in found.items():
            self._sent.pop(name, None)
            if item is not None and len(item.value or b"") <= LOOKED_AT_MAX:
                self._sent[name] = item.hashes
        self._edited = {module.name: edited_at(module.name) for module in modules} | self._edited
        self._specs = {module.name: _spec_of(module.name) for module in modules} | self._specs

    def _last_line(self, name: str) -> int:
        return max((unit.order for unit in self._items.sources.definers(name)), default=LAST)


def _on_the_wire(steps: "list[Step]", have: set[bytes], optional: set[Unit]) -> list[Statement | Value]:
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


# --- the order in which it can be made: by dependency, then by line ---


@dataclass(eq=False)
class Step:
    """Making one statement or one value."""

    order: int
    made: Unit | Item
    names: frozenset[str]
    is_contents: bool = False  # of a container that statements make
    after: set["Step"] = field(default_factory=set)  # must be made first
    rather_after: set["Step"] = field(default_factory=set)  # better first: may be called while this is made

    def __str__(self) -> str:
        return ", ".join(sorted(self.names))


def in_order(items: list[Item], last_line: Callable[[str], int], settings: Iterable[Unit] = ()) -> list[Step]:
    """`last_line` gives the order of the last statement that defines a name; `settings` define none. Raises CycleError."""
    units = dict.fromkeys([*(unit for item in items for unit in item.units), *settings])
    statements = [Step(unit.order, unit, unit.names) for unit in units]
    values = [
        Step(last_line(item.name), item, frozenset({item.name}), bool(item.units))
        for item in items
        if item.value is not None
    ]
    makers: dict[str, set[Step]] = defaultdict(set)
    for step in [*statements, *values]:
        for name in step.names:
            makers[name].add(step)
    needs = {item.name: frozenset(name for unit in item.units for name in unit.needs) for item in items}
    for step in [*statements, *values]:
        if isinstance(step.made, Unit):
            _place_statement(step, step.made, makers, needs)
        else:
            step.after.update(*(makers[name] for name in step.made.refers), makers[step.made.name])
            step.after.update(statements if step.is_contents else ())  # when all that add to it have run
        step.after.discard(step)
    return _sorted([*statements, *values])


def _place_statement(
    step: Step, unit: Unit, makers: dict[str, set[Step]], needs: dict[str, frozenset[str]]
) -> None:
    """Nothing waits for the contents of containers."""
    for name in unit.needs_now:
        found = {maker for maker in makers[name] if maker is not step and not maker.is_contents}
        above = {maker for maker in found if isinstance(maker.made, Unit) and maker.order < step.order}
        step.after |= above or found
    called = set(unit.needs_now)
    todo = list(called)
    while todo:
        for name in needs.get(todo.pop(), frozenset()) - called:
            called.add(name)
            todo.append(name)
            # Statements above come first anyway, and those below were not needed when the script ran.
            found = {m for m in makers[name] if isinstance(m.made, Item) or m.order < step.order}
            step.rather_after |= {maker for maker in found if not maker.is_contents}
    step.rather_after -= step.after


def _sorted(steps: list[Step]) -> list[Step]:
    """Always the first line that can be made: what depends on side effects finds the script's order."""
    sorter = TopologicalSorter({step: step.after for step in steps})
    sorter.prepare()
    ready: list[Step] = []
    made: dict[Step, None] = {}
    while sorter.is_active():
        if more := sorter.get_ready():
            ready = sorted([*ready, *more], key=attrgetter("order"))
        step = next((step for step in ready if step.rather_after <= made.keys()), ready[0])
        ready.remove(step)
        sorter.done(step)
        made[step] = None
    return list(made)

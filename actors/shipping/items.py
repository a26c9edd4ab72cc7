"""Decides how each global of the client's `__main__` travels: as statements, as a value, or not at all."""

import ast
import builtins
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import Any

from dispycos.errors import NotPicklable

from .by_value import Names
from .modules import candidates
from .pickling import dumps_naming, dumps_slowly
from .program import MainSources
from .statements import Unit, cut, hash_of

PICKLE_TRIES = 3
CLASS_ENTRIES_MAX = 10_000
BUILTINS = frozenset(vars(builtins))
NOTHING = object()
PARTS_MAX = 1000
LOOPS = ast.For | ast.AsyncFor | ast.While


@dataclass(frozen=True, eq=False)
class Item:
    """How one name travels. With units and a value, the units make a container and the value its contents."""

    name: str
    thing: Any
    units: tuple[Unit, ...] = ()
    value: bytes | None = None
    refers: frozenset[str] = frozenset()  # names and modules that the pickled value refers to
    modules: frozenset[str] = frozenset()
    members: frozenset[str] = frozenset()  # names that it holds without its statements saying so
    error: str = ""
    draws: bool = False  # a generator of random numbers goes with its value

    @cached_property
    def needs(self) -> frozenset[str]:
        found = set(self.refers | self.members)
        for unit in self.units:
            found |= unit.needs | unit.names
        return frozenset(found - {self.name})

    @cached_property
    def hashes(self) -> list[bytes]:
        found = [unit.hash for unit in self.units]
        return found if self.value is None else [*found, self.value_hash]

    @cached_property
    def value_hash(self) -> bytes:
        return hash_of(self.name.encode() + b"\0" + (self.value or b""))


@dataclass
class Items:
    """The ways of all names that were looked at; kept while they and what they need are bound to the same."""

    main: ModuleType
    sources: MainSources
    package: str = ""
    _kept: dict[str, Item] = field(default_factory=dict)
    _kept_at: int = -1
    _registries: set[str] | None = None  # found out when a value may be one: all definitions are looked at
    _rebound: frozenset[str] = frozenset()  # what functions bind as globals
    _first: dict[str, tuple[Unit, Any]] = field(default_factory=dict)  # what a statement gave at first

    def refresh(self) -> None:
        self.sources.refresh()
        self._drop_dependents()
        if self._kept_at != self.sources.changes:
            self._kept_at = self.sources.changes
            self._kept.clear()
            self._registries = None
            self._rebound = self.sources.rebound()

    def _drop_dependents(self) -> None:
        """What was pickled as a reference to a name is another thing when the name is bound to another."""
        live = vars(self.main)
        rebound = {name for name, item in self._kept.items() if live.get(name) is not item.thing}
        if rebound:
            self._kept = {name: item for name, item in self._kept.items() if not rebound & item.needs}

    def of(self, name: str) -> Item:
        """The name must be bound."""
        thing = vars(self.main)[name]
        kept = self._kept.get(name)
        if kept is None or kept.thing is not thing:
            kept = self._kept[name] = self._make(name, thing)
        return kept

    def imports_of(self, item: Item) -> list[str]:
        """Modules that it may import, when made or when run."""
        found = list(item.modules)
        for unit in item.units:
            found += candidates(unit.imports, self.package)
        return found

    def _make(self, name: str, thing: Any) -> Item:
        chain = self._chain(name, thing)
        made = made_by(thing, chain[-1]) if chain else False
        if isinstance(thing, ModuleType):
            if not self._gives_it_again(name, thing, chain, made):
                chain = cut(f"import {thing.__name__} as {name}", "<import>")
            return Item(name, thing, tuple(chain))
        if not _is_definition(thing):
            return self._value(name, thing, chain, made)
        own = (code for code in codes_of(thing) if self.sources.is_own(code))
        if not all(self.sources.holds(code) for code in own):
            return self._by_value(name, thing)
        if self._gives_it_again(name, thing, chain, made):
            return self._from_source(name, thing, chain)
        item = self._by_value(name, thing)
        return self._from_source(name, thing, chain) if item.error and made is not False else item

    def _gives_it_again(self, name: str, thing: Any, chain: list[Unit], made: bool | None) -> bool:
        """The last statement, run at a server, would; or there it has run, and does not again for its other names."""
        if not chain:
            return False
        is_doubtful = self._may_be_rebound(name, thing, chain[-1])
        is_call = chain[-1].is_assignment and isinstance(thing, FunctionType)  # it might give another
        is_known = bool(made) and len(chain[-1].names) == 1
        return is_known or (made is not False and not is_doubtful and not is_call)

    def _value(self, name: str, thing: Any, chain: list[Unit], made: bool | None) -> Item:
        names = Names(self.main)
        try:
            data = _patiently(thing, names)
        except Exception:  # edge of user code: what cannot be pickled is made again from its source
            data = b""
        if not data or names.by_value:
            loop = next((unit for unit in chain if isinstance(unit.node, LOOPS)), None)
            if made is False or loop is not None:
                return self._by_value(name, thing, loop)
            return self._from_source(name, thing, chain)
        draws = bool(names.generators)
        item = Item(name, thing, (), data, frozenset(names.used), frozenset(names.modules), draws=draws)
        if name in names.used:  # a TypeVar pickles as its own name
            why = f"{name} refers to itself by a name whose statement is not known"
            return self._from_source(name, thing, chain) if chain else Item(name, thing, error=why)
        if not chain:
            return item
        fills_itself = all(unit.makes_container for unit in chain) and self._is_registry(name)
        makers = [unit for used in names.used for unit in self.sources.definers(used)]
        if not fills_itself and name not in self._read_by(makers):
            return item
        # Statements that are to be run fill it: they find it as they did here, then it gets what it holds here.
        units = self._from_source(name, thing, chain).units
        contents = data if isinstance(thing, dict | list | set) else None
        return Item(name, thing, units, contents, item.refers, item.modules, item.refers)

    def _from_source(self, name: str, thing: Any, chain: list[Unit]) -> Item:
        extenders = [u for u in self.sources.extenders(name) if not u.in_guard and u not in chain]
        return Item(name, thing, (*chain, *extenders), members=self._members(thing))

    def _by_value(self, name: str, thing: Any, loop: Unit | None = None) -> Item:
        """`loop`: the statement that made it, which may be what the program is there for: it is not run once more."""
        is_elsewhere = Names(self.main).global_of(thing) not in ("", name)  # and the same thing for all there
        names = Names(self.main, None if is_elsewhere else thing)
        try:
            data = dumps_slowly(thing, names, name)
        except NotPicklable as error:
            why = "the statement that made it is not known"
            if loop is not None:
                why = f"the loop that made it, line {loop.first_line}, is not run again at servers"
            return Item(name, thing, error=f"{error} (and {why})")
        refers, looked_up = frozenset(names.used - {name}), frozenset(names.looked_up)
        return Item(name, thing, (), data, refers, frozenset(names.modules), looked_up)

    def _chain(self, name: str, thing: Any) -> list[Unit]:
        """The executed statements that made what the name is bound to now, in order."""
        definers = [unit for unit in self.sources.definers(name) if unit.code is not None]
        makers = (end for end, unit in enumerate(definers, 1) if made_by(thing, unit))
        definers = definers[: max(makers, default=None)]
        chain: list[Unit] = []
        for unit in reversed(definers):
            chain.insert(0, unit)
            if unit.is_certain and name not in unit.needs_now:
                break
        return chain

    def _may_be_rebound(self, name: str, thing: Any, unit: Unit) -> bool:
        """Other code binds the name too, or it was bound to another thing since the statement was executed."""
        known = self._first.get(name)
        if known is None or known[0] is not unit:
            known = self._first[name] = unit, thing
        elif known[1] is not thing:
            known = self._first[name] = unit, NOTHING  # also when it is bound to the first thing again
        return known[1] is NOTHING or name in self._rebound

    def _members(self, thing: Any) -> frozenset[str]:
        """Functions and classes of `__main__` in tables of a class, which __init_subclass__ may fill."""
        if not isinstance(thing, type):
            return frozenset()
        names = Names(self.main)
        found: set[str] = set()
        for table in list(vars(thing).values()):
            if not isinstance(table, dict | list | set) or len(table) > CLASS_ENTRIES_MAX:
                continue
            for entry in list(table.values() if isinstance(table, dict) else table):
                if isinstance(entry, FunctionType | type) and entry.__module__ == "__main__":
                    found.add(names.global_of(entry))
        return frozenset(found - {""})

    def _is_registry(self, name: str) -> bool:
        """The making of definitions reads or fills it, by what it calls."""
        if self._registries is None:
            definitions = [unit for unit in self.sources.units() if unit.is_definition]
            self._registries = self._read_by(definitions, indirectly=True)
        return name in self._registries

    def _read_by(self, units: Iterable[Unit], indirectly: bool = False) -> set[str]:
        """Globals that are read while these are executed, or by what they call; only those if `indirectly`."""
        now = {name for unit in units for name in unit.needs_now}
        called: set[str] = set()
        todo = list(now)
        while todo:
            needs = {name for unit in self.sources.definers(todo.pop()) for name in unit.needs}
            todo += needs - called - now
            called |= needs
        return called - BUILTINS if indirectly else now | called


def _is_definition(thing: Any) -> bool:
    if isinstance(thing, FunctionType | type | BuiltinFunctionType):
        return True
    return getattr(thing, "__module__", None) == "__main__" and hasattr(thing, "__wrapped__")


def _patiently(thing: Any, names: Names) -> bytes:
    """The program may change a dictionary while it is pickled on another thread."""
    for _ in range(PICKLE_TRIES - 1):
        try:
            return dumps_naming(thing, names)
        except RuntimeError:
            continue
    return dumps_naming(thing, names)


# --- what made a thing ---
# A name may be bound again by code that is no statement of its own: `global f; f = g` or a nested `def f` in a function,
# setattr, a mock. The statement, run again, would give the first thing.


def made_by(thing: Any, unit: Unit) -> bool | None:
    """None if the thing, to which a name of the statement is bound, bears no mark of it, but may come from it."""
    node = unit.node
    if isinstance(node, ast.Import | ast.ImportFrom):
        if any(found is thing for found in _imported_by(node)):
            return True
        return False if getattr(thing, "__module__", None) == "__main__" and codes_of(thing) else None
    is_decorated = bool(getattr(node, "decorator_list", ()))
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not is_decorated:
        return isinstance(thing, FunctionType) and _is_at_top_of(thing.__code__, unit)
    if any(_is_at_top_of(code, unit) for code in codes_of(thing)):
        return True
    # What a decorator or a metaclass gives may be anything, and a class may have no code at all: an Enum, an exception.
    if not isinstance(node, ast.ClassDef) or is_decorated:
        return None
    is_other = thing.__name__ != node.name if isinstance(thing, type) else not node.keywords
    return False if is_other else None


def codes_of(thing: Any) -> list[CodeType]:
    """The code of a live function or class: its own and that of what it says that it wraps."""
    found: list[CodeType] = []
    todo = [thing]
    seen: set[int] = set()
    while todo and len(seen) < PARTS_MAX:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, type):
            todo += [value for value in vars(part).values() if not isinstance(value, type)]
            continue
        if isinstance(part, FunctionType):
            found.append(part.__code__)
        elif isinstance(part, property):
            todo += [part.fget, part.fset, part.fdel]
        elif isinstance(part, staticmethod | classmethod):
            todo.append(part.__func__)
        if hasattr(part, "__wrapped__"):
            todo.append(part.__wrapped__)
    return found


def _is_at_top_of(code: CodeType, unit: Unit) -> bool:
    is_inside = code.co_filename == unit.file and unit.first_line <= code.co_firstlineno <= unit.last_line
    return is_inside and "<locals>" not in code.co_qualname


def _imported_by(node: ast.Import | ast.ImportFrom) -> Iterator[Any]:
    """What it would bind now; a relative import may not be told."""
    for alias in node.names:
        if isinstance(node, ast.Import):
            yield sys.modules.get(alias.name if alias.asname else alias.name.split(".")[0], NOTHING)
        elif not node.level:
            yield getattr(sys.modules.get(node.module or ""), alias.name, NOTHING)

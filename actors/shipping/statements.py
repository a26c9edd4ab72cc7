"""Cuts a source into its top-level statements and tells what each binds, needs and imports; pure."""

import __future__

import ast
import dis
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from hashlib import blake2b
from types import CodeType
from typing import Any, NamedTuple, cast

FUTURE_FLAGS = 0x1FF0000  # the compiler's mask of `from __future__` flags
CO_OPTIMIZED = 1  # with variables of its own: a function's, not a class body's
RUN_AT_ONCE = ("<listcomp>", "<setcomp>", "<dictcomp>", "<genexpr>", "<generic parameters")
LOOKING_UP = frozenset(
    {"LOAD_NAME", "LOAD_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS", "STORE_GLOBAL", "DELETE_GLOBAL"}
)
MAIN_DUNDERS = {
    *("__name__", "__file__", "__doc__", "__spec__", "__package__", "__loader__", "__builtins__"),
    *("__annotations__", "__conditional_annotations__", "__annotate__"),
}
DEFINITIONS = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
DISPLAYS = (ast.Dict, ast.List, ast.Set)
CONTAINER_CALLS = {"dict", "list", "set", "defaultdict", "OrderedDict", "Counter", "deque"}


class Import(NamedTuple):
    """`from {dots}{module} import {names}`; names is empty for a plain import."""

    module: str
    level: int
    names: tuple[str, ...]


@dataclass(eq=False)
class Unit:
    """A statement as it is shipped."""

    node: ast.stmt
    source: str  # the lines on which it stands
    first_line: int
    last_line: int
    base: int
    file: str
    flags: int
    in_guard: bool = False
    is_changed: bool = False
    star_names: set[str] = field(default_factory=set)  # what `from m import *` bound, filled by who knows

    @property
    def order(self) -> int:
        return self.base + (self.first_line << 12) + min(self.node.col_offset, 4095)

    @cached_property
    def hash(self) -> bytes:
        text = ast.unparse(self.node) if self.is_changed else self.source
        place = f"{self.file}\0{self.first_line}\0{self.node.col_offset}\0{self.flags}\0"
        return hash_of((place + text).encode(errors="surrogatepass"))

    def changed(self, node: ast.stmt) -> "Unit":
        """Another statement in its place."""
        return replace(self, node=node, is_changed=True)

    @cached_property
    def code(self) -> CodeType | None:
        """None when it cannot stand alone (`await` in a notebook cell)."""
        return _compiled(ast.Module([self.node], []), self.file, self.flags)

    def _codes(self, node: ast.stmt, only_now: bool) -> list[CodeType]:
        return codes_of_text(ast.Module([node], []), self.file, self.flags, only_now)

    @cached_property
    def _codes_now(self) -> list[CodeType]:
        """What is executed when it is, but for what it calls."""
        node = self.node
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            node = copy(node)  # all are asked this, so bodies are left out
            node.body = [ast.copy_location(ast.Pass(), node)]
        return self._codes(node, only_now=True)

    @cached_property
    def inside(self) -> "list[Unit]":
        """The statements of a compound one: it is itself being executed, and cannot be run again."""
        blocks = [getattr(self.node, block, []) for block in ("body", "orelse", "finalbody")]
        blocks += [handler.body for handler in getattr(self.node, "handlers", [])]
        nodes = [] if self.is_definition else [node for block in blocks for node in block]
        lines = ["\n"] * (self.first_line - 1) + self.source.splitlines(keepends=True)
        return _cut_nodes(nodes, lines, self.file, self.flags, self.base, self.in_guard)

    @cached_property
    def names(self) -> frozenset[str]:
        """Those that it binds."""
        if isinstance(self.node, DEFINITIONS):
            return frozenset({self.node.name})
        own = [stored_in(code, "STORE_NAME", "STORE_GLOBAL") for code in self._codes_now[:1]]
        inner = [stored_in(code, "STORE_GLOBAL") for code in self._codes_now[1:]]
        return frozenset(self.star_names).union(*own, *inner) - MAIN_DUNDERS

    @cached_property
    def needs(self) -> frozenset[str]:
        """Every global it refers to, now or when its functions are called."""
        found = [globals_in(code) for code in self._codes(self.node, only_now=False)]
        return frozenset(annotation_names(self.node)).union(*found) - MAIN_DUNDERS

    @cached_property
    def needs_now(self) -> frozenset[str]:
        """The globals it reads while it is executed: decorators, bases, defaults, class bodies."""
        return frozenset[str]().union(*map(globals_in, self._codes_now)) - MAIN_DUNDERS

    @cached_property
    def rebinds(self) -> frozenset[str]:
        """Globals that functions in it bind when they are called (`global n; n = ...`)."""
        codes = self._codes(self.node, only_now=False) if "global" in self.source else []
        return frozenset[str]().union(*(stored_in(code, "STORE_GLOBAL") for code in codes))

    @cached_property
    def imports(self) -> list[Import]:
        return imports_in(self.node)

    @cached_property
    def extends(self) -> frozenset[str]:
        """Globals that it fills: `@f.register`, `f.register(...)`, `Point.scale = ...`, `TABLE["x"] = ...`."""
        targets: list[ast.expr] = []
        if isinstance(self.node, DEFINITIONS):
            targets = [d.func if isinstance(d, ast.Call) else d for d in self.node.decorator_list]
        elif isinstance(self.node, ast.Assign):
            targets = self.node.targets
        elif isinstance(self.node, ast.AnnAssign | ast.AugAssign):
            targets = [self.node.target]
        elif isinstance(self.node, ast.Expr) and isinstance(self.node.value, ast.Call):
            called = self.node.value.func
            targets = [called] if isinstance(called, ast.Attribute) and called.attr == "register" else []
        return frozenset(root for t in targets if (root := _root_of_attribute(t)))

    @property
    def is_definition(self) -> bool:
        return isinstance(self.node, DEFINITIONS)

    @property
    def is_assignment(self) -> bool:
        return isinstance(self.node, ast.Assign | ast.AnnAssign | ast.AugAssign)

    @property
    def is_certain(self) -> bool:
        """It binds its names whatever happens; compound statements may not."""
        return self.is_definition or isinstance(
            self.node, ast.Assign | ast.AnnAssign | ast.Import | ast.ImportFrom
        )

    @property
    def makes_container(self) -> bool:
        """`TABLE = {}` and the like: cheap to run again."""
        if not isinstance(self.node, ast.Assign | ast.AnnAssign):
            return False
        value = self.node.value
        if isinstance(value, ast.Call):
            called = value.func.attr if isinstance(value.func, ast.Attribute) else value.func
            called = called.id if isinstance(called, ast.Name) else called
            return called in CONTAINER_CALLS
        return isinstance(value, DISPLAYS)


def hash_of(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()


def cut(text: str, file: str, base: int = 0) -> list[Unit]:
    """The units of a source in line order; nothing when it is not valid (edited while it ran).

    The `if __name__ == "__main__"` guard is never a unit; the statements inside it are.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError):
        return []
    flags = _future_flags(body)
    lines = text.splitlines(keepends=True)
    units: list[Unit] = []
    for node in body:
        if isinstance(node, ast.If) and _is_guard(node):
            units += _cut_nodes(node.body, lines, file, flags, base, in_guard=True)
        else:
            units += _cut_nodes([node], lines, file, flags, base)
    return units


def codes_of_text(text: Any, file: str, flags: int = 0, only_now: bool = False) -> list[CodeType]:
    """The code of a source or its tree, and of every function, class and lambda in it; none when it is not valid.

    Compiled alone, a statement need not give the same: calls on imported modules are compiled otherwise.
    """
    code = _compiled(text, file, flags) or _compiled(text, file, flags | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    return [] if code is None else list(codes_in(code, only_now))


def _compiled(text: Any, file: str, flags: int) -> CodeType | None:
    try:
        return cast(CodeType, compile(text, file, "exec", flags, dont_inherit=True))
    except (SyntaxError, ValueError):
        return None


def imports_in(node: ast.AST) -> list[Import]:
    found: list[Import] = []
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import):
            found += [Import(a.name, 0, ()) for a in inner.names]
        elif isinstance(inner, ast.ImportFrom):
            found.append(Import(inner.module or "", inner.level, tuple(a.name for a in inner.names)))
    return found


def imported_as(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The names that an import binds, each with the full name of what it stands for."""
    for alias in node.names if isinstance(node, ast.Import | ast.ImportFrom) else ():
        if isinstance(node, ast.ImportFrom):
            yield alias.asname or alias.name, f"{node.module or ''}.{alias.name}"
        elif alias.asname:
            yield alias.asname, alias.name
        else:
            yield (alias.name.split(".")[0],) * 2


def annotation_names(node: ast.AST) -> set[str]:
    """Names in annotations, also in those that are strings or not evaluated: get_type_hints reads them."""
    found: set[str] = set()
    for inner in ast.walk(node):
        annotations = [getattr(inner, "annotation", None), getattr(inner, "returns", None)]
        for annotation in annotations:
            if isinstance(annotation, ast.expr):
                found |= _names_in(annotation)
    return found


def _names_in(annotation: ast.expr) -> set[str]:
    found: set[str] = set()
    for inner in ast.walk(annotation):
        if isinstance(inner, ast.Name):
            found.add(inner.id)
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str) and len(inner.value) < 1000:
            try:
                quoted = ast.parse(inner.value.strip(), mode="eval")
            except (SyntaxError, ValueError):
                continue  # a Literal or Annotated text, not a type
            found |= {n.id for n in ast.walk(quoted) if isinstance(n, ast.Name)}
    return found


def _cut_nodes(
    nodes: list[ast.stmt], lines: list[str], file: str, flags: int, base: int, in_guard: bool = False
) -> list[Unit]:
    units: list[Unit] = []
    for node in nodes:
        first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
        last = node.end_lineno or first
        text = "".join(lines[first - 1 : last])
        units.append(Unit(node, text, first, last, base, file, flags, in_guard))
    return units


def _future_flags(body: list[ast.stmt]) -> int:
    flags = 0
    for node in body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            for alias in node.names:
                flags |= getattr(__future__, alias.name).compiler_flag
    return flags & FUTURE_FLAGS


def _is_guard(node: ast.If) -> bool:
    words = list(ast.walk(node.test))
    return any(isinstance(w, ast.Name) and w.id == "__name__" for w in words) and any(
        isinstance(w, ast.Constant) and w.value == "__main__" for w in words
    )


def codes_in(code: CodeType, only_now: bool = False) -> Iterator[CodeType]:
    """A code and all those in it; or those that run when it does: class bodies, comprehensions, scopes of type parameters."""
    yield code
    for const in code.co_consts:
        if isinstance(const, CodeType) and not (only_now and _runs_later(const)):
            yield from codes_in(const, only_now)


def _runs_later(code: CodeType) -> bool:
    return bool(code.co_flags & CO_OPTIMIZED) and not code.co_name.startswith(RUN_AT_ONCE)


@lru_cache(maxsize=4096)
def globals_in(code: CodeType) -> frozenset[str]:
    """The names that a code looks up, without the codes in it."""
    return frozenset(op.argval for op in dis.get_instructions(code) if op.opname in LOOKING_UP)


@lru_cache(maxsize=4096)
def stored_in(code: CodeType, *instructions: str) -> frozenset[str]:
    """The names that a code binds by these."""
    return frozenset(op.argval for op in dis.get_instructions(code) if op.opname in instructions)


def _root_of_attribute(target: ast.expr) -> str | None:
    if not isinstance(target, ast.Attribute | ast.Subscript):
        return None
    inner: ast.expr = target
    while isinstance(inner, ast.Attribute | ast.Subscript):
        inner = inner.value
    return inner.id if isinstance(inner, ast.Name) else None

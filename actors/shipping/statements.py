"""Cuts a source into its top-level statements and tells what each binds, needs and imports; pure."""

import __future__

import ast
import symtable
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from types import CodeType
from typing import Any, NamedTuple, cast

FUTURE_FLAGS = 0x1FF0000  # the compiler's mask of `from __future__` flags
ANNOTATIONS_FLAG = __future__.annotations.compiler_flag
COMPREHENSIONS = {"listcomp", "setcomp", "dictcomp", "genexpr"}
LATE = {
    "TypeVar bound",
    "type variable",
    "type alias",
    "annotation",
}  # symtable's words; evaluated when asked for
MAIN_DUNDERS = {"__name__", "__file__", "__doc__", "__spec__", "__package__", "__loader__", "__builtins__"}
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
    source: str
    first_line: int
    last_line: int
    order: int
    file: str
    flags: int
    in_guard: bool = False
    star_names: set[str] = field(default_factory=set)  # what `from m import *` bound, filled by who knows

    @cached_property
    def hash(self) -> bytes:
        return hash_of(
            f"{self.file}\0{self.first_line}\0{self.flags}\0{self.source}".encode(errors="surrogatepass")
        )

    @cached_property
    def code(self) -> CodeType | None:
        """None when it cannot stand alone (`await` in a notebook cell)."""
        try:
            return compile_statement(self.source, self.first_line, self.file, self.flags)
        except SyntaxError:
            return None

    @cached_property
    def codes(self) -> list[CodeType]:
        """Of the functions, classes and lambdas in it, as they come when it is compiled alone."""
        return [] if self.code is None else list(_nested(self.code))

    @cached_property
    def names(self) -> frozenset[str]:
        if isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            return frozenset({self.node.name})
        if isinstance(self.node, ast.Import | ast.ImportFrom):
            bound = {(a.asname or a.name).split(".")[0] for a in self.node.names}
            return frozenset((bound - {"*"}) | self.star_names)
        return frozenset(bound_names(self.node))

    @cached_property
    def needs(self) -> frozenset[str]:
        """Every global it refers to, now or when its functions are called."""
        found: set[str] = set()
        if self._table is not None:
            _references(self._table, found, only_now=False)
        found -= self._comprehension_names
        return frozenset((found | annotation_names(self.node)) - MAIN_DUNDERS)

    @cached_property
    def needs_now(self) -> frozenset[str]:
        """The globals it reads while it is executed: decorators, bases, defaults, class bodies."""
        found: set[str] = set()
        if self._table is not None:
            _references(self._table, found, only_now=True)
        return frozenset(found - self._comprehension_names - MAIN_DUNDERS)

    @cached_property
    def rebinds(self) -> frozenset[str]:
        """Globals that functions in it bind when they are called (`global n; n = ...`)."""
        return frozenset() if self._table is None else frozenset(_bound_as_globals(self._table))

    @cached_property
    def imports(self) -> list[Import]:
        return imports_in(self.node)

    @cached_property
    def extends(self) -> frozenset[str]:
        """Globals that it fills: `@f.register`, `f.register(...)`, `Point.scale = ...`, `TABLE["x"] = ...`."""
        targets: list[ast.expr] = []
        if isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
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
        return isinstance(self.node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)

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

    @cached_property
    def _comprehension_names(self) -> set[str]:
        """From 3.12 on the symbol table shows a comprehension's variables in the scope around it."""
        if self.is_definition:  # they show in scopes inside it only
            return set()
        comprehensions = [n for n in ast.walk(self.node) if isinstance(n, ast.comprehension)]
        targets = {name for part in comprehensions for name in bound_names(part.target)}
        return targets - loaded_names(self.node) if targets else set()

    @cached_property
    def _table(self) -> symtable.SymbolTable | None:
        source = _standing(self.source)
        if (
            self.flags & ANNOTATIONS_FLAG
        ):  # then annotations are not evaluated, and two classes may name each other
            source = "from __future__ import annotations\n" + source
        try:
            return symtable.symtable(source, self.file, "exec")
        except SyntaxError:
            return None


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


def cut_inside(unit: Unit, text: str, base: int = 0) -> list[Unit]:
    """The statements inside a compound one, which is itself being executed and so cannot be run again."""
    lines = text.splitlines(keepends=True)
    inner: list[ast.stmt] = []
    for part in ("body", "orelse", "finalbody"):
        inner += getattr(unit.node, part, [])
    for handler in getattr(unit.node, "handlers", []):
        inner += handler.body
    return _cut_nodes(inner, lines, unit.file, unit.flags, base, unit.in_guard)


def compile_statement(source: str, first_line: int, file: str, flags: int) -> CodeType:
    """Compiles at the true line and column numbers."""
    if not source[:1].isspace():
        made: Any = compile("\n" * (first_line - 1) + source, file, "exec", flags, dont_inherit=True)
        return cast(CodeType, made)
    body = cast(ast.If, ast.parse(_standing(source), file).body[0]).body
    module = ast.Module([ast.increment_lineno(node, first_line - 2) for node in body], [])
    made = compile(module, file, "exec", flags, dont_inherit=True)
    return cast(CodeType, made)


def compile_whole(text: str, file: str) -> list[CodeType]:
    """The code of every function, class and lambda of a source.

    Compiled alone, a statement need not give the same: calls on imported modules are compiled otherwise.
    """
    for flags in (0, ast.PyCF_ALLOW_TOP_LEVEL_AWAIT):
        try:
            made: Any = compile(text, file, "exec", flags, dont_inherit=True)
        except (SyntaxError, ValueError):
            continue
        return list(_nested(cast(CodeType, made)))
    return []


def imports_in(node: ast.AST) -> list[Import]:
    found: list[Import] = []
    for inner in ast.walk(node):
        if isinstance(inner, ast.Import):
            found += [Import(a.name, 0, ()) for a in inner.names]
        elif isinstance(inner, ast.ImportFrom):
            found.append(Import(inner.module or "", inner.level, tuple(a.name for a in inner.names)))
    return found


def bound_names(node: ast.AST) -> set[str]:
    """The names that a statement binds in its own scope."""
    found: set[str] = set()
    for inner in _own_nodes(node):
        if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Store):
            found.add(inner.id)
        elif isinstance(inner, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(inner.name)
        elif isinstance(inner, ast.Import | ast.ImportFrom):
            found |= {(a.asname or a.name).split(".")[0] for a in inner.names} - {"*"}
        elif isinstance(inner, ast.MatchAs | ast.MatchStar) and inner.name:
            found.add(inner.name)
        elif isinstance(inner, ast.MatchMapping) and inner.rest:
            found.add(inner.rest)
    return found


def loaded_names(node: ast.AST, bound: frozenset[str] = frozenset()) -> set[str]:
    """The names read in a statement, save those that a comprehension or a function around binds."""
    if isinstance(node, ast.Name):
        return {node.id} - bound if isinstance(node.ctx, ast.Load) else set()
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        bound |= {name for part in node.generators for name in bound_names(part.target)}
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
        bound |= {arg.arg for arg in ast.walk(node.args) if isinstance(arg, ast.arg)}
    found: set[str] = set()
    for child in ast.iter_child_nodes(node):
        found |= loaded_names(child, bound)
    return found


def _own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those in scopes of their own; what `:=` binds in a comprehension is bound around it."""
    yield node
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
        return
    if isinstance(node, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        yield from (n.target for n in ast.walk(node) if isinstance(n, ast.NamedExpr))
        return
    for child in ast.iter_child_nodes(node):
        yield from _own_nodes(child)


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
    return [_unit(node, lines, file, flags, base, in_guard) for node in nodes]


def _unit(node: ast.stmt, lines: list[str], file: str, flags: int, base: int, in_guard: bool) -> Unit:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])
    last = node.end_lineno or first
    order = base + (first << 12) + min(node.col_offset, 4095)
    return Unit(node, _slice(node, lines, first, last), first, last, order, file, flags, in_guard)


def _slice(node: ast.stmt, lines: list[str], first: int, last: int) -> str:
    """The statement's text, with what shares its lines blanked out so that its columns stay."""
    cutout = lines[first - 1 : last]
    end = node.end_col_offset
    if end is not None:
        last_line = cutout[-1].encode()
        if not last_line[end:].lstrip().startswith(b"#"):
            cutout[-1] = last_line[:end].decode() + "\n"
    column = node.col_offset
    if column and first == node.lineno:
        head = cutout[0].encode()
        cutout[0] = " " * column + head[column:].decode()
    return "".join(cutout)


def statement_in(source: str) -> ast.stmt | None:
    """The one statement of a text, which may be indented."""
    try:
        node = ast.parse(_standing(source)).body[0]
    except SyntaxError:
        return None
    return cast(ast.If, node).body[0] if source[:1].isspace() else node


def _standing(source: str) -> str:
    """An indented statement needs something to be indented under."""
    return "if 1:\n" + source if source[:1].isspace() else source


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


def _nested(code: CodeType) -> Iterator[CodeType]:
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield const
            yield from _nested(const)


def _references(table: symtable.SymbolTable, found: set[str], only_now: bool) -> None:
    kind = str(getattr(table.get_type(), "value", table.get_type()))
    for symbol in table.get_symbols():
        if kind == "module":
            wanted = symbol.is_referenced()
        elif kind == "class":
            wanted = symbol.is_referenced() and not symbol.is_free()
        else:
            wanted = symbol.is_global()
        if wanted:
            found.add(symbol.get_name())
    for child in table.get_children():
        child_kind = str(getattr(child.get_type(), "value", child.get_type()))
        runs_later = child_kind in LATE or (
            child_kind == "function" and child.get_name() not in COMPREHENSIONS
        )
        if not (only_now and runs_later):
            _references(child, found, only_now)


def _bound_as_globals(table: symtable.SymbolTable) -> Iterator[str]:
    for child in table.get_children():
        for symbol in child.get_symbols():
            if symbol.is_declared_global() and symbol.is_assigned():
                yield symbol.get_name()
        yield from _bound_as_globals(child)


def _root_of_attribute(target: ast.expr) -> str | None:
    if not isinstance(target, ast.Attribute | ast.Subscript):
        return None
    inner: ast.expr = target
    while isinstance(inner, ast.Attribute | ast.Subscript):
        inner = inner.value
    return inner.id if isinstance(inner, ast.Name) else None

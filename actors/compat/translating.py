"""Old source text becomes today's: what Python 2 let a generator function do, with the line numbers that it had.

The text is edited, not the tree, because servers get it, too: what they compile has to be what runs here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

from ..shipping.modules import TextFinder, TextLoader, read_source

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
CATCHES = ("StopIteration", "Exception", "BaseException")

Edit = tuple[int, int, str]  # from, to, instead


def translated(text: str) -> str:
    """``raise StopIteration(x)`` of generator functions is ``return (x)``; assertions about sys.version_info are gone.

    Raises
    ------
    SyntaxError: this is no Python.
    """
    if "StopIteration" not in text and "version_info" not in text:
        return text
    tree = ast.parse(text)
    lines = _Lines(text)
    edits = [edit for node in ast.walk(tree) if (edit := _edit(node, lines)) is not None]
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and any(_is_yield(inner) for inner in _own_nodes(node)):
            edits += _returns(node.body, lines)
    for start, end, instead in sorted(edits, reverse=True):
        text = text[:start] + instead + text[end:]
    return text


class _Lines:
    """Where a node of the tree is in the text."""

    def __init__(self, text: str) -> None:
        self.text = text
        # splitlines() knows ends that the parser does not.
        self._lines = [f"{line}\n" for line in text.split("\n")]
        self._starts = [0]
        for line in self._lines:
            self._starts.append(self._starts[-1] + len(line))

    def offset(self, line: int, column: int) -> int:
        """The parser counts columns in bytes of UTF-8."""
        return self._starts[line - 1] + len(self._lines[line - 1].encode()[:column].decode())

    def span(self, node: Any) -> tuple[int, int]:
        return self.offset(node.lineno, node.col_offset), self.offset(node.end_lineno, node.end_col_offset)


def _edit(node: ast.AST, lines: _Lines) -> Edit | None:
    """An assertion about the version of Python says nothing; it keeps its lines."""
    if not isinstance(node, ast.Assert):
        return None
    about = (inner.attr for inner in ast.walk(node.test) if isinstance(inner, ast.Attribute))
    names = (inner.id for inner in ast.walk(node.test) if isinstance(inner, ast.Name))
    if "version_info" not in (*about, *names):
        return None
    start, end = lines.span(node)
    return start, end, "pass" + " \\\n" * lines.text.count("\n", start, end)


def _own_nodes(function: ast.AST) -> Iterator[ast.AST]:
    """Those of a function that are not those of one inside."""
    todo = list(ast.iter_child_nodes(function))
    while todo:
        node = todo.pop()
        yield node
        if not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            todo += ast.iter_child_nodes(node)


def _is_yield(node: ast.AST) -> bool:
    return isinstance(node, ast.Yield | ast.YieldFrom)


def _returns(body: list[ast.stmt], lines: _Lines) -> Iterator[Edit]:
    """What leaves the generator by StopIteration; not what a `try` of its own catches."""
    for node in body:
        if isinstance(node, ast.Raise) and node.cause is None:
            edit = _return(node, lines)
            if edit is not None:
                yield edit
        elif isinstance(node, ast.Try):
            if not any(_catches(handler.type) for handler in node.handlers):
                yield from _returns(node.body, lines)
            for handler in node.handlers:
                yield from _returns(handler.body, lines)
            yield from _returns([*node.orelse, *node.finalbody], lines)
        elif not isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            for field in ("body", "orelse"):
                yield from _returns(getattr(node, field, []), lines)
            for case in getattr(node, "cases", []):
                yield from _returns(case.body, lines)


def _catches(kind: ast.expr | None) -> bool:
    if isinstance(kind, ast.Tuple):
        return any(map(_catches, kind.elts))
    return kind is None or (isinstance(kind, ast.Name) and kind.id in CATCHES)


def _return(node: ast.Raise, lines: _Lines) -> Edit | None:
    call = node.exc
    name = call.func if isinstance(call, ast.Call) else call
    if not isinstance(name, ast.Name) or name.id != "StopIteration":
        return None
    if isinstance(call, ast.Call) and any(isinstance(one, ast.Starred) for one in call.args):
        return None  # its value cannot be told
    start, end = lines.span(node)
    if not isinstance(call, ast.Call) or not (call.args or call.keywords):
        return start, end, "return" + " \\\n" * lines.text.count("\n", start, end)
    _, after = lines.span(name)
    given = lines.text[after:end]
    if len(call.args) == 1:  # what a call does not mind would make it a tuple
        _, last = lines.span(call.args[0])
        rest = lines.text[last:end]
        given = lines.text[after:last] + (rest.replace(",", "", 1) if "," in rest.partition("#")[0] else rest)
    given = given.lstrip()
    skipped = "\\\n" * (lines.text.count("\n", start, end) - given.count("\n"))
    return start, end, f"return {skipped}{given}"


# --- modules


class Loader(TextLoader):
    """Of a module in old text."""

    def get_source(self, fullname: str) -> str:
        return translated(read_source(self.path) or "")


class Finder(TextFinder):
    """Modules beside the script are as old as it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.resolve()

    def take(self, spec: ModuleSpec) -> bool:
        origin = spec.origin if spec.has_location else None
        if origin is None or not origin.endswith(".py") or "site-packages" in origin:
            return False
        if self._folder not in Path(origin).resolve().parents:
            return False
        spec.loader = Loader(spec.name, origin)
        return True

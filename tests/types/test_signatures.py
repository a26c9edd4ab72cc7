"""That type checkers are told the same of a call in both styles: the overloads differ in what they return."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ACTORS = Path(__file__).parents[2] / "actors"
ASYNC = ACTORS / "tasks" / "submitting.py"
SYNC = ACTORS / "client" / "sync_signatures.py"


def overloads(file: Path, owner: str, method: str) -> list[str]:
    """The parameters and what is returned, with the names of the async style."""
    tree = ast.parse(file.read_text())
    found = next(node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == owner)
    return [
        ast.unparse(node.args) + " -> " + ast.unparse(node.returns).replace("Sync", "")
        for node in found.body
        if isinstance(node, ast.FunctionDef) and node.name == method and node.returns
        if any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)
    ]


@pytest.mark.parametrize(
    ("owner", "method", "of_sync"),
    [("Submit", "__call__", "Submit"), ("StartAt", "__call__", "SubmitAt"), ("Submits", "map", "MapCall")],
)
def test_the_overloads_of_the_sync_style_are_those_of_the_async_one(
    owner: str, method: str, of_sync: str
) -> None:
    expected = [
        line.replace("Starting[", "Task[").replace("Coroutine[Any, Any, Task[R]]", "Task[R]")
        for line in overloads(ASYNC, owner, method)
    ]
    assert len(expected) > 10
    assert overloads(SYNC, of_sync, "__call__") == expected

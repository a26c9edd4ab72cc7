"""That type checkers are told the same of each way to call a function: the overloads differ in what they return."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ACTORS = Path(__file__).parents[2] / "actors"
SUBMITTING = ACTORS / "tasks" / "submitting.py"
MAP = ACTORS / "tasks" / "map.py"
SYNC = ACTORS / "client" / "sync_signatures.py"
RUN = ACTORS / "client" / "program.py"


def overloads(file: Path, owner: str, method: str) -> list[str]:
    """The parameters that go to the function, with the names of submit()."""
    tree = ast.parse(file.read_text())
    body = next(
        (node.body for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == owner),
        tree.body,
    )
    found = []
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == method and is_overload(node):
            given = ast.unparse(node.args).replace("main: ", "f: ")
            found.append(given[given.index(", f: ") + 2 :] if ", f: " in given else given)
    assert len(found) > 10
    return found


def is_overload(node: ast.FunctionDef) -> bool:
    return any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)


def returned(file: Path, owner: str, method: str) -> list[str]:
    (found,) = (
        node
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef) and node.name == owner
    )
    return [
        ast.unparse(node.returns)
        for node in found.body
        if isinstance(node, ast.FunctionDef)
        and node.name == method
        and is_overload(node)
        and node.returns is not None
    ]


@pytest.mark.parametrize(
    ("file", "owner", "method", "has_not"),
    [
        (SUBMITTING, "Start", "__call__", ["Valued["]),
        (SUBMITTING, "StartAt", "__call__", ["Valued["]),
        (SUBMITTING, "Task", "__init__", ["Valued[", "retries"]),
        (SYNC, "Submit", "__call__", []),
        (SYNC, "SubmitAt", "__call__", ["Valued["]),
        (RUN, "", "run", ["Valued[", "retries"]),
    ],
)
def test_each_way_to_start_a_task_knows_the_functions_that_submit_knows(
    file: Path, owner: str, method: str, has_not: list[str]
) -> None:
    of_submit = overloads(SUBMITTING, "Submit", "__call__")
    expected = [line for line in of_submit if not any(words in line for words in has_not)]
    found = overloads(file, owner, method)
    if method == "run":
        found = found[1:]  # a coroutine
    assert found == expected


def test_map_of_the_sync_style_knows_and_gives_what_that_of_the_async_one_does() -> None:
    assert overloads(SYNC, "MapCall", "__call__") == overloads(MAP, "Maps", "map")
    of_sync = [line.replace("Sync", "") for line in returned(SYNC, "MapCall", "__call__")]
    assert of_sync == returned(MAP, "Maps", "map")


def test_all_that_submit_gives_is_a_handle_of_the_value() -> None:
    assert set(returned(SUBMITTING, "Submit", "__call__")) == {"Task[R]"}
    assert set(returned(SYNC, "Submit", "__call__") + returned(SYNC, "SubmitAt", "__call__")) == {
        "SyncTask[R]"
    }

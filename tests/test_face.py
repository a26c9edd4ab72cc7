"""What users import from dispycos: every name is there, is what its module has, and costs nothing until it is used."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import dispycos
from dispycos.version import RELEASE


@pytest.mark.parametrize("name", dispycos.__all__)
def test_every_name_resolves_to_what_its_module_has(name: str) -> None:
    module, _, attribute = dispycos._PLACES[name].partition(":")
    value = getattr(dispycos, name)
    assert value is getattr(import_module(f"dispycos.{module}"), attribute or name)
    assert getattr(dispycos, name) is value


def test_type_checkers_see_the_same_names_at_the_same_places() -> None:
    tree = ast.parse(Path(dispycos.__file__).read_text())
    (block,) = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {
        alias.asname or alias.name: (str(node.module).removeprefix("dispycos."), alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    renamed = {
        ast.unparse(node.targets[0]): ast.unparse(node.value)
        for node in block.body
        if isinstance(node, ast.Assign)
    }
    seen = {name: place for name, place in imported.items() if name not in renamed.values()}
    seen |= {name: imported[original] for name, original in renamed.items()}
    looked_up = {
        name: (place.partition(":")[0], place.partition(":")[2] or name)
        for name, place in dispycos._PLACES.items()
    }
    assert seen == looked_up


def test_the_release_is_a_name_that_a_star_import_leaves_alone() -> None:
    assert dispycos.__version__ == RELEASE
    assert "__version__" not in dispycos.__all__


def test_an_unknown_name_is_an_attribute_error_that_says_so() -> None:
    with pytest.raises(AttributeError, match="module 'dispycos' has no attribute 'Clinet'"):
        getattr(dispycos, "Clinet")  # noqa: B009


def test_an_unknown_name_cannot_be_imported() -> None:
    with pytest.raises(ImportError, match="Clinet"):
        exec("from dispycos import Clinet")


def test_dir_lists_what_users_import() -> None:
    assert set(dir(dispycos)) == set(dispycos.__all__)


def test_a_star_import_gives_all_names() -> None:
    names: dict[str, object] = {}
    exec("from dispycos import *", names)
    assert set(dispycos.__all__) <= names.keys()


def test_the_import_alone_loads_no_role_and_no_library() -> None:
    """`import dispycos` in a program that may not use it yet costs nothing."""
    program = "import dispycos, sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    loaded = set(json.loads(done.stdout))
    assert not [name for name in loaded if name.startswith("dispycos.")]
    assert not loaded & {"zmq", "asyncio", "zeroconf", "dill", "psutil", "click"}


def documented() -> dict[str, str]:
    """What help() shows of each public name and of its public methods, by name."""
    found: dict[str, str] = {}
    for name in dispycos.__all__:
        value = getattr(dispycos, name)
        if not inspect.isclass(value) and not inspect.isroutine(value):
            continue  # help() of a constant is that of its type
        found[name] = inspect.getdoc(value) or ""
        if not inspect.isclass(value):
            continue
        for attribute, member in inspect.getmembers_static(value):
            owner = next(kind for kind in value.__mro__ if attribute in vars(kind))
            is_ours = owner.__module__.startswith("dispycos.") and not attribute.startswith("_")
            if is_ours and (inspect.isroutine(member) or isinstance(member, property)):
                found[f"{name}.{attribute}"] = inspect.getdoc(getattr(value, attribute)) or ""
    return found


def test_help_tells_of_each_name_and_method_without_the_specification() -> None:
    texts = documented()
    assert "Client.submit" in texts and "Task.send" in texts
    assert not [name for name, text in texts.items() if not text]
    inside = r"\bspec\b|DESIGN|DECISIONS|\bdocs/|zygote|\bledger\b|\blease\b"  # what who has only the package cannot look up
    assert not [name for name, text in texts.items() if re.search(inside, text)]

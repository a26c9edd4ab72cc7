"""That imports run down only, that only bodies touch the outside, and that every package is installed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ["dispycos", "brokers", "actors", "cli"]  # each imports those to its left, and itself

# They hand names to users and to the command line; nobody inside imports them.
FACES = {"dispycos/__init__.py", "dispycos/__main__.py"}

OUTSIDE = {"zmq", "socket", "asyncio", "threading", "subprocess", "time", "zeroconf"}

# What a machine has no use for, beside OUTSIDE: each would make its history depend on more than its calls.
IMPURE = OUTSIDE | {
    "concurrent",
    "ctypes",
    "datetime",
    "fcntl",
    "logging",
    "multiprocessing",
    "os",
    "pathlib",
    "psutil",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "sys",
    "tempfile",
    "uuid",
}

BODIES = {
    "dispycos/living.py",
    "dispycos/runtime.py",
    "dispycos/transport/addresses.py",
    "dispycos/transport/dialler.py",
    "dispycos/transport/discovery.py",
    "dispycos/transport/door.py",
    "dispycos/transport/folders.py",
    "dispycos/transport/mailbox.py",
    "dispycos/transport/probe.py",
    "dispycos/transport/refusals.py",
    "dispycos/transport/security.py",
    "dispycos/transport/witness.py",
    "brokers/broker.py",
    "brokers/finding.py",
    "brokers/local.py",
    "actors/client.py",
    "actors/connecting.py",
    "actors/seat.py",
    "actors/submitting.py",
    "actors/cluster.py",  # the wall clock, for TaskInfo.start_time
    "actors/local.py",
    "actors/mapping.py",
    "actors/task.py",
    "actors/host/cell.py",
    "actors/host/cells.py",
    "actors/host/output.py",
    "actors/host/correspondence.py",
    "actors/host/ends.py",
    "actors/host/execution.py",
    "actors/host/handles.py",
    "actors/host/interrupts.py",
    "actors/host/lines.py",
    "actors/host/loops.py",
    "actors/host/mirroring.py",
    "actors/host/opening.py",
    "actors/host/processes.py",
    "actors/host/relief.py",
    "actors/host/run_node.py",
    "actors/host/run_server.py",
    "actors/host/stepper.py",
    "actors/host/template.py",
    "actors/host/subtasks.py",
    "actors/host/zygote.py",
    "actors/shipping/by_value.py",  # sockets, to say that they cannot be sent
    "actors/shipping/mirror.py",  # locks: imports come from any thread
    "actors/shipping/modules.py",
    "actors/shipping/snapshot.py",
    "cli/console.py",
    "cli/node.py",
    "cli/private.py",
    "cli/process.py",
    "cli/scheduler.py",
    "cli/status.py",
    "cli/survey.py",
}

MACHINES = {
    "dispycos/session.py",
    "dispycos/packing.py",
    "dispycos/router.py",
    "dispycos/neighbours.py",
    "dispycos/alarms.py",
    "dispycos/relay.py",
    "dispycos/stream.py",
    "dispycos/transfers.py",
    "dispycos/liveness.py",
    "dispycos/links.py",
    "dispycos/machine.py",
    "dispycos/turns.py",
    *(
        f"brokers/{name}.py"
        for name in (
            "allocation",
            "lifecycle",
            "outbox",
            "registry",
            "leasing",
            "waiting",
            "reporting",
            "scheduler",
        )
    ),
    *(
        f"actors/{name}.py"
        for name in (
            "ledger",
            "node",
            "supervisor",
            "tenancy",
            "server",
            "terminations",
        )
    ),
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "actors" / "dispatching").glob("*.py")),
    *(path.relative_to(ROOT).as_posix() for path in (ROOT / "dispycos" / "protocol").glob("*.py")),
}

# A machine may take a word from a body's file where users know the word by that file.
WORDS_OF_BODIES = {("actors/ledger.py", "actors/task.py")}  # Location


class Import(NamedTuple):
    """One imported module, and whether it was named from where the importer stands."""

    file: str
    module: str
    relative: bool
    for_types_only: bool


@cache
def tree_of(file: str) -> ast.Module:
    return ast.parse((ROOT / file).read_text(), file)


@cache
def files() -> tuple[str, ...]:
    """Every module of the project; dispycos/{actors,brokers,cli} are links and named by what they point to."""
    found = []
    for floor in FLOORS:
        for path in sorted((ROOT / floor).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if floor != "dispycos" or name.split("/")[1] not in FLOORS:
                found.append(name)
    return tuple(found)


def module_of(file: str) -> str:
    parts = Path(file).with_suffix("").parts
    if parts[0] != "dispycos":
        parts = ("dispycos", *parts)
    return ".".join(part for part in parts if part != "__init__")


@cache
def modules() -> dict[str, str]:
    return {module_of(file): file for file in files()}


def package_of(file: str) -> list[str]:
    parts = module_of(file).split(".")
    return parts if file.endswith("__init__.py") else parts[:-1]


def imports_of(file: str) -> Iterator[Import]:
    for_types = {
        id(inner)
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree_of(file)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(file, alias.name, False, id(node) in for_types)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                package = package_of(file)
                base = ".".join([*package[: len(package) - node.level + 1], *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"  # `from . import version` means the module, not the package
                yield Import(
                    file, inner if inner in modules() else base, bool(node.level), id(node) in for_types
                )


def all_imports() -> Iterator[Import]:
    for file in files():
        yield from imports_of(file)


def floor_of(module: str) -> str:
    """'' for what is not ours."""
    first, _, rest = module.partition(".")
    if first != "dispycos":
        return ""
    child = rest.partition(".")[0]
    return child if child in FLOORS else "dispycos"


def test_the_search_sees_every_floor() -> None:
    assert {file.split("/")[0] for file in files()} == set(FLOORS)
    assert len(files()) > 50
    assert modules()["dispycos.actors.ledger"] == "actors/ledger.py"


def test_imports_run_down_cli_actors_brokers_kernel() -> None:
    up = [
        (found.file, found.module)
        for found in all_imports()
        if found.file not in FACES
        and floor_of(found.module)
        and FLOORS.index(floor_of(found.module)) > FLOORS.index(found.file.split("/")[0])
    ]
    assert not up


def test_every_import_of_our_own_names_a_module_that_is_there() -> None:
    missing = [
        (found.file, found.module)
        for found in all_imports()
        if floor_of(found.module) and found.module not in modules()
    ]
    assert not missing


def test_folders_are_imported_by_their_installed_names() -> None:
    """`import actors` works in the checkout only, and may be a user's own module."""
    bare = [(found.file, found.module) for found in all_imports() if found.module.split(".")[0] in FLOORS[1:]]
    assert not bare


def test_a_relative_import_stays_on_its_floor() -> None:
    across = [
        (found.file, found.module)
        for found in all_imports()
        if found.relative and floor_of(found.module) != found.file.split("/")[0]
    ]
    assert not across


def test_nobody_inside_imports_the_face() -> None:
    faces = {module_of(file) for file in FACES}
    assert faces == {"dispycos", "dispycos.__main__"}
    users = [(found.file, found.module) for found in all_imports() if found.module in faces]
    assert not users


def test_only_bodies_touch_the_outside_and_each_that_is_listed_does() -> None:
    touching = {found.file for found in all_imports() if found.module.split(".")[0] in OUTSIDE}
    assert touching == BODIES


def test_there_is_one_place_with_sockets_of_zeromq() -> None:
    """The mailbox; security and refusals set their options and read their events, the process reads bind errors."""
    users = {found.file for found in all_imports() if found.module.split(".")[0] == "zmq"}
    ours = {f"dispycos/transport/{name}.py" for name in ("mailbox", "refusals", "security")}
    assert users == {*ours, "cli/process.py"}


def test_machines_are_where_they_are_expected() -> None:
    assert set(files()) >= MACHINES
    assert not MACHINES & BODIES


@pytest.mark.parametrize("file", sorted(MACHINES))
def test_a_machine_has_no_socket_clock_thread_or_file(file: str) -> None:
    touched = {found.module for found in imports_of(file) if found.module.split(".")[0] in IMPURE}
    assert not touched
    calls = [
        node.func.id
        for node in ast.walk(tree_of(file))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("open", "print", "input")
    ]
    assert not calls
    assert not [
        node for node in ast.walk(tree_of(file)) if isinstance(node, ast.AsyncFunctionDef | ast.Await)
    ]


@pytest.mark.parametrize("file", sorted(MACHINES))
def test_a_machine_rests_on_no_body(file: str) -> None:
    below = {
        (file, modules()[found.module])
        for found in imports_of(file)
        if not found.for_types_only and found.module in modules() and modules()[found.module] in BODIES
    }
    assert below <= WORDS_OF_BODIES


@pytest.mark.parametrize("file", files())
def test_a_file_opens_with_a_sentence(file: str) -> None:
    if not (ROOT / file).read_text():
        assert file.endswith("/__init__.py"), "only the file that makes a folder a package may be empty"
        return
    opening = ast.get_docstring(tree_of(file))
    assert opening, "no docstring"
    first = opening.split("\n\n")[0].rstrip()
    assert first[0].isupper() or first[0] in "`d", first
    assert first.endswith((".", ":")), f"no sentence: {first!r}"


def test_every_package_folder_is_installed() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    found = {module_of(file) for file in files() if file.endswith("__init__.py")}
    assert found == set(config["options"]["packages"].split())


def test_folders_are_mapped_to_their_installed_names() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    mapped = dict(line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines())
    assert mapped == {"dispycos": "dispycos", **{f"dispycos.{floor}": floor for floor in FLOORS[1:]}}
    for floor in FLOORS[1:]:
        link = ROOT / "dispycos" / floor
        assert link.is_symlink() and link.resolve() == ROOT / floor


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {(ROOT / file).parent for file in files()}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]

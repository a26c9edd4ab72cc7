"""That imports run down only, that only bodies touch the outside, and that every package is installed."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Set
from configparser import ConfigParser
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = ["dispycos", "brokers", "actors", "cli"]  # each imports those to its left, and itself

# They hand names to users and to the command line; nobody inside imports them.
FACES = {"dispycos/__init__.py", "dispycos/__main__.py", "dispycos/compat.py"}

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
    "dispycos/transport/certificates.py",
    "dispycos/transport/claims.py",  # the age of what nobody claims
    "dispycos/transport/dialler.py",
    "dispycos/transport/discovery.py",
    "dispycos/transport/door.py",
    "dispycos/transport/folders.py",
    "dispycos/transport/mailbox.py",
    "dispycos/transport/probe.py",
    "dispycos/transport/question.py",
    "dispycos/transport/refusals.py",
    "dispycos/transport/security.py",
    "dispycos/transport/witness.py",
    "brokers/broker.py",
    "brokers/finding.py",
    "brokers/private.py",
    "actors/client/client.py",
    "actors/client/connect.py",
    "actors/client/in_process.py",
    "actors/client/lease.py",
    "actors/client/ledger_body.py",
    "actors/tasks/either_style.py",
    "actors/client/status.py",  # the wall clock, for TaskInfo.start_time
    "actors/client/local.py",
    "actors/tasks/chunks.py",
    "actors/client/loop_thread.py",
    "actors/client/sync_client.py",
    "actors/client/sync_map.py",
    "actors/client/sync_task.py",
    "actors/client/together.py",
    "actors/tasks/items.py",
    "actors/tasks/mapping.py",
    "actors/tasks/progress.py",
    "actors/client/program.py",
    "actors/client/http_server.py",
    "actors/client/repeats.py",
    "actors/pool/calls.py",
    "actors/pool/cluster.py",
    "actors/pool/end.py",
    "actors/pool/executor.py",
    "actors/pool/future.py",
    "actors/pool/joblib_backend.py",
    "actors/web/app.py",
    "actors/web/connections.py",
    "actors/web/listening.py",
    "actors/web/serving.py",
    "actors/web/streams.py",
    "actors/web/watching.py",
    *(
        f"actors/compat/{name}.py"
        for name in ("categories", "files", "network", "program", "pycos", "sockets", "tasks", "threads")
    ),
    *(f"actors/compat/dispy/{name}.py" for name in ("callbacks", "clusters", "jobs", "journal")),
    *(f"actors/compat/dispy/{name}.py" for name in ("line", "nodes", "pending", "remote")),
    "actors/sharing/locks.py",
    "actors/tasks/actor.py",
    "actors/tasks/handle.py",
    "actors/tasks/task_future.py",
    "actors/tasks/cell.py",
    "actors/tasks/current.py",
    "actors/tasks/roles.py",  # the type of a loop
    "actors/node/processes/output.py",
    "actors/tasks/correspondence.py",
    "actors/tasks/waiting.py",
    "actors/tasks/files/sender.py",
    "actors/tasks/running/between.py",
    "actors/tasks/running/execution.py",
    "actors/tasks/handles.py",
    "actors/tasks/running/interrupts.py",
    "actors/node/processes/lines.py",
    "actors/tasks/loops.py",
    "actors/server/code.py",
    "actors/node/processes/tree.py",
    "actors/tasks/running/relief.py",
    "actors/node/run.py",
    "actors/server/body.py",
    "actors/server/setup.py",
    "actors/server/sight.py",
    "actors/server/stacks.py",
    "actors/node/processes/template.py",
    "actors/tasks/running/subtasks.py",
    "actors/node/processes/zygote.py",
    "actors/shipping/by_value.py",  # sockets, to say that they cannot be sent
    "actors/shipping/mirror.py",  # locks: imports come from any thread
    "actors/shipping/modules.py",
    "actors/shipping/snapshot.py",
    "actors/web/recording.py",
    "actors/web/replaying.py",
    "cli/clean.py",
    "cli/console.py",
    "cli/cancel.py",
    "cli/lookout.py",
    "cli/doctor.py",
    "cli/host_checks.py",
    "cli/network_checks.py",
    "cli/node.py",
    "cli/private.py",
    "cli/process.py",
    "cli/scheduler.py",
    "cli/status.py",
    "cli/stack.py",
    "cli/survey.py",
    "cli/tasks.py",
    "cli/top.py",
    "cli/viewing.py",
    "cli/web.py",
    "cli/words.py",
    "cli/webbing.py",
}


def in_folder(folder: str, *names: str) -> list[str]:
    """These modules of it, or all."""
    there = [path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob("*.py")]
    return [f"{folder}/{name}.py" for name in names] or there


MACHINES = {
    "dispycos/hours.py",
    "dispycos/machine.py",
    "dispycos/turns.py",
    *in_folder("dispycos/protocol"),
    *in_folder("dispycos/session"),
    *in_folder(
        "brokers", "allocation", "leasing", "lifecycle", "outbox", "registry", "reporting", "scheduler"
    ),
    *in_folder("brokers", "sharing", "waiting"),
    *in_folder(
        "actors/client", "control", "effects", "holdings", "ledger", "members", "needs", "owned", "standing"
    ),
    *in_folder("actors/client", "submitters", "unprinted"),
    *in_folder("actors/dispatching"),
    *in_folder("actors/node", "agent", "answering", "inquiries", "lease"),
    *in_folder("actors/node", "summaries", "supervisor", "terminations"),
    *in_folder("actors/tasks/files", "receiving", "sending"),
    "actors/server/queue.py",
    *in_folder("actors/tasks", "failures", "keeping", "options", "pacing", "windows"),
    *in_folder("actors/sharing", "book", "hub", "peers"),
    *in_folder("actors/client", "last_output", "tally", "watching"),
    *in_folder("actors/web", "access", "actions", "endpoints", "known", "metrics", "queries"),
    *in_folder("actors/web", "from_clients", "from_nodes", "reading", "rows", "tables", "world"),
    "dispycos/histogram.py",
}

# Of the folders of actors/: whom each knows beside itself and the floors below. Client, node and server know nothing of each other.
KNOWS = {
    "compat": {"client", "sharing", "shipping", "tasks"},
    "shipping": set(),
    "tasks": {"shipping"},
    "dispatching": {"tasks"},
    "client": {"dispatching", "sharing", "shipping", "tasks", "web"},
    "node": {"tasks"},
    "pool": {"client", "tasks"},
    "server": {"sharing", "shipping", "tasks"},
    "sharing": {"shipping", "tasks"},
    "web": set(),
}


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
            if floor != "dispycos" or name.split("/")[1] not in (*FLOORS, "examples"):
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


@cache
def imports_of(file: str) -> tuple[Import, ...]:
    return tuple(find_imports(file))


def find_imports(file: str) -> Iterator[Import]:
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
    assert modules()["dispycos.actors.client.ledger"] == "actors/client/ledger.py"


def test_imports_run_down_cli_actors_brokers_kernel() -> None:
    up = [
        (found.file, found.module)
        for found in all_imports()
        if found.file not in FACES
        and floor_of(found.module)
        and FLOORS.index(floor_of(found.module)) > FLOORS.index(found.file.split("/")[0])
    ]
    assert not up


def room_of(module: str) -> str:
    """The folder of actors/ that it is in; '' elsewhere."""
    return module.split(".")[2] if module.startswith("dispycos.actors.") else ""


def test_folders_of_actors_know_whom_they_may() -> None:
    assert set(KNOWS) == {room_of(module) for module in modules()} - {""}
    strangers = [
        (found.file, found.module)
        for found in all_imports()
        if (here := room_of(module_of(found.file)))
        and (there := room_of(found.module))
        and there not in {here, *KNOWS[here]}
    ]
    assert not strangers


def circles(imports: Mapping[str, Set[str]]) -> list[set[str]]:
    """Sets of modules of which each reaches each other one (Tarjan, "Depth-first search and linear graph algorithms", 1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[set[str]] = []

    def visit(module: str) -> None:
        index[module] = low[module] = len(index)
        stack.append(module)
        for other in imports[module]:
            if other not in index:
                visit(other)
                low[module] = min(low[module], low[other])
            elif other in stack:
                low[module] = min(low[module], index[other])
        if low[module] == index[module]:
            at = stack.index(module)
            if len(stack) > at + 1:
                found.append(set(stack[at:]))
            del stack[at:]

    for module in imports:
        if module not in index:
            visit(module)
    return found


def test_circles_are_found() -> None:
    imports: dict[str, set[str]] = {"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": {"e"}, "e": set()}
    assert circles(imports) == [{"b", "c"}]


def test_no_modules_import_each_other_in_a_circle() -> None:
    """Not for types only, nor inside of functions: who reads one file has to read the others."""
    imports: dict[str, set[str]] = {module: set() for module in modules()}
    for found in all_imports():
        if found.file not in FACES and found.module in imports:
            imports[module_of(found.file)].add(found.module)
    assert not circles(imports)


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
    assert faces == {"dispycos", "dispycos.__main__", "dispycos.compat"}
    users = [(found.file, found.module) for found in all_imports() if found.module in faces]
    assert not users


def test_only_bodies_touch_the_outside_and_each_that_is_listed_does() -> None:
    touching = {found.file for found in all_imports() if found.module.split(".")[0] in OUTSIDE}
    assert touching == BODIES


def test_there_is_one_place_with_sockets_of_zeromq() -> None:
    """The mailbox; security and refusals set options and read events, certificates its files, the process bind errors."""
    users = {found.file for found in all_imports() if found.module.split(".")[0] == "zmq"}
    ours = {f"dispycos/transport/{name}.py" for name in ("certificates", "mailbox", "refusals", "security")}
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
    assert not below


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
    assert {*found, "dispycos.examples"} == set(config["options"]["packages"].split())


def test_folders_are_mapped_to_their_installed_names() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg")
    mapped = dict(line.split(" = ") for line in config["options"]["package_dir"].strip().splitlines())
    linked = [*FLOORS[1:], "examples"]  # these for scripts of pycos, which look for them beside it
    assert mapped == {"dispycos": "dispycos", **{f"dispycos.{folder}": folder for folder in linked}}
    for floor in linked:
        link = ROOT / "dispycos" / floor
        assert link.is_symlink() and link.resolve() == ROOT / floor


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {(ROOT / file).parent for file in files()}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]

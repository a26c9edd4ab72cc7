"""How values become payloads and back, what may be a component, and what servers get when they ask the client."""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dispycos.actors.client.code import ClientPayloads, is_found_by_name
from dispycos.actors.server.code import _reference
from dispycos.actors.shipping.pickling import COPIED_MAX, dumps, dumps_call, kept_as_it_is, loads
from dispycos.actors.shipping.words import (
    CodeBundle,
    CodeRequest,
    MissingCode,
    NodeSetup,
    ServerSetup,
    Value,
)
from dispycos.errors import NotPicklable, RemoteError
from dispycos.protocol.addresses import Location

SOURCE = """
FACTOR = 3

def scale(x):
    return FACTOR * x

class Shape:
    sides = 4
"""


@pytest.fixture
def main(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    """A script as __main__, and its folder as the current one."""
    script = tmp_path / "script.py"
    script.write_text(SOURCE)
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    exec(compile(SOURCE, str(script), "exec"), vars(module))
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.chdir(tmp_path)
    yield module


def node_setup(payloads: ClientPayloads, call: Any = None, size_max: int = 0) -> tuple[NodeSetup, list[Any]]:
    """What a node is given, and what follows."""
    error, payload = payloads.node_setup(call, size_max)
    assert not error and isinstance(payload, list)
    return msgspec.msgpack.decode(payload[0], type=NodeSetup), payload[1:]


def components_of(payloads: ClientPayloads) -> NodeSetup:
    return node_setup(payloads)[0]


def names_in(bundle: CodeBundle) -> set[str]:
    names = ([step.name] if isinstance(step, Value) else step.names for step in bundle.steps)
    return {name for some in names for name in some}


def iter_nothing() -> Iterator[int]:
    """A generator: nothing pickles it."""
    yield from ()


# --- values ---


@pytest.mark.parametrize("value", [None, 1, "text", [1, {"a": (2,)}], b"x" * 100_000])
def test_a_value_comes_out_as_it_went_in(value: Any) -> None:
    payload = dumps(value, "the value")
    assert isinstance(payload, bytes)
    assert loads(payload) == value


def test_large_buffers_travel_beside_the_stream() -> None:
    data = bytearray(b"x" * 100_000)
    payload = dumps({"data": pickle.PickleBuffer(data)}, "the value")
    assert isinstance(payload, list) and len(payload) == 2
    assert isinstance(payload[0], bytes) and len(payload[0]) < 1000
    assert isinstance(payload[1], memoryview) and payload[1].obj is data  # not copied
    assert bytes(loads(payload)["data"]) == bytes(data)


def test_a_call_is_a_function_and_its_arguments() -> None:
    assert loads(dumps_call(os.path.join, ("a", "b"), {"c": 1})) == (os.path.join, ("a", "b"), {"c": 1})


def test_a_function_that_servers_find_by_its_name_does_not_travel(main: types.ModuleType) -> None:
    scale: Any = vars(main)["scale"]
    payloads = ClientPayloads()
    assert loads(payloads.dumps_call(scale, "scale", (4,), {"y": 5})) == (None, (4,), {"y": 5})
    assert loads(payloads.dumps_call(os.path.join, "join", ("a",), {}))[0] is os.path.join
    with pytest.raises(NotPicklable, match="argument 2 of scale"):
        payloads.dumps_call(scale, "scale", (1, iter_nothing()), {})
    assert is_found_by_name(scale, "scale")
    assert not is_found_by_name(vars(main)["Shape"], "Shape"), "its __reduce__ may say otherwise"
    assert not is_found_by_name(scale, "other"), "it is called otherwise by people"
    vars(main)["scale"] = len
    assert not is_found_by_name(scale, "scale"), "there the name means something else"


def test_what_is_missing_of_a_call_by_name_is_the_name() -> None:
    with pytest.raises(AttributeError, match="no_such_function"):
        pickle.loads(_reference("no_such_function"))
    assert pickle.loads(_reference("__name__")) == "__main__"


def test_a_message_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(NotPicklable, match=r"the message to anna.*generator"):
        dumps({"x": iter_nothing()}, "the message to anna")


def test_an_argument_that_cannot_be_pickled_is_named() -> None:
    with pytest.raises(NotPicklable, match=r"argument 2.*of join"):
        dumps_call(os.path.join, ("a", iter_nothing()), {})


# --- components ---


def test_without_components_a_server_still_learns_what_the_program_is(
    main: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_x.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["script.py", "--fast", "\udcff"])
    given = components_of(ClientPayloads())
    assert (given.files, given.bundle.steps, given.bundle.main_version) == ([], [], 1)
    assert given.bundle.main is not None and "beside_x" in given.bundle.main.local_names
    assert given.bundle.main.argv == [b"script.py", b"--fast", "\udcff".encode(errors="surrogatepass")]


def test_what_debuggers_make_of_a_scripts_name_is_a_name(main: types.ModuleType) -> None:
    class Target(str):
        pass

    main.__file__ = Target(main.__file__)
    info = components_of(ClientPayloads([main.scale])).bundle.main
    assert info is not None and type(main.__file__) is Target and info.file == main.__file__


def test_the_name_of_a_folder_may_be_any_bytes(main: types.ModuleType) -> None:
    main.__file__ = f"/caf\udce9{main.__file__}"
    info = components_of(ClientPayloads([main.scale])).bundle.main
    assert info is not None and info.file == main.__file__.replace("\udce9", r"\udce9")


def test_functions_and_classes_of_the_script_are_sent_with_what_they_use(main: types.ModuleType) -> None:
    given = components_of(ClientPayloads([main.scale, main.Shape]))
    assert names_in(given.bundle) == {"scale", "Shape", "FACTOR"}
    assert given.files == []


def test_a_module_beside_the_script_is_sent(
    main: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "beside_the_script.py").write_text("def help():\n    return 1\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    import beside_the_script  # type: ignore[import-not-found]

    try:
        bundle = components_of(ClientPayloads([beside_the_script])).bundle
        assert [module.name for module in bundle.modules] == ["beside_the_script"]
    finally:
        del sys.modules["beside_the_script"]


def test_files_are_sent_under_their_names(main: types.ModuleType, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "table.csv").write_bytes(b"1,2\n")
    (tmp_path / "other.bin").write_bytes(b"\0")
    given, data = node_setup(ClientPayloads(["data/table.csv", tmp_path / "other.bin"]))
    assert given.files == ["data/table.csv", "other.bin"] and data == [b"1,2\n", b"\0"]


def test_one_component_needs_no_list(main: types.ModuleType, tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("1")
    assert components_of(ClientPayloads("one.txt")).files == ["one.txt"]
    assert names_in(components_of(ClientPayloads(main.scale)).bundle) == {"scale", "FACTOR"}


def test_a_file_that_is_not_there_is_said_at_once(main: types.ModuleType, tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=rf"components\[1\]: no such file: missing.csv \(in {tmp_path}\)"
    ):
        ClientPayloads([main.scale, "missing.csv"])


def test_a_folder_is_no_file(main: types.ModuleType, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match=r"components\[0\]: .* is a folder: name its files"):
        ClientPayloads(["folder"])


@pytest.mark.parametrize(("component", "kind"), [(5, "int"), (None, "NoneType"), (object(), "object")])
def test_what_cannot_be_a_component_is_named(main: types.ModuleType, component: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=rf"components\[0\] must be .* not {kind}"):
        ClientPayloads([component])


# --- answers to servers ---


def test_a_server_gets_the_names_it_asks_for(main: types.ModuleType) -> None:
    request = msgspec.msgpack.encode(CodeRequest(names=["Shape"]))
    error, answer = ClientPayloads().answer(request)
    assert error == "" and isinstance(answer, bytes)
    bundle = msgspec.msgpack.decode(answer, type=CodeBundle)
    assert names_in(bundle) == {"Shape"}


def test_a_request_may_come_as_a_frame(main: types.ModuleType) -> None:
    request = msgspec.msgpack.encode(CodeRequest(names=["scale"]))
    assert ClientPayloads().answer([memoryview(request)])[0] == ""
    assert ClientPayloads().answer(memoryview(request))[0] == ""


@pytest.mark.parametrize("request_", [b"", b"\xc1", b"garbage", msgspec.msgpack.encode({"names": 5})])
def test_a_request_that_is_none_gets_words(main: types.ModuleType, request_: bytes) -> None:
    error, answer = ClientPayloads().answer(request_)
    assert error and answer is None


def test_the_version_grows_when_a_name_that_was_sent_is_bound_anew(main: types.ModuleType) -> None:
    payloads = ClientPayloads([main.scale])
    components_of(payloads)
    before = payloads.version()
    assert payloads.version() == before
    vars(main)["FACTOR"] = 5
    assert payloads.version() == before + 1


def test_a_client_is_never_behind_and_fetches_from_nobody(main: types.ModuleType) -> None:
    payloads = ClientPayloads()
    assert not payloads.is_behind(1 << 40)
    asyncio.run(payloads.catch_up(1 << 40))
    with pytest.raises(RemoteError, match="not here"):
        asyncio.run(payloads.fetch(MissingCode(CodeRequest(names=["Shape"]))))


@pytest.mark.parametrize(
    ("components", "error"),
    [
        ("10.0.0.5:9705", FileNotFoundError),
        (["box:9705"], FileNotFoundError),
        ("localhost", FileNotFoundError),
        (["::1"], FileNotFoundError),
        (Location("box", 9705), TypeError),
    ],
)
def test_a_place_that_is_given_for_a_component_is_told_where_it_belongs(
    components: Any, error: type[Exception]
) -> None:
    with pytest.raises(error, match=r"components\[0\].*belongs into schedule\(\).*Client\(nodes="):
        ClientPayloads(components)


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two of one name, in folders of a program that runs beside these."""
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(folder)
    monkeypatch.chdir(tmp_path)
    return [tmp_path / "x" / "a.txt", tmp_path / "y" / "a.txt"]


def test_two_files_that_would_be_one_at_a_node_are_refused_and_one_file_named_twice_is_one(
    files: list[Path],
) -> None:
    with pytest.raises(
        ValueError, match=rf"components\[1\]: {files[1]} and {files[0]} would both be a.txt at a node"
    ):
        ClientPayloads(files)
    setup, data = node_setup(ClientPayloads([files[0], files[1].parent / ".." / "x" / "a.txt"]))
    assert setup.files == ["a.txt"] and data == [b"x"]


def test_relative_folders_of_files_are_kept_below_the_nodes_folder_and_nothing_is_above_it(
    files: list[Path],
) -> None:
    setup, data = node_setup(
        ClientPayloads(["x/a.txt", "./y//a.txt", f"../{files[0].parents[1].name}/x/a.txt"])
    )
    assert setup.files == ["x/a.txt", "y/a.txt", "a.txt"] and data == [b"x", b"y", b"x"]


def test_a_file_is_found_though_the_program_has_changed_its_folder_since(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    payloads = ClientPayloads(["x/a.txt"])
    monkeypatch.chdir("/")
    assert node_setup(payloads)[1] == [b"x"]


def test_a_file_that_a_node_does_not_take_does_not_travel_and_one_that_has_vanished_is_named(
    files: list[Path],
) -> None:
    payloads = ClientPayloads(["x/a.txt"])
    files[0].write_bytes(bytes(11))
    error, payload = payloads.node_setup(None, 10)
    assert (
        "component x/a.txt has 11 bytes, more than the 10 that this node takes" in error and payload is None
    )
    assert "--max_file_size 11" in error
    files[0].unlink()
    error, _ = payloads.node_setup(None, 0)
    assert "FileNotFoundError" in error and str(files[0]) in error


def test_the_call_of_a_setup_follows_the_files_and_its_code_comes_along(
    main: types.ModuleType, files: list[Path]
) -> None:
    payloads = ClientPayloads(["x/a.txt"])
    setup, (data, call) = node_setup(payloads, payloads.setup_call(main.scale, (5,)))
    assert setup.function == "scale" and data == b"x"
    assert {"scale", "FACTOR"} <= {name for name, _ in setup.bundle.made_of}
    assert loads(call) == (None, (5,), {})
    error, payload = payloads.server_setup(None, msgspec.msgpack.encode(CodeRequest(main_version=1)))
    assert not error and isinstance(payload, list) and len(payload) == 1
    assert msgspec.msgpack.decode(payload[0], type=ServerSetup).function == ""


# --- calls that may be sent again ---


@pytest.mark.parametrize(
    ("size", "whole", "changes"),
    [(COPIED_MAX - 1, False, False), (COPIED_MAX, False, True), (COPIED_MAX, True, False)],
    ids=["small", "large", "large and tried again"],
)
def test_a_call_is_copied_if_it_is_small_or_may_be_tried_again(size: int, whole: bool, changes: bool) -> None:
    array = bytearray(size)
    call = kept_as_it_is([b"s", memoryview(array)], whole=whole)
    array[0] = 1
    assert isinstance(call, list) and bytes(call[0]) == b"s"
    assert call[1][0] == int(changes)


def test_a_call_without_buffers_is_what_it_is() -> None:
    assert kept_as_it_is(b"call", whole=True) == b"call"

"""Snapshot and mirror in one process: what an answer holds, and what a mirror makes of good and bad ones."""

import linecache
import marshal
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest
from msgspec import msgpack

from dispycos.actors.shipping.mirror import Mirror
from dispycos.actors.shipping.snapshot import Snapshot
from dispycos.actors.shipping.words import (
    CodeBundle,
    CodeRequest,
    CodeUnavailable,
    InstallFailed,
    MainInfo,
    MissingCode,
    ModuleSource,
    Statement,
    Value,
)
from tests.kit.shipping_mains import given_back, main_of


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with given_back():
        yield Mirror(node="node9")


def statement(name: str, source: str) -> Statement:
    code = marshal.dumps(compile(source, "client.py", "exec"))
    return Statement([name], code, source.encode(), "client.py", 1, source)


def statements(bundle: CodeBundle) -> list[list[str]]:
    return [made.names for made in bundle.steps if isinstance(made, Statement)]


def values(bundle: CodeBundle) -> list[str]:
    return [value.name for value in bundle.steps if isinstance(value, Value)]


def missing(mirror: Mirror, data: bytes) -> CodeRequest:
    with pytest.raises(MissingCode) as caught:
        mirror.loads(data)
    return caught.value.request


def test_managers_of_the_clients_multiprocessing_know_the_server(mirror: Mirror, tmp_path: Path) -> None:
    own: Any = multiprocessing.current_process()
    before, key = own.authkey, b"the client's"
    try:
        own.authkey = key
        with main_of(tmp_path, "import multiprocessing") as (_, snapshot):
            bundle = snapshot.answer(CodeRequest())
        own.authkey = b"another"
        mirror.install(bundle)
        assert own.authkey == key
    finally:
        own.authkey = before


def test_what_a_load_misses_is_asked_for_until_it_is_here(mirror: Mirror) -> None:
    mirror.install(CodeBundle(3, main=MainInfo(local_names=["helper"])))
    data = dumps_of_names(("__main__", "a"), ("__main__", "b.real"), ("helper.deep", "d"), ("math", "sqrt"))
    requests = []
    for names in (["a"], ["b"]):
        requests.append(missing(mirror, data))
        made = [statement(name, f"{name} = 1") for name in names]
        mirror.install(CodeBundle(3, steps=[*made], made_of=[(m.names[0], [m.hash]) for m in made]))
    requests.append(missing(mirror, data))
    assert [(r.names, r.modules, r.main_version) for r in requests] == [
        (["a"], [], 3),
        (["b"], [], 3),
        ([], ["helper"], 3),
    ]


def dumps_of_names(*names: tuple[str, str]) -> bytes:
    """A list of globals, as protocol 5 writes them."""
    data = b"\x80\x05]\x94("
    for module, name in names:
        for text in (module, name):
            data += b"\x8c" + bytes([len(text)]) + text.encode() + b"\x94"
        data += b"\x93\x94"
    return data + b"e."


def test_a_name_that_the_client_does_not_have_is_an_error_and_not_asked_again(mirror: Mirror) -> None:
    missing(mirror, dumps_of_names(("__main__", "ghost")))
    mirror.install(CodeBundle(1, absent=["ghost"]))
    with pytest.raises(CodeUnavailable, match="has no ghost in its __main__"):
        mirror.loads(dumps_of_names(("__main__", "ghost")))


def test_a_statement_that_takes_another_way_here_is_an_error_and_not_asked_again(mirror: Mirror) -> None:
    missing(mirror, dumps_of_names(("__main__", "f")))
    made = statement("f", "if 0:\n    def f(): ...\n")
    mirror.install(CodeBundle(1, steps=[made], made_of=[("f", [made.hash])]))
    with pytest.raises(CodeUnavailable, match="did not on node9"):
        mirror.loads(dumps_of_names(("__main__", "f")))


def test_a_statement_that_fails_is_told_with_its_place_and_asked_for_again_when_used(mirror: Mirror) -> None:
    failing = statement("f", "f = 1 / 0")
    bundle = CodeBundle(1, steps=[failing], made_of=[("f", [failing.hash])])
    for _ in range(2):
        with pytest.raises(InstallFailed, match=r"on node9 at client.py:1: ZeroDivisionError"):
            mirror.install(bundle)
        assert missing(mirror, dumps_of_names(("__main__", "f"))).have == []


def test_what_is_here_is_told_by_hash_and_not_made_twice(mirror: Mirror) -> None:
    counting = statement("count", "count = globals().get('count', 0) + 1")
    bundle = CodeBundle(1, steps=[counting], made_of=[("count", [counting.hash])])
    mirror.install(bundle)
    mirror.install(bundle)
    assert mirror.main.count == 1 and mirror.request(["other"]).have == [counting.hash]
    del mirror.main.count
    assert missing(mirror, dumps_of_names(("__main__", "count"))).have == []


def test_a_dynamic_import_while_code_is_made_is_asked_for_by_the_next_load(mirror: Mirror) -> None:
    main = MainInfo(local_names=["plugin_x"])
    early = statement("early", "early = globals().get('early', 0) + 1")
    late = statement("late", "late = __import__('importlib').import_module('plugin_x').value")
    made_of = [("early", [early.hash]), ("late", [late.hash])]
    mirror.install(CodeBundle(1, steps=[early, late], made_of=made_of, main=main))
    request = missing(mirror, dumps_of_names(("__main__", "late")))
    assert request.modules == ["plugin_x"]
    source = ModuleSource("plugin_x", "/client/plugin_x.py", False, "value = 5\n", b"h")
    mirror.install(CodeBundle(1, modules=[source]))
    assert mirror.loads(dumps_of_names(("__main__", "late"))) == [5] and mirror.main.early == 1


def test_tracebacks_show_the_lines_of_a_module_also_when_it_was_reloaded(mirror: Mirror) -> None:
    for source in ("value = 1\n", "value = 22\n"):
        mirror.install(
            CodeBundle(1, modules=[ModuleSource("lines_x", "/client/x.py", False, source, source.encode())])
        )
        module = __import__("lines_x")
        assert linecache.getlines("/client/x.py", vars(module)) == [source]


def test_an_import_of_a_running_step_that_the_client_does_not_answer_names_client_and_module() -> None:
    def pull(request: CodeRequest) -> CodeBundle:
        raise TimeoutError("no answer within 10 s")

    with given_back():
        mirror = Mirror(pull, client="client laptop")
        mirror.install(CodeBundle(1, main=MainInfo(local_names=["plugin_y"])))
        step = compile("import plugin_y", "step", "exec")
        with pytest.raises(
            ImportError, match=r"'plugin_y' could not be fetched from client laptop: no answer"
        ):
            exec(step, vars(mirror.main))


def test_libraries_that_try_imports_do_not_ask_the_client(mirror: Mirror) -> None:
    mirror.install(CodeBundle(1))
    with pytest.raises(ModuleNotFoundError, match=r"^No module named 'no_such_library'$"):
        __import__("no_such_library")


def test_functions_may_call_code_in_c_that_imports(mirror: Mirror) -> None:
    of_the_client = FunctionType((lambda parse: parse("2020", "%Y")).__code__, vars(mirror.main))
    assert of_the_client(time.strptime).tm_year == 2020


PROGRAM = """
import threading

LOCK = threading.Lock()
LIMIT = 10
TABLE = {"a": 1}

class Point:
    def norm(self):
        return LIMIT, helper()

def helper():
    with LOCK:
        return missing_yet()

def unrelated():
    return 0
"""


def answer_of(snapshot: Any, request: CodeRequest) -> CodeBundle:
    return msgpack.decode(msgpack.encode(snapshot.answer(request)), type=CodeBundle)


def test_an_answer_is_closed_over_what_is_needed_and_no_more(tmp_path: Path) -> None:
    with main_of(tmp_path, PROGRAM) as (_, snapshot):
        bundle = answer_of(snapshot, CodeRequest(["Point"]))
    assert statements(bundle) == [["threading"], ["LOCK"], ["Point"], ["helper"]]
    assert values(bundle) == ["LIMIT"]
    assert (bundle.absent, bundle.errors) == (["missing_yet"], [])


def test_a_file_that_is_a_text_of_another_type_is_no_hindrance(tmp_path: Path) -> None:
    """As pdb makes of it in Python 3.11."""

    class Target(str):
        __slots__ = ()

    with main_of(tmp_path, PROGRAM) as (main, _):
        main.__file__ = Target(main.__file__)
        bundle = answer_of(Snapshot(main), CodeRequest(["helper"]))
    assert statements(bundle) == [["threading"], ["LOCK"], ["helper"]]


def test_what_the_asker_has_is_not_sent_again(tmp_path: Path) -> None:
    with main_of(tmp_path, PROGRAM) as (_, snapshot):
        first = answer_of(snapshot, CodeRequest(["helper"]))
        have = [digest for _, digests in first.made_of for digest in digests]
        second = answer_of(snapshot, CodeRequest(["Point"], have=have, main_version=1))
    assert statements(second) == [["Point"]]


def test_only_names_that_were_sent_change_the_version(tmp_path: Path) -> None:
    with main_of(tmp_path, PROGRAM) as (main, snapshot):
        snapshot.answer(CodeRequest(["Point"]))
        vars(main)["unrelated"] = 5
        assert snapshot.version() == 1
        vars(main)["LIMIT"] = 11
        assert [snapshot.version(), snapshot.version()] == [2, 2]
        vars(main)["missing_yet"] = lambda: 7
        assert snapshot.version() == 3
        assert values(snapshot.answer(CodeRequest(main_version=2))) == ["missing_yet"]
        assert sorted(values(snapshot.answer(CodeRequest(main_version=1)))) == ["LIMIT", "missing_yet"]
        assert snapshot.answer(CodeRequest(main_version=3)).made_of == []


def test_a_mirror_that_is_behind_gets_the_delta_and_only_then_is_up_to_date(tmp_path: Path) -> None:
    with main_of(tmp_path, PROGRAM) as (main, snapshot), given_back():
        mirror = Mirror()
        server_main = mirror.main
        sys.modules["__main__"] = main
        mirror.install(snapshot.answer(CodeRequest(["Point"])))
        vars(main)["LIMIT"] = 99
        mirror.install(snapshot.answer(CodeRequest(["unrelated"])))  # pushed: holds no changes
        assert (mirror.version, server_main.LIMIT) == (1, 10)
        mirror.install(snapshot.answer(mirror.request()))
        assert (mirror.version, server_main.LIMIT) == (2, 99)
        del main.LIMIT
        snapshot.version()
        mirror.install(snapshot.answer(mirror.request()))
        assert not hasattr(server_main, "LIMIT")


def test_two_threads_may_ask_while_the_program_changes_what_it_has(tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    text = PROGRAM + "DATA = {n: str(n) for n in range(1000)}\ndef use(): return DATA, Point\n"
    with main_of(tmp_path, text) as (main, snapshot), ThreadPoolExecutor(3) as pool:
        asked = [pool.submit(snapshot.answer, CodeRequest(["use"])) for n in range(30)]
        for n in range(2000):
            main.DATA[n + 1000] = n
            vars(main)["LIMIT"] = n
            snapshot.version()
        assert all(not bundle.result(20).errors for bundle in asked)


def test_values_of_which_each_needs_the_next_are_an_error_that_says_so(tmp_path: Path) -> None:
    text = "make = lambda: lambda: 0\na = make()\nb = make()\na.other, b.other = b, a\n"
    with main_of(tmp_path, text) as (_, snapshot):
        bundle = answer_of(snapshot, CodeRequest(names=["a"]))
    assert (bundle.steps, [name for name, _ in bundle.errors]) == ([], ["a"])
    assert bundle.errors[0][1].endswith(
        ("each needs the next: a -> b -> a", "each needs the next: b -> a -> b")
    )


def test_the_loop_of_a_program_is_not_run_again_at_servers_for_what_it_binds(tmp_path: Path) -> None:
    text = "def job(): return job\nfor job in [open(__file__)]:\n    job.close()\nfor n in [3]: pass\ndef use(): return job, n\n"
    with main_of(tmp_path, text) as (_, snapshot):
        bundle = answer_of(snapshot, CodeRequest(names=["job", "n"]))
    assert (statements(bundle), values(bundle)) == ([], ["n"])
    assert [name for name, _ in bundle.errors] == ["job"]
    assert bundle.errors[0][1].endswith("(and the loop that made it, line 2, is not run again at servers)")

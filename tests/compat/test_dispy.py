"""What scripts of dispy give a cluster, what of it counts, and the table that it prints. Without a cluster."""

from __future__ import annotations

import builtins
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from dispycos.actors.client.status import DispycosNodeAllocate
from dispycos.actors.compat.dispy.given import (
    Entry,
    NodeAllocate,
    Taken,
    callback_of,
    component_of,
    computation_of,
    parted,
    pulse_options,
    wishes_of,
)
from dispycos.actors.compat.dispy.jobs import DispyJob, DispyNode
from dispycos.actors.compat.dispy.printing import size, table
from dispycos.actors.compat.dispy.remote import IMPORTED, path_at_client, run_cleanup, run_setup

OFFER = ("Linux", 4, None, None)  # platform, CPUs, memory, disk


def entry(wish: NodeAllocate) -> Entry:
    return Entry(wish, None, is_anywhere=False)


def test_nodes_are_named_in_all_the_forms_that_dispy_takes() -> None:
    forms = ["a", NodeAllocate("a"), ("a", 51348), {"ip_addr": "a", "cpus": 0}, DispyNode("name", "a", 2)]
    assert [wish.host for wish in wishes_of(forms)] == ["a"] * 5
    assert [wish.host for wish in wishes_of("10.0.*")] == ["10.0.*"]
    assert [wish.host for wish in wishes_of({"x": "a"}.values())] == ["a"]
    assert wishes_of(None) == wishes_of([]) == []


@pytest.mark.parametrize(("given", "seconds"), [(1, 10.0), ("20", 20.0), (1000, 100.0)])
def test_a_pulse_interval_is_as_near_as_nodes_allow_and_silent_nodes_are_given_up(
    given: Any, seconds: float
) -> None:
    assert pulse_options(given) == {"pulse_interval": seconds, "abandon_zombie_nodes": True}
    assert pulse_options(None) == {}


@pytest.mark.parametrize("given", [0, 0.01, 1001, "often", "nan"])
def test_a_pulse_interval_of_no_use_is_refused(given: Any) -> None:
    with pytest.raises(ValueError, match="pulse_interval must be"):
        pulse_options(given)


@pytest.mark.parametrize("nodes", [5, [5], [None], [""]])
def test_what_names_no_node_is_refused(nodes: Any) -> None:
    with pytest.raises(TypeError, match="nodes"):
        wishes_of(nodes)


def test_an_address_is_exact_and_a_star_is_not() -> None:
    exact, wide = entry(NodeAllocate("10.0.0.1")), entry(NodeAllocate("10.0.0.*"))
    assert [exact.allocate(addr, "n", *OFFER) for addr in ("10.0.0.1", "10.0.0.10")] == [4, -1]
    assert [wide.allocate(addr, "n", *OFFER) for addr in ("10.0.0.1", "10.0.1.1")] == [4, -1]


@pytest.mark.parametrize(("cpus", "used"), [(0, 4), (3, 3), (9, 4), (-1, 3), (-4, 4)])
def test_cpus_are_at_most_or_all_but_so_many(cpus: int, used: int) -> None:
    assert entry(NodeAllocate("*", cpus=cpus)).allocate("10.0.0.1", "n", *OFFER) == used


def test_an_allocate_of_the_scripts_own_decides_and_its_0_leaves_the_node_to_the_next() -> None:
    class Mine(NodeAllocate):
        def allocate(self, cluster: Any, ip_addr: str, name: str, cpus: int, *more: Any, **named: Any) -> int:
            return 2 if name == "good" else 0

    mine = entry(Mine("*", setup_args=(1,)))
    assert [mine.allocate("10.0.0.1", name, *OFFER) for name in ("good", "bad")] == [2, -1]
    assert mine.taken == {("good", "10.0.0.1"): Taken(OFFER, 2, [], (1,))}


def test_an_allocate_of_the_scripts_own_is_told_the_platform_as_python_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told_to_pycos = staticmethod(str.lower)  # in a process that has the compat modules
    monkeypatch.setattr(DispycosNodeAllocate, "_told_platform", told_to_pycos)
    assert entry(NodeAllocate("*"))._told_platform("Linux-6.1-x86_64") == "Linux-6.1-x86_64"


def test_an_allocate_of_the_scripts_own_gives_each_node_its_files_and_arguments_also_when_it_is_asked_again() -> (
    None
):
    class Mine(NodeAllocate):
        count = 0

        def allocate(self, cluster: Any, ip_addr: str, name: str, cpus: int, *more: Any, **named: Any) -> int:
            self.count += 1
            self.depends, self.setup_args = [f"file{self.count}"], (self.count,)
            return cpus

    mine = entry(Mine("*"))
    for name in ("a", "b"):
        mine.allocate("10.0.0.1", name, *OFFER)
    mine.ask_again("a", "10.0.0.1")
    told = {name: (taken.depends, taken.setup_args) for (name, _), taken in mine.taken.items()}
    assert told == {"a": (["file3"], (3,)), "b": (["file2"], (2,))}


def test_ports_of_dispy_are_not_dialled_and_others_are() -> None:
    ports = [entry(NodeAllocate("host", port)).port for port in (None, 51348, 9701, 9800)]
    assert ports == [None, None, None, 9800]


def test_wrong_parameters_of_node_allocate_are_named() -> None:
    with pytest.raises(TypeError, match="setup_args must be a tuple, not list"):
        NodeAllocate("a", setup_args=[1])
    with pytest.raises(FileNotFoundError, match="no such file: /none"):
        NodeAllocate("a", depends=["/none"])


class Callee:
    def method(self, job: Any) -> None: ...

    def __call__(self, job: Any) -> None: ...

    @classmethod
    def of_class(cls) -> None: ...


def test_a_callback_is_anything_that_can_be_called_so() -> None:
    def one(job: Any) -> None: ...
    def three(status: int, node: Any, job: Any) -> None: ...

    for good in (one, Callee(), Callee().method, partial(three, 1, 2), lambda job: None):
        assert callback_of(good, 1, "callback") is good
    assert callback_of(three, 3, "cluster_status") is three
    assert callback_of(None, 1, "callback") is None
    for bad in (three, "one", lambda: None):
        with pytest.raises(TypeError, match="callback must"):
            callback_of(bad, 1, "callback")


def test_a_computation_is_a_function_a_method_or_a_program(tmp_path: Path) -> None:
    program = tmp_path / "prog"
    program.write_text("")
    assert computation_of(str(program)) == ("prog", str(program), [str(program)])
    assert computation_of(Callee().method) == (Callee.method, "method", [])
    assert computation_of(Callee.of_class) == (Callee.of_class, "of_class", [])
    assert computation_of(Callee.method) == (Callee.method, "method", [])
    with pytest.raises(TypeError, match="not int"):
        computation_of(5)
    with pytest.raises(FileNotFoundError, match="no program /no/prog"):
        computation_of("/no/prog")


def test_objects_stand_for_their_classes_and_partials_for_their_functions() -> None:
    assert component_of(Callee()) is Callee
    assert component_of(partial(size, 1)) is size
    assert component_of(os) is os
    assert component_of("file") == "file"
    with pytest.raises(TypeError, match="depends: 5"):
        component_of(5)


def test_what_one_job_needs_is_parted_into_files_and_code(tmp_path: Path) -> None:
    file = tmp_path / "data"
    file.write_bytes(b"text")
    assert parted([str(file), size, Callee()]) == ({"data": b"text"}, [size, Callee])
    assert parted(()) == ({}, [])
    with pytest.raises(FileNotFoundError):
        parted(["none"])


@pytest.mark.parametrize(
    ("path", "there"),
    [("a/b.txt", "a/b.txt"), ("./b", "b"), ("/etc/b", "b"), ("../b", "b"), ("a/../../b", "b")],
)
def test_files_never_leave_the_clients_folder(path: str, there: str) -> None:
    assert path_at_client(path) == there


@pytest.mark.parametrize(
    ("returned", "told"), [(0, 0), (None, 0), (1, 0), (True, 0), (2, 0), (3, 3), ("x", "x")]
)
def test_what_setup_returns(returned: Any, told: Any) -> None:
    assert run_setup(lambda *args: returned, {}, (1,)) == told


def test_setup_has_its_files_and_the_modules_that_dispys_nodes_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in IMPORTED:
        monkeypatch.delattr(builtins, name, raising=False)
    scope: dict[str, Any] = {}
    exec("def setup(name):\n    return (os.path.getsize(name), sys.maxsize > 0)", scope)
    try:
        assert run_setup(scope["setup"], {"sub/given": b"text"}, ("sub/given",)) == (4, True)
    finally:
        for name in IMPORTED:
            delattr(builtins, name)


def test_cleanup_has_the_arguments_of_setup_if_it_takes_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "server").mkdir()
    monkeypatch.chdir(tmp_path / "server")
    calls: list[Any] = []
    run_cleanup(lambda: calls.append(()), 1, 2)
    run_cleanup(lambda *args: calls.append(args), 1, 2)
    run_cleanup(lambda a, b: calls.append((b, Path.cwd())), 1, 2)
    assert calls == [(), (1, 2), (2, tmp_path)]


def test_jobs_have_the_attributes_of_dispy_and_no_others() -> None:
    first, second = DispyJob((), {}), DispyJob((), {}, "id")
    assert second.id == "id"
    assert first < second
    assert first.status == DispyJob.Created == 5
    with pytest.raises(AttributeError):
        first.other = 1  # type: ignore[attr-defined]
    first.result = 7
    first.finish.set()
    assert first(clear=True) == 7
    assert not first.finish.is_set()


TABLE = """
            Node |  CPUs |    Jobs |  Sec/Job | Node Time Sec |    Sent |    Rcvd
---------------------------------------------------------------------------------
 a-name-of-a-nod |     2 |       4 |      0.5 |           2.0 |   788 B |   1.3 K

Jobs pending: 3
Total job time: 2.000 sec, wall time: 4.000 sec, speedup: 0.500
"""


def test_the_table_is_dispys() -> None:
    node = DispyNode("a-name-of-a-node", "10.0.0.1", 2)
    node.cpus, node.jobs_done, node.cpu_time, node.tx, node.rx = 2, 4, 2.0, 788, 1331
    assert table([node], 3, 2.0, 4.0) == TABLE
    assert "pending" not in table([], 0, 0.0, 0.0)
    assert [size(3 * 1024**n) for n in range(5)] == ["3 B", "3.0 K", "3.0 M", "3.0 G", "3.0 T"]

"""What a scheduler finds at the places that clients name, and what it says of those that are of no use."""

from __future__ import annotations

import asyncio

import pytest

from dispycos.brokers.finding import Finder
from dispycos.protocol.addresses import CLIENT, Address
from dispycos.protocol.messages import Allocation
from dispycos.runtime import Runtime
from dispycos.transport.addresses import AddressError
from tests.kit.scheduler import PYTHON, Desk, enlist

OTHER = (PYTHON[0], PYTHON[1] + 1)

pytestmark = pytest.mark.timeout(30)


@pytest.fixture(autouse=True)
def no_such_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(host: str) -> tuple[str, ...]:
        raise AddressError(f"{host} is not known")

    monkeypatch.setattr("dispycos.brokers.finding.resolve", resolve)


def fault_at(
    allocation: Allocation, seen: dict[str, tuple[int, int] | None], desk: Desk | None = None
) -> str:
    """What a client is told that names this place."""
    desk = desk or Desk()

    async def look() -> str:
        desk.tell(Address(50, CLIENT), enlist(allocation))
        runtime = Runtime("scheduler", "head", None)
        try:
            return await Finder(runtime, desk.scheduler, seen)._find(desk.scheduler.registry.clients[50], 0)
        finally:
            await runtime.close()

    return asyncio.run(look())


def test_a_name_that_is_neither_a_nodes_nor_a_hosts_is_told() -> None:
    said = fault_at(Allocation("tint"), {})
    assert said == "nodes: tint: no node of this name is here, and as a host tint is not known"


def test_a_node_that_was_seen_may_still_register() -> None:
    assert (
        fault_at(Allocation("hint"), {"hint": None}) == fault_at(Allocation("hint"), {"hint": PYTHON}) == ""
    )


def test_a_node_of_another_python_is_told_though_it_is_not_dialled() -> None:
    said = fault_at(Allocation("hint"), {"hint": OTHER})
    assert said.startswith(
        f"nodes: hint: runs Python {OTHER[0]}.{OTHER[1]}, this program {PYTHON[0]}.{PYTHON[1]}: run"
    )
    assert fault_at(Allocation("hint", cpus=0), {"hint": OTHER}) == "", "it is excluded anyway"


@pytest.mark.parametrize(
    ("cpus", "pythons", "is_told"),
    [(None, [OTHER], True), (0, [OTHER], False), (None, [OTHER, PYTHON], False)],
)
def test_a_place_where_all_linked_nodes_are_of_another_python_is_told_unless_it_is_excluded(
    cpus: int | None, pythons: list[tuple[int, int]], is_told: bool
) -> None:
    desk = Desk()
    for epoch, python in enumerate(pythons, 7):
        desk.node("alpha", epoch, python=python)
    assert ("runs Python" in fault_at(Allocation("alpha", cpus=cpus), {}, desk)) is is_told

"""Which nodes a client gets, and how many servers of them."""

from __future__ import annotations

import pytest

from dispycos.brokers.allocation import Named, Undecided, allocate, fault_of
from dispycos.protocol.messages import Allocation, Availability
from tests.kit.scheduler import node_info

NODE = node_info("alpha", 7, 4, addr="192.168.1.5", available=Availability(90.0, 1000, 2000, 0))


@pytest.mark.parametrize(
    ("allocations", "servers"),
    [
        ([], 4),
        ([Allocation()], 4),
        ([Allocation("192.168.*")], 4),
        ([Allocation("ALPHA")], 4),
        ([Allocation("beta")], 0),
        ([Allocation("beta"), Allocation("alpha", cpus=2)], 2),
        ([Allocation(cpus=3)], 3),
        ([Allocation(cpus=5)], 0),  # it has to have that many
        ([Allocation(cpus=5), Allocation()], 0),  # and the first that matches decides
        ([Allocation(cpus=-1)], 3),
        ([Allocation(cpus=-9)], 0),
        ([Allocation("alpha", cpus=0)], 0),
        ([Allocation("beta", cpus=0)], 4),  # only excludes: the others stay usable
        ([Allocation("beta", cpus=0), Allocation("gamma")], 0),
        ([Allocation(platform="windows", cpus=0)], 4),
        ([Allocation(platform="LINUX.*64")], 4),
        ([Allocation(platform="windows")], 0),
        ([Allocation(port=9706)], 4),
        ([Allocation(port=9707)], 0),
        ([Allocation(memory=1000, disk=2000)], 4),
        ([Allocation(memory=1001)], 0),
        ([Allocation(disk=2001)], 0),
    ],
)
def test_the_first_allocation_that_matches_decides(allocations: list[Allocation], servers: int) -> None:
    assert allocate(NODE, [Named(word) for word in allocations]) == servers


@pytest.mark.parametrize(
    ("allocation", "addresses", "epochs", "is_there"),
    [
        (Allocation("box"), (), (), False),
        (Allocation("box"), ("192.168.1.5",), (), True),  # its node has another name
        (Allocation("box", 9707), ("192.168.1.5",), (), False),
        (Allocation("box", 9707), (), (7,), True),  # reached through a tunnel, say
        (Allocation("alph[a]"), (), (), False),  # no pattern
        (Allocation("alph?"), (), (), False),
        (Allocation("a*a"), (), (), True),
    ],
)
def test_a_node_is_at_a_place_by_name_by_address_or_because_it_answered_there(
    allocation: Allocation, addresses: tuple[str, ...], epochs: tuple[int, ...], is_there: bool
) -> None:
    assert Named(allocation, addresses, epochs).is_at(NODE) is is_there


def test_a_name_may_have_signs_that_are_patterns_elsewhere() -> None:
    assert Named(Allocation("rack[1]?")).is_at(NODE._replace(name="Rack[1]?"))


def test_a_node_that_does_not_say_what_it_has_is_not_taken_for_a_demand() -> None:
    assert allocate(NODE._replace(available=None), [Named(Allocation(memory=1))]) == 0
    assert allocate(NODE._replace(available=None), [Named(Allocation())]) == 4


def test_a_platform_that_is_no_pattern_is_said_in_words() -> None:
    assert "'li(nux' is not a regular expression" in fault_of(Allocation(platform="li(nux"))
    assert fault_of(Allocation(platform="linux")) == ""


def test_an_entry_with_an_allocate_of_its_own_is_asked_in_its_turn_whatever_it_names() -> None:
    named = [Named(Allocation("other")), Named(Allocation("zeus", own=True)), Named(Allocation("*", cpus=1))]
    assert allocate(NODE, named) == Undecided(1)
    for answer, servers in ((3, 3), (0, 0), (-1, 1), (99, 4)):
        assert allocate(NODE, named, {1: answer}) == servers
    assert allocate(NODE, [Named(Allocation("*", cpus=2)), *named]) == 2  # decided before
    assert allocate(NODE, named[:2], {1: -1}) == 0


def test_a_list_that_began_empty_restricts_nobody() -> None:
    assert allocate(NODE, [Named(Allocation("other", cpus=1))], unrestricted=True) == 4
    assert allocate(NODE, [Named(Allocation("*", cpus=1))], unrestricted=True) == 1

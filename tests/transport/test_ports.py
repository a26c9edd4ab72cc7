"""Which ports a node takes for itself and its servers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispycos.config import Misuse
from dispycos.transport.ports import PortPlan, PortTaken, choose_ports, plan_ports
from dispycos.values import PortRange

ONE = [PortRange(3456, 3456)]
SPEC = [PortRange(2345, 2347), PortRange(3779, 3779)]


def test_the_example_of_the_spec() -> None:
    assert plan_ports(SPEC, servers=8).ports == (2345, 2346, 2347, 3779, 3780, 3781, 3782, 3783, 3784)


def test_a_single_port_is_where_they_start() -> None:
    assert plan_ports(ONE, servers=8).ports == tuple(range(3456, 3465))


def test_without_ports_they_start_at_9706() -> None:
    assert plan_ports([], servers=2) == PortPlan((9706, 9707, 9708), is_given=False)


def test_more_ports_than_needed_are_cut_in_ascending_order() -> None:
    assert plan_ports([PortRange(50, 60), PortRange(10, 11)], servers=2).ports == (10, 11, 50)


def test_port_zero_is_any_free_one() -> None:
    plan = plan_ports([PortRange(0, 0)], servers=2)
    assert plan.ports == (0, 0, 0)
    assert choose_ports(plan, lambda port: False) == plan


@pytest.mark.parametrize("ranges", [[PortRange(65535, 65535)], [PortRange(0, 0), PortRange(5, 5)]])
def test_ports_that_cannot_be_are_misuse(ranges: list[PortRange]) -> None:
    with pytest.raises(Misuse, match="tcp_ports"):
        plan_ports(ranges, servers=2)


def test_default_ports_that_are_taken_give_way_to_the_next_free_ones() -> None:
    taken = {9707, 9710}
    chosen = choose_ports(plan_ports([], servers=1), lambda port: port not in taken)
    assert chosen.ports == (9708, 9709)


def test_ports_that_were_given_and_are_taken_are_an_error_that_names_them() -> None:
    with pytest.raises(PortTaken, match="port 3457 is in use") as caught:
        choose_ports(plan_ports(ONE, servers=2), lambda port: port == 3456)
    assert caught.value.exit_code == 1


def test_the_search_for_free_ports_ends() -> None:
    with pytest.raises(PortTaken, match="no 3 free ports"):
        choose_ports(plan_ports([], servers=2), lambda port: False)


ranges = st.builds(lambda first, n: PortRange(first, first + n), st.integers(1, 60000), st.integers(0, 50))


@given(st.lists(ranges, min_size=1, max_size=5), st.integers(1, 300))
def test_there_is_always_one_port_more_than_servers_and_none_twice(
    given_ranges: list[PortRange], servers: int
) -> None:
    ports = plan_ports(given_ranges, servers).ports
    assert len(set(ports)) == len(ports) == servers + 1
    assert list(ports) == sorted(ports)
    listed = {port for r in given_ranges for port in range(r.first, r.last + 1)}
    assert set(ports) <= listed or listed <= set(ports)

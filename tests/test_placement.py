"""The rules: which nodes, which node first, what counts as short; and the shelves that keep nodes in order."""

from __future__ import annotations

import random

import pytest
from dispycos.brokers.placement import (
    AHEAD_MAX,
    BARRED,
    FULL,
    IO_MAX,
    SAMPLES_KEPT,
    SAMPLES_MIN,
    STEPS,
    Named,
    Pace,
    Shelves,
    ahead_of,
    allocate,
    cpu_level,
    fault_of,
    io_level,
    recall_count,
    room_ahead,
)

from dispycos.protocol.messages import Allocation, Availability
from dispycos.protocol.status import OutcomeKind

from .kit.scheduler import node_info

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


def test_a_node_with_a_larger_part_of_its_servers_free_is_on_a_lower_level() -> None:
    assert cpu_level(4, 0, 0) < cpu_level(4, 1, 0) < cpu_level(4, 2, 1) < STEPS
    assert cpu_level(4, 2, 0) == cpu_level(2, 1, 0) == cpu_level(2, 0, 1)


def test_short_tasks_wait_behind_servers_that_take_them_and_no_others() -> None:
    assert cpu_level(2, 0, 2) == STEPS
    assert cpu_level(2, 0, 4) == STEPS + 1
    assert cpu_level(2, 1, 2) == STEPS + 1  # one server only takes short ones
    assert cpu_level(2, 0, 2 + 2 * AHEAD_MAX) == cpu_level(2, 0, 9999) == FULL
    assert cpu_level(2, 2, 0) == cpu_level(0, 0, 0) == cpu_level(1, 2, 5) == BARRED


@pytest.mark.parametrize("servers", [1, 2, 3, 8])
def test_room_ahead_is_what_leads_to_the_next_level(servers: int) -> None:
    for slow in range(servers):
        for fast in range(servers - slow, (servers - slow) * 9):
            room = room_ahead(servers, slow, fast, alone=False)
            level = cpu_level(servers, slow, fast)
            assert cpu_level(servers, slow, fast + room - 1) == level
            assert cpu_level(servers, slow, fast + room) == level + 1
            assert cpu_level(servers, slow, fast + room_ahead(servers, slow, fast, alone=True)) == FULL
            assert ahead_of(servers, slow, fast) == fast - (servers - slow)


def test_io_tasks_are_counted_per_server() -> None:
    assert io_level(2, 0) == io_level(2, 1) < io_level(2, 2)
    assert io_level(1, IO_MAX) == io_level(0, 0) == IO_MAX


def test_half_of_what_waits_is_recalled_but_one_at_least() -> None:
    assert [recall_count(ahead) for ahead in (1, 2, 3, 100)] == [1, 1, 2, 50]


def test_a_function_is_short_after_enough_short_runs_and_long_after_a_single_long_one() -> None:
    pace = Pace()
    changes = [pace.saw(OutcomeKind.RETURNED, 0.001) for _ in range(SAMPLES_MIN + 5)]
    assert pace.fast and changes.index(True) == SAMPLES_MIN - 1 and sum(changes) == 1
    assert pace.saw(OutcomeKind.RAISED, 0.005) and not pace.fast
    for _ in range(SAMPLES_KEPT - 1):
        assert not pace.saw(OutcomeKind.RETURNED, 0.001)
    assert not pace.fast
    assert pace.saw(OutcomeKind.RETURNED, 0.001) and pace.fast


def test_a_cancelled_run_says_nothing_and_a_lost_one_counts_as_long() -> None:
    pace = Pace()
    pace.wanted = 1
    assert not pace.saw(OutcomeKind.CANCELLED, 0.0) and pace.wanted == 1
    pace.saw(OutcomeKind.RETURNED, 0.0)
    assert pace.fast
    assert pace.saw(OutcomeKind.LOST, 0.0) and not pace.fast


def test_items_of_one_level_take_turns() -> None:
    shelves: Shelves[str] = Shelves(5)
    for name in "abc":
        shelves.put(name, 1)
    seen = []
    for _ in range(5):
        first = shelves.first_below(5)
        assert first is not None
        seen.append(first)
        shelves.put(first, 1)
    assert "".join(seen) == "abcab"


def test_shelves_agree_with_a_sorted_list() -> None:
    dice = random.Random(1)
    shelves: Shelves[int] = Shelves(20)
    levels: dict[int, int] = {}
    for _ in range(3000):
        item = dice.randrange(12)
        if dice.random() < 0.2:
            shelves.remove(item)
            levels.pop(item, None)
        else:
            levels.pop(item, None)
            levels[item] = dice.randrange(21)
            shelves.put(item, levels[item])
        below, low = dice.randrange(22), dice.randrange(20)
        fitting = [(level, turn, item) for turn, (item, level) in enumerate(levels.items())]
        first = min(fitting, default=None)
        expected = first[2] if first is not None and first[0] < below else None
        assert shelves.first_below(below) == expected
        assert shelves.has_between(low, below) == any(low <= level < below for level in levels.values())
        assert shelves.level_of == levels

"""Who gets which task next, how far ahead, what is asked back, and what becomes of the tasks of the dead."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from dispycos.actors.dispatching.dispatch import GIVE_UP_AFTER_S, Dispatcher
from dispycos.actors.dispatching.facts import Entry
from dispycos.actors.dispatching.giving import PASS_MAX
from dispycos.actors.dispatching.learning import FADE, FUNCTIONS_MAX
from dispycos.actors.dispatching.placement import CALLS_MAX, IO_MAX, MARGIN, STALL_S, TOGETHER_MAX, TOGETHER_S
from dispycos.protocol.status import OutcomeKind
from tests.kit.dispatch_sim import Client
from tests.kit.dispatch_told import Again, Ended, Kill, Listener, Recall, Runs, Terminate, Told
from tests.kit.dispatch_world import Book, Plan, SimNode, World

RETURNED, LOST, REFUSED = OutcomeKind.RETURNED, OutcomeKind.LOST, OutcomeKind.REFUSED
CANCELLED, TERMINATED = OutcomeKind.CANCELLED, OutcomeKind.TERMINATED


class Desk:
    """A dispatcher with nodes of so many servers; each step is checked. Server k of node n has the epoch 100 n + k."""

    def __init__(self, *slots: int, srtt: float = 0.0) -> None:
        self.listener = Listener()
        self.dispatcher = Dispatcher(self.listener)
        self.now = 10.0
        self.numbers = count(1)
        self.number_of: dict[Entry, int] = {}
        self.effects: list[Told] = []  # that no test has looked at
        for node, servers in enumerate(slots, start=1):
            self.dispatcher.node_up(node, f"node{node}", (f"node{node}", f"10.0.0.{node}"))
            for server in range(1, servers + 1):
                self.dispatcher.server_up(100 * node + server, f"node{node}/s{server}", node, srtt)
        self.place()

    def submit(self, amount: int = 1, function: str = "f", **wishes: Any) -> list[Entry]:
        entries = [Entry(function, **wishes) for _ in range(amount)]
        for entry in entries:
            self.number_of[entry] = next(self.numbers)
            self.dispatcher.submit(entry)
        return entries

    def place(self, later: float = 0.0) -> list[tuple[int, int]]:
        """A turn. Who was given what, as (task, server)."""
        self.now += later
        due = self.dispatcher.deadline()
        if due is not None and due <= self.now:
            self.dispatcher.wake(self.now)
        self.dispatcher.place(self.now)
        given = []
        for effect in self.listener.drain():
            if isinstance(effect, Runs):
                given += [(self.number_of[entry], effect.server.epoch) for entry in effect.entries]
            else:
                self.effects.append(effect)
        self.dispatcher.check()
        return given

    def took(self) -> list[Told]:
        self.effects += self.listener.drain()
        effects, self.effects = self.effects, []
        return effects

    def ends(self) -> list[tuple[int, OutcomeKind, bool]]:
        """Those that the dispatcher decided itself."""
        return [
            (self.number_of[effect.entry], effect.kind, effect.started)
            for effect in self.took()
            if isinstance(effect, Ended)
        ]

    def recalls(self) -> list[tuple[int, int]]:
        return [(effect.server.epoch, effect.after) for effect in self.took() if isinstance(effect, Recall)]

    def end(self, *entries: Entry, seconds: float = 0.001) -> None:
        for entry in entries:
            assert entry.at is not None
            assert self.dispatcher.outcome(entry, entry.at.epoch, RETURNED, seconds, self.now)

    def teach(self, function: str = "f", seconds: float = 0.001) -> None:
        """Run it as often as it takes to be known."""
        for _ in range(FADE):
            (entry,) = self.submit(1, function)
            self.place()
            self.end(entry, seconds=seconds)
        self.place()


# --- which server


def test_the_node_with_the_larger_part_of_its_servers_free_comes_first() -> None:
    desk = Desk(1, 4)
    desk.submit(5)
    nodes = [server // 100 for _, server in desk.place()]
    assert sorted(nodes) == [1, 2, 2, 2, 2]
    assert nodes.index(1) < 2, "one of one is as free as all of four"


def test_what_ran_last_runs_again() -> None:
    desk = Desk(4, 4)
    served: set[int] = set()
    for _ in range(5):
        entries = desk.submit()
        served.update(server for _, server in desk.place())
        desk.end(*entries)
    assert len(served) == 1


def test_io_tasks_go_beside_cpu_tasks_only_where_no_server_is_without() -> None:
    desk = Desk(2)
    desk.submit()
    ((_, busy),) = desk.place()
    (free,) = {101, 102} - {busy}
    desk.submit(3, io=True)
    assert [server for _, server in desk.place()] == [free] * 3
    desk.submit()
    desk.place()
    desk.submit(io=True)
    assert [server for _, server in desk.place()] == [busy], "the one with the fewest"


def test_a_cpu_task_goes_to_the_free_server_with_the_fewest_io_tasks() -> None:
    desk = Desk(2)
    desk.submit(io=True)
    ((_, server),) = desk.place()
    desk.submit()
    assert [taken for _, taken in desk.place()] == [203 - server]


def test_io_tasks_stop_at_their_bound() -> None:
    desk = Desk(1)
    entries = desk.submit(IO_MAX + 1, io=True)
    assert len([*desk.place(), *desk.place(), *desk.place()]) == IO_MAX
    desk.end(entries[0])
    assert desk.place() == [(IO_MAX + 1, 101)]


def test_a_named_server_is_waited_for_and_holds_up_nobody() -> None:
    desk = Desk(2)
    first, second = desk.submit(2, alone=True)
    desk.place()
    desk.submit(server=101, alone=True)
    desk.submit(alone=True)
    assert desk.place() == []
    there, other = (first, second) if first.at and first.at.epoch == 101 else (second, first)
    desk.end(other)
    assert desk.place() == [(4, 102)]
    desk.end(there)
    assert desk.place() == [(3, 101)]


def test_of_those_that_may_run_on_a_server_the_earliest_is_first() -> None:
    desk = Desk(1)
    (first,) = desk.submit(alone=True)
    desk.place()
    desk.submit(alone=True, node="10.0.0.1")
    desk.submit(alone=True)
    desk.submit(alone=True, server=101)
    order = []
    for _ in range(3):
        desk.end(first)
        ((number, _),) = desk.place()
        order.append(number)
        first = next(entry for entry, n in desk.number_of.items() if n == number)
    assert order == [2, 3, 4]


def test_a_named_node_means_any_of_its_free_servers() -> None:
    desk = Desk(2, 2)
    desk.submit(2, node="node2")
    assert sorted(server for _, server in desk.place()) == [201, 202]


def test_two_nodes_of_one_name_share_what_waits_for_it() -> None:
    desk = Desk()
    for node in (1, 2):
        desk.dispatcher.node_up(node, f"node{node}", ("box",))
        desk.dispatcher.server_up(node * 100, f"s{node}", node)
    desk.submit(2, node="box")
    assert sorted(server for _, server in desk.place()) == [100, 200]


@pytest.mark.parametrize(
    ("wishes", "text"),
    [
        ({"node": "mars"}, "there is no node mars; there are: node1"),
        ({"server": 7}, "there is no such server (0000000000000007); there are: node1/s1"),
    ],
)
def test_what_names_nothing_that_is_there_is_refused(wishes: dict[str, Any], text: str) -> None:
    desk = Desk(1)
    (entry,) = desk.submit(**wishes)
    assert desk.took() == [Ended(entry, REFUSED, text, False)]


# --- how far ahead


def test_what_nobody_knows_goes_ahead_by_one() -> None:
    desk = Desk(2)
    desk.submit(10)
    desk.place()
    assert sorted(len(server.cpu) for server in desk.dispatcher.fleet.servers.values()) == [2, 2]


@pytest.mark.parametrize(("seconds", "ahead"), [(0.001, 10), (0.004, 2), (0.02, 0), (5.0, 0)])
def test_ahead_goes_what_is_expected_to_begin_within_the_horizon(seconds: float, ahead: int) -> None:
    desk = Desk(1)
    desk.teach(seconds=seconds)
    desk.submit(50)
    assert abs(len(desk.place()) - 1 - ahead) <= 1


def test_the_horizon_grows_by_the_way_to_the_server() -> None:
    desk = Desk(1, srtt=0.04)
    desk.teach(seconds=0.005)
    desk.submit(50)
    assert 10 <= len(desk.place()) <= 12


def test_one_goes_ahead_where_the_way_costs_a_tenth_of_a_run() -> None:
    for seconds, ahead in ((0.3, 1), (0.5, 0)):
        desk = Desk(1, srtt=0.04)
        desk.teach(seconds=seconds)
        desk.submit(5)
        assert len(desk.place()) == 1 + ahead


@pytest.mark.parametrize(
    ("heard_after", "ahead"),
    [(1.0, round(100 * MARGIN * 0.5) + 1), (0.5, 1)],
    ids=["its start is heard with its end", "its code was fetched first"],
)
def test_the_horizon_grows_by_how_late_ends_are_heard(heard_after: float, ahead: int) -> None:
    """A task of 0.5 s whose end is heard after 1 s."""
    desk = Desk(1)
    (entry,) = desk.submit()
    desk.place()
    desk.now += heard_after
    desk.dispatcher.placed(entry, 101, desk.now, started=True)
    desk.now += 1.0 - heard_after
    desk.end(entry, seconds=0.5)
    desk.teach("g", seconds=0.01)
    desk.submit(500, "g")
    assert abs(len(desk.place()) - 1 - ahead) <= 1


def test_nothing_goes_ahead_while_a_server_is_free_and_then_all_have_the_same() -> None:
    desk = Desk(4)
    desk.teach()
    desk.submit(4)
    assert len({server for _, server in desk.place()}) == 4
    desk.submit(8)
    desk.place()
    assert [len(server.cpu) for server in desk.dispatcher.fleet.servers.values()] == [3] * 4


@pytest.mark.parametrize(
    ("seconds", "together"), [(0.000_001, TOGETHER_MAX), (TOGETHER_S / 5.5, 5), (TOGETHER_S * 2, 1)]
)
def test_a_server_is_not_woken_for_what_another_has_done_sooner(seconds: float, together: int) -> None:
    desk = Desk(2)
    desk.teach(seconds=seconds)
    desk.submit(together + 1)
    assert len({server for _, server in desk.place()}) == 2
    assert [len(server.cpu) for server in desk.dispatcher.fleet.servers.values()] in (
        [together, 1],
        [1, together],
    )


def test_what_nobody_knows_and_what_is_waited_for_wakes_a_server_of_its_own() -> None:
    desk = Desk(3)
    desk.teach("brief", seconds=0.000_001)
    desk.submit(1, "brief")
    desk.submit(1, "unknown")
    desk.submit(1, "brief", alone=True)
    assert len({server for _, server in desk.place()}) == 3


def test_a_task_whose_start_is_waited_for_is_never_behind_another_and_keeps_its_turn() -> None:
    desk = Desk(1)
    desk.teach()
    first, second = desk.submit(2)
    desk.place()
    desk.submit(alone=True)
    desk.submit()
    assert desk.place() == []
    desk.end(first)
    assert desk.place() == []
    desk.end(second)
    assert desk.place() == [(FADE + 3, 101), (FADE + 4, 101)]


def test_a_mebibyte_of_calls_goes_ahead_or_one_large_one() -> None:
    desk = Desk(1)
    desk.teach(seconds=0.00001)
    desk.submit(10, size=CALLS_MAX // 4)
    assert len(desk.place()) == 1 + 3, "each costs a little more than its bytes"
    desk = Desk(1)
    desk.teach(seconds=0.00001)
    desk.submit(10, size=2 * CALLS_MAX)
    assert len(desk.place()) == 1 + 1


def test_what_is_behind_one_that_needs_a_free_server_goes_ahead_as_soon_as_that_one_has_it() -> None:
    desk = Desk(2)
    desk.teach()
    first, _ = desk.submit(2)
    desk.place()
    desk.submit(1, alone=True)
    desk.submit(4)
    assert not desk.place()
    desk.end(first)
    assert len(desk.place()) == 5
    assert [len(server.cpu) for server in desk.dispatcher.fleet.servers.values()] == [3, 3]


def test_a_pass_has_a_bound_and_another_one_follows() -> None:
    desk = Desk(1)
    desk.submit(PASS_MAX + 8, io=True)
    assert len(desk.place()) == PASS_MAX
    assert desk.dispatcher.deadline() == 0.0
    assert len(desk.place()) == 8


def test_functions_that_are_remembered_have_a_bound() -> None:
    desk = Desk()
    for number in range(FUNCTIONS_MAX + 5):
        desk.dispatcher.submit(Entry(f"f{number}"))
    assert len(desk.dispatcher.learners) == 5


@pytest.mark.parametrize(
    ("away", "delay", "step", "amount"),
    [(1.0, 0.0001, 0.02, 2000), (0.0, 0.02, 0.005, 800), (0.0, 0.0001, 0.02, 200)],
    ids=["the client computes", "the node is far", "all is near"],
)
def test_servers_are_busy(away: float, delay: float, step: float, amount: int) -> None:
    """In virtual time, with the first seconds in which nothing is known of function and client."""
    world = World(1)
    book = Book(world)
    client = Client(world)
    client.nodes[1] = SimNode(world, book, client, 1, 2, delay)
    world.run(1.2, lambda: False)
    for number in range(amount):
        client.submit(Plan(number, "f", step=step), size=100)

    def compute() -> None:
        client.away_until = world.now + away
        world.after(away + 0.00005, compute)  # a turn, but no answer to it

    if away:
        compute()
    began = world.now
    world.run(began + 20.0, lambda: not client.unended)
    assert not world.faults
    assert len(book.ends) * step / 2 / (world.now - began) > 0.85


# --- what is asked back


def stuck() -> tuple[Desk, list[Entry], int]:
    """One server with two tasks behind a long step, another that is free."""
    desk = Desk(1)
    desk.teach()
    entries = desk.submit(3)
    desk.place()
    desk.dispatcher.server_up(102, "node1/s2", 1)
    return desk, entries, FADE


def test_what_waits_behind_a_long_step_is_asked_back_and_goes_to_who_is_free() -> None:
    desk, (first, second, third), taught = stuck()
    desk.place(STALL_S)
    assert desk.recalls() == [(101, first.position)]
    desk.dispatcher.returned(101, [second.position, third.position])
    assert desk.place() == [(taught + 2, 102), (taught + 3, 102)], "nothing more goes behind the long step"
    desk.end(first)
    desk.submit()
    assert desk.place() == [(taught + 4, 101)]


def test_nothing_is_given_to_a_server_that_is_asked() -> None:
    desk, (first, second, third), _ = stuck()
    desk.place(STALL_S)
    desk.end(first)
    desk.submit(40, alone=True)
    assert {server for _, server in desk.place()} == {102}
    desk.dispatcher.returned(101, [third.position])
    assert second.at is not None and second.at.epoch == 101, "it had begun"
    desk.end(second)
    assert 101 in {server for _, server in desk.place()}


def test_a_long_step_is_waited_for_as_long_as_the_way_to_its_server_takes() -> None:
    desk = Desk(1, srtt=0.1)
    desk.submit(2)
    desk.place()
    desk.place(STALL_S)
    assert desk.recalls() == []
    desk.place(0.1)
    assert len(desk.recalls()) == 1


def test_a_recall_that_brings_nothing_is_not_repeated_for_the_same_step() -> None:
    desk, (first, second, _), _ = stuck()
    desk.place(STALL_S)
    assert desk.recalls() == [(101, first.position)]
    desk.dispatcher.returned(101, [])
    assert [desk.place(STALL_S) for _ in range(3)] == [[]] * 3
    assert desk.recalls() == [(101, second.position)], "half of it may still even out"


def test_half_of_what_waits_goes_to_those_that_idle_when_nothing_else_waits() -> None:
    desk = Desk(1)
    desk.teach()
    entries = desk.submit(9)
    desk.place()
    desk.dispatcher.server_up(102, "node1/s2", 1)
    desk.place()
    for _ in range(3):
        desk.end(entries.pop(0), seconds=0.04)
        desk.place(0.02)
    assert [after for _, after in desk.recalls()] == [entries[2].position], "of five that wait three"


def test_a_cpu_task_behind_the_long_step_of_an_io_task_is_asked_back() -> None:
    desk = Desk(1)
    desk.submit(io=True)
    desk.place()
    (entry,) = desk.submit()
    desk.place()
    desk.dispatcher.server_up(102, "node1/s2", 1)
    desk.place()
    desk.place(STALL_S)
    assert desk.recalls() == [(101, entry.position - 1)]
    desk.dispatcher.returned(101, [entry.position])
    assert desk.place() == [(2, 102)]


@pytest.mark.parametrize("node", ["", "node1"])
def test_what_would_come_back_to_the_same_server_is_not_asked_back(node: str) -> None:
    desk = Desk(1)
    desk.submit(io=True)
    desk.place()
    desk.submit(node=node)
    desk.place()
    if node:
        desk.dispatcher.node_up(2, "node2", ("node2",))
        desk.dispatcher.server_up(201, "node2/s1", 2)
    for _ in range(10):
        desk.place(2 * STALL_S)
    assert desk.recalls() == [], "it is the next one there as soon as the io task's step ends"


def test_what_may_run_nowhere_else_is_not_asked_back() -> None:
    desk = Desk(1)
    desk.teach()
    desk.submit(9, server=101)
    desk.submit(2, node="node1")
    desk.place()
    desk.dispatcher.node_up(2, "node2", ("node2",))
    desk.dispatcher.server_up(201, "node2/s1", 2)
    desk.place()
    for entry in list(desk.number_of)[FADE : FADE + 5]:
        desk.end(entry, seconds=0.03)
        desk.place(0.03)
    assert desk.recalls() == []


def test_io_tasks_are_never_asked_back() -> None:
    desk = Desk(1)
    desk.submit(5, io=True)
    desk.place()
    desk.dispatcher.server_up(102, "node1/s2", 1)
    desk.place(1.0)
    assert desk.recalls() == []


# --- drains


def test_a_server_that_gives_back_unasked_gets_nothing_more() -> None:
    desk = Desk(2)
    first, second = desk.submit(2)
    desk.place()
    assert first.at is not None
    gone = first.at.epoch
    desk.dispatcher.returned(gone, [first.position], draining=True)
    desk.end(second)
    desk.submit(3, alone=True)
    assert desk.place() == [(1, other_of(gone))]


def test_a_node_that_is_suspended_or_closing_gets_nothing() -> None:
    desk = Desk(1, 1)
    desk.dispatcher.node_opened(1, False)
    desk.submit(4)
    desk.submit(2, io=True)
    assert {server for _, server in desk.place()} == {201}
    desk.dispatcher.node_opened(1, True)
    assert {server for _, server in desk.place()} == {101}


def test_a_silent_node_keeps_what_it_has_and_gets_nothing() -> None:
    desk = Desk(1)
    (entry,) = desk.submit()
    desk.place()
    desk.dispatcher.node_silent(1, desk.now)
    desk.submit()
    assert desk.place(100.0) == []
    assert entry.at is not None
    desk.dispatcher.node_heard(1)
    desk.end(entry)
    assert desk.place() == [(2, 101)]


# --- the dead


def test_what_a_dead_server_had_begun_is_lost_and_the_rest_runs_elsewhere() -> None:
    desk = Desk(1)
    desk.teach()
    entries = desk.submit(5)
    desk.place()
    desk.dispatcher.server_lost(101, "server s1 was killed", entries[1].position, 0)
    begun = FADE + 1
    assert desk.ends() == [(begun, LOST, True), (begun + 1, LOST, True)]
    desk.dispatcher.server_up(102, "s2", 1)
    assert [task for task, _ in desk.place()] == [begun + 2, begun + 3], (
        "in their turn, and nothing is known now"
    )


@pytest.mark.parametrize("mark", [None, 1 << 63, 1], ids=["unreadable", "torn", "older than its words"])
def test_a_mark_that_fits_nothing_means_that_all_had_begun(mark: int | None) -> None:
    desk = Desk(1)
    desk.teach()
    desk.submit(3)
    desk.place()
    desk.dispatcher.server_lost(101, "server s1 was killed", mark, 0)
    assert [kind for _, kind, _ in desk.ends()] == [LOST] * 3


def test_the_mark_of_the_last_that_ended_or_was_refused_means_that_none_had_begun() -> None:
    for kind, started in ((RETURNED, True), (REFUSED, False)):
        desk = Desk(1)
        desk.teach()
        first, *_ = desk.submit(3)
        desk.place()
        mark = first.position
        desk.dispatcher.outcome(first, 101, kind, 0.0, desk.now, started=started)
        desk.dispatcher.server_lost(101, "server s1 was killed", mark, 0)
        assert desk.ends() == []
        assert desk.dispatcher.waiting == 2


def test_io_tasks_have_a_mark_of_their_own_and_what_was_placed_is_lost() -> None:
    desk = Desk(1)
    first, second, third = desk.submit(3, io=True)
    desk.submit()
    desk.place()
    desk.dispatcher.placed(third, 101, desk.now)
    desk.dispatcher.server_lost(101, "server s1 was killed", 0, first.position)
    assert desk.ends() == [(1, LOST, True), (3, LOST, False)]
    assert (second.at, desk.dispatcher.waiting) == (None, 2)


def test_a_node_that_is_gone_takes_all_that_it_was_given() -> None:
    desk = Desk(1, 1)
    desk.teach()
    desk.submit(8)
    desk.place()
    desk.submit(node="node1", alone=True)
    desk.dispatcher.node_lost(1, "node node1 is gone")
    ends = desk.ends()
    assert [kind for _, kind, _ in ends].count(LOST) == 4
    assert ends[-1] == (FADE + 9, REFUSED, False), "what waits for its name can run nowhere"


def test_a_session_that_began_anew_means_the_end_of_the_server() -> None:
    desk = Desk(1)
    desk.submit(2)
    desk.place()
    desk.dispatcher.session_reset(101)
    desk.dispatcher.session_reset(101)
    (kill,) = desk.took()
    assert isinstance(kill, Kill) and kill.server.epoch == 101
    desk.dispatcher.server_up(102, "s2", 1)
    assert desk.place() == [], "what the first was told is not given again before its page was read"
    desk.dispatcher.server_lost(101, "server s1 was killed", 1, 0)
    assert desk.place() == [(2, 102)]


def test_a_lost_task_is_tried_again_as_often_as_was_asked_for_and_at_its_turn() -> None:
    desk = Desk(1)
    (entry,) = desk.submit(retries=1)
    desk.submit()
    desk.place()
    desk.dispatcher.server_lost(101, "it died", 1, 0)
    assert [type(effect) for effect in desk.took()] == [Again]
    desk.dispatcher.server_up(102, "s2", 1)
    assert desk.place() == [(1, 102), (2, 102)]
    assert entry.attempt == 2
    assert not desk.dispatcher.outcome(entry, 101, RETURNED, 0.1, desk.now), "the first attempt is over"
    desk.dispatcher.server_lost(102, "it died", 1, 0)
    assert desk.ends() == [(1, LOST, True)]


def test_what_waits_for_a_server_that_died_is_refused() -> None:
    desk = Desk(2)
    desk.submit(2, server=101, alone=True)
    desk.place()
    desk.dispatcher.server_lost(101, "it was killed", 0, 0)
    assert desk.ends() == [(2, REFUSED, False), (1, REFUSED, False)]


def test_a_node_without_servers_that_starts_no_more_is_not_waited_for() -> None:
    desk = Desk(0, 1)
    desk.submit(node="node1")
    desk.submit(node="node2", alone=True)
    desk.dispatcher.node_failed(1, "no space left")
    assert [(effect.kind, effect.text) for effect in desk.took() if isinstance(effect, Ended)] == [
        (REFUSED, "no server can be started: no space left")
    ]
    desk.submit(node="node1")
    assert desk.ends() == [(3, REFUSED, False)]
    desk.dispatcher.node_failed(2, "no space left")
    desk.place()
    desk.submit(node="node2", alone=True)
    desk.dispatcher.server_lost(201, "it was killed", 0, 0)
    assert desk.ends() == [(2, REFUSED, False), (4, REFUSED, False)]
    desk.dispatcher.server_up(202, "node2/s2", 2)
    desk.submit(node="node2")
    assert desk.place() == [(5, 202)], "one came up all the same"


# --- ends


def test_a_task_that_waits_is_cancelled_at_once_and_another_by_its_server() -> None:
    desk = Desk(1)
    first, second = desk.submit(2, alone=True)
    desk.place()
    for entry in (first, second, second):
        desk.dispatcher.terminate(entry, desk.now)
    terminate, cancelled = desk.took()
    assert isinstance(terminate, Terminate) and terminate.entry is first
    assert cancelled == Ended(second, CANCELLED, "terminated before it started", False)
    assert desk.dispatcher.waiting == 0


def test_a_task_that_is_to_end_and_comes_back_is_cancelled() -> None:
    desk = Desk(1)
    desk.submit(2)
    desk.place()
    (first, second) = desk.number_of
    desk.dispatcher.terminate(second, desk.now)
    desk.place(STALL_S)
    desk.dispatcher.returned(101, [second.position])
    assert desk.ends() == [(2, CANCELLED, False)]
    desk.dispatcher.terminate(first, desk.now)
    desk.dispatcher.server_lost(101, "it was killed", first.position, 0)
    assert desk.ends() == [(1, TERMINATED, True)]


@pytest.mark.parametrize("first_silent", [True, False])
def test_a_silent_node_is_not_waited_for_by_who_terminated_a_task_there(first_silent: bool) -> None:
    desk = Desk(1)
    entry, other = desk.submit(2)
    desk.place()
    if first_silent:
        desk.dispatcher.node_silent(1, desk.now)
    desk.dispatcher.terminate(entry, desk.now)
    desk.dispatcher.node_silent(1, desk.now)
    desk.place(GIVE_UP_AFTER_S - 1.0)
    assert desk.ends() == []
    desk.place(1.0)
    assert desk.ends() == [(1, LOST, True)]
    assert not desk.dispatcher.outcome(entry, 101, TERMINATED, 0.1, desk.now), "it is told late"
    assert other.at is not None and not other.over
    desk.place()


def test_at_a_close_all_that_waits_and_comes_back_is_cancelled() -> None:
    desk = Desk(1)
    desk.submit(4)
    desk.place()
    desk.dispatcher.close("the client closed")
    assert desk.ends() == [(3, CANCELLED, False), (4, CANCELLED, False)]
    desk.dispatcher.server_lost(101, "it ended", 1, 0, closing=True)
    assert desk.ends() == [(1, TERMINATED, True), (2, CANCELLED, False)]


def test_when_no_server_can_take_them_all_that_wait_are_refused() -> None:
    desk = Desk()
    desk.submit(2)
    desk.submit(io=True)
    desk.dispatcher.end_waiting(REFUSED, "no server can take it")
    assert desk.ends() == [(1, REFUSED, False), (2, REFUSED, False), (3, REFUSED, False)]
    desk.place()


def other_of(epoch: int) -> int:
    return 203 - epoch


# --- CPU tasks that wait for those that they submitted


def test_a_server_whose_task_waits_for_its_own_gets_another() -> None:
    desk = Desk(1)
    (parent,) = desk.submit()
    assert desk.place() == [(1, 101)]
    (child,) = desk.submit(alone=True)
    assert desk.place() == []
    desk.dispatcher.aside(parent, 101, desk.now, aside=True)
    assert desk.place() == [(2, 101)]
    desk.dispatcher.outcome(child, 101, RETURNED, 0.1, desk.now)
    desk.dispatcher.aside(parent, 101, desk.now, aside=False)
    desk.submit(alone=True)
    assert desk.place() == [], "it goes on"
    desk.dispatcher.outcome(parent, 101, RETURNED, 0.2, desk.now)
    assert desk.place() == [(3, 101)]


def test_of_two_servers_the_one_is_taken_where_nobody_waits() -> None:
    desk = Desk(2)
    (parent,) = desk.submit()
    ((_, aside),) = desk.place()
    desk.dispatcher.aside(parent, aside, desk.now, aside=True)
    desk.submit(2, alone=True)
    given = desk.place()
    assert [number for number, _ in given] == [2, 3] and given[0][1] != aside == given[1][1]


def test_one_that_goes_on_while_another_runs_was_given_before_it() -> None:
    desk = Desk(1)
    (parent,) = desk.submit()
    desk.place()
    desk.dispatcher.aside(parent, 101, desk.now, aside=True)
    (other,) = desk.submit(alone=True)
    desk.place()
    desk.dispatcher.aside(parent, 101, desk.now, aside=False)
    desk.place()
    assert list(desk.dispatcher.fleet.servers[101].cpu) == [parent, other]
    desk.dispatcher.outcome(other, 101, RETURNED, 0.1, desk.now)
    desk.dispatcher.outcome(parent, 101, RETURNED, 0.1, desk.now)
    desk.submit()
    assert desk.place() == [(3, 101)]


def test_who_lent_a_server_that_dies_had_begun_whatever_its_page_says_of_others() -> None:
    desk = Desk(1)
    desk.submit(1, retries=1)
    (other,) = desk.submit(alone=True)
    desk.place()
    parent = next(iter(desk.number_of))
    desk.dispatcher.aside(parent, 101, desk.now, aside=True)
    desk.place()
    desk.dispatcher.server_lost(101, "killed", parent.position, 0)
    assert other.at is None and desk.ends() == []
    assert parent.attempt == 2 and not parent.aside, "it is tried again, as any that had begun"
    desk.dispatcher.server_up(102, "node1/s2", 1)
    assert desk.place() == [(1, 102)]


def test_words_about_another_attempt_or_an_io_task_lend_nothing() -> None:
    desk = Desk(1)
    (parent,), (io,) = desk.submit(), desk.submit(io=True)
    desk.place()
    desk.dispatcher.aside(io, 101, desk.now, aside=True)
    desk.dispatcher.aside(parent, 999, desk.now, aside=True)
    desk.dispatcher.aside(parent, 101, desk.now, aside=False)
    desk.submit(alone=True)
    assert desk.place() == []

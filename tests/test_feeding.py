"""A CPU task has a server alone, short ones are fed ahead and asked back, io tasks stand beside."""

from __future__ import annotations

from itertools import count
from typing import Any

import pytest

from dispycos.actors.feeding import (
    FEED_AHEAD,
    FEED_AHEAD_MAX,
    IO_MAX,
    STALL,
    Feeding,
    Levels,
    NodeTask,
    Server,
    report,
)
from dispycos.protocol.addresses import SERVER, Address
from dispycos.protocol.messages import Run, Spot, TaskId, TaskReport


def make_server(number: int) -> Server:
    epoch = 1000 + number
    return Server(
        number, number, Spot("10.0.0.5", 9700, epoch, f"box/server-{number}"), Address(epoch, SERVER)
    )


class Hand:
    """A Feeding with servers, each step checked."""

    def __init__(self, servers: int = 2) -> None:
        self.feeding = Feeding()
        self.numbers = count(1)
        self.now = 0.0
        self.took = 0.001  # seconds, each task that ends
        self.servers = [make_server(number) for number in range(1, servers + 1)]
        for server in self.servers:
            self.feeding.add(server)

    def put(self, amount: int = 1, **fields: Any) -> list[NodeTask]:
        tasks = []
        for _ in range(amount):
            run = Run(TaskId(7, next(self.numbers)), "compute", **fields)
            tasks.append(NodeTask(run.task, run, None, self.now))
            self.feeding.put(tasks[-1])
        self.feeding.check()
        return tasks

    def assign(self) -> list[tuple[int, int]]:
        """(task, server) as numbers."""
        given = self.feeding.assign(self.now)
        self.feeding.check()
        return [(task.id.number, task.server.number) for task in given if task.server is not None]

    def end(self, *tasks: NodeTask) -> None:
        for task in tasks:
            self.feeding.ended(task, self.now, self.took)
            self.feeding.check()


def test_a_cpu_task_has_a_server_alone() -> None:
    hand = Hand(2)
    first, _, _ = hand.put(3)
    assert hand.assign() == [(1, 1), (2, 2)]
    hand.end(first)
    assert hand.assign() == [(3, 1)]


def test_the_free_server_with_the_least_io_tasks_comes_first() -> None:
    hand = Hand(2)
    hand.put(1, io=True)
    assert hand.assign() == [(1, 1)]
    hand.put(1)
    assert hand.assign() == [(2, 2)]


def test_io_tasks_avoid_servers_with_a_cpu_task_while_another_is_free() -> None:
    hand = Hand(2)
    hand.put(1)
    hand.assign()
    hand.put(3, io=True)
    assert hand.assign() == [(2, 2), (3, 2), (4, 2)]
    hand.put(1)
    hand.assign()
    hand.put(1, io=True)
    assert hand.assign() == [(6, 1)], "both have a CPU task now: the least io tasks count"


def test_io_tasks_stop_at_their_bound() -> None:
    hand = Hand(1)
    tasks = hand.put(IO_MAX + 1, io=True)
    assert len(hand.assign()) == IO_MAX
    hand.end(tasks[0])
    assert hand.assign() == [(IO_MAX + 1, 1)]


def test_fast_tasks_are_fed_ahead_evenly_and_within_the_bound() -> None:
    hand = Hand(2)
    hand.put(10, fast=True)
    hand.assign()
    assert [len(server.cpu) for server in hand.servers] == [5, 5]
    hand.put(200, fast=True)
    hand.assign()
    assert [len(server.cpu) for server in hand.servers] == [1 + FEED_AHEAD, 1 + FEED_AHEAD]


def test_the_shorter_the_tasks_the_more_are_fed_ahead() -> None:
    hand = Hand(1)
    tasks = hand.put(2 * FEED_AHEAD_MAX, fast=True)
    hand.assign()
    hand.took = 0.0001
    for task in tasks[:FEED_AHEAD]:
        hand.end(task)
        hand.assign()
    assert 3 * FEED_AHEAD / 2 < len(hand.servers[0].cpu) <= 1 + 100
    hand.took = 0.004
    for task in list(hand.servers[0].cpu.values()):
        hand.end(task)
        hand.assign()
    assert len(hand.servers[0].cpu) == 1 + FEED_AHEAD


def test_nothing_is_fed_behind_a_task_that_is_not_fast() -> None:
    hand = Hand(1)
    hand.put(1)
    hand.put(1, fast=True)
    assert hand.assign() == [(1, 1)]
    assert hand.assign() == []


def test_fast_tasks_do_not_take_the_turn_of_one_that_needs_a_server_alone() -> None:
    hand = Hand(1)
    first, second = hand.put(2, fast=True)
    hand.put(1)
    hand.put(1, fast=True)
    assert hand.assign() == [(1, 1), (2, 1)]
    hand.end(first)
    assert hand.assign() == []
    hand.end(second)
    assert hand.assign() == [(3, 1)]


def test_a_task_that_names_its_server_waits_for_it_alone() -> None:
    hand = Hand(2)
    first = hand.put(1, server=1002)[0]
    hand.put(1, server=1002)
    hand.put(1)
    assert hand.assign() == [(1, 2), (3, 1)]
    hand.end(first)
    assert hand.assign() == [(2, 2)]


def test_what_waits_behind_a_long_step_is_asked_back_and_goes_elsewhere() -> None:
    hand = Hand(2)
    tasks = hand.put(4, fast=True)
    hand.assign()
    stuck, other = hand.servers
    hand.now = 0.04
    hand.end(*list(other.cpu.values()))
    assert hand.feeding.deadline == STALL
    assert hand.feeding.stalls(0.049) == []
    hand.now = STALL
    assert hand.feeding.stalls(hand.now) == [stuck]
    assert hand.feeding.deadline is None
    waiting = [task.id for task in list(stuck.cpu.values())[1:]]
    assert [task.id for task in hand.feeding.given_back(stuck, waiting, hand.now)] == waiting
    assert hand.assign() == [(waiting[0].number, other.number)]
    hand.put(1, fast=True)
    hand.assign()
    assert len(stuck.cpu) == 1, "nothing more goes behind the long step"
    hand.end(tasks[0])
    hand.put(4, fast=True)
    hand.assign()
    assert len(stuck.cpu) > 1, "the step has ended: it is fed again"


def test_an_unanswered_recall_leaves_the_tasks_there_and_feeds_no_more_ahead() -> None:
    hand = Hand(1)
    tasks = hand.put(3, fast=True)
    hand.assign()
    hand.now = 0.06
    assert len(hand.feeding.stalls(hand.now)) == 1
    hand.end(tasks[0])
    hand.put(1, fast=True)
    assert hand.assign() == []
    hand.now = 9.0
    assert hand.feeding.stalls(hand.now) == []
    hand.end(tasks[1], tasks[2])
    assert hand.assign() == [(4, 1)]


def test_tasks_given_back_keep_their_order_before_all_others() -> None:
    hand = Hand(1)
    tasks = hand.put(4, fast=True)
    hand.assign()
    hand.put(1, fast=True, server=0)
    hand.feeding.stalls(hand.now)
    back = [tasks[1].id, tasks[2].id, tasks[2].id, TaskId(7, 99)]
    hand.feeding.given_back(hand.servers[0], back, 0.0)
    hand.feeding.check()
    assert [task.id.number for task in hand.feeding.take_back(10)] == [2, 3, 5]


def test_a_task_that_began_is_not_given_back() -> None:
    hand = Hand(1)
    task = hand.put(1)[0]
    hand.assign()
    task.began = True
    assert hand.feeding.given_back(hand.servers[0], [task.id], 0.0) == []


def test_a_fast_task_does_not_go_behind_a_step_that_is_long_already() -> None:
    hand = Hand(1)
    hand.put(1, fast=True)
    hand.assign()
    hand.now = 1.0
    hand.put(1, fast=True)
    assert hand.assign() == []


def test_a_recall_by_the_scheduler_takes_the_last_ones_in_order() -> None:
    hand = Hand(1)
    hand.put(4)
    hand.assign()
    assert [task.id.number for task in hand.feeding.take_back(2)] == [3, 4]
    assert [task.id.number for task in hand.feeding.take_back(5)] == [2]
    hand.feeding.check()


def test_a_withdrawn_server_gets_nothing_until_it_is_restored() -> None:
    hand = Hand(1)
    hand.feeding.withdraw(hand.servers[0])
    hand.put(1)
    hand.put(1, io=True)
    hand.put(1, server=1001)
    assert hand.assign() == []
    hand.feeding.restore(hand.servers[0])
    assert sorted(hand.assign()) == [(2, 1), (3, 1)]


def test_a_dropped_server_leaves_its_tasks_in_the_order_given_then_those_that_waited_for_it() -> None:
    hand = Hand(2)
    hand.put(4, fast=True, server=1001)
    hand.put(1, io=True, server=1001)
    hand.assign()
    hand.put(1, server=1001)
    assert [task.id.number for task in hand.feeding.drop(hand.servers[0])] == [1, 2, 3, 4, 5, 6]
    assert not hand.feeding.tasks
    hand.feeding.check()
    hand.put(1)
    assert hand.assign() == [(7, 2)]


def test_the_server_that_ran_last_is_given_the_next_task() -> None:
    hand = Hand(3)
    first, second = hand.put(2)
    assert hand.assign() == [(1, 1), (2, 2)]
    hand.now = 1.0
    for task in (second, first):
        hand.end(task)
        hand.assign()
    hand.put(3)
    assert hand.assign() == [(3, 1), (4, 2), (5, 3)]


def test_how_many_are_fed_ahead_is_learned_for_each_function() -> None:
    hand = Hand(1)
    hand.took = 0.00001
    for _ in range(FEED_AHEAD):
        (task,) = hand.put(1, fast=True)
        hand.assign()
        hand.end(task)
    feeding = hand.feeding
    assert feeding._bound("compute") > FEED_AHEAD == feeding._bound("another")


def test_levels_give_the_warm_one_or_the_one_that_has_been_longest_on_the_lowest() -> None:
    levels, (a, b, c) = Levels(), [make_server(number) for number in (1, 2, 3)]
    assert levels.first() is None
    levels.set(a, 5)
    levels.set(b, 2)
    levels.set(c, 2)
    assert levels.first() is b
    levels.set(b, 3)
    assert levels.first() is c
    levels.remove(c)
    levels.remove(c)
    assert (levels.first(), len(levels), levels.level_of(c)) == (b, 2, None)
    levels.set(a, 3, is_warm=True)
    assert levels.first() is a
    levels.check()


def test_check_sees_a_task_at_two_places() -> None:
    hand = Hand(2)
    task = hand.put(1)[0]
    hand.assign()
    hand.servers[1].cpu[task.id] = task
    with pytest.raises(AssertionError, match="does not know its server"):
        hand.feeding.check()


def test_a_report_names_the_running_ones_first() -> None:
    hand = Hand(1)
    hand.put(2, fast=True)
    hand.put(1, io=True)
    hand.assign()
    assert report(hand.servers[0], 2.0).tasks == [
        TaskReport("compute", 7, 3, 1, True, "running", 2.0),
        TaskReport("compute", 7, 1, 1, False, "running", 2.0),
        TaskReport("compute", 7, 2, 1, False, "waiting", 2.0),
    ]

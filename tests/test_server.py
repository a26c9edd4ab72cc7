"""A server process has one CPU task at a time, io tasks beside it, and each ends with one outcome: its machine alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dispycos.actors.server import COPY_MAX, Forget, Interrupt, Server, Stop, Work
from dispycos.machine import Send
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, NODE, SERVER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Run, Spot, TaskId
from dispycos.protocol.status import OutcomeKind

ME = Address(1001, SERVER)
AGENT = Address(900, NODE)
OWNER = Address(7, CLIENT)
SPOT = Spot("10.0.0.5", 9701, 1001, "box/server-1")


def run(number: int, **fields: Any) -> Run:
    return Run(TaskId(7, number), "compute", **fields)


class Post:
    """A server's machine, each step checked."""

    def __init__(self) -> None:
        self.server = Server(ME, AGENT, SPOT)
        self.now = 50.0
        self.actors = iter(range(16, 1 << 16))

    def hear(self, word: messages.Message, payload: Any = None) -> None:
        self.server.receive(Envelope(ME, AGENT, word, 0, payload), self.now)
        self.server.check()

    def drain(self) -> list[object]:
        effects = self.server.drain()
        self.server.check()
        return effects

    def start(self, *runs: Run) -> None:
        """Given and begun; the announcements are drained."""
        for given in runs:
            self.hear(given, b"call")
            assert self.take() == given
            self.begin(given)
        self.drain()

    def take(self) -> Run | None:
        given = self.server.take()
        return None if given is None else given.run

    def begin(self, given: Run) -> bool:
        """Its address, then its first step."""
        self.server.begin(given, next(self.actors), self.now)
        self.server.check()
        announced = self.server.enter(given.task, self.now)
        self.server.check()
        return announced

    def end(self, given: Run, kind: OutcomeKind = OutcomeKind.RETURNED, payload: Any = b"value") -> None:
        self.server.end(given.task, kind, payload, None, self.now)
        self.server.check()


def to_agent(word: messages.Message, payload: Any = None) -> Send:
    return Send(Envelope(AGENT, ME, word, 0, payload))


def to_owner(word: messages.Message, payload: Any = None) -> Send:
    return Send(Envelope(OWNER, ME, word, 0, payload))


def not_started(given: Run, kind: OutcomeKind, text: str = "") -> list[Send]:
    return [
        to_owner(messages.Outcome(given.task, kind, 0, SPOT, 0.0, False, text, 900)),
        to_agent(messages.Done(given.task, kind, 0.0, 1001)),
    ]


@pytest.fixture
def post() -> Iterator[Post]:
    """Whatever is left undrained at the end was not looked at."""
    post = Post()
    yield post
    assert post.drain() == []


def test_a_task_is_taken_when_it_comes(post: Post) -> None:
    post.hear(run(1), b"call")
    assert post.drain() == [Work()]
    given = post.server.take()
    assert given is not None
    assert (given.position, given.run, given.envelope.payload) == (1, run(1), b"call")
    assert post.take() is None


def test_the_start_is_announced_to_owner_and_agent(post: Post) -> None:
    post.hear(run(1))
    post.take()
    post.drain()
    assert post.begin(run(1))
    assert post.drain() == [
        to_owner(messages.Started(TaskId(7, 1), 16, SPOT)),
        to_agent(messages.Began(TaskId(7, 1), 1001)),
    ]


def test_the_start_of_a_short_task_is_announced_only_if_it_suspends(post: Post) -> None:
    given = run(1, fast=True)
    post.hear(given)
    post.take()
    post.drain()
    assert not post.begin(given)
    assert post.drain() == []

    post.server.suspended(given.task)
    announced = [
        to_owner(messages.Started(given.task, 16, SPOT)),
        to_agent(messages.Began(given.task, 1001)),
    ]
    assert post.drain() == announced
    post.server.suspended(given.task)
    post.server.suspended(TaskId(7, 99))
    assert post.drain() == []


def test_one_cpu_task_runs_at_a_time_in_order(post: Post) -> None:
    first, second, third = run(1), run(2), run(3)
    for given in (first, second, third):
        post.hear(given)
    assert post.drain() == [Work()]
    assert post.take() == first
    post.begin(first)
    assert post.take() is None
    post.drain()
    post.end(first)
    assert post.drain()[-1] == Work()
    assert post.take() == second
    assert post.take() is None


def test_io_tasks_run_beside_and_are_started_first(post: Post) -> None:
    post.start(run(1))
    assert post.take() is None
    for given in (run(2), run(3, io=True), run(4, io=True)):
        post.hear(given)
    assert post.drain() == [Work()]
    assert [post.take(), post.take(), post.take()] == [run(3, io=True), run(4, io=True), None]


def test_the_end_of_an_io_task_does_not_free_the_cpu(post: Post) -> None:
    aside = run(2, io=True)
    post.start(run(1), aside)
    post.hear(run(3))
    post.drain()
    post.end(aside)
    post.drain()
    assert post.take() is None


def test_an_outcome_goes_to_the_owner_and_then_to_the_agent_with_a_copy(post: Post) -> None:
    given = run(1)
    post.start(given)
    post.now += 2.5
    post.end(given, OutcomeKind.RAISED, b"error")
    assert post.drain() == [
        to_owner(messages.Outcome(given.task, OutcomeKind.RAISED, 16, SPOT, 2.5, True, "", 900), b"error"),
        to_agent(messages.Done(given.task, OutcomeKind.RAISED, 2.5, 1001, 16, 5), b"error"),
    ]
    assert post.server.running == {}


@pytest.mark.parametrize(
    ("payload", "size"),
    [(b"x" * (COPY_MAX + 1), COPY_MAX + 1), ([b"stream", memoryview(bytes(10))], 16)],
    ids=["large", "with buffers"],
)
def test_a_large_value_goes_to_the_owner_only(post: Post, payload: Any, size: int) -> None:
    given = run(1)
    post.start(given)
    post.end(given, payload=payload)
    assert post.drain() == [
        to_owner(messages.Outcome(given.task, OutcomeKind.RETURNED, 16, SPOT, 0.0, True, "", 900), payload),
        to_agent(messages.Done(given.task, OutcomeKind.RETURNED, 0.0, 1001, 16, size)),
    ]


def test_a_value_of_the_allowed_size_is_copied(post: Post) -> None:
    given = run(1)
    post.start(given)
    post.end(given, payload=b"x" * COPY_MAX)
    done = post.drain()[0]
    assert isinstance(done, Send) and done.envelope.payload == b"x" * COPY_MAX


def test_a_task_without_payload_has_size_nothing(post: Post) -> None:
    given = run(1)
    post.start(given)
    post.end(given, OutcomeKind.TERMINATED, None)
    assert post.drain() == [
        to_owner(messages.Outcome(given.task, OutcomeKind.TERMINATED, 16, SPOT, 0.0, True, "", 900)),
        to_agent(messages.Done(given.task, OutcomeKind.TERMINATED, 0.0, 1001, 16, 0)),
    ]


def test_a_running_task_is_interrupted(post: Post) -> None:
    post.start(run(1))
    post.hear(messages.Terminate(TaskId(7, 1)))
    assert post.drain() == [Interrupt(TaskId(7, 1))]


@pytest.mark.parametrize("io", [False, True])
def test_a_waiting_task_is_cancelled_and_its_neighbours_stay(post: Post, io: bool) -> None:
    post.start(run(1))
    for number in (2, 3, 4):
        post.hear(run(number, io=io))
    post.drain()
    post.hear(messages.Terminate(TaskId(7, 3)))
    assert post.drain() == not_started(run(3), OutcomeKind.CANCELLED)
    post.end(run(1))
    post.drain()
    assert post.take() == run(2, io=io)


def test_terminate_of_a_task_that_has_ended_is_nothing(post: Post) -> None:
    post.start(run(1))
    post.end(run(1))
    post.drain()
    post.hear(messages.Terminate(TaskId(7, 1)))
    post.hear(messages.Terminate(TaskId(8, 1)))
    assert post.drain() == []


def test_a_terminate_that_comes_between_take_and_begin_is_not_lost(post: Post) -> None:
    """The relief thread may be in its last turn while the loop takes the next task."""
    given = run(1)
    post.hear(given)
    post.drain()
    post.take()
    post.hear(messages.Terminate(given.task))
    early = post.drain()
    post.begin(given)
    assert Interrupt(given.task) in [*early, *post.drain()]


def test_a_shutdown_that_comes_between_take_and_begin_waits_for_the_task(post: Post) -> None:
    given = run(1, io=True)
    post.hear(given)
    post.drain()
    post.take()
    post.hear(messages.Shutdown(5.0))
    early = post.drain()
    post.begin(given)
    late = post.drain()
    assert Stop() not in early
    assert Interrupt(given.task) in [*early, *late]


def test_the_tasks_that_waited_least_are_given_back_in_their_order(post: Post) -> None:
    post.start(run(1))
    for number in (2, 3, 4):
        post.hear(run(number, fast=True))
    post.drain()
    post.hear(messages.Recall(2))
    assert post.drain() == [to_agent(messages.Recalled([TaskId(7, 3), TaskId(7, 4)]))]
    post.end(run(1))
    post.drain()
    assert post.take() == run(2, fast=True)
    assert post.take() is None


def test_a_recall_never_gives_back_what_runs_or_io_tasks(post: Post) -> None:
    post.start(run(1))
    post.hear(run(2, io=True))
    post.drain()
    post.hear(messages.Recall(5))
    assert post.drain() == [to_agent(messages.Recalled([]))]
    assert post.take() == run(2, io=True)


def test_a_task_that_was_taken_is_not_given_back(post: Post) -> None:
    post.hear(run(1))
    post.take()
    post.drain()
    post.hear(messages.Recall(1))
    assert post.drain() == [to_agent(messages.Recalled([]))]


def test_the_time_of_a_task_counts_from_its_first_step(post: Post) -> None:
    """Code that is fetched first is not the function's time, which placement learns from."""
    given = run(1)
    post.hear(given)
    post.take()
    post.server.begin(given, 16, post.now)
    post.now += 2.0
    post.server.enter(given.task, post.now)
    post.now += 0.5
    post.drain()
    post.end(given)
    done = post.drain()[0]
    assert isinstance(done, Send) and done.envelope.message.seconds == 0.5


def test_a_task_whose_call_cannot_be_opened_ends_without_having_been_announced(post: Post) -> None:
    given = run(1)
    post.hear(given)
    post.take()
    post.server.begin(given, 16, post.now)
    post.drain()
    post.end(given, OutcomeKind.RAISED, b"error")
    assert post.drain() == [
        to_owner(messages.Outcome(given.task, OutcomeKind.RAISED, 16, SPOT, 0.0, True, "", 900), b"error"),
        to_agent(messages.Done(given.task, OutcomeKind.RAISED, 0.0, 1001, 16, 5), b"error"),
    ]


def test_the_death_of_other_servers_is_told_to_who_waits_for_them(post: Post) -> None:
    post.hear(messages.Gone([1002, 1003]))
    assert post.drain() == [Forget([1002, 1003])]


def test_a_task_ended_by_a_shutdown_says_why_the_server_closed(post: Post) -> None:
    given = run(1)
    post.start(given)
    post.hear(messages.Shutdown(5.0, "its node was stopped"))
    post.end(given, OutcomeKind.TERMINATED, None)
    text = "compute was terminated: its node was stopped"
    assert post.drain() == [
        Interrupt(given.task),
        to_owner(messages.Outcome(given.task, OutcomeKind.TERMINATED, 16, SPOT, 0.0, True, text, 900)),
        to_agent(messages.Done(given.task, OutcomeKind.TERMINATED, 0.0, 1001, 16, 0)),
        Stop(),
    ]


def test_an_idle_server_ends_at_once(post: Post) -> None:
    post.hear(messages.Shutdown(5.0))
    assert post.drain() == [Stop()]


def test_a_busy_server_interrupts_cancels_and_ends_after_the_last(post: Post) -> None:
    cpu, aside, waiting, waiting_io = run(1), run(2, io=True), run(3), run(4, io=True)
    post.start(cpu, aside)
    post.hear(waiting)
    post.hear(waiting_io)
    post.drain()
    post.hear(messages.Shutdown(5.0))
    assert post.drain() == [
        *not_started(waiting, OutcomeKind.CANCELLED),
        *not_started(waiting_io, OutcomeKind.CANCELLED),
        Interrupt(cpu.task),
        Interrupt(aside.task),
    ]
    post.end(cpu, OutcomeKind.TERMINATED, None)
    assert Stop() not in post.drain()
    post.end(aside, OutcomeKind.TERMINATED, None)
    assert post.drain()[-1] == Stop()


def test_a_task_whose_call_cannot_be_had_is_refused_and_the_next_may_start(post: Post) -> None:
    post.hear(run(1))
    post.hear(run(2))
    post.drain()
    assert [post.take(), post.take()] == [run(1), None]
    post.server.refuse(run(1), "its call cannot be had")
    post.server.check()
    assert post.drain() == [
        *not_started(run(1), OutcomeKind.REFUSED, "its call cannot be had"),
        Work(),
    ]
    assert post.take() == run(2)


def test_the_agent_alone_watches_the_time(post: Post) -> None:
    post.start(run(1))
    post.server.wake(post.now + 1000)
    assert post.server.deadline() is None
    assert post.drain() == []


def test_what_a_server_does_not_know_it_passes_over(post: Post) -> None:
    post.hear(messages.Granted(messages.Lease(1, 7, "s", 5), "s"))
    assert post.drain() == []

"""A server process has one CPU task at a time, io tasks beside it, and each ends with one outcome: its machine alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dispycos.actors.server.queue import (
    REPORTED_MAX,
    Drop,
    Interrupt,
    PassOn,
    Server,
    Stop,
    Tell,
    TellStack,
    Work,
)
from dispycos.machine import Log, Send
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, NODE, SCHEDULER, SERVER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Placed, Returned, Run, Spot, Started, TaskId, TaskReport
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.watching import SERVERS, StackGiven, StackWanted

ME = Address(1001, SERVER)
AGENT = Address(900, NODE)
OWNER = Address(7, CLIENT)
SPOT = Spot("10.0.0.5", 9701, 1001, "box/server-1")


def run(number: int, **fields: Any) -> Run:
    """The position is the task's number."""
    return Run(TaskId(7, number), "compute", number, **fields)


class Post:
    """A server's machine, each step checked."""

    def __init__(self) -> None:
        self.actors = iter(range(16, 1 << 16))
        self.server = Server(ME, OWNER, AGENT, SPOT, lambda run: next(self.actors))
        self.now = 50.0

    def hear(
        self, word: messages.Message, payload: Any = None, sender: Address = OWNER, correlation: int = 0
    ) -> None:
        self.server.receive(Envelope(ME, sender, word, correlation, payload), self.now)
        self.server.check()

    def shut_down(self, reason: str = "") -> None:
        self.hear(messages.Shutdown(reason), sender=AGENT)

    def drain(self) -> list[object]:
        effects = self.server.drain()
        self.server.check()
        return effects

    def start(self, *runs: Run) -> None:
        """Given and begun; the announcements are drained."""
        for given in runs:
            self.hear(given, b"call")
            assert self.take() == given
            assert self.enter(given)
        self.drain()

    def take(self) -> Run | None:
        """The next task; a CPU task has begun then."""
        envelope = self.server.take()
        if envelope is None:
            return None
        given: Run = envelope.message
        if not given.io:
            self.server.begin(given, next(self.actors), self.now, waits=given.fetch)
        self.server.check()
        return given

    def enter(self, given: Run) -> bool:
        announced = self.server.enter(given.task, self.now)
        self.server.check()
        return announced

    def end(
        self, given: Run, kind: OutcomeKind = OutcomeKind.RETURNED, payload: Any = b"value", **used: Any
    ) -> None:
        self.server.end(given.task, kind, payload, None, self.now, **used)
        self.server.check()


def to_owner(word: messages.Message, payload: Any = None) -> Send:
    return Send(Envelope(OWNER, ME, word, 0, payload))


def cancelled(given: Run, text: str = "") -> Send:
    return to_owner(messages.Outcome(given.task, OutcomeKind.CANCELLED, 0, None, 0.0, False, text))


def terminate(given: Run) -> messages.Terminate:
    return messages.Terminate(given.task, 1001, given.position)


@pytest.fixture
def post() -> Iterator[Post]:
    """Whatever is left undrained at the end was not looked at."""
    post = Post()
    yield post
    assert post.drain() == []


# --- CPU tasks


def test_a_task_is_taken_when_it_comes(post: Post) -> None:
    post.hear(run(1), b"call")
    assert post.drain() == [Work()]
    envelope = post.server.take()
    assert envelope is not None
    assert (envelope.message, envelope.payload) == (run(1), b"call")


def test_one_cpu_task_runs_at_a_time_in_order(post: Post) -> None:
    first, second, third = run(1), run(2), run(3)
    for given in (first, second, third):
        post.hear(given)
    assert post.drain() == [Work()]
    assert post.take() == first
    assert post.take() is None
    post.drain()
    post.end(first)
    assert post.drain()[0] == Work()
    assert post.take() == second
    assert post.take() is None


def test_the_start_is_announced_before_the_first_step(post: Post) -> None:
    post.hear(run(1))
    post.take()
    assert post.drain() == [Work()]
    assert post.enter(run(1))
    assert post.drain() == [to_owner(Started(TaskId(7, 1), 16, SPOT))]


def test_a_task_whose_call_is_fetched_first_says_where_it_is(post: Post) -> None:
    given = run(1, fetch=True)
    post.hear(given)
    post.take()
    assert post.drain() == [Work(), to_owner(Placed(given.task, 16, SPOT))]
    assert post.enter(given)
    assert post.drain() == [to_owner(Started(given.task, 16, SPOT))]


def test_the_start_of_a_short_task_is_announced_only_if_it_suspends(post: Post) -> None:
    given = run(1, short=True)
    post.hear(given)
    post.take()
    post.drain()
    assert not post.enter(given)
    assert post.drain() == []

    post.server.suspended(given.task)
    assert post.drain() == [to_owner(Started(given.task, 16, SPOT))]
    post.server.suspended(given.task)
    post.server.suspended(TaskId(7, 99))
    assert post.drain() == []


# --- io tasks


def test_an_io_task_has_its_address_though_a_step_keeps_the_thread(post: Post) -> None:
    post.start(run(1))
    assert post.take() is None
    given = run(2, io=True)
    post.hear(given, b"call")
    assert post.drain() == [to_owner(Placed(given.task, 17, SPOT)), Work()]
    assert post.take() == given
    assert post.enter(given)
    assert post.drain() == [to_owner(Started(given.task, 17, SPOT))]


def test_io_tasks_run_beside_and_are_started_first(post: Post) -> None:
    post.start(run(1))
    assert post.take() is None
    post.hear(run(2))
    for given in (run(3, io=True), run(4, io=True)):
        post.hear(given)
    effects = post.drain()
    assert effects.count(Work()) == 1
    assert [post.take(), post.take(), post.take()] == [run(3, io=True), run(4, io=True), None]


def test_the_end_of_an_io_task_does_not_free_the_cpu(post: Post) -> None:
    aside = run(2, io=True)
    post.start(run(1), aside)
    post.hear(run(3))
    post.drain()
    assert post.take() is None
    post.end(aside)
    assert Work() not in post.drain()
    assert post.take() is None


# --- outcomes


def test_an_outcome_goes_to_the_owner(post: Post) -> None:
    given = run(1)
    post.start(given)
    post.now += 2.5
    post.server.end(given.task, OutcomeKind.RAISED, b"error", (3, 0), post.now)
    outcome = messages.Outcome(given.task, OutcomeKind.RAISED, 16, None, 2.5, True, "", (3, 0))
    assert post.drain() == [to_owner(outcome, b"error")]
    assert post.server.running == {}


def test_an_outcome_says_what_the_task_used_where_that_is_known(post: Post) -> None:
    known: dict[str, Any] = {"cpu_s": 1.25, "peak_bytes": 1 << 33}
    for number, used in enumerate([known, {}]):
        post.start(run(number))
        post.end(run(number), **used)
        (outcome,) = post.drain()
        assert isinstance(outcome, Send)
        word = outcome.envelope.message
        assert (word.cpu_s, word.peak_bytes) == ((1.25, 1 << 33) if used else (None, None))


def test_the_time_of_a_task_counts_from_its_first_step(post: Post) -> None:
    """Code that is fetched first is not the function's time, which placement learns from."""
    given = run(1)
    post.hear(given)
    post.take()
    post.now += 2.0
    post.enter(given)
    post.now += 0.5
    post.drain()
    assert post.server.seconds_of(given.task, post.now) == 0.5
    post.end(given)
    (outcome,) = post.drain()
    assert isinstance(outcome, Send) and outcome.envelope.message.seconds == 0.5


def test_a_task_whose_call_cannot_be_opened_ends_without_having_been_announced(post: Post) -> None:
    given = run(1)
    post.hear(given)
    post.take()
    post.drain()
    post.end(given, OutcomeKind.RAISED, b"error")
    outcome = messages.Outcome(given.task, OutcomeKind.RAISED, 16, None, 0.0, True, "")
    assert post.drain() == [to_owner(outcome, b"error")]


# --- terminate


def test_a_running_task_is_interrupted(post: Post) -> None:
    cpu, aside = run(1), run(2, io=True)
    post.start(cpu, aside)
    for given in (cpu, aside):
        post.hear(terminate(given))
        assert post.drain() == [Interrupt(given.task)]


def test_a_waiting_task_is_cancelled_and_its_neighbours_stay(post: Post) -> None:
    post.start(run(1))
    for number in (2, 3, 4):
        post.hear(run(number))
    post.drain()
    post.hear(terminate(run(3)))
    assert post.drain() == [cancelled(run(3))]
    post.end(run(1))
    post.drain()
    assert post.take() == run(2)


def test_an_io_task_that_waits_for_the_loop_is_dropped_at_once(post: Post) -> None:
    post.start(run(1))
    for number in (2, 3, 4):
        post.hear(run(number, io=True))
    post.drain()
    post.hear(terminate(run(3, io=True)))
    assert post.drain() == [Drop(TaskId(7, 3)), cancelled(run(3, io=True))]
    assert [post.take(), post.take(), post.take()] == [run(2, io=True), run(4, io=True), None]
    assert TaskId(7, 3) not in post.server.running


def test_a_task_is_interrupted_once_though_its_client_and_the_node_ask(post: Post) -> None:
    given = run(1)
    post.start(given)
    post.hear(terminate(given))
    post.hear(terminate(given), sender=AGENT)
    assert post.drain() == [Interrupt(given.task)]


def test_an_io_task_that_was_taken_and_waits_for_its_call_is_interrupted(post: Post) -> None:
    given = run(2, io=True)
    post.hear(given)
    post.take()
    post.drain()
    post.hear(terminate(given))
    assert post.drain() == [Interrupt(given.task)]


def test_an_io_task_that_is_to_end_in_the_turn_in_which_it_comes_is_placed_and_dropped(post: Post) -> None:
    given = run(1, io=True)
    post.hear(given)
    post.hear(terminate(given))
    placed = to_owner(Placed(given.task, 16, SPOT))
    assert post.drain() == [placed, Work(), Drop(given.task), cancelled(given)]
    assert post.take() is None
    post.hear(terminate(given))
    assert post.drain() == []


def test_terminate_of_a_task_that_has_ended_is_nothing(post: Post) -> None:
    post.start(run(1))
    post.end(run(1))
    post.drain()
    post.hear(terminate(run(1)))
    post.hear(terminate(run(8)))
    assert post.drain() == []


# --- what is given back


def test_what_is_behind_a_position_is_given_back_in_order(post: Post) -> None:
    post.start(run(1))
    for number in (2, 3, 4):
        post.hear(run(number))
    post.drain()
    post.hear(messages.Recall(2))
    assert post.drain() == [to_owner(Returned([3, 4]))]
    post.end(run(1))
    post.drain()
    assert post.take() == run(2)
    assert post.take() is None


def test_what_was_taken_or_placed_is_never_given_back(post: Post) -> None:
    aside = run(2, io=True)
    post.hear(run(1))
    post.take()
    post.hear(aside)
    post.drain()
    post.hear(messages.Recall(0))
    assert post.drain() == [to_owner(Returned([]))]
    assert post.take() == aside


def test_a_server_that_drains_gives_back_what_comes(post: Post) -> None:
    post.start(run(1))
    post.shut_down()
    post.drain()
    post.hear(run(2))
    post.hear(run(3, io=True))
    post.hear(messages.Recall(0))
    assert post.drain() == [
        to_owner(Returned([2], draining=True)),
        to_owner(Returned([3], draining=True)),
        to_owner(Returned([], draining=True)),
    ]


def test_behind_a_task_that_has_its_server_closed_nothing_begins_and_the_server_waits_for_its_node(
    post: Post,
) -> None:
    post.start(run(1))
    post.hear(run(2))
    post.server.want_close(messages.CloseWanted(False, False))
    post.hear(run(3))
    assert post.drain() == [
        to_owner(Returned([2], draining=True)),
        to_owner(messages.CloseWanted(False, False)),
        to_owner(Returned([3], draining=True)),
    ]
    post.end(run(1))
    assert Stop() not in post.drain(), "its client has to hear of it, and its node ends it"
    assert post.take() is None
    post.shut_down()
    assert post.drain() == [to_owner(Returned([], draining=True)), Stop()]


# --- the end


def test_an_idle_server_says_that_it_drains_and_ends_at_once(post: Post) -> None:
    post.shut_down()
    assert post.drain() == [to_owner(Returned([], draining=True)), Stop()]


def test_a_busy_server_interrupts_gives_back_drops_and_ends_after_the_last(post: Post) -> None:
    cpu, aside, placed = run(1), run(2, io=True), run(4, io=True)
    post.start(cpu, aside)
    post.hear(run(3))
    post.hear(placed)
    post.drain()
    post.shut_down("its node was stopped")
    assert post.drain() == [
        to_owner(Returned([3], draining=True)),
        Drop(placed.task),
        cancelled(placed, "compute was terminated: its node was stopped"),
        Interrupt(cpu.task),
        Interrupt(aside.task),
    ]
    post.end(cpu, OutcomeKind.TERMINATED, None)
    assert Stop() not in post.drain()
    post.end(aside, OutcomeKind.TERMINATED, None)
    assert post.drain()[-1] == Stop()


def test_a_task_ended_by_a_shutdown_says_why_the_server_closed(post: Post) -> None:
    given = run(1)
    post.start(given)
    post.shut_down("its node was stopped")
    post.drain()
    post.end(given, OutcomeKind.TERMINATED, None)
    text = "compute was terminated: its node was stopped"
    assert post.drain() == [
        to_owner(messages.Outcome(given.task, OutcomeKind.TERMINATED, 16, None, 0.0, True, text)),
        Stop(),
    ]


def test_an_io_task_that_has_not_begun_at_the_shutdown_has_its_outcome(post: Post) -> None:
    given = run(1, io=True)
    post.hear(given)
    post.drain()
    post.shut_down()
    assert post.drain() == [to_owner(Returned([], draining=True)), Drop(given.task), cancelled(given), Stop()]


def test_a_server_that_only_drains_lets_what_has_an_address_go_on(post: Post) -> None:
    cpu, aside = run(1), run(3, io=True)
    post.start(cpu)
    post.hear(run(2))
    post.hear(aside)
    post.drain()
    post.hear(messages.Shutdown("its node ends when it has done", drain=True), sender=AGENT)
    assert post.drain() == [to_owner(Returned([2], draining=True))]
    assert post.take() == aside
    post.enter(aside)
    post.end(cpu)
    post.drain()
    post.end(aside, OutcomeKind.TERMINATED, None)
    outcome, stop = post.drain()
    assert isinstance(outcome, Send) and outcome.envelope.message.text == "", (
        "it was not the drain that ended it"
    )
    assert stop == Stop()


def test_a_server_that_drains_may_be_told_to_end_after_all(post: Post) -> None:
    cpu = run(1)
    post.start(cpu)
    post.hear(messages.Shutdown(drain=True), sender=AGENT)
    post.drain()
    post.shut_down("its node was stopped")
    assert post.drain() == [to_owner(Returned([], draining=True)), Interrupt(cpu.task)]


# --- who may say what


@pytest.mark.parametrize(
    ("word", "speaker"),
    [
        (run(1), OWNER),
        (messages.Recall(0), OWNER),
        (messages.Levels(), OWNER),
        (messages.Shutdown(), AGENT),
        (messages.Gone([5]), AGENT),
        (messages.Inventory(), AGENT),
        (StackWanted(1001, TaskId(7, 1)), AGENT),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_word_has_one_speaker(post: Post, word: messages.Message, speaker: Address) -> None:
    others = {OWNER, AGENT, Address(8, CLIENT), Address(7, 20), Address(900, SCHEDULER)} - {speaker}
    for other in others:
        post.hear(word, sender=other)
        is_known = other in (OWNER, AGENT)
        refused = f"{type(word).__name__} from {other} is refused: this server is of {OWNER}"
        assert post.drain() == ([] if is_known else [Log("warning", refused)])
    post.hear(word, sender=speaker)
    assert post.drain() != []


@pytest.mark.parametrize("speaker", [OWNER, AGENT])
def test_owner_and_agent_may_end_a_task(post: Post, speaker: Address) -> None:
    post.start(run(1))
    post.hear(terminate(run(1)), sender=Address(8, CLIENT))
    assert [type(effect) for effect in post.drain()] == [Log]
    post.hear(terminate(run(1)), sender=speaker)
    assert post.drain() == [Interrupt(TaskId(7, 1))]


def test_what_a_server_does_not_know_it_passes_over(post: Post) -> None:
    post.hear(messages.Granted(messages.Lease(1, 7, "s", 5), "s"))
    assert post.drain() == []


# --- small words


def test_the_death_of_other_servers_is_told_to_who_waits_for_them(post: Post) -> None:
    post.hear(messages.Gone([1002, 1003]), sender=AGENT)
    assert post.drain() == [PassOn(Envelope(ME, AGENT, messages.Gone([1002, 1003])))]


def test_what_the_client_logs_is_set(post: Post) -> None:
    post.hear(messages.Levels(), b"levels")
    assert post.drain() == [PassOn(Envelope(ME, OWNER, messages.Levels(), 0, b"levels"))]


def test_who_asks_is_told_what_runs_and_what_waits(post: Post) -> None:
    post.start(run(1), run(2, io=True))
    post.hear(run(3))
    post.drain()
    post.now += 4.0
    post.hear(messages.Inventory(), sender=AGENT, correlation=12)
    answer = messages.ServerTasks(
        [
            TaskReport("compute", 7, 1, 1, False, "running", 4.0),
            TaskReport("compute", 7, 2, 1, True, "running", 4.0),
            TaskReport("compute", 7, 3, 1, False, "waiting", 0.0),
        ]
    )
    assert post.drain() == [Send(Envelope(AGENT, ME, answer, 12))]


def test_who_wants_more_is_told_by_the_body(post: Post) -> None:
    post.start(run(1))
    post.hear(messages.Inventory(SERVERS), sender=AGENT, correlation=12)
    request = Envelope(ME, AGENT, messages.Inventory(SERVERS), 12)
    assert post.drain() == [Tell(request, [TaskReport("compute", 7, 1, 1, False, "running", 0.0)])]
    post.server.answer(request, messages.ServerTasks([]))
    assert post.drain() == [Send(Envelope(AGENT, ME, messages.ServerTasks([]), 12))]


def test_all_tasks_that_end_are_counted_and_those_that_raised(post: Post) -> None:
    post.start(run(1), run(2, io=True), run(3, io=True))
    post.hear(run(4))
    post.end(run(1))
    post.end(run(2, io=True), OutcomeKind.RAISED)
    assert (post.server.ended, post.server.failed) == (2, 1)
    post.hear(terminate(run(4)))
    post.end(run(3, io=True), OutcomeKind.TERMINATED)
    assert (post.server.ended, post.server.failed) == (4, 1)
    post.drain()


def test_failures_are_counted_by_function_and_error(post: Post) -> None:
    for number, error in enumerate(["ValueError", "survey.Odd", "ValueError"], start=1):
        post.start(run(number))
        post.end(run(number), OutcomeKind.RAISED, error=error)
    post.start(run(4))
    post.end(run(4), OutcomeKind.TERMINATED)
    assert post.server.failures.listed() == [("compute", "ValueError", 2), ("compute", "survey.Odd", 1)]
    post.drain()


def test_where_a_task_is_the_body_tells_if_it_has_begun(post: Post) -> None:
    def answer(number: int) -> list[object]:
        post.hear(StackWanted(1001, TaskId(7, number)), sender=AGENT, correlation=4)
        return post.drain()

    def told(text: str, function: str = "compute") -> list[object]:
        return [Send(Envelope(AGENT, ME, StackGiven([], text, function), 4))]

    post.start(run(1))
    post.hear(run(2))
    post.hear(run(3, io=True))
    post.drain()
    request = Envelope(ME, AGENT, StackWanted(1001, TaskId(7, 1)), 4)
    assert answer(1) == [TellStack(request, run(1))]
    assert answer(2) == answer(3) == told("it waits for its turn, and has no stack yet")
    assert answer(4) == told("it has ended", "")


def test_a_report_is_bounded(post: Post) -> None:
    for number in range(REPORTED_MAX + 10):
        post.hear(run(number))
    post.drain()
    post.hear(messages.Inventory(), sender=AGENT)
    (answer,) = post.drain()
    assert isinstance(answer, Send) and len(answer.envelope.message.tasks) == REPORTED_MAX


def test_the_agent_alone_watches_the_time(post: Post) -> None:
    post.start(run(1))
    post.server.wake(post.now + 1000)
    assert post.drain() == []


# --- tasks that tasks submit

FIRST = 17 << 32


def submit(post: Post, parent: Run | None, number: int, *, io: bool = False) -> messages.Nested:
    word = messages.Nested(FIRST + number, "child", io)
    post.server.submit(parent.task if parent is not None else None, word, b"call")
    post.server.check()
    return word


def ended(number: int) -> messages.Outcome:
    return messages.Outcome(TaskId(7, FIRST + number), OutcomeKind.RETURNED)


def heard(number: int) -> PassOn:
    return PassOn(Envelope(ME, OWNER, ended(number), 0, b"value"))


def test_a_task_that_waits_for_its_own_lets_others_run(post: Post) -> None:
    parent, other = run(1), run(2)
    post.start(parent)
    word = submit(post, parent, 1)
    post.hear(other)
    assert post.take() is None
    assert post.server.set_aside(parent.task)
    assert not post.server.set_aside(parent.task), "it is already"
    assert post.drain() == [
        to_owner(word, b"call"),
        to_owner(messages.Aside(parent.task, True)),
        Work(),
    ]
    assert post.take() == other


def test_when_all_of_them_have_ended_it_has_its_server_again(post: Post) -> None:
    parent, other = run(1), run(2)
    post.start(parent)
    for number, io in ((1, False), (2, True)):
        submit(post, parent, number, io=io)
    post.server.set_aside(parent.task)
    post.drain()
    post.hear(ended(1), b"value")
    assert post.drain() == [heard(1)]
    post.hear(ended(2), b"value")
    assert post.drain() == [to_owner(messages.Aside(parent.task, False)), heard(2)]
    post.hear(other)
    assert post.take() is None
    post.end(parent)
    assert Work() in post.drain()
    assert post.take() == other


def test_two_go_on_beside_each_other_and_none_is_begun_before_both_have_ended(post: Post) -> None:
    parent, other, third = run(1), run(2), run(3)
    post.start(parent)
    submit(post, parent, 1)
    post.server.set_aside(parent.task)
    post.start(other)
    post.hear(third)
    post.hear(ended(1))
    post.end(other)
    assert post.take() is None
    post.end(parent)
    assert post.take() == third
    post.drain()


def test_a_task_lends_its_server_only_between_steps_and_while_something_is_left_to_wait_for(
    post: Post,
) -> None:
    parent, io = run(1), run(2, io=True)
    post.start(parent, io)
    assert not post.server.set_aside(parent.task), "it has submitted nothing"
    submit(post, parent, 1)
    post.hear(ended(1), b"value")
    assert not post.server.set_aside(parent.task), "what it submitted has ended"
    submit(post, io, 2)
    assert not post.server.set_aside(io.task), "it has no server alone"
    submit(post, None, 3)
    post.end(parent)
    assert not post.server.set_aside(parent.task), "it has ended"
    post.drain()


def test_who_lent_may_end_before_what_it_waited_for(post: Post) -> None:
    parent = run(1)
    post.start(parent)
    submit(post, parent, 1)
    post.server.set_aside(parent.task)
    post.end(parent, OutcomeKind.TERMINATED)
    post.drain()
    post.hear(ended(1), b"value")
    assert post.drain() == [heard(1)]
    assert not post.server.aside


def test_a_server_that_drains_waits_for_who_lent_it(post: Post) -> None:
    parent = run(1)
    post.start(parent)
    submit(post, parent, 1)
    post.server.set_aside(parent.task)
    post.hear(messages.Shutdown(drain=True), sender=AGENT)
    assert Stop() not in post.drain()
    post.hear(ended(1), b"value")
    post.end(parent)
    assert Stop() in post.drain()

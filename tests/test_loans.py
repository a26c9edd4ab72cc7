"""A short task that is waited for lends its server to the client, which then sends the next ones itself: three machines alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dispycos.actors.feeding import DIRECT as PAST_THE_NODE
from dispycos.actors.ledger import Record
from dispycos.actors.server import ADOPT_AFTER, Interrupt, Work
from dispycos.actors.terminations import NO_STEP, EndStep, Look, Step
from dispycos.brokers.placement import FAST_S
from dispycos.protocol.addresses import NODE, SERVER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    UNKNOWN_MARKS,
    Adopt,
    Availability,
    Done,
    Marks,
    NodeNews,
    Outcome,
    Pulse,
    Recalled,
    Reclaim,
    Release,
    Returned,
    Run,
    ServerLost,
    ServerNews,
    Shutdown,
    Started,
    Tally,
    TaskId,
    Terminate,
)
from dispycos.protocol.status import OutcomeKind, Status
from tests.kit.node import THE_CLIENT, THE_SCHEDULER, Hand, server_address
from tests.test_ledger import BOX, BROKER, SPOT, Desk, submitted
from tests.test_server import ME, OWNER, Post, run, to_agent, to_owner
from tests.test_server import SPOT as PLACE

LENT = Address(SPOT.epoch, SERVER)
KILLED = "killed by SIGKILL (9)"


# --- the server


def ended(
    given: Run, actor: int, *, node: int = 900, lent: bool, seconds: float = 0.0, **fields: Any
) -> Outcome:
    kind = fields.get("kind", OutcomeKind.RETURNED)
    return Outcome(given.task, kind, actor, PLACE, seconds, True, fields.get("text", ""), node, lent)


def done(given: Run, actor: int, *, lent: bool, seconds: float = 0.0) -> Done:
    return Done(given.task, OutcomeKind.RETURNED, seconds, 1001, actor, 5, lent)


@pytest.fixture
def post() -> Iterator[Post]:
    """A server that is lent to the client; whatever is left undrained at the end was not looked at."""
    post = Post()
    post.start(run(1, fast=True, lend=True))
    post.end(run(1))
    assert post.drain() == [
        to_owner(ended(run(1), 16, lent=True), b"value"),
        to_agent(done(run(1), 16, lent=True), b"value"),
    ]
    assert post.take() is None
    yield post
    assert post.drain() == []


def send(post: Post, given: Run) -> None:
    """As the client does."""
    post.server.receive(Envelope(ME, OWNER, given, 0, b"call"), post.now)
    post.server.check()


def start(post: Post, given: Run) -> None:
    send(post, given)
    assert post.take() == given
    post.begin(given)
    assert post.drain() == [Work()]


def test_what_the_client_sends_is_nobody_elses_business(post: Post) -> None:
    for number in (2, 3):
        given = run(number, fast=True)
        start(post, given)
        post.end(given)
        assert post.drain() == [to_owner(ended(given, 15 + number, node=0, lent=True), b"value")]
        post.take()


def test_without_a_loan_it_gets_the_task_back() -> None:
    post = Post()
    send(post, run(5))
    assert post.drain() == [to_owner(Recalled([TaskId(7, 5)]))]


def test_a_second_one_at_a_time_goes_back(post: Post) -> None:
    start(post, run(2, fast=True))
    send(post, run(3, fast=True))
    assert post.drain() == [to_owner(Recalled([TaskId(7, 3)]))]


def test_reclaimed_when_idle_it_is_returned_at_once(post: Post) -> None:
    post.hear(Reclaim())
    assert post.drain() == [to_agent(Returned())]
    send(post, run(2))
    assert post.drain() == [to_owner(Recalled([TaskId(7, 2)]))]


def test_reclaimed_while_a_task_runs_it_is_returned_after_that(post: Post) -> None:
    given = run(2, fast=True)
    start(post, given)
    post.hear(Reclaim())
    assert post.drain() == []
    post.end(given)
    assert post.drain() == [
        to_owner(ended(given, 17, node=0, lent=False), b"value"),
        to_agent(Returned()),
    ]


def test_a_task_that_took_long_ends_the_loan(post: Post) -> None:
    given = run(2, fast=True)
    start(post, given)
    post.now += FAST_S
    post.end(given)
    outcome, returned = post.drain()
    assert returned == to_agent(Returned())
    assert outcome.envelope.message.lent is False  # type: ignore[attr-defined]


def test_a_task_that_takes_long_becomes_the_nodes(post: Post) -> None:
    given = run(2, fast=True)
    start(post, given)
    deadline = post.server.deadline()
    assert deadline == post.now + ADOPT_AFTER
    seconds, post.now = deadline - post.now, deadline
    post.server.wake(post.now)
    assert post.server.deadline() is None
    assert post.drain() == [to_agent(Adopt(given.task, "compute"))]
    post.end(given)
    assert post.drain() == [
        to_owner(ended(given, 17, lent=False, seconds=seconds), b"value"),
        to_agent(done(given, 17, lent=False, seconds=seconds), b"value"),
    ]


def test_a_task_that_has_not_begun_stays_the_clients(post: Post) -> None:
    send(post, run(2, fast=True))
    post.drain()
    post.now += ADOPT_AFTER
    post.server.wake(post.now)
    assert post.drain() == []
    assert post.server.deadline() == post.now + ADOPT_AFTER


def test_the_node_ends_it_and_is_answered_when_it_has_ended(post: Post) -> None:
    given = run(2, fast=True)
    start(post, given)
    post.hear(Terminate(given.task))
    post.hear(Reclaim())
    assert post.drain() == [Interrupt(given.task)]
    post.end(given, OutcomeKind.TERMINATED, None)
    assert post.drain()[-1] == to_agent(Returned())


def test_the_node_is_answered_though_nothing_is_lent(post: Post) -> None:
    post.hear(Reclaim())
    post.drain()
    post.hear(Reclaim())
    assert post.drain() == [to_agent(Returned())]


def test_its_start_is_told_to_the_client_only(post: Post) -> None:
    given = run(2, fast=True)
    start(post, given)
    post.server.suspended(given.task)
    assert post.drain() == [to_owner(Started(given.task, 17, PLACE))]


def test_a_closing_server_takes_nothing_more(post: Post) -> None:
    post.hear(Shutdown(5.0))
    send(post, run(2))
    post.drain()
    assert post.take() is None


def test_behind_others_nothing_is_lent() -> None:
    post = Post()
    post.start(run(1, fast=True, lend=True))
    post.hear(run(2, fast=True))
    post.end(run(1))
    assert post.drain()[0] == to_owner(ended(run(1), 16, lent=False), b"value")


# --- the node


@pytest.fixture
def hand() -> Hand:
    """Its only server is lent to the client."""
    hand = Hand(1).open()
    given = hand.run(fast=True, lend=True)
    assert hand.hear(THE_SCHEDULER, given) == [(1, given)]
    lent = Done(given.task, OutcomeKind.RETURNED, 0.001, server_address(1).epoch, 16, 0, True)
    assert hand.hear(server_address(1), lent) == [("scheduler", lent)]
    return hand


def test_a_lent_server_is_reclaimed_once_for_what_waits(hand: Hand) -> None:
    first, second = hand.runs(2)
    assert hand.hear(THE_SCHEDULER, first) == [(1, Reclaim())]
    assert hand.hear(THE_SCHEDULER, second) == []
    assert hand.hear(server_address(1), Returned()) == [(1, first)]


def test_a_task_that_names_it_reclaims_it_too(hand: Hand) -> None:
    given = hand.run(server=server_address(1).epoch)
    assert hand.hear(THE_SCHEDULER, given) == [(1, Reclaim())]
    assert hand.hear(server_address(1), Returned()) == [(1, given)]


def test_io_tasks_run_beside_the_loan(hand: Hand) -> None:
    given = hand.run(io=True)
    assert hand.hear(THE_SCHEDULER, given) == [(1, given)]


def test_behind_a_task_that_will_lend_nothing_waits() -> None:
    hand = Hand(1).open()
    first, second = hand.run(fast=True, lend=True), hand.run(fast=True)
    assert hand.hear(THE_SCHEDULER, first) == [(1, first)]
    assert hand.hear(THE_SCHEDULER, second) == []


def test_an_adopted_task_is_the_nodes(hand: Hand) -> None:
    task = TaskId(7, 99)
    told = Adopt(task, "compute", server_address(1).epoch)
    assert hand.hear(server_address(1), Adopt(task, "compute")) == [("scheduler", told)]
    waiting = hand.run()
    assert hand.hear(THE_SCHEDULER, waiting) == []
    told = [
        effect for effect in hand.call("server_exited", 1, 11, KILLED, False) if isinstance(effect, tuple)
    ]
    assert [word.outcome for _, word, *_ in told if isinstance(word, Outcome) and word.task == task] == [5]


DIRECT = TaskId(7, 99)


def end_direct(hand: Hand) -> None:
    word = Terminate(DIRECT, server_address(1).epoch)
    assert hand.hear(THE_CLIENT, word) == [(1, Terminate(DIRECT)), (1, Reclaim())]
    assert hand.hear(THE_CLIENT, word) == []


def test_a_server_is_killed_only_for_the_step_of_the_task_that_it_was_sent(hand: Hand) -> None:
    end_direct(hand)
    assert hand.node.deadline() == 5.0
    assert hand.wake_at(5.0) == [Look(1)]
    assert hand.call("looked", 1, NO_STEP) == [], "it has ended, or waits"
    assert hand.wake_at(6.0) == [Look(1)]
    hangs = Step(PAST_THE_NODE + DIRECT.number, int(0.5e9))
    assert hand.call("looked", 1, hangs) == [(1, Reclaim())]
    assert hand.wake_at(6.2) == [EndStep(1, hangs)]


def test_an_adopted_task_is_ended_as_any_other(hand: Hand) -> None:
    hand.hear(server_address(1), Adopt(DIRECT, "compute"))
    assert hand.hear(THE_CLIENT, Terminate(DIRECT, server_address(1).epoch)) == [(1, Terminate(DIRECT))]
    hand.wake_at(5.0)
    hangs = Step(PAST_THE_NODE + DIRECT.number)
    hand.call("looked", 1, hangs)
    assert hand.wake_at(5.2) == [EndStep(1, hangs)]


def test_all_lent_servers_are_reclaimed_and_one_that_does_not_answer_holds_up_nobody() -> None:
    hand = Hand(2).open()
    for number in (1, 2):
        given = hand.run(fast=True, lend=True)
        hand.hear(THE_SCHEDULER, given)
        ended = Done(given.task, OutcomeKind.RETURNED, 0.001, server_address(number).epoch, 16, 0, True)
        hand.hear(server_address(number), ended)
    first, second = hand.runs(2)
    assert hand.hear(THE_SCHEDULER, first) == [(1, Reclaim()), (2, Reclaim())]
    assert hand.hear(server_address(2), Returned()) == [(2, first)]
    assert hand.hear(THE_SCHEDULER, second) == []


def test_the_client_hears_of_a_death_what_the_server_had_begun_of_its_own(hand: Hand) -> None:
    marks = Marks(1, 0, 99)
    told = hand.node.server_exited(1, 11, KILLED, False, 1.0, marks)
    assert told is None
    assert (
        "client",
        ServerLost(server_address(1).epoch, f"server box/server-1 was {KILLED}", marks),
    ) in hand.did()


# --- the client


@pytest.fixture
def desk() -> Iterator[Desk]:
    """With a server on loan that has a link of its own."""
    desk = Desk(granted=100)
    desk.hear(NodeNews(Status.NodeInitialized, BOX))
    desk.hear(ServerNews(Status.ServerInitialized, SPOT, "box"))
    desk.ledger.loans.lanes.add(SPOT.epoch)
    record = desk.submit()
    assert desk.drain() == [submitted(record, lend=True)]
    finish(desk, record, node=BOX.epoch)
    yield desk
    desk.drain()


def finish(desk: Desk, record: Record, *, lent: bool = True, node: int = 0) -> None:
    word = Outcome(record.task, OutcomeKind.RETURNED, 30, SPOT, 0.001, True, "", node, lent)
    desk.hear(word, b"value", sender=LENT)
    assert record.outcome == OutcomeKind.RETURNED
    desk.drain()


def sent_directly(desk: Desk, **fields: Any) -> Record:
    record = desk.submit(**fields)
    word = Run(record.task, record.function, fast=True)
    assert desk.drain() == [desk.sent(word, LENT, b"call")]
    return record


def test_the_next_ones_go_straight_to_the_server(desk: Desk) -> None:
    for _ in range(3):
        finish(desk, sent_directly(desk))


def test_of_two_at_once_none_goes_there_and_the_loan_ends_first(desk: Desk) -> None:
    first, second = desk.submit(), desk.submit()
    assert desk.drain() == [desk.sent(Reclaim(), LENT), submitted(first), submitted(second)]


@pytest.mark.parametrize("fields", [{"function": "other"}, {"node": "box"}, {"server": 1001}])
def test_what_may_not_go_there_ends_the_loan(desk: Desk, fields: dict[str, Any]) -> None:
    desk.submit(**fields)
    assert desk.drain()[0] == desk.sent(Reclaim(), LENT)


def test_an_io_task_leaves_the_loan_alone(desk: Desk) -> None:
    io = desk.submit(io=True)
    assert desk.drain() == [submitted(io, io=True)]
    sent_directly(desk)


def test_what_comes_back_goes_by_the_scheduler(desk: Desk) -> None:
    record = sent_directly(desk)
    desk.hear(Recalled([record.task]), sender=LENT)
    assert desk.drain() == [submitted(record, lend=True)]


def test_terminate_goes_where_the_task_is(desk: Desk) -> None:
    record = sent_directly(desk)
    desk.ledger.terminate(record)
    assert desk.drain() == [desk.sent(Terminate(record.task, LENT.epoch), Address(BOX.epoch, NODE))]


@pytest.mark.parametrize("word", [Recalled, ServerLost])
def test_terminated_it_does_not_run_elsewhere(desk: Desk, word: Any) -> None:
    record = sent_directly(desk)
    desk.ledger.terminate(record)
    came_back = (
        Recalled([record.task]) if word is Recalled else ServerLost(SPOT.epoch, "gone", Marks(1, 0, 16))
    )
    desk.hear(came_back, sender=LENT)
    assert record.outcome == OutcomeKind.CANCELLED and not record.started


def test_terminated_its_server_may_die_for_it(desk: Desk) -> None:
    record = sent_directly(desk)
    desk.ledger.terminate(record)
    desk.hear(ServerLost(SPOT.epoch, "gone", Marks(1, 0, record.task.number)))
    assert record.outcome == OutcomeKind.TERMINATED


def test_a_loan_ends_with_its_server(desk: Desk) -> None:
    desk.hear(ServerNews(Status.ServerClosed, SPOT, "box", "killed"))
    desk.drain()
    desk.submit()
    assert [effect.envelope.to for effect in desk.drain()] == [BROKER]  # type: ignore[attr-defined]


def test_close_waits_for_what_runs_on_loan(desk: Desk) -> None:
    record = sent_directly(desk)
    desk.ledger.release(terminate=False, await_io=False)
    assert desk.sent(Release()) not in desk.drain()
    desk.hear(Outcome(record.task, OutcomeKind.RETURNED, 30, SPOT, 0.001, lent=True), sender=LENT)
    assert desk.sent(Release()) in desk.drain()


@pytest.mark.parametrize(
    ("begun", "known", "closing", "kind"),
    [
        (True, True, False, OutcomeKind.LOST),
        (True, False, False, OutcomeKind.LOST),
        (True, True, True, OutcomeKind.TERMINATED),
    ],
)
def test_a_dead_server_takes_what_it_had_begun(
    desk: Desk, begun: bool, known: bool, closing: bool, kind: OutcomeKind
) -> None:
    record = sent_directly(desk)
    marks = Marks(1, 0, record.task.number) if known else UNKNOWN_MARKS
    desk.hear(ServerLost(SPOT.epoch, "server box/server-1 was killed", marks, closing))
    assert record.outcome == kind and record.started
    assert record.text.startswith("server box/server-1 was killed")
    assert ("while it ran compute" in record.text) == (known and not closing)


def test_what_a_dead_server_had_not_begun_runs_elsewhere(desk: Desk) -> None:
    record = sent_directly(desk)
    desk.hear(ServerLost(SPOT.epoch, "server box/server-1 was killed", Marks(1, 0, 16)))
    assert desk.drain() == [submitted(record, lend=True)]


def test_with_the_node_its_loans_are_gone_though_they_went_on_for_a_while(desk: Desk) -> None:
    desk.hear(NodeNews(Status.NodeInitialized, BOX))
    finish(desk, sent_directly(desk))
    record = sent_directly(desk)
    desk.hear(NodeNews(Status.NodeClosed, BOX, "gone"))
    assert record.outcome == OutcomeKind.LOST


def test_the_scheduler_hears_of_their_number_with_the_pulse(desk: Desk) -> None:
    desk.hear(NodeNews(Status.NodeInitialized, BOX))
    for _ in range(3):
        finish(desk, sent_directly(desk))
    desk.hear(Pulse("box", Availability(1.0, 1, 1, 1)))
    assert desk.drain() == [desk.sent(Tally(3))]
    desk.hear(Pulse("box", Availability(1.0, 1, 1, 1)))
    assert desk.drain() == []


def test_without_a_lane_nothing_is_asked_for() -> None:
    desk = Desk(granted=100)
    record = desk.submit()
    assert desk.drain() == [submitted(record)]


@pytest.mark.parametrize(("server", "node"), [(1002, BOX.epoch), (SPOT.epoch, 901), (SPOT.epoch, 0)])
def test_what_nobody_would_tell_the_end_of_is_not_borrowed(desk: Desk, server: int, node: int) -> None:
    other = Address(server, SERVER)
    word = Outcome(TaskId(7, 9999), OutcomeKind.RETURNED, 30, SPOT, 0.001, node=node, lent=True)
    desk.hear(word, sender=other)
    assert desk.drain() == [desk.sent(Reclaim(), other)]


def test_a_loan_for_a_task_that_nobody_knows_is_a_loan(desk: Desk) -> None:
    desk.hear(
        Outcome(TaskId(7, 9999), OutcomeKind.RETURNED, 30, SPOT, 0.001, node=BOX.epoch, lent=True),
        sender=LENT,
    )
    sent_directly(desk)

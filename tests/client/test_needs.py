"""Tasks that wait for the values of others: they are the client's until these are there, and end with those that fail."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from dispycos.actors.client.effects import Say
from dispycos.actors.client.owned import FILLED_MAX
from dispycos.actors.dispatching.facts import Entry
from dispycos.actors.shipping.pickling import dumps_call, loads
from dispycos.actors.tasks.passing import Mark, opened
from dispycos.actors.tasks.reasons import passed_on
from dispycos.actors.tasks.record import Record
from dispycos.actors.tasks.results import unpack_outcome
from dispycos.errors import ArgumentFailed, TaskLost, TaskTerminated
from dispycos.machine import Send
from dispycos.notices import PATIENCE_S
from dispycos.protocol import messages
from dispycos.protocol.messages import TaskId
from dispycos.protocol.status import OutcomeKind

from .test_ledger import Desk, at, submit_nested

RETURNED = OutcomeKind.RETURNED


class Pickled:
    """results.Pickling, without code that may be missing."""

    dumps = staticmethod(lambda value, what: pickle.dumps(value))
    loads = staticmethod(loads)


def waiting(desk: Desk, *values: Record, function: str = "add", **fields: Any) -> Entry:
    call = dumps_call(None, tuple(map(Mark, range(len(values)))), {"last": 5})
    record = Entry(function, task=TaskId(7, next(desk.numbers)), call=call, **fields)
    desk.ledger.tasks.submit(record, list(values))
    desk.ledger.check()
    return record


def returns(desk: Desk, record: Entry, value: object) -> None:
    desk.end(record, payload=pickle.dumps(value))


def called_with(desk: Desk, record: Entry) -> tuple[Any, ...]:
    """What is sent to the server that gets it now."""
    (run,) = [
        effect.envelope
        for effect in desk.drain()
        if isinstance(effect, Send) and isinstance(effect.envelope.message, messages.Run)
    ]
    assert run.message.task == record.task
    return opened(loads, run.payload)[1:]


def error_of(record: Entry) -> BaseException:
    with pytest.raises(ArgumentFailed) as caught:
        unpack_outcome(Pickled, record)
    return caught.value


def test_it_is_given_to_a_server_when_its_values_are_there() -> None:
    desk = Desk(servers=2)
    one, two = desk.given(2)
    record = waiting(desk, one, two)
    returns(desk, two, "two")
    assert not any(isinstance(word, messages.Run) for _, word in desk.words())
    assert record.at is None and desk.ledger.tasks.waiting == 1
    returns(desk, one, "one")
    assert called_with(desk, record) == (("one", "two"), {"last": 5})
    assert record.at is not None and desk.ledger.tasks.waiting == 0


def test_values_that_are_there_already_are_no_wait() -> None:
    desk = Desk()
    (one,) = desk.given()
    returns(desk, one, 1)
    desk.drain()
    record = waiting(desk, one)
    assert called_with(desk, record) == ((1,), {"last": 5})


def test_its_size_is_that_of_its_values() -> None:
    desk = Desk()
    (one,) = desk.given()
    record = waiting(desk, one)
    returns(desk, one, bytes(100_000))
    desk.drain()
    assert record.size > 100_000


def test_one_that_fails_ends_all_that_wait_for_it_at_once_and_is_named() -> None:
    desk = Desk()
    (one,) = desk.given(function="first")
    two = waiting(desk, one, function="second")
    three = waiting(desk, two, function="third")
    unrelated = desk.submit()
    desk.end(one, OutcomeKind.LOST, text="killed")
    assert two.ended and three.ended and not unrelated.ended
    error = error_of(three)
    assert str(error) == "third did not run: first was lost: killed (first -> second -> third)"
    assert isinstance(error.__cause__, TaskLost)
    late = waiting(desk, three, function="fourth")
    assert late.ended and "(first -> second -> third -> fourth)" in str(error_of(late))


def test_a_chain_of_ten_thousand_ends_and_names_its_ends() -> None:
    desk = Desk()
    (last,) = desk.given(function="first")
    head = last
    for n in range(10_000):
        record = Entry(f"f{n}", task=TaskId(7, next(desk.numbers)), call=b"")
        desk.ledger.tasks.submit(record, [last])
        last = record
    desk.end(head, OutcomeKind.TERMINATED)
    error = error_of(last)
    assert "first was terminated (first -> f0 -> f1 -> f2 -> f3 -> ... 9,991 more ... -> " in str(error)
    assert str(error).endswith("f9997 -> f9998 -> f9999)") and isinstance(error.__cause__, TaskTerminated)
    assert not desk.ledger.records and not desk.ledger.tasks.waiting


def test_one_that_waits_can_be_terminated_and_is_not_run_later() -> None:
    desk = Desk()
    (one,) = desk.given()
    two = waiting(desk, one, function="two")
    three = waiting(desk, two)
    desk.terminate(two)
    assert (two.outcome, three.outcome) == (OutcomeKind.CANCELLED, OutcomeKind.REFUSED)
    assert isinstance(error_of(three).__cause__, TaskTerminated)
    returns(desk, one, 1)
    assert not any(isinstance(word, messages.Run) for _, word in desk.words())


def test_close_waits_for_it_and_with_terminate_it_ends_with_the_rest() -> None:
    desk = Desk()
    (one,) = desk.given(io=True)
    record = waiting(desk, one)
    desk.ledger.standing.release(terminate=False, await_io=False)
    assert not any(isinstance(word, messages.Release) for _, word in desk.words())
    desk.ledger.standing.release(terminate=True, await_io=False)
    assert any(isinstance(word, messages.Release) for _, word in desk.words())
    assert (record.outcome, record.text) == (OutcomeKind.CANCELLED, "the client closed")


def test_the_end_of_the_lease_ends_it_as_all_others() -> None:
    desk = Desk()
    (one,) = desk.given()
    record = waiting(desk, one)
    desk.hear(messages.Released("the scheduler was stopped"))
    assert (one.outcome, record.outcome) == (OutcomeKind.LOST, OutcomeKind.LOST)


def test_only_the_one_that_failed_is_news_until_somebody_looks_at_one_that_waited() -> None:
    desk = Desk()
    (one,) = desk.given()
    record = waiting(desk, one)
    desk.end(one, OutcomeKind.LOST, text="killed")
    assert list(desk.ledger.tasks.unread) == [one.task.number]
    desk.ledger.tasks.looked_at(record)
    assert not desk.ledger.tasks.unread


def test_more_than_fit_in_one_pass_are_filled_in_the_next() -> None:
    desk = Desk()
    (one,) = desk.given()
    records = [waiting(desk, one) for _ in range(FILLED_MAX + 1)]
    returns(desk, one, 1)
    desk.drain()
    assert desk.ledger.tasks.waits.has(records[-1]) and desk.ledger.deadline() == 0.0
    desk.wait(0.0)
    assert not desk.ledger.tasks.waits.has(records[-1])


def test_a_retry_runs_with_the_same_values() -> None:
    desk = Desk(servers=2)
    (one,) = desk.given()
    record = waiting(desk, one, retries=1)
    returns(desk, one, "value")
    first = called_with(desk, record)
    assert record.at is not None
    desk.start(record)
    desk.lose_server(record.at.epoch - 1000, begun=record.position)
    assert called_with(desk, record) == first and record.attempt == 2


def test_after_3_s_it_is_said_that_a_task_waits_for_what_may_be_an_actor() -> None:
    desk = Desk(servers=2)
    (actor,) = desk.given(function="serve", may_receive=True)
    slow = desk.submit(function="slow")
    waiting(desk, slow, function="later")
    waiting(desk, slow, actor, function="report")
    waiting(desk, actor, function="again")
    desk.drain()
    assert desk.ledger.deadline() == desk.now + PATIENCE_S
    desk.now += PATIENCE_S
    desk.ledger.wake(desk.now)
    assert desk.drain() == [], "it has not begun"
    desk.start(actor)
    desk.now += PATIENCE_S
    desk.ledger.wake(desk.now)
    assert [effect for effect in desk.drain() if isinstance(effect, Say)] == [
        Say(
            "report waits for the value of serve, handle 2 of its arguments; if serve is an actor, which takes messages, "
            "give its handle in a list: [handle]",
            "warning",
        )
    ]
    returns(desk, actor, 1)
    desk.drain()
    waiting(desk, actor, slow)
    desk.now += 2 * PATIENCE_S
    desk.ledger.wake(desk.now)
    assert not any(isinstance(effect, Say) for effect in desk.drain()), (
        "said once, and not of one that has ended"
    )


def test_it_is_said_too_of_what_a_task_submits() -> None:
    desk = Desk(servers=2)
    actor = submit_nested(desk, may_receive=True)
    assert actor is not None
    call = dumps_call(None, (Mark(0),), {})
    submit_nested(desk, 2, call, values=[actor.task.number])
    desk.drain()
    desk.start(actor)
    desk.now += PATIENCE_S
    desk.ledger.wake(desk.now)
    [said] = [effect.text for effect in desk.drain() if isinstance(effect, Say)]
    assert said.startswith("child waits for the value of child, handle 1 of its arguments")


def nested(desk: Desk, *values: int) -> Entry:
    """A task on server 1 submits one that needs these values."""
    call = dumps_call(None, tuple(map(Mark, range(len(values)))), {})
    record = submit_nested(desk, call=call, values=list(values))
    assert record is not None
    return record


def test_what_a_task_submits_waits_for_tasks_of_the_client() -> None:
    desk = Desk(servers=2)
    one = desk.running()
    record = nested(desk, one.task.number)
    returns(desk, one, 3)
    assert called_with(desk, record) == ((3,), {})


def test_a_value_that_was_told_just_before_is_asked_for_and_given() -> None:
    desk = Desk()
    record = nested(desk, 99)
    assert (at(1), messages.ValueWanted(record.task.number, 99)) in desk.words()
    desk.hear(messages.ValueGiven(99, "early", RETURNED), pickle.dumps("value"), sender=at(1))
    assert called_with(desk, record) == (("value",), {})


def test_a_value_that_nobody_has_any_more_is_an_error_with_words() -> None:
    desk = Desk()
    record = nested(desk, 99)
    desk.hear(messages.ValueGiven(99, "early", OutcomeKind.LOST, "it went elsewhere"), sender=at(1))
    assert str(error_of(record)) == "child did not run: early was lost: it went elsewhere (early -> child)"


def test_a_server_that_dies_before_it_gave_a_value_ends_those_that_need_it() -> None:
    desk = Desk()
    record = nested(desk, 99)
    desk.drain()
    desk.lose_server(1)
    assert "the server that had its value is gone" in str(error_of(record))
    desk.hear(messages.ValueGiven(99, "early", RETURNED), pickle.dumps(1), sender=at(1))
    assert not desk.ledger.records


def test_the_words_of_one_that_raised() -> None:
    raising = Record("f", task=TaskId(7, 1), outcome=OutcomeKind.RAISED, payload=b"not readable")
    text, payload = passed_on("g", raising)
    assert text == "g did not run: f raised an exception (f -> g)" and isinstance(payload, list)


def test_the_words_of_one_that_ran_for_longer_than_its_timeout() -> None:
    late = Record(
        "f", task=TaskId(7, 1), outcome=OutcomeKind.TERMINATED, text="f ran for longer than ...", payload=b""
    )
    assert passed_on("g", late)[0] == "g did not run: f ran for longer than ... (f -> g)"

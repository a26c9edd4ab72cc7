"""Servers number what their tasks submit; what comes for such a task before it does waits for it, or for its server's end."""

from __future__ import annotations

import pytest

from dispycos.actors.client.submitters import SPAN, Submitters
from dispycos.protocol import messages
from dispycos.protocol.addresses import SERVER, Address
from dispycos.protocol.envelope import Envelope

ONE, TWO = 1001, 1002


def to(number: int, sender: int = TWO) -> Envelope:
    return Envelope(Address(7, number), Address(sender, 20), messages.Tell())


def by(epoch: int) -> Address:
    return Address(epoch, SERVER)


@pytest.fixture
def submitters() -> Submitters:
    submitters = Submitters()
    assert submitters.add(ONE, 17) == 17 * SPAN
    assert submitters.add(TWO, 18) == 18 * SPAN
    return submitters


FIRST = 17 * SPAN


def test_a_server_that_asks_again_counts_from_the_same_number(submitters: Submitters) -> None:
    assert submitters.add(ONE, 19) == FIRST
    assert submitters.servers() == [ONE, TWO]


def test_each_number_comes_once_and_from_its_own_server(submitters: Submitters) -> None:
    assert submitters.submitted(FIRST + 1, by(ONE))
    assert not submitters.submitted(FIRST + 1, by(ONE))
    assert not submitters.submitted(FIRST + 2, by(TWO))
    assert not submitters.submitted(17, by(ONE))


def test_what_comes_before_its_task_waits_for_it(submitters: Submitters) -> None:
    early = [to(FIRST + 1), to(FIRST + 1, ONE)]
    assert all(submitters.hold(envelope) for envelope in early)
    assert submitters.submitted(FIRST + 1, by(ONE))
    assert submitters.take(FIRST + 1) == early
    assert submitters.take(FIRST + 1) == []
    assert not submitters.hold(to(FIRST + 1)), "it has come, and has ended since"


def test_a_large_call_may_come_after_later_ones(submitters: Submitters) -> None:
    assert submitters.submitted(FIRST + 3, by(ONE))
    assert submitters.hold(to(FIRST + 1)) and submitters.hold(to(FIRST + 4))
    assert submitters.submitted(FIRST + 1, by(ONE))
    assert not submitters.hold(to(FIRST + 1)) and submitters.hold(to(FIRST + 2))
    assert not submitters.submitted(FIRST + 1, by(ONE))


def test_of_a_number_that_nobody_has_nothing_is_kept(submitters: Submitters) -> None:
    assert not submitters.hold(to(19 * SPAN + 1))
    assert not submitters.hold(to(25))


def test_with_its_server_goes_the_hope_for_what_it_did_not_submit(submitters: Submitters) -> None:
    vain, other = [to(FIRST + 1), to(FIRST + 2)], to(18 * SPAN + 1, ONE)
    assert all(submitters.hold(envelope) for envelope in (*vain, other))
    assert submitters.forget(ONE) == vain
    assert submitters.forget(ONE) == []
    assert not submitters.hold(to(FIRST + 1)) and not submitters.submitted(FIRST + 1, by(ONE))
    assert submitters.take(18 * SPAN + 1) == [other]

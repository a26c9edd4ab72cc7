"""A client whose scheduler is away goes on, says so, and tells the next one all that it had."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from dispycos.actors.client.effects import Freed, News, Say
from dispycos.actors.client.standing import LEAVE_S
from dispycos.notices import PATIENCE_S
from dispycos.protocol import messages
from dispycos.protocol.addresses import SCHEDULER, Address
from dispycos.protocol.status import OutcomeKind, Status

from .test_ledger import AGENT, BOX, BROKER, ENLIST, LEASE, SPOT, Desk, run

NEXT = Address(6, SCHEDULER)  # the scheduler in its next life


class Client(Desk):
    def lose_scheduler(self, *, is_dead: bool = True) -> None:
        self.ledger.link_lost(BROKER.epoch, self.now)
        if is_dead:
            self.ledger.session_lost(BROKER.epoch, [], self.now)

    def back(self, scheduler: Address = NEXT) -> list[object]:
        self.ledger.standing.scheduler_back(scheduler, self.now)
        return self.drain()

    def again(self, **fields: Any) -> list[object]:
        """What it enlists with anew."""
        return [self.sent(structs.replace(ENLIST, **fields), NEXT)]

    def said(self, effects: list[object]) -> list[str]:
        return [effect.text for effect in effects if isinstance(effect, Say)]


@pytest.fixture
def desk() -> Client:
    return Client()


def test_tasks_go_on_without_the_scheduler(desk: Client) -> None:
    desk.lose_scheduler()
    first = desk.submit()
    assert desk.drain() == [run(first)]
    desk.end(first, payload=b"value")
    assert first.outcome == OutcomeKind.RETURNED


def test_what_else_is_missing_is_said_as_soon_as_what_was_missing_before(desk: Client) -> None:
    def said_after(seconds: float) -> list[str]:
        desk.now += seconds
        desk.ledger.wake(desk.now)
        return desk.said(desk.drain())

    desk.submit(needs=(("gpu", 1),))
    desk.drain()
    assert len(said_after(PATIENCE_S)) == 1
    desk.submit(needs=(("gpu", 1),))
    desk.drain()
    assert said_after(PATIENCE_S) == [], "the same once more is said after a longer time"
    desk.submit(needs=(("licence", 1),))
    desk.drain()
    [text] = said_after(PATIENCE_S)
    assert text.startswith("3 tasks cannot run: gpu=1 is needed") and "licence=1 is needed" in text
    desk.submit(needs=(("licence", 1),))
    desk.drain()
    assert said_after(PATIENCE_S) == []


def test_the_next_one_hears_of_its_lease_and_nodes(desk: Client) -> None:
    desk.lose_scheduler()
    assert desk.drain() == []
    assert desk.back() == desk.again(lease=LEASE, nodes=[BOX])
    assert desk.back() == [], "once"


def test_so_does_the_same_one_if_it_has_lost_the_session_and_else_nothing_is_to_be_said(desk: Client) -> None:
    desk.lose_scheduler(is_dead=False)
    assert desk.back(BROKER) == []
    desk.lose_scheduler()
    assert desk.back(BROKER) == [desk.sent(structs.replace(ENLIST, lease=LEASE, nodes=[BOX]), BROKER)]


def test_who_waits_keeps_its_place() -> None:
    desk = Client(granted=False)
    desk.ledger.standing.enlist(BROKER, ENLIST, desk.now)
    desk.hear(messages.Queued(2, "somebody", 14))
    desk.drain()
    desk.lose_scheduler()
    assert desk.back() == desk.again(ticket=14)


def test_who_had_done_says_so_and_leaves_when_nobody_answers(desk: Client) -> None:
    desk.lose_scheduler()
    desk.ledger.standing.release(terminate=False, await_io=False)
    assert desk.drain() == [], "nobody would hear it"
    assert desk.said(desk.wait(PATIENCE_S)) == [
        "no link to the scheduler for 3 s; still trying. nothing is left to do but to tell it so"
    ]
    assert desk.back() == [
        Say("the scheduler is back"),
        *desk.again(lease=LEASE, releasing=True, nodes=[BOX]),
    ]
    desk.ledger.link_lost(NEXT.epoch, desk.now)
    desk.wait(PATIENCE_S)
    told = desk.wait(LEAVE_S - PATIENCE_S)
    assert told[0] == desk.sent(messages.Release(), AGENT) and Freed("the scheduler is away") in told
    assert desk.back() == [], "it has left"


def test_that_it_is_away_is_said_at_growing_intervals(desk: Client) -> None:
    desk.given(1)
    desk.lose_scheduler()
    assert desk.wait(PATIENCE_S - 0.1) == []
    [text] = desk.said(desk.wait(0.1))
    assert text == (
        "no link to the scheduler for 3 s; still trying. this client goes on (1 task left), but servers that die are not replaced"
    )
    assert desk.wait(PATIENCE_S) == []


def test_what_the_next_one_says_again_is_no_news() -> None:
    desk = Client(wants_news=True)
    desk.lose_scheduler()
    desk.back()
    desk.hear(messages.NodeNews(Status.NodeInitialized, BOX))
    desk.hear(messages.ServerNews(Status.ServerInitialized, SPOT, 900))
    assert not [effect for effect in desk.drain() if isinstance(effect, News)]
    new = SPOT._replace(epoch=1005)
    desk.hear(messages.ServerNews(Status.ServerInitialized, new, 900))
    assert [effect.status for effect in desk.drain() if isinstance(effect, News)] == [
        Status.ServerInitialized
    ]


def test_one_that_will_not_have_it_back_costs_its_tasks(desk: Client) -> None:
    (record,) = desk.given(1)
    desk.lose_scheduler()
    desk.back()
    desk.hear(messages.Turned("the scheduler was stopped"), sender=NEXT)
    assert Freed("the scheduler was stopped") in desk.drain()
    assert record.outcome == OutcomeKind.LOST


def test_the_other_servers_hear_of_a_dead_one_without_the_scheduler(desk: Client) -> None:
    desk.lose_scheduler()
    desk.lose_server(1)
    assert desk.drain() == desk.buried(1)


def test_of_its_own_end_no_server_need_hear(desk: Client) -> None:
    """They all end; on a hundred nodes with 64 servers that were 640,000 messages."""
    desk.ledger.standing.release(terminate=True, await_io=False)
    desk.drain()
    desk.lose_server(1, closing=True)
    assert not desk.words()

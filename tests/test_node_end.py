"""How a node ends: when its operator says so, with or after its tasks, and after the clients it was started for."""

from __future__ import annotations

from msgspec.structs import replace

from dispycos.actors.tenancy import CloseZygote, End, KillServer
from dispycos.actors.terminations import KILL_AFTER
from dispycos.protocol.addresses import SCHEDULER, Address
from dispycos.protocol.messages import (
    Close,
    Closed,
    Declined,
    Open,
    Recalled,
    Reclaim,
    Register,
    Returned,
    Shutdown,
)
from tests.kit.node import INFO, LEASE, SCHEDULER_EPOCH, THE_SCHEDULER, Hand, done, server_address

OPERATOR = "the operator of node box ends it"
OTHER_SCHEDULER = Address(55, SCHEDULER)
OTHER_LEASE = LEASE._replace(number=9, client=8, scheduler="other", scheduler_epoch=55)


def exit_of(hand: Hand, number: int, death: str = "exited with code 0") -> list[object]:
    return hand.call("server_exited", number, 10 + number, death, False)


def test_a_node_that_finishes_runs_what_it_has_takes_nothing_new_and_ends() -> None:
    hand = Hand(1).open()
    running, waiting, late = hand.runs(3)
    hand.hear(THE_SCHEDULER, running, waiting)
    hand.node.add_scheduler(SCHEDULER_EPOCH, 0.0)
    hand.did()
    assert hand.call("finish") == [("scheduler", Register(hand.node.info, LEASE, True))]
    assert hand.node.say_status().startswith("ends when its tasks are done; used by script.py")
    assert hand.hear(THE_SCHEDULER, late) == [("scheduler", Recalled([late.task]))]
    assert hand.hear(server_address(1), done(running, 1))[-1] == (1, waiting), "what it has goes on"
    assert hand.hear(server_address(1), done(waiting, 1))[-1] == (1, Shutdown(KILL_AFTER, OPERATOR))
    assert exit_of(hand, 1)[-3:] == [
        CloseZygote(LEASE),
        ("scheduler", Closed(LEASE, OPERATOR, last=True)),
        End(),
    ]
    assert hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0)) == [
        ("scheduler", Declined(LEASE, OPERATOR))
    ], "and it is not said again that it ends"


def test_a_node_that_finishes_waits_for_what_a_server_on_loan_may_run() -> None:
    hand = Hand(1).open()
    lone = hand.run(lend=True, fast=True)
    hand.hear(THE_SCHEDULER, lone)
    hand.hear(server_address(1), replace(done(lone, 1), lent=True))
    assert hand.call("finish") == [(1, Reclaim())]
    assert hand.hear(server_address(1), Returned()) == [(1, Shutdown(KILL_AFTER, OPERATOR))]


def test_a_free_node_finishes_at_once() -> None:
    hand = Hand(1)
    hand.node.add_scheduler(SCHEDULER_EPOCH, 0.0)
    hand.did()
    assert hand.call("finish") == [End()]
    assert hand.call("add_scheduler", 5) == [], "it offers itself to nobody any more"


def test_terminate_ends_the_tasks_with_the_node_also_when_it_was_finishing() -> None:
    hand = Hand(1).open()
    hand.hear(THE_SCHEDULER, hand.run())
    hand.call("finish")
    hand.node.finish(1.0, terminate=True)
    assert hand.did() == [(1, Shutdown(KILL_AFTER, OPERATOR))]
    assert hand.wake_at(1.0 + KILL_AFTER) == [KillServer(1)]
    assert exit_of(hand, 1, "killed by SIGKILL (9)")[-1] == End()


def test_after_so_many_clients_a_node_is_given_to_nobody_else() -> None:
    hand = Hand(1, serve=2)
    for last in (False, True):
        hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
        hand.call("zygote_ready")
        hand.ready(1)
        hand.hear(
            OTHER_SCHEDULER, Open(OTHER_LEASE, INFO, 1, 50.0)
        )  # declined, and to be told when it is free
        hand.hear(THE_SCHEDULER, Close(LEASE))
        ended = exit_of(hand, 1)
        assert ("scheduler", Closed(LEASE, last=last)) in ended
        assert (End() in ended) is last
        hand.node.add_scheduler(OTHER_SCHEDULER.epoch, 0.0)
        assert bool(hand.did()) is not last

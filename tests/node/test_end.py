"""How a node ends: when its operator says so, with or after its tasks, and after the clients it was started for."""

from __future__ import annotations

from dispycos.actors.node.agent import LAST_S
from dispycos.actors.node.lease import CloseZygote, End, StartServer, StartZygote
from dispycos.actors.node.processes.words import KillServer
from dispycos.actors.node.supervisor import RETRY_AFTER
from dispycos.actors.tasks.step import KILL_AFTER
from dispycos.protocol.addresses import SCHEDULER, Address
from dispycos.protocol.messages import Close, Closed, Declined, Marks, Open, Register, ServerDown, Shutdown
from tests.kit.node import INFO, LEASE, SCHEDULER_EPOCH, THE_SCHEDULER, Hand

OPERATOR = "the operator of node box ends it"
OTHER_SCHEDULER = Address(55, SCHEDULER)
OTHER_LEASE = LEASE._replace(number=9, client=8, scheduler="other", scheduler_epoch=55)


def exit_of(hand: Hand, number: int, death: str = "exited with code 0") -> list[object]:
    return hand.call("server_exited", number, death, Marks(1, 0))


DRAIN = Shutdown(drain=True)


def test_a_node_that_finishes_lets_its_servers_end_what_they_have_takes_nothing_new_and_ends() -> None:
    hand = Hand(2).open()
    hand.node.add_scheduler(SCHEDULER_EPOCH, 0.0)
    hand.did()
    assert hand.call("finish") == [
        (1, DRAIN),
        (2, DRAIN),
        ("scheduler", Register(hand.node.info, LEASE, True, INFO)),
    ]
    assert hand.wake_at(10 * KILL_AFTER) == [], "however long that takes"
    told = exit_of(hand, 1)
    assert not any(isinstance(effect, StartServer | CloseZygote) for effect in told), "none is started again"
    assert exit_of(hand, 2)[-3:] == [
        CloseZygote(LEASE),
        ("scheduler", Closed(LEASE, OPERATOR, last=True, dismissed=True)),
        End(),
    ]
    assert hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0)) == [
        ("scheduler", Declined(LEASE, OPERATOR))
    ], "and it is not said again that it ends"


def test_a_server_that_gets_ready_at_a_node_that_finishes_drains_as_well() -> None:
    hand = Hand(2)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 2, 50.0))
    hand.call("zygote_ready")
    hand.ready(1)
    assert hand.call("finish") == [(1, DRAIN)]
    assert hand.ready(2) == [(2, DRAIN)]
    exit_of(hand, 1)
    assert exit_of(hand, 2)[-1] == End()


def test_a_server_that_dies_before_it_is_ready_does_not_keep_a_node_that_finishes() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    hand.call("finish")
    assert exit_of(hand, 1, "exited with code 1")[-1] == End()


def test_a_free_node_finishes_at_once() -> None:
    hand = Hand(1)
    hand.node.add_scheduler(SCHEDULER_EPOCH, 0.0)
    hand.did()
    assert hand.call("finish") == [End()]
    assert hand.call("add_scheduler", 5) == [], "it offers itself to nobody any more"


def test_terminate_ends_the_tasks_with_the_node_also_when_it_was_finishing() -> None:
    hand = Hand(1).open()
    hand.call("finish")
    hand.node.finish(1.0, terminate=True)
    assert hand.did() == [(1, Shutdown(OPERATOR))]
    assert hand.wake_at(1.0 + KILL_AFTER + LAST_S) == [KillServer(1)]
    assert exit_of(hand, 1, "killed by SIGKILL (9)")[-1] == End()


def test_after_so_many_clients_a_node_is_given_to_nobody_else() -> None:
    hand = Hand(1, serve=2)
    for last in (False, True):
        hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
        hand.call("zygote_ready")
        hand.ready(1)
        # Declined, and to be told when it is free.
        hand.hear(OTHER_SCHEDULER, Open(OTHER_LEASE, INFO, 1, 50.0))
        hand.hear(THE_SCHEDULER, Close(LEASE))
        ended = exit_of(hand, 1)
        assert ("scheduler", Closed(LEASE, last=last)) in ended
        assert (End() in ended) is last
        hand.node.add_scheduler(OTHER_SCHEDULER.epoch, 0.0)
        assert bool(hand.did()) is not last


def test_a_server_that_is_to_be_tried_again_is_not_at_a_node_that_finishes() -> None:
    hand = Hand(2)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 2, 50.0))
    hand.call("zygote_ready")
    hand.ready(2)
    hand.call("server_failed_to_start", 1, "cannot fork")
    hand.call("finish")
    assert hand.wake_at(RETRY_AFTER) == []
    assert exit_of(hand, 2)[-1] == End()


def test_a_node_that_finishes_does_not_start_another_zygote_and_expects_no_server_again() -> None:
    hand = Hand(2).open()
    hand.call("finish")
    exit_of(hand, 1)
    told = hand.call("zygote_failed", "killed by SIGSEGV (11)")
    downs = [e[1] for e in told if isinstance(e, tuple) and isinstance(e[1], ServerDown)]
    assert [(down.expected, down.restarting) for down in downs] == [(True, False)]
    assert not any(isinstance(effect, StartZygote) for effect in told)
    assert told[-3:] == [
        CloseZygote(LEASE),
        ("scheduler", Closed(LEASE, OPERATOR, last=True, dismissed=True)),
        End(),
    ]

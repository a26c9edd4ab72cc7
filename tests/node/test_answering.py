"""What a node tells those who watch it: at once what it knows itself, and of its servers what they answer in time."""

from __future__ import annotations

import pytest

from dispycos.actors.node.inquiries import ANSWER_S, BUSY
from dispycos.actors.tasks.step import Step
from dispycos.protocol.addresses import Address
from dispycos.protocol.messages import (
    Availability,
    CloseServer,
    Inventory,
    Marks,
    Open,
    ServerReport,
    ServerTasks,
    ServerUse,
    SetupDone,
    Spot,
    TaskReport,
)
from dispycos.protocol.watching import ARGUMENTS, LINKS, MAILBOXES, OUTPUT, SERVERS, TASKS, Look, NodeSight
from tests.kit.node import (
    CLIENT_EPOCH,
    INFO,
    LEASE,
    MACHINE,
    THE_CLIENT,
    THE_SCHEDULER,
    Hand,
    server_address,
)

VIEWER = Address(66, 20)
FREE = Availability(12.5, 1 << 30, 1 << 40, 0)
TASK = TaskReport("compute", CLIENT_EPOCH, 1, 1, False, "running", 2.0)
USE = ServerUse(5, 1, 2.5, 1 << 20, 1 << 21)


def spot(number: int) -> Spot:
    return Spot("10.0.0.5", 9700 + number, server_address(number).epoch, f"box/server-{number}")


def sight_of(effects: list[object]) -> NodeSight:
    [(to, said)] = [effect for effect in effects if isinstance(effect, tuple)]
    assert to == VIEWER and isinstance(said, NodeSight)
    return said


def look(hand: Hand, parts: int = 0) -> NodeSight:
    return sight_of(hand.hear(VIEWER, Look(parts)))


def test_a_node_that_nobody_has_answers_at_once() -> None:
    hand = Hand(2)
    assert look(hand, SERVERS) == NodeSight(hand.node.info, None, 0.0, None, [], [], [])
    hand.call("measured", FREE, MACHINE)
    sight = look(hand)
    assert sight.node.available == FREE and sight.machine == MACHINE


@pytest.mark.parametrize("parts", [0, TASKS, OUTPUT | LINKS])
def test_its_servers_are_not_asked_for_what_the_node_knows_itself(parts: int) -> None:
    hand = Hand(2).open()
    hand.now = 30.0
    sight = look(hand, parts)
    assert (sight.client, sight.lease_s, sight.servers) == (INFO, 30.0, [])


@pytest.mark.parametrize("parts", [SERVERS, ARGUMENTS, MAILBOXES, SERVERS | ARGUMENTS])
def test_its_servers_are_asked_for_what_they_alone_know(parts: int) -> None:
    hand = Hand(2).open()
    asked = hand.hear(VIEWER, Look(parts | TASKS), correlation=4)
    assert asked == [(1, Inventory(parts)), (2, Inventory(parts))]
    assert hand.hear(server_address(1), ServerTasks([TASK], USE), correlation=1) == []
    hand.steps[2] = Step(4)
    sight = sight_of(hand.wake_at(ANSWER_S))
    busy = TaskReport(BUSY, 0, 0, 0, False, "running", ANSWER_S)
    assert sight.servers == [
        ServerReport(spot(1), 11, [TASK], USE),
        ServerReport(spot(2), 12, [busy], None),
    ]


def test_servers_that_are_not_there_are_named_with_the_reason() -> None:
    hand = Hand(5)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 5, 50.0))
    assert look(hand).starting == [
        (9700 + number, "its node is being set up for its client") for number in range(1, 6)
    ]
    hand.call("zygote_ready")
    for number in (1, 2, 4):
        hand.ready(number)
    hand.hear(server_address(3), SetupDone(3, "no database"))
    hand.hear(THE_CLIENT, CloseServer(9704))
    for number in (2, 3, 4):
        hand.node.server_exited(number, "killed by SIGKILL (9)", Marks(0, 0), 0.0)
    hand.did()
    assert look(hand).starting == [
        (9702, "it starts"),
        (9703, "its server_setup has failed: no database"),
        (9704, "its client has closed it"),
        (9705, "it starts"),
    ]
    hand.call("zygote_failed", "killed by SIGKILL (9)")
    assert look(hand).starting[-1] == (
        9705,
        "lost its parent process: killed by SIGKILL (9); it is started again",
    )

"""What a node tells those who watch it: at once what it knows itself, and of its servers what they answer in time."""

from __future__ import annotations

import pytest

from dispycos.actors.node.inquiries import ANSWER_S, BUSY, GONE, STACK_S
from dispycos.actors.node.summaries import KEPT
from dispycos.actors.tasks.step import Step
from dispycos.machine import Send
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Availability,
    Close,
    Closed,
    CloseServer,
    Inventory,
    Marks,
    Open,
    Served,
    ServerReport,
    ServerTasks,
    ServerUse,
    SetupDone,
    Shutdown,
    Spot,
    TaskId,
    TaskReport,
)
from dispycos.protocol.watching import (
    ARGUMENTS,
    LINKS,
    MAILBOXES,
    OUTPUT,
    SERVERS,
    TASKS,
    Frame,
    Granting,
    LeaseSummary,
    Look,
    NodeSight,
    StackGiven,
    StackWanted,
    Wish,
)
from tests.kit.node import (
    CLIENT_EPOCH,
    INFO,
    LEASE,
    MACHINE,
    NODE_EPOCH,
    THE_CLIENT,
    THE_NODE,
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
    assert look(hand).absent == [
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
    assert look(hand).absent == [
        (9702, "it starts"),
        (9703, "its server_setup has failed: no database"),
        (9704, "its client has closed it"),
        (9705, "it starts"),
    ]
    hand.call("zygote_failed", "killed by SIGKILL (9)")
    assert look(hand).absent[-1] == (
        9705,
        "lost its parent process: killed by SIGKILL (9); it is started again",
    )


# --- stacks

STACK = StackGiven([Frame("survey.py", 7, "survey", "pass")], "", "survey")


def wanted(number: int, life: int = 1) -> StackWanted:
    return StackWanted(server_address(number, life).epoch, TaskId(CLIENT_EPOCH, 5))


def test_a_question_for_a_stack_and_its_answer_are_passed_on() -> None:
    hand = Hand(2).open()
    assert hand.hear(VIEWER, wanted(2), correlation=9) == [(2, wanted(2))]
    assert hand.node.deadline() == STACK_S
    assert hand.hear(server_address(1), STACK, correlation=1) == [], "nobody else answers for it"
    hand.tell(server_address(2), STACK, correlation=1)
    [said] = hand.node.drain()
    assert said == Send(Envelope(VIEWER, THE_NODE, STACK, 9))
    assert hand.hear(server_address(2), STACK, correlation=1) == [], "once is enough"
    assert hand.node.deadline() == 50.0


def test_who_asks_a_server_that_is_gone_is_told_so() -> None:
    hand = Hand(2)
    gone = [(VIEWER, StackGiven([], GONE))]
    assert hand.hear(VIEWER, wanted(1)) == gone
    hand.open()
    assert hand.hear(VIEWER, wanted(1, life=3)) == gone
    hand.hear(VIEWER, wanted(1))
    hand.node.server_exited(1, "killed by SIGKILL (9)", Marks(1, 0), 0.0)
    assert gone[0] in hand.did()
    assert hand.wake_at(STACK_S) == []


def test_of_a_server_that_does_not_answer_its_page_says_why() -> None:
    hand = Hand(2).open()
    hand.hear(VIEWER, wanted(1))
    hand.hear(VIEWER, wanted(2))
    hand.steps[2] = Step(4)
    assert hand.wake_at(STACK_S - 0.01) == []
    assert hand.wake_at(STACK_S) == [
        (VIEWER, StackGiven([], "its server does not answer")),
        (
            VIEWER,
            StackGiven(
                [], "its server does not answer: a step in C code keeps its interpreter, for 1.0 s now"
            ),
        ),
    ]


# --- wishes


def test_a_viewer_ends_a_lease_and_is_told_of_it() -> None:
    hand = Hand(1).open()
    why = "a viewer ended the lease"
    assert hand.hear(VIEWER, Wish("end_lease")) == [(1, Shutdown(why)), (VIEWER, Granting(1))]
    hand.node.server_exited(1, "exited", Marks(0, 0), 3.0)
    assert ("scheduler", Closed(LEASE, why, dismissed=True)) in hand.did()


def test_what_a_node_cannot_grant_it_refuses_in_words() -> None:
    def refused(why: str) -> list[object]:
        return [(VIEWER, Granting(0, [(NODE_EPOCH, why)]))]

    hand = Hand(1)
    assert hand.hear(VIEWER, Wish("end_lease")) == refused("it is not leased")
    hand.open()
    another = Wish("end_lease", client=CLIENT_EPOCH + 1)
    assert hand.hear(VIEWER, another) == refused("it is not leased to that client any more")
    why = "a node does not suspend what its client has: ask that"
    assert hand.hear(VIEWER, Wish("suspend", servers=[1001])) == refused(why)
    assert hand.node.granted is not None and hand.node.granted.closing is None
    granted = hand.hear(VIEWER, Wish("end_lease", client=CLIENT_EPOCH))
    assert granted[-1] == (VIEWER, Granting(1))


# --- leases that have ended


def served(ended: int, *failures: tuple[str, str, int], cpu_s: float = 1.0) -> Served:
    return Served(ServerUse(ended, sum(failure[2] for failure in failures), cpu_s), list(failures))


def test_of_a_lease_that_has_ended_a_summary_is_kept() -> None:
    hand = Hand(4)
    hand.now = 10.0
    hand.open()
    hand.hear(server_address(1), served(5, ("fit", "ValueError", 2), ("load", "OSError", 1)))
    assert hand.hear(server_address(1), served(5)) == [], "it is said once"
    hand.node.server_exited(1, "exited", Marks(5, 0), 20.0)
    hand.hear(server_address(2), served(7, ("fit", "ValueError", 3), cpu_s=0.5))
    hand.node.server_exited(2, "exited", Marks(7, 0), 21.0)
    hand.node.server_exited(3, "killed by SIGKILL (9)", Marks(1, 0), 22.0)
    hand.ready(1, life=2)
    hand.did()
    assert look(hand).summaries == [], "it has not ended"
    hand.now = 30.0
    hand.hear(THE_SCHEDULER, Close(LEASE))
    hand.hear(server_address(1, 2), served(1))
    for number in (1, 2, 3, 4):
        hand.node.server_exited(number, "exited", Marks(0, 0), 34.0)
    hand.did()
    assert hand.node.granted is None
    hand.now = 40.0
    failures = [("fit", "ValueError", 5), ("load", "OSError", 1)]
    assert look(hand).summaries == [LeaseSummary("script.py", "host", 6.0, 24.0, 13, 6, 2.5, failures, 2, "")]


def test_a_lease_that_never_had_a_server_lasted_until_it_was_closed() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.now = 5.0
    hand.call("setup_failed", "no such folder")
    [summary] = look(hand).summaries
    assert (summary.seconds, summary.ago_s, summary.unknown) == (5.0, 0.0, 0)
    assert summary.reason == "no such folder"


def test_the_last_leases_are_kept() -> None:
    hand = Hand(1)
    for number in range(KEPT + 5):
        hand.now += 1.0
        hand.hear(THE_SCHEDULER, Open(LEASE._replace(number=number), INFO, 1, 50.0))
        hand.now += number / 1000
        hand.call("end_lease", f"number {number}")
    summaries = look(hand).summaries
    assert [summary.reason for summary in summaries] == [f"number {k}" for k in range(5, KEPT + 5)]


def test_a_lease_that_never_had_a_server_lasted_until_its_node_was_to_end() -> None:
    hand = Hand(1)
    hand.now = 4.0
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.now = 6.0
    hand.call("finish")
    [summary] = look(hand).summaries
    assert (summary.seconds, summary.ago_s) == (2.0, 0.0)

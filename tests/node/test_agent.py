"""The node grants one lease, starts servers, lets tasks through, and speaks for servers that died."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from msgspec import structs

from dispycos.actors.node.agent import LAST_S, LEASE_GRACE
from dispycos.actors.node.lease import (
    RESTARTS_MAX,
    AnswerCode,
    AwaitClient,
    CloseZygote,
    ForgetPeer,
    PrepareZygote,
    StartServer,
    StartZygote,
    UseScheduler,
)
from dispycos.actors.node.processes.words import EndStep, KillServer
from dispycos.actors.node.supervisor import RETRY_AFTER
from dispycos.actors.tasks.step import KILL_AFTER, NO_STEP, Step
from dispycos.protocol.addresses import CLIENT, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Availability,
    Close,
    Closed,
    CloseServer,
    CodeGiven,
    CodeWanted,
    Declined,
    Gone,
    Inventory,
    Kill,
    Marks,
    Message,
    NodeReport,
    Notice,
    Open,
    Opened,
    Output,
    Pulse,
    Register,
    Release,
    RestartNode,
    ServerDown,
    ServerLost,
    ServerReady,
    ServerReport,
    ServerTasks,
    ServerUp,
    SetupDone,
    SetupGiven,
    SetupWanted,
    Shutdown,
    Spot,
    TaskId,
    TaskReport,
    Terminate,
    Wanting,
)
from tests.kit.node import (
    CLIENT_EPOCH,
    INFO,
    LEASE,
    MACHINE,
    SCHEDULER_EPOCH,
    THE_CLIENT,
    THE_NODE,
    THE_SCHEDULER,
    Hand,
    server_address,
)

SIGKILL = "killed by SIGKILL (9)"
SILENT = "its client and scheduler were silent for 60 s"
OTHER_SCHEDULER = Address(55, SCHEDULER)
OTHER_LEASE = LEASE._replace(number=9, client=8, scheduler="other", scheduler_epoch=55)
FREE = Availability(12.5, 1 << 30, 1 << 40, 0)


def spot(number: int, life: int = 1) -> Spot:
    epoch = server_address(number, life).epoch if life else 0
    return Spot("10.0.0.5", 9700 + number, epoch, f"box/server-{number}")


def exit_of(
    hand: Hand, number: int, death: str = SIGKILL, cpu: int = 1, io: int = 0, *, for_step: bool = False
) -> list[object]:
    """`cpu` and `io`: the positions of the last tasks that it had begun."""
    hand.node.server_exited(number, death, Marks(cpu, io), hand.now, for_step=for_step)
    return hand.did()


def lost(
    number: int, death: str = f"was {SIGKILL}", cpu: int = 1, io: int = 0, closing: bool = False
) -> ServerLost:
    epoch = server_address(number).epoch
    return ServerLost(epoch, f"server box/server-{number} {death}", Marks(cpu, io), closing)


def terminate(number: int, position: int, life: int = 1) -> Terminate:
    return Terminate(TaskId(CLIENT_EPOCH, position), server_address(number, life).epoch, position, "compute")


# --- the lease


def test_a_lease_starts_the_zygote_then_its_servers_and_each_reports_when_it_is_ready() -> None:
    hand = Hand(2)
    assert hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 2, 50.0)) == [
        ("scheduler", Opened(LEASE, 2, 50.0)),
        StartZygote(LEASE),
    ]
    assert hand.call("zygote_ready") == [StartServer(1), StartServer(2)]
    assert hand.ready(2) == [("scheduler", ServerUp(LEASE, spot(2), 12))]
    assert hand.ready(1) == [("scheduler", ServerUp(LEASE, spot(1), 11))]


def test_a_zygote_is_prepared_when_it_is_born_and_its_client_has_said_how_then_servers_start() -> None:
    for client_first in (True, False):
        hand = Hand(1)
        hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
        assert hand.setups == [(SetupWanted(), 1)]
        given = partial(hand.hear, THE_CLIENT, SetupGiven(), payload=[b"files"], correlation=1)
        steps = [given, partial(hand.call, "zygote_born")]
        first, second = steps if client_first else reversed(steps)
        assert first() == []
        assert second() == [PrepareZygote([b"files"])]
        assert hand.call("zygote_ready") == [StartServer(1)]
        assert hand.setups[1:] == [(SetupDone(), 0)]


def test_a_client_whose_session_was_that_of_an_earlier_lease_is_asked_again_and_one_that_is_dead_is_not() -> (
    None
):
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    assert hand.call("peer_reset", CLIENT_EPOCH) == []
    assert hand.setups == [(SetupWanted(), 1), (SetupWanted(), 1)]
    hand.node.peer_reset(CLIENT_EPOCH, hand.now, is_dead=True)
    assert CloseZygote(LEASE) in hand.did()


def test_what_a_client_gives_for_a_zygote_that_has_died_is_not_for_the_next() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_failed", SIGKILL)
    hand.call("zygote_born")
    assert hand.setups == [(SetupWanted(), 1), (SetupWanted(), 2)]
    assert hand.hear(THE_CLIENT, SetupGiven(), payload=b"late", correlation=1) == []
    assert hand.hear(THE_CLIENT, SetupGiven(), payload=b"new", correlation=2) == [PrepareZygote([b"new"])]


@pytest.mark.parametrize("by_client", [True, False])
def test_a_node_that_cannot_be_set_up_ends_the_lease_and_says_why(by_client: bool) -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_born")
    if by_client:
        done = hand.hear(THE_CLIENT, SetupGiven("no such file: x.csv"), correlation=1)
    else:
        hand.hear(THE_CLIENT, SetupGiven(), payload=b"files", correlation=1)
        done = hand.call("setup_failed", "no such file: x.csv")
    assert done == [CloseZygote(LEASE), ("scheduler", Closed(LEASE, "no such file: x.csv", failed=True))]


def test_code_that_a_setup_lacks_is_asked_of_the_client_and_of_nobody_else() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    assert hand.call("code_asked", b"helper") == [("client", CodeWanted(), b"helper")]
    answered = partial(hand.hear, payload=b"text", correlation=1)
    assert answered(THE_SCHEDULER, CodeGiven()) == []
    assert answered(THE_CLIENT, CodeGiven()) == [AnswerCode("", [b"text"])]


def test_a_server_whose_setup_failed_is_not_started_again() -> None:
    hand = Hand(2)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 2, 50.0))
    hand.call("zygote_ready")
    hand.ready(2)
    hand.hear(server_address(1), SetupDone(1, "server_setup failed: no"))
    [down] = exit_of(hand, 1, "exited with code 0")
    assert down == ("scheduler", ServerDown(LEASE, spot(1, 0), "server_setup failed: no"))


def test_what_a_setup_prints_is_told_with_the_name_of_its_node() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.node.output(0, 1, b"loading\n", 0, hand.now)
    assert hand.did() == [("client", Output("box/setup", 1), b"loading\n")]


def test_a_node_gives_no_more_servers_than_it_has_ports_for() -> None:
    hand = Hand(2)
    assert ("scheduler", Opened(LEASE, 2, 50.0)) in hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 64, 50.0))
    assert hand.call("zygote_ready") == [StartServer(1), StartServer(2)]


def test_another_client_is_declined_with_holder_and_age_and_told_when_the_node_is_free() -> None:
    hand = Hand(1).open()
    hand.call("add_scheduler", 55)
    hand.now = 30.0
    reason = "held by script.py (host, pid 4242) for 30 s"
    assert hand.hear(OTHER_SCHEDULER, Open(OTHER_LEASE, INFO, 1, 50.0)) == [
        (OTHER_SCHEDULER, Declined(OTHER_LEASE, reason))
    ]
    hand.hear(THE_SCHEDULER, Close(LEASE))
    told = exit_of(hand, 1, "exited with code 0")
    assert told[-1] == (OTHER_SCHEDULER, Register(hand.node.info, None))
    assert StartZygote(OTHER_LEASE) in hand.hear(OTHER_SCHEDULER, Open(OTHER_LEASE, INFO, 1, 50.0))


@pytest.mark.parametrize("minor", [10, 12])
def test_a_client_of_another_python_is_declined_naming_both_versions(minor: int) -> None:
    hand = Hand(1)
    client = INFO._replace(python=(3, minor))
    reason = f"the client runs Python 3.{minor}, this node 3.11: both need the same"
    assert hand.hear(THE_SCHEDULER, Open(LEASE, client, 1, 50.0)) == [("scheduler", Declined(LEASE, reason))]


def test_no_servers_cannot_be_leased() -> None:
    reason = "0 servers asked for, 1 ports to give"
    assert Hand(1).hear(THE_SCHEDULER, Open(LEASE, INFO, 0, 50.0)) == [("scheduler", Declined(LEASE, reason))]


def test_a_scheduler_is_told_of_the_node_once_and_of_its_lease() -> None:
    hand = Hand(1)
    assert hand.call("add_scheduler", 55) == [(OTHER_SCHEDULER, Register(hand.node.info, None))]
    hand.open()
    assert hand.call("add_scheduler", 55) == [(OTHER_SCHEDULER, Register(hand.node.info, LEASE, client=INFO))]


def test_a_scheduler_whose_session_is_gone_is_told_of_the_node_once_more() -> None:
    hand = Hand(1)
    hand.call("add_scheduler", 55)
    assert hand.call("peer_reset", 55) == [(OTHER_SCHEDULER, Register(hand.node.info, None))]
    assert hand.call("peer_reset", 55) == [], "it is not there, and would be told for ever"


def test_a_node_that_ends_its_lease_for_want_of_its_scheduler_says_so_when_that_is_back() -> None:
    hand = Hand(1).open()
    hand.call("peer_lost", SCHEDULER_EPOCH)
    hand.wake_at(LEASE_GRACE)
    hand.call("peer_up", SCHEDULER_EPOCH)
    register = Register(hand.node.info, LEASE, closing=True, client=INFO)
    assert hand.call("add_scheduler", SCHEDULER_EPOCH) == [("scheduler", register)]
    told = exit_of(hand, 1)
    assert told[-1] == ("scheduler", Closed(LEASE, "its client and scheduler were silent for 60 s"))


def test_a_lease_is_closed_also_for_a_scheduler_whose_session_began_anew() -> None:
    hand = Hand(1)
    hand.call("add_scheduler", SCHEDULER_EPOCH)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("peer_reset", SCHEDULER_EPOCH)
    told = hand.hear(THE_SCHEDULER, Close(LEASE))
    assert told == [CloseZygote(LEASE), ("scheduler", Closed(LEASE))]


def test_a_scheduler_that_was_started_again_takes_its_lease_over_and_hears_what_there_is() -> None:
    hand = Hand(3).open()
    assert hand.call("peer_reset", SCHEDULER_EPOCH) == []
    successor, lease = Address(2, SCHEDULER), LEASE._replace(scheduler_epoch=2)
    assert not [told for told in exit_of(hand, 2) if isinstance(told, tuple) and told[0] == "scheduler"]
    hand.ready(2, life=2)
    assert hand.hear(successor, Open(lease, INFO, 2, 50.0)) == [
        UseScheduler(2),
        (successor, Opened(lease, 3, 50.0)),
        (successor, ServerUp(lease, spot(1), 11)),
        (successor, ServerUp(lease, spot(2, life=2), 22)),
        (successor, ServerUp(lease, spot(3), 13)),
    ]
    assert hand.wake_at(LEASE_GRACE - 1) != [KillServer(1)]
    assert hand.node.granted is not None and hand.node.granted.closing is None


def test_without_its_client_and_its_scheduler_a_lease_ends_after_its_grace() -> None:
    hand = Hand(1).open()
    hand.call("peer_up", CLIENT_EPOCH)
    for epoch in (SCHEDULER_EPOCH, CLIENT_EPOCH):
        hand.call("peer_lost", epoch)
    hand.call("peer_up", CLIENT_EPOCH)
    hand.now = 10.0
    hand.call("peer_lost", CLIENT_EPOCH)
    hand.call("peer_lost", 12345)
    assert hand.wake_at(9.9 + LEASE_GRACE) == []
    assert hand.wake_at(10.0 + LEASE_GRACE) == [(1, Shutdown(SILENT))]
    assert exit_of(hand, 1, "exited with code 0")[-1] == ("scheduler", Closed(LEASE, SILENT))


@pytest.mark.parametrize("there", [CLIENT_EPOCH, SCHEDULER_EPOCH])
def test_with_one_of_its_client_and_its_scheduler_a_lease_goes_on(there: int) -> None:
    hand = Hand(1).open()
    hand.call("peer_up", CLIENT_EPOCH)
    gone = SCHEDULER_EPOCH if there == CLIENT_EPOCH else CLIENT_EPOCH
    hand.call("peer_lost", gone)
    if gone == SCHEDULER_EPOCH:
        hand.call("peer_reset", gone)
    assert hand.wake_at(10 * LEASE_GRACE) == []


def test_a_scheduler_that_lives_is_waited_for_and_a_client_that_lives_may_have_left() -> None:
    hand = Hand(1).open()
    hand.call("peer_up", CLIENT_EPOCH)
    for epoch in (SCHEDULER_EPOCH, CLIENT_EPOCH):
        hand.node.peer_lost(epoch, 0.0, lives=True)
    assert hand.wake_at(10 * LEASE_GRACE) == []
    hand.call("peer_reset", SCHEDULER_EPOCH)
    assert hand.wake_at(11 * LEASE_GRACE) == [(1, Shutdown(SILENT))]


def test_a_client_that_leaves_without_its_scheduler_ends_the_lease() -> None:
    hand = Hand(1).open()
    assert hand.hear(Address(66, CLIENT), Release()) == []
    told: Any = hand.hear(THE_CLIENT, Release())
    [(number, _)] = told
    assert number == 1
    assert exit_of(hand, 1)[-1] == (
        "scheduler",
        Closed(LEASE, "its client has left, and its scheduler is away"),
    )


def test_a_scheduler_that_was_about_to_take_over_hears_that_the_lease_has_ended() -> None:
    hand = Hand(1).open()
    hand.call("peer_reset", SCHEDULER_EPOCH)
    hand.call("add_scheduler", 55)
    hand.call("peer_reset", CLIENT_EPOCH)
    assert exit_of(hand, 1)[-1] == (OTHER_SCHEDULER, Register(hand.node.info))


def test_a_lease_goes_on_without_its_scheduler_while_its_client_is_linked() -> None:
    hand = Hand(1).open()
    hand.call("peer_up", CLIENT_EPOCH)
    hand.call("peer_lost", SCHEDULER_EPOCH)
    hand.wake_at(10 * LEASE_GRACE)
    assert hand.node.granted is not None and hand.node.granted.closing is None
    hand.call("peer_lost", CLIENT_EPOCH)
    hand.wake_at(11 * LEASE_GRACE - 0.1)
    assert hand.node.granted.closing is None, "from the last word of either"
    hand.wake_at(11 * LEASE_GRACE)
    assert hand.node.granted.closing is not None


def test_a_client_that_cannot_be_linked_any_more_is_the_schedulers_to_judge() -> None:
    hand = Hand(1).open()
    hand.call("peer_up", CLIENT_EPOCH)
    hand.call("peer_lost", CLIENT_EPOCH)
    hand.wake_at(2 * LEASE_GRACE)
    assert hand.node.granted is not None and hand.node.granted.closing is None


def test_a_lease_ends_when_its_client_has_all_that_was_printed() -> None:
    """What the node says there directly, Released by way of the scheduler may overtake."""
    hand = Hand(1).open()
    hand.call("output", 1, 1, b"done\n", 0)
    hand.hear(THE_SCHEDULER, Close(LEASE))
    assert exit_of(hand, 1, "exited with code 0")[-1] == AwaitClient(LEASE)
    still = "still being closed for script.py (host, pid 4242) for 0 s"
    declined = (OTHER_SCHEDULER, Declined(OTHER_LEASE, still))
    assert hand.hear(OTHER_SCHEDULER, Open(OTHER_LEASE, INFO, 1, 50.0)) == [declined]
    assert hand.call("client_has_all", LEASE._replace(number=9)) == []
    assert hand.call("client_has_all", LEASE)[:2] == [CloseZygote(LEASE), ("scheduler", Closed(LEASE))]


def test_a_lease_that_ends_ends_also_if_its_scheduler_is_started_anew_meanwhile() -> None:
    hand = Hand(1).open()
    hand.call("output", 1, 1, b"done\n", 0)
    hand.hear(THE_SCHEDULER, Close(LEASE))
    exit_of(hand, 1, "exited with code 0")
    hand.call("peer_reset", SCHEDULER_EPOCH)
    hand.call("add_scheduler", 55)
    hand.hear(OTHER_SCHEDULER, Open(LEASE._replace(scheduler_epoch=55, opening=2), INFO, 1, 50.0))
    assert CloseZygote(LEASE._replace(scheduler_epoch=55, opening=2)) in hand.call("client_has_all", LEASE)
    assert hand.node.granted is None


@pytest.mark.parametrize("word", [Terminate(TaskId(7, 16), 1001, 1), Kill(1001)])
def test_a_stranger_ends_nothing_and_that_is_said(word: Message) -> None:
    hand = Hand(1).open()
    stranger = Address(66, CLIENT)
    assert hand.hear(stranger, word) == []
    name = type(word).__name__
    assert hand.logs[-1] == f"{name} from {stranger} is refused: the lease is that of {THE_CLIENT}"
    assert hand.hear(THE_CLIENT, word) != []


def test_a_client_whose_process_ended_ends_the_lease_at_once_and_is_not_spoken_to() -> None:
    hand = Hand(1).open()
    told = hand.call("peer_reset", CLIENT_EPOCH)
    assert told == [(1, Shutdown("its client has ended"))]
    assert exit_of(hand, 1)[-1] == ("scheduler", Closed(LEASE, "its client has ended"))


def test_the_schedulers_word_that_the_client_is_dead_ends_the_lease_and_every_session_with_it() -> None:
    hand = Hand(1).open()
    gone = Gone([77, CLIENT_EPOCH])
    shutdown = Shutdown("its client has ended")
    assert hand.hear(THE_SCHEDULER, gone) == [
        (1, gone),
        ForgetPeer(77),
        ForgetPeer(CLIENT_EPOCH),
        (1, shutdown),
    ]
    assert hand.hear(THE_SCHEDULER, Close(LEASE)) == [], "it does that already"
    assert exit_of(hand, 1)[-1] == ("scheduler", Closed(LEASE, "its client has ended"))


# --- terminate


def test_a_task_that_ignores_its_interrupt_costs_its_server_for_its_own_step_only() -> None:
    hand = Hand(2).open()
    word = terminate(1, 5)
    assert hand.hear(THE_CLIENT, word) == [(1, word)], "so it has its KeyboardInterrupt now"
    assert hand.hear(THE_CLIENT, word) == [], "the first request counts"
    step = hand.steps[1] = Step(5, int(1e9))  # it began after the request
    assert hand.wake_at(KILL_AFTER) == []
    assert hand.wake_at(1.0 + KILL_AFTER) == [EndStep(1, step)]
    text = f"was {SIGKILL}: compute did not end within 5 s of its KeyboardInterrupt"
    assert exit_of(hand, 1, cpu=5, for_step=True)[0] == ("client", lost(1, text, cpu=5))


def test_a_step_that_ends_in_the_last_moment_saves_its_server() -> None:
    hand = Hand(1).open()
    hand.hear(THE_CLIENT, terminate(1, 5))
    hand.steps[1] = Step(5, 0)
    assert hand.wake_at(KILL_AFTER) == [EndStep(1, Step(5, 0))]
    assert exit_of(hand, 1, cpu=5)[0] == ("client", lost(1, cpu=5)), "for another reason, later"


def test_a_server_is_not_killed_for_a_task_that_waits_in_it() -> None:
    hand = Hand(1).open()
    hand.hear(THE_CLIENT, terminate(1, 5))
    hand.steps[1] = Step(6, 0)
    assert hand.wake_at(KILL_AFTER) == [], "another one runs"
    hand.steps[1] = NO_STEP
    assert hand.wake_at(KILL_AFTER + 1.0) == []


def test_only_the_client_of_the_lease_has_tasks_ended_and_servers_killed() -> None:
    hand = Hand(1).open()
    kill = Kill(server_address(1).epoch)
    for stranger in (THE_SCHEDULER, Address(66, 4), server_address(1)):
        assert hand.hear(stranger, terminate(1, 5), kill) == []
    assert hand.node.deadline() == 50.0, "the pulse"
    assert hand.hear(THE_CLIENT, Kill(12345), terminate(7, 1)) == [], "no such server"
    assert hand.hear(THE_CLIENT, kill) == [KillServer(1)]


# --- death


def test_the_client_is_told_of_a_dead_server_and_what_it_had_begun_and_the_next_is_started() -> None:
    hand = Hand(2).open()
    assert exit_of(hand, 1, cpu=7, io=4) == [
        ("client", lost(1, cpu=7, io=4)),
        ("scheduler", ServerDown(LEASE, spot(1), SIGKILL, False, True)),
        ForgetPeer(server_address(1).epoch),
        StartServer(1),
    ]
    assert hand.ready(1, life=2) == [("scheduler", ServerUp(LEASE, spot(1, life=2), 21))]


def test_of_a_server_that_was_never_ready_the_client_hears_nothing() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    told = hand.call("server_exited", 1, SIGKILL, Marks(0, 0))
    assert told == [("scheduler", ServerDown(LEASE, spot(1, life=0), SIGKILL, False, True)), StartServer(1)]


def test_an_exit_of_a_server_that_is_not_there_is_nothing() -> None:
    hand = Hand(1).open()
    assert hand.call("server_exited", 9, SIGKILL, Marks(0, 0)) == []


def test_a_second_process_cannot_take_the_place_of_a_server() -> None:
    hand = Hand(1).open()
    assert hand.hear(Address(31337, 3), ServerReady(1, 666)) == []
    assert hand.hear(Address(31337, 3), ServerReady(2, 666)) == []
    assert hand.hear(Address(31337, 3), Wanting(1)) == []
    assert len(hand.logs) == 3


def test_a_server_without_its_session_is_ended() -> None:
    hand = Hand(1).open()
    assert hand.call("peer_reset", server_address(1).epoch) == [KillServer(1)]


def test_servers_that_die_before_they_are_ready_are_not_started_for_ever() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    for _ in range(5):
        hand.now += 60.0
        assert hand.call("server_exited", 1, "exited with code 1", Marks(0, 0))[-1] == StartServer(1)
    hand.call("output", 1, 2, b"Traceback ...\nImportError: no module named 'numpie'\n", 0)
    said = "\n    Traceback ...\n    ImportError: no module named 'numpie'"
    down = ServerDown(LEASE, spot(1, life=0), "exited with code 1", lines=said)
    text = f"node box does not try again to start what always fails: server box/server-1 exited with code 1{said}"
    assert hand.call("server_exited", 1, "exited with code 1", Marks(0, 0)) == [
        ("client", Notice(text, "error")),
        ("scheduler", down),
    ]
    successor, lease = Address(2, SCHEDULER), LEASE._replace(scheduler_epoch=2)
    told = hand.hear(successor, Open(lease, INFO, 1, 50.0))
    assert told[-1] == (successor, structs.replace(down, lease=lease)), (
        "a scheduler that was started anew knows of no failure"
    )


def test_a_server_without_a_process_is_tried_again_after_a_while_and_not_for_ever() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    for _ in range(5):
        death = "did not start: cannot fork"
        down = ("scheduler", ServerDown(LEASE, spot(1, life=0), death, False, True))
        assert hand.call("server_failed_to_start", 1, "cannot fork") == [down]
        assert hand.node.deadline() == hand.now + RETRY_AFTER
        assert hand.wake_at(hand.now + RETRY_AFTER) == [StartServer(1)]
    told = hand.call("server_failed_to_start", 1, "cannot fork")
    assert told[-1] == ("scheduler", ServerDown(LEASE, spot(1, life=0), "did not start: cannot fork"))


def test_exits_told_before_the_end_of_their_zygote_do_not_use_up_the_restarts() -> None:
    hand = Hand(8).open()
    for number in range(1, 9):
        assert exit_of(hand, number)[-1] == StartServer(number)
        hand.call("server_failed_to_start", number, "its zygote has ended")
    assert hand.wake_at(RETRY_AFTER) == [StartServer(number) for number in range(1, 9)]
    hand.call("server_failed_to_start", 1, "its zygote has ended")
    assert hand.call("zygote_failed", SIGKILL)[-1] == StartZygote(LEASE)
    assert hand.call("zygote_ready") == [StartServer(number) for number in range(1, 9)]
    assert hand.wake_at(2 * RETRY_AFTER) == []


def test_starts_in_vain_under_zygotes_that_die_are_no_fault_of_the_server() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    assert hand.call("zygote_ready") == [StartServer(1)]
    death = "did not start: its zygote has ended"
    down = ("scheduler", ServerDown(LEASE, spot(1, life=0), death, False, True))
    for _ in range(RESTARTS_MAX):
        assert hand.call("server_failed_to_start", 1, "its zygote has ended") == [down]
        assert hand.wake_at(hand.now + RETRY_AFTER) == [StartServer(1)]
        assert hand.call("server_failed_to_start", 1, "its zygote has ended") == [down]
        assert hand.call("zygote_failed", SIGKILL)[-1] == StartZygote(LEASE)
        assert hand.call("zygote_ready") == [StartServer(1)]


def test_of_a_server_that_is_started_again_its_last_lines_are_not_told() -> None:
    """They came as output; with the end of a server that is given up they are the reason."""
    hand = Hand(1).open()
    hand.call("output", 1, 2, b"Traceback ...\n", 0)
    down = ServerDown(LEASE, spot(1), SIGKILL, False, True)
    assert ("scheduler", down) in exit_of(hand, 1)


def test_a_server_is_not_tried_again_once_its_lease_closes() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    hand.call("server_failed_to_start", 1, "cannot fork")
    assert hand.hear(THE_SCHEDULER, Close(LEASE)) == [CloseZygote(LEASE), ("scheduler", Closed(LEASE))]
    assert hand.wake_at(RETRY_AFTER) == []


def test_a_zygote_that_dies_takes_its_servers_and_comes_back_with_them() -> None:
    hand = Hand(1).open()
    told = hand.call("zygote_failed", "killed by SIGSEGV (11)")
    assert told[0] == KillServer(1)
    death = "lost its parent process: killed by SIGSEGV (11)"
    assert told[-3:] == [
        ("scheduler", ServerDown(LEASE, spot(1), death, False, True)),
        ForgetPeer(server_address(1).epoch),
        StartZygote(LEASE),
    ]
    assert hand.call("zygote_ready") == [StartServer(1)]
    assert hand.call("zygote_ready") == []


def test_zygotes_that_served_are_replaced_however_often_they_are_killed() -> None:
    hand = Hand(1).open()
    for life in range(2, 3 * RESTARTS_MAX):
        assert StartZygote(LEASE) in hand.call("zygote_failed", SIGKILL)
        assert hand.call("zygote_ready") == [StartServer(1)]
        hand.ready(1, life)


def test_that_zygotes_always_fail_is_told() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    for _ in range(5):
        assert hand.call("zygote_failed", "fork: no memory") == [StartZygote(LEASE)]
    text = "node box does not try again to start what always fails: fork: no memory"
    assert hand.call("zygote_failed", "fork: no memory") == [
        ("client", Notice(text, "error")),
        ("scheduler", ServerDown(LEASE, spot(1, life=0), "fork: no memory")),
    ]


# --- closing


def test_close_interrupts_then_kills_and_says_closed_when_all_are_gone() -> None:
    hand = Hand(2).open()
    hand.steps[2] = Step(4, 0)
    assert hand.hear(THE_SCHEDULER, Close(LEASE)) == [(1, Shutdown()), (2, Shutdown())]
    assert hand.hear(THE_SCHEDULER, Close(LEASE)) == []
    assert exit_of(hand, 1, "exited with code 0") == [
        ("client", lost(1, "exited with code 0", closing=True)),
        ("scheduler", ServerDown(LEASE, spot(1), "exited with code 0", True, False)),
        ForgetPeer(server_address(1).epoch),
    ]
    assert hand.wake_at(KILL_AFTER) == [EndStep(2, Step(4, 0))]
    hand.steps[2] = NO_STEP  # its tasks wait: it drops them, and tells
    assert hand.wake_at(KILL_AFTER + 1.0) == []
    assert hand.wake_at(KILL_AFTER + LAST_S) == [KillServer(2)]
    assert hand.wake_at(2 * KILL_AFTER + LAST_S) == [KillServer(2)]
    assert exit_of(hand, 2) == [
        ("client", lost(2, f"was {SIGKILL}", closing=True)),
        ("scheduler", ServerDown(LEASE, spot(2), SIGKILL, True, False)),
        ForgetPeer(server_address(2).epoch),
        CloseZygote(LEASE),
        ("scheduler", Closed(LEASE)),
    ]
    assert hand.node.deadline() is None
    assert hand.wake_at(99.0) == []


def test_the_reason_why_a_node_ends_its_lease_reaches_servers_tasks_and_scheduler() -> None:
    hand = Hand(1).open()
    reason = "its node was stopped"
    assert hand.call("end_lease", reason) == [(1, Shutdown(reason))]
    assert exit_of(hand, 1, "exited with code 0")[-1] == ("scheduler", Closed(LEASE, reason))


def test_a_server_that_gets_ready_too_late_hears_why_it_is_sent_home() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    hand.call("end_lease", "its node was stopped")
    assert hand.ready(1) == [(1, Shutdown("its node was stopped"))]


def test_a_stopped_node_kills_its_servers_as_early_as_it_was_told() -> None:
    hand = Hand(1).open()
    hand.hear(THE_SCHEDULER, Close(LEASE))
    hand.node.end_lease("its node was stopped", 0.0, kill_after=1.0)
    assert hand.wake_at(0.9) == []
    assert hand.wake_at(1.0) == [KillServer(1)]


def test_servers_hear_which_runtimes_are_dead_but_only_from_client_and_scheduler() -> None:
    hand = Hand(2)
    assert hand.hear(THE_SCHEDULER, Gone([77])) == [], "there is no lease"
    hand.open()
    assert hand.hear(OTHER_SCHEDULER, Gone([77])) == []
    told = [(1, Gone([77, 78])), (2, Gone([77, 78]))]
    assert hand.hear(THE_CLIENT, Gone([77, 78])) == [*told, ForgetPeer(77), ForgetPeer(78)]
    exit_of(hand, 1)
    assert hand.hear(THE_SCHEDULER, Gone([79])) == [(2, Gone([79])), ForgetPeer(79)], "the dead need not know"


def test_close_before_any_server_was_started_is_done_at_once() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    assert hand.hear(THE_SCHEDULER, Close(LEASE)) == [CloseZygote(LEASE), ("scheduler", Closed(LEASE))]
    assert hand.call("zygote_ready") == []
    assert hand.call("zygote_failed", "late") == []


def test_a_server_that_gets_ready_while_its_lease_closes_is_sent_home() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    assert hand.hear(THE_SCHEDULER, Close(LEASE)) == [KillServer(1)]
    assert hand.ready(1) == [(1, Shutdown())]
    assert exit_of(hand, 1)[-1] == ("scheduler", Closed(LEASE))


def test_a_scheduler_that_takes_over_a_lease_that_is_closing_is_told_so_and_of_its_end() -> None:
    hand = Hand(1).open()
    hand.hear(THE_SCHEDULER, Close(LEASE))
    successor, lease = Address(2, SCHEDULER), LEASE._replace(scheduler_epoch=2)
    told = hand.hear(successor, Open(lease, INFO, 1, 50.0))
    assert told[1] == (successor, Opened(lease, 1, 50.0))
    assert told[-1] == (successor, Register(hand.node.info, lease, closing=True, client=INFO))
    assert exit_of(hand, 1)[-1] == (successor, Closed(lease))


def test_a_lease_that_is_closing_is_not_opened_for_the_next() -> None:
    hand = Hand(1).open()
    hand.hear(THE_SCHEDULER, Close(LEASE))
    reason = "still being closed for script.py (host, pid 4242) for 0 s"
    following = LEASE._replace(number=LEASE.number + 1)
    told = hand.hear(THE_SCHEDULER, Open(following, INFO, 1, 50.0))
    assert told == [("scheduler", Declined(following, reason))]


def test_close_of_a_lease_that_is_not_held_is_answered() -> None:
    hand = Hand(1).open()
    assert hand.hear(OTHER_SCHEDULER, Close(OTHER_LEASE)) == [
        (OTHER_SCHEDULER, Closed(OTHER_LEASE, "this node does not hold it"))
    ]


# --- what is told


@pytest.mark.parametrize(("asked", "given"), [(1.0, 10.0), (50.0, 50.0), (5000.0, 100.0)])
def test_pulses_come_at_the_interval_within_its_limits(asked: float, given: float) -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, asked))
    assert hand.node.deadline() == given
    assert hand.wake_at(given) == [], "nothing is known yet"
    hand.call("measured", FREE, MACHINE)
    pulse = ("scheduler", Pulse(hand.node.info.epoch, FREE))
    assert hand.wake_at(2 * given) == [pulse]
    assert hand.wake_at(2 * given + 1) == []


def test_output_goes_to_the_client_with_the_name_of_its_server() -> None:
    hand = Hand(1)
    assert hand.call("output", 1, 1, b"nobody listens\n", 0) == []
    hand.open()
    word = Output("box/server-1", 1, server_address(1).epoch, 7)
    assert hand.call("output", 1, 1, b"hello\n", 7) == [("client", word, b"hello\n")]
    assert hand.call("output", 2, 1, b"no such server\n", 0) == []


def asked(correlation: int = 3) -> Envelope:
    return Envelope(THE_NODE, Address(66, 20), Inventory(), correlation)


def answer_of(effects: list[object]) -> list[NodeReport]:
    return [
        effect[1] for effect in effects if isinstance(effect, tuple) and isinstance(effect[1], NodeReport)
    ]


def hear_tasks(hand: Hand, number: int, correlation: int, *tasks: TaskReport) -> list[object]:
    word = ServerTasks(list(tasks))
    hand.node.receive(Envelope(THE_NODE, server_address(number), word, correlation), hand.now)
    return hand.did()


TASK = TaskReport("compute", CLIENT_EPOCH, 1, 1, False, "running", 2.0)


def test_a_report_asks_the_servers_what_they_do() -> None:
    hand = Hand(2).open()
    hand.node.receive(asked(), 0.0)
    assert hand.did() == [(1, Inventory()), (2, Inventory())]
    assert hear_tasks(hand, 2, 1) == []
    assert hear_tasks(hand, 2, 1) == [], "once is enough"
    [report] = answer_of(hear_tasks(hand, 1, 1, TASK))
    assert report.client == "script.py"
    assert report.servers == [ServerReport(spot(1), 11, [TASK]), ServerReport(spot(2), 12, [])]


def test_of_a_server_that_does_not_answer_its_page_tells() -> None:
    hand = Hand(2).open()
    hand.node.receive(asked(), 0.0)
    hand.did()
    hear_tasks(hand, 1, 1)
    hand.steps[2] = Step(4, int(2e9))
    [report] = answer_of(hand.wake_at(5.0))
    assert [task.since for task in report.servers[1].tasks] == [3.0]


def test_a_server_that_dies_while_it_is_asked_leaves_nobody_waiting() -> None:
    hand = Hand(2).open()
    hand.node.receive(asked(), 0.0)
    hand.did()
    hear_tasks(hand, 1, 1, TASK)
    [report] = answer_of(exit_of(hand, 2))
    assert report.servers == [ServerReport(spot(1), 11, [TASK])]
    assert hand.node.deadline() == 50.0


def test_servers_that_die_with_their_zygote_leave_nobody_waiting() -> None:
    hand = Hand(2).open()
    hand.node.receive(asked(), 0.0)
    hand.did()
    [report] = answer_of(hand.call("zygote_failed", SIGKILL))
    assert report.servers == []
    assert hand.node.deadline() == 50.0


def test_a_lease_that_ends_while_its_servers_are_asked_leaves_nobody_waiting() -> None:
    hand = Hand(2).open()
    hand.node.receive(asked(), 0.0)
    hand.hear(THE_SCHEDULER, Close(LEASE))
    assert answer_of(exit_of(hand, 1)) == []
    told = exit_of(hand, 2)
    assert [(report.client, report.servers) for report in answer_of(told)] == [("script.py", [])]
    assert told[-1] == ("scheduler", Closed(LEASE))
    assert hand.node.deadline() is None


def test_a_free_node_answers_at_once() -> None:
    hand = Hand(2)
    hand.node.receive(asked(), 0.0)
    [report] = answer_of(hand.did())
    assert (report.client, report.servers, report.served) == ("", [], 0)


def test_notices_and_strange_words_are_for_the_log() -> None:
    hand = Hand(1)
    assert hand.hear(THE_SCHEDULER, Notice("the client runs Python 3.12", "warning"), Wanting(1)) == []
    assert hand.logs[0] == "the client runs Python 3.12"
    assert "is nothing for a node" in hand.logs[1]


# --- what the client closes and starts anew

CLOSED = "server box/server-1 was closed"


def closed_down(number: int = 1, restarting: bool = False, death: str = "ended") -> ServerDown:
    return ServerDown(LEASE, spot(number), death, True, restarting)


def test_a_server_that_is_closed_ends_its_tasks_and_its_place_stays_empty() -> None:
    hand = Hand(2).open()
    assert hand.hear(THE_CLIENT, CloseServer(9701)) == [(1, Shutdown(CLOSED))]
    assert exit_of(hand, 1, "ended") == [
        ("client", lost(1, "ended", closing=True)),
        ("scheduler", closed_down()),
        ForgetPeer(server_address(1).epoch),
    ]
    assert hand.wake_at(100.0) == [], "it is not started again"


def test_one_that_is_to_be_started_again_is_and_so_is_one_that_is_closed() -> None:
    hand = Hand(1).open()
    hand.hear(THE_CLIENT, CloseServer(9701, True))
    assert exit_of(hand, 1, "ended")[1:] == [
        ("scheduler", closed_down(restarting=True)),
        ForgetPeer(server_address(1).epoch),
        StartServer(1),
    ]
    assert hand.hear(THE_CLIENT, CloseServer(9701, True)) == [KillServer(1)]  # it was about to start
    hand.hear(THE_CLIENT, CloseServer(9701))  # the last word counts
    assert StartServer(1) not in exit_of(hand, 1)
    assert hand.hear(THE_CLIENT, CloseServer(9701)) == []
    assert hand.hear(THE_CLIENT, CloseServer(9701, True)) == [StartServer(1)]


def test_a_closed_server_whose_step_still_runs_after_5_s_is_killed_for_it_and_one_that_waits_is_not() -> None:
    hand = Hand(2).open()
    hand.steps[1] = Step(3, 0)
    hand.hear(THE_CLIENT, CloseServer(9701), CloseServer(9702))
    assert hand.wake_at(KILL_AFTER - 0.01) == []
    assert hand.wake_at(KILL_AFTER) == [EndStep(1, Step(3, 0))]
    assert hand.wake_at(49.0) == [EndStep(1, Step(3, 0))]
    hand.steps[1] = Step(3, 46_000_000_000)  # it began when the task cleaned up
    assert hand.wake_at(50.5) == []
    hand.hear(THE_CLIENT, CloseServer(9702))
    assert KillServer(2) in hand.wake_at(60.0)  # no step of a task, and it does not end


def test_nobody_but_its_client_closes_a_server() -> None:
    hand = Hand(1).open()
    assert hand.hear(Address(8, CLIENT), CloseServer(9701), RestartNode()) == []
    assert "is refused" in hand.logs[-1]


def test_a_node_that_is_started_anew_has_another_zygote_when_its_servers_are_gone_under_the_same_lease() -> (
    None
):
    hand = Hand(2).open()
    hand.hear(THE_CLIENT, CloseServer(9702))
    exit_of(hand, 2, "ended")
    hand.setups.clear()
    assert hand.hear(THE_CLIENT, RestartNode()) == [(1, Shutdown("node box is started anew"))]
    assert exit_of(hand, 1, "ended")[1:] == [
        ("scheduler", closed_down()),
        ForgetPeer(server_address(1).epoch),
        StartZygote(LEASE),
    ]
    assert hand.setups == [(SetupWanted(), 2)]
    hand.hear(THE_CLIENT, SetupGiven(), payload=[b"files"], correlation=2)
    assert hand.call("zygote_born") == [PrepareZygote([b"files"])]
    assert hand.call("zygote_ready") == [StartServer(1), StartServer(2)]


def test_a_node_that_prepares_its_zygote_is_started_anew_when_that_is_done() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    assert hand.hear(THE_CLIENT, RestartNode()) == []
    assert hand.call("zygote_ready") == [StartZygote(LEASE)]
    assert hand.call("zygote_ready") == [StartServer(1)]


def test_a_zygote_that_dies_meanwhile_is_followed_by_the_one_that_was_wanted() -> None:
    hand = Hand(1).open()
    hand.hear(THE_CLIENT, RestartNode())
    assert StartZygote(LEASE) in hand.call("zygote_failed", SIGKILL)
    assert hand.call("zygote_ready") == [StartServer(1)]


def test_a_lease_whose_client_goes_on_ends_when_that_has_heard_all() -> None:
    hand = Hand(1).open()
    hand.hear(THE_SCHEDULER, Close(LEASE, True))
    assert AwaitClient(LEASE) in exit_of(hand, 1, "ended")
    hand.node.client_has_all(LEASE, 1.0)
    assert ("scheduler", Closed(LEASE)) in hand.did()


def test_the_folder_of_a_lease_stays_if_its_client_wants_it() -> None:
    for keep in (False, True):
        hand = Hand(1)
        hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
        hand.hear(THE_CLIENT, SetupGiven(keep=keep), payload=[b"files"], correlation=1)
        assert CloseZygote(LEASE, keep) in hand.hear(THE_SCHEDULER, Close(LEASE))


def test_a_closed_server_stays_closed_when_another_zygote_starts_the_others() -> None:
    hand = Hand(2).open()
    hand.hear(THE_CLIENT, CloseServer(9701))
    exit_of(hand, 1, "ended")
    exit_of(hand, 2)
    hand.call("zygote_failed", SIGKILL)
    assert hand.call("zygote_ready") == [StartServer(2)]
    assert hand.hear(THE_CLIENT, CloseServer(9701, True)) == [StartServer(1)]

"""The node grants one lease, starts servers, lets tasks through, and speaks for servers that died."""

from __future__ import annotations

from typing import Any

import pytest
from dispycos.actors.feeding import DIRECT
from msgspec.structs import replace

from dispycos.actors.node import LEASE_GRACE, QUEUE_MAX
from dispycos.actors.supervisor import RETRY_AFTER
from dispycos.actors.tenancy import (
    CloseZygote,
    ForgetPeer,
    KillServer,
    StartServer,
    StartZygote,
)
from dispycos.actors.terminations import KILL_AFTER, KILL_NOTICE, NO_STEP, EndStep, Look, Step
from dispycos.protocol.addresses import SCHEDULER, Address
from dispycos.protocol.envelope import About, Envelope
from dispycos.protocol.messages import (
    Availability,
    Began,
    Close,
    Closed,
    Declined,
    Done,
    Gone,
    Inventory,
    Marks,
    NodeReport,
    Notice,
    Open,
    Opened,
    Outcome,
    OutcomeAck,
    Output,
    Pulse,
    Recall,
    Recalled,
    Reclaim,
    Register,
    Run,
    ServerDown,
    ServerLost,
    ServerReady,
    ServerReport,
    ServerUp,
    Shutdown,
    Spot,
    TaskId,
    TaskReport,
    Terminate,
)
from dispycos.protocol.status import OutcomeKind
from tests.kit.node import (
    CLIENT_EPOCH,
    INFO,
    LEASE,
    SCHEDULER_EPOCH,
    THE_CLIENT,
    THE_NODE,
    THE_SCHEDULER,
    Hand,
    done,
    server_address,
)

SIGKILL = "killed by SIGKILL (9)"
ABOUT = About((1, 1), "0.1", (3, 11), 5, "Linux", 262144)
OTHER_SCHEDULER = Address(55, SCHEDULER)
OTHER_LEASE = LEASE._replace(number=9, client=8, scheduler="other", scheduler_epoch=55)
FREE = Availability(12.5, 1 << 30, 1 << 40, 0)


def spot(number: int, life: int = 1) -> Spot:
    epoch = server_address(number, life).epoch if life else 0
    return Spot("10.0.0.5", 9700 + number, epoch, f"box/server-{number}")


def start(number: int) -> StartServer:
    return StartServer(number, f"box/server-{number}", 9700 + number, LEASE, CLIENT_EPOCH)


def exit_of(
    hand: Hand, number: int, death: str = SIGKILL, life: int = 1, oom: bool = False, cpu: int = 1, io: int = 0
) -> list[object]:
    """`cpu` and `io`: the positions of the last tasks that it had begun."""
    pid = 10 * life + number
    hand.node.server_exited(number, pid, death, oom, hand.now, Marks(cpu, io, 0))
    return hand.did()


def looked(hand: Hand, number: int, step: Step) -> list[object]:
    return hand.call("looked", number, step)


def tuple_of(effect: object) -> tuple[Any, ...]:
    """Of something sent: to whom, what, and its payload if it has one."""
    return effect if isinstance(effect, tuple) else (None, effect)


# --- the lease


def test_a_lease_starts_the_zygote_then_its_servers_and_each_reports_when_it_is_ready() -> None:
    hand = Hand(2)
    assert hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 2, 50.0)) == [
        StartZygote(LEASE),
        ("scheduler", Opened(LEASE, 2, 50.0)),
    ]
    assert hand.call("zygote_ready") == [start(1), start(2)]
    assert hand.ready(2) == [("scheduler", ServerUp(LEASE, spot(2), 12))]
    assert hand.ready(1) == [("scheduler", ServerUp(LEASE, spot(1), 11))]


def test_a_node_gives_no_more_servers_than_it_has_ports_for() -> None:
    hand = Hand(2)
    assert ("scheduler", Opened(LEASE, 2, 50.0)) in hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 64, 50.0))
    assert hand.call("zygote_ready") == [start(1), start(2)]


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
    assert hand.hear(OTHER_SCHEDULER, Open(OTHER_LEASE, INFO, 1, 50.0))[0] == StartZygote(OTHER_LEASE)


def test_a_client_of_another_python_is_declined_naming_both_versions() -> None:
    hand = Hand(1)
    client = INFO._replace(python=(3, 12))
    reason = "the client runs Python 3.12, this node 3.11: both need the same"
    assert hand.hear(THE_SCHEDULER, Open(LEASE, client, 1, 50.0)) == [("scheduler", Declined(LEASE, reason))]


def test_no_servers_cannot_be_leased() -> None:
    reason = "0 servers asked for, 1 ports to give"
    assert Hand(1).hear(THE_SCHEDULER, Open(LEASE, INFO, 0, 50.0)) == [("scheduler", Declined(LEASE, reason))]


def test_a_scheduler_is_told_of_the_node_once_and_of_its_lease() -> None:
    hand = Hand(1)
    assert hand.call("add_scheduler", 55) == [(OTHER_SCHEDULER, Register(hand.node.info, None))]
    hand.open()
    assert hand.call("add_scheduler", 55) == [(OTHER_SCHEDULER, Register(hand.node.info, LEASE))]


def test_a_scheduler_whose_session_is_gone_is_told_of_the_node_once_more() -> None:
    hand = Hand(1)
    hand.call("add_scheduler", 55)
    assert hand.call("peer_reset", 55, []) == [(OTHER_SCHEDULER, Register(hand.node.info, None))]
    assert hand.call("peer_reset", 55, []) == [], "it is not there, and would be told for ever"


def test_a_node_that_ends_its_lease_for_want_of_its_scheduler_says_so_when_that_is_back() -> None:
    hand = Hand(1).open()
    hand.hear(THE_SCHEDULER, hand.run())
    hand.call("peer_lost", SCHEDULER_EPOCH)
    hand.wake_at(LEASE_GRACE)
    hand.call("peer_up", SCHEDULER_EPOCH, ABOUT)
    register = Register(hand.node.info, LEASE, closing=True)
    assert hand.call("add_scheduler", SCHEDULER_EPOCH) == [("scheduler", register)]
    told = exit_of(hand, 1)
    assert told[-1] == ("scheduler", Closed(LEASE, "its scheduler was silent for 60 s"))
    assert [tuple_of(effect)[1].outcome for effect in told if isinstance(tuple_of(effect)[1], Done)] == [
        OutcomeKind.TERMINATED
    ]


def test_a_lease_is_closed_also_for_a_scheduler_whose_session_began_anew() -> None:
    hand = Hand(1)
    hand.call("add_scheduler", SCHEDULER_EPOCH)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("peer_reset", SCHEDULER_EPOCH, [])
    told = hand.hear(THE_SCHEDULER, Close(LEASE, terminate=True))
    assert told == [CloseZygote(LEASE), ("scheduler", Closed(LEASE))]


def test_a_scheduler_that_was_started_again_takes_its_lease_over() -> None:
    hand = Hand(2).open()
    [run] = hand.runs(1)
    hand.hear(THE_SCHEDULER, run)
    assert hand.call("peer_reset", SCHEDULER_EPOCH, []) == []
    successor, lease = Address(2, SCHEDULER), LEASE._replace(scheduler_epoch=2)
    assert hand.hear(server_address(1), Began(run.task)) == [], "there is nobody to tell"
    assert hand.hear(successor, Open(lease, INFO, 2, 50.0)) == [
        (successor, Opened(lease, 2, 50.0)),
        (successor, ServerUp(lease, spot(1), 11)),
        (successor, ServerUp(lease, spot(2), 12)),
    ]
    assert hand.hear(THE_SCHEDULER, hand.run()) == [], "the old one is fenced"
    assert hand.hear(server_address(1), done(run, 1)) == [(successor, done(run, 1))]
    assert hand.wake_at(LEASE_GRACE - 1) != [KillServer(1)]
    assert hand.node.tenancy is not None and hand.node.tenancy.closing is None


@pytest.mark.parametrize(("epoch", "who"), [(CLIENT_EPOCH, "client"), (SCHEDULER_EPOCH, "scheduler")])
def test_a_silent_client_or_scheduler_costs_the_lease_after_its_grace(epoch: int, who: str) -> None:
    hand = Hand(1).open()
    hand.call("peer_lost", epoch)
    hand.call("peer_up", epoch, ABOUT)
    hand.now = 10.0
    hand.call("peer_lost", epoch)
    hand.call("peer_lost", 12345)
    assert hand.wake_at(9.9 + LEASE_GRACE) == []
    assert hand.wake_at(10.0 + LEASE_GRACE) == [(1, Shutdown(KILL_AFTER, f"its {who} was silent for 60 s"))]
    reason = f"its {who} was silent for 60 s"
    assert exit_of(hand, 1, "exited with code 0")[-1] == ("scheduler", Closed(LEASE, reason))


def test_a_client_whose_process_ended_ends_the_lease_at_once_and_is_not_spoken_to() -> None:
    hand = Hand(1).open()
    hand.hear(THE_SCHEDULER, *hand.runs(2))
    told = hand.call("peer_reset", CLIENT_EPOCH, [])
    cancelled = Done(TaskId(7, 2), OutcomeKind.CANCELLED, 0.0)
    assert told == [("scheduler", cancelled), (1, Shutdown(KILL_AFTER, "its client has ended"))]
    assert exit_of(hand, 1)[-1] == ("scheduler", Closed(LEASE, "its client has ended"))


def test_the_schedulers_word_that_the_client_is_dead_ends_the_lease_and_every_session_with_it() -> None:
    hand = Hand(1).open()
    gone = Gone([77, CLIENT_EPOCH])
    shutdown = Shutdown(KILL_AFTER, "its client has ended")
    assert hand.hear(THE_SCHEDULER, gone) == [(1, gone), ForgetPeer(CLIENT_EPOCH), (1, shutdown)]
    assert hand.hear(THE_SCHEDULER, Close(LEASE, terminate=True)) == [], "it does that already"
    assert exit_of(hand, 1)[-1] == ("scheduler", Closed(LEASE, "its client has ended"))


# --- the way of a task


def test_a_task_goes_to_a_server_its_outcome_is_kept_and_the_fact_goes_on_without_payload() -> None:
    hand = Hand(1).open()
    run = hand.run()
    address = server_address(1)
    assert hand.hear(THE_SCHEDULER, run, payload=b"call") == [(1, run, b"call")]
    assert hand.hear(address, Began(run.task)) == [("scheduler", Began(run.task, address.epoch))]
    assert hand.hear(address, done(run, 1, 5), payload=b"value") == [("scheduler", done(run, 1, 5))]
    assert hand.hear(THE_SCHEDULER, OutcomeAck([run.task])) == []
    assert exit_of(hand, 1) == [
        ("scheduler", ServerDown(LEASE, spot(1), SIGKILL, False, True)),
        ForgetPeer(address.epoch),
        start(1),
    ]


def test_done_names_the_server_even_if_the_server_did_not() -> None:
    hand = Hand(1).open()
    run = hand.run()
    hand.hear(THE_SCHEDULER, run)
    said = Done(run.task, OutcomeKind.RETURNED, 0.5, 0, 20)
    assert hand.hear(server_address(1), said) == [("scheduler", done(run, 1))]


def test_a_server_cannot_speak_of_a_task_that_another_has() -> None:
    hand = Hand(2).open()
    run = hand.run()
    hand.hear(THE_SCHEDULER, run)
    assert hand.hear(server_address(2), done(run, 2), Began(run.task)) == []
    assert len(hand.logs) == 2
    assert hand.hear(server_address(1), done(run, 1)) == [("scheduler", done(run, 1))]


def test_the_same_task_twice_runs_once() -> None:
    hand = Hand(2).open()
    run = hand.run()
    assert hand.hear(THE_SCHEDULER, run, run) == [(1, run)]


def test_tasks_that_no_server_may_run_go_back_to_the_scheduler() -> None:
    hand = Hand(1)
    run = hand.run()
    assert hand.hear(THE_SCHEDULER, run) == [("scheduler", Recalled([run.task]))], "without a lease"
    hand.open()
    named = hand.run(server=4711)
    assert hand.hear(THE_SCHEDULER, named) == [("scheduler", Recalled([named.task]))], "unknown server"


def test_the_queue_has_a_bound() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.tell(THE_SCHEDULER, *hand.runs(QUEUE_MAX))
    over = hand.run()
    assert hand.hear(THE_SCHEDULER, over) == [("scheduler", Recalled([over.task]))]


def test_a_client_that_confirms_nothing_is_given_nothing_more() -> None:
    hand = Hand(1, kept_count=1).open()
    first, second = hand.runs(2)
    hand.hear(THE_SCHEDULER, first, second)
    assert hand.hear(server_address(1), done(first, 1)) == [("scheduler", done(first, 1))]
    for stranger in (THE_CLIENT, OTHER_SCHEDULER, Address(8, 4)):
        assert hand.hear(stranger, OutcomeAck([first.task])) == [], (
            "only the scheduler knows what is confirmed"
        )
    assert hand.hear(THE_SCHEDULER, OutcomeAck([first.task])) == [(1, second)]


def test_the_scheduler_gets_waiting_tasks_back_and_always_an_answer() -> None:
    hand = Hand(1).open()
    _, second, third = runs = hand.runs(3)
    hand.hear(THE_SCHEDULER, *runs)
    assert hand.hear(OTHER_SCHEDULER, Recall(5)) == []
    assert hand.hear(THE_SCHEDULER, Recall(5)) == [("scheduler", Recalled([second.task, third.task]))]
    assert hand.hear(THE_SCHEDULER, Recall(5)) == [("scheduler", Recalled([]))]


def test_a_server_stuck_in_a_step_is_asked_for_what_waits_behind_it() -> None:
    hand = Hand(2).open()
    one, two, three, four = runs = hand.runs(4, fast=True)
    hand.hear(THE_SCHEDULER, *runs)
    hand.now = 0.01
    hand.hear(server_address(2), done(two, 2), done(four, 2))
    assert hand.node.deadline() == 0.05
    assert hand.wake_at(0.05) == [(1, Recall(1))]
    assert hand.hear(server_address(1), Recalled([three.task])) == [(2, three)]
    assert hand.hear(server_address(1), done(one, 1)) == [("scheduler", done(one, 1))]


# --- terminate


def test_a_waiting_task_is_cancelled_by_the_node() -> None:
    hand = Hand(1).open()
    _, waiting = runs = hand.runs(2)
    hand.hear(THE_SCHEDULER, *runs)
    assert hand.hear(THE_SCHEDULER, Terminate(waiting.task)) == [
        ("client", Outcome(waiting.task, OutcomeKind.CANCELLED, started=False)),
        ("scheduler", Done(waiting.task, OutcomeKind.CANCELLED, 0.0)),
    ]
    assert hand.hear(THE_SCHEDULER, Terminate(waiting.task)) == []


def test_a_running_task_is_interrupted_once_and_its_end_is_its_own_word() -> None:
    hand = Hand(1).open()
    run = hand.run()
    hand.hear(THE_SCHEDULER, run)
    assert hand.hear(OTHER_SCHEDULER, Terminate(run.task)) == []
    assert hand.hear(THE_CLIENT, Terminate(run.task)) == [(1, Terminate(run.task))]
    assert hand.hear(THE_SCHEDULER, Terminate(run.task)) == []
    ended = done(run, 1, outcome=OutcomeKind.TERMINATED)
    assert hand.hear(server_address(1), ended) == [("scheduler", ended)]
    assert hand.wake_at(KILL_AFTER) == [Look(1)]
    assert looked(hand, 1, NO_STEP) == []


def test_a_task_that_ignores_its_interrupt_costs_its_server_and_the_others_there_are_warned_first() -> None:
    hand = Hand(1).open()
    deaf, beside = hand.run(), hand.run(io=True)
    hand.hear(THE_SCHEDULER, deaf, beside)
    hand.hear(server_address(1), Began(deaf.task), Began(beside.task))
    hand.hear(THE_SCHEDULER, Terminate(deaf.task))
    assert hand.wake_at(KILL_AFTER - 0.1) == []
    assert hand.wake_at(KILL_AFTER) == [Look(1)]
    assert looked(hand, 1, Step(1)) == [(1, Terminate(beside.task))]
    assert hand.hear(THE_SCHEDULER, hand.run(io=True)) == [], "it is fed no more"
    assert hand.wake_at(KILL_AFTER + KILL_NOTICE) == [EndStep(1, Step(1))]
    assert hand.call("judged", 1, 11, True) == []
    death = f"{SIGKILL}: compute did not end within 5 s of its KeyboardInterrupt"
    sentence = f"server box/server-1 was {death}"
    seconds = KILL_AFTER + KILL_NOTICE
    epoch = server_address(1).epoch
    assert exit_of(hand, 1, io=2) == [
        (
            "client",
            Outcome(deaf.task, OutcomeKind.TERMINATED, spot=spot(1), seconds=seconds, text=sentence),
        ),
        ("scheduler", Done(deaf.task, OutcomeKind.TERMINATED, seconds, epoch)),
        (
            "client",
            Outcome(
                beside.task,
                OutcomeKind.LOST,
                spot=spot(1),
                seconds=seconds,
                text=f"{sentence} while it ran compute",
            ),
        ),
        ("scheduler", Done(beside.task, OutcomeKind.LOST, seconds, epoch)),
        ("scheduler", ServerDown(LEASE, spot(1), death, False, True)),
        ForgetPeer(epoch),
        start(1),
    ]


def test_a_task_that_ends_in_the_last_moment_saves_its_server() -> None:
    hand = Hand(1).open()
    run, later = hand.runs(2)
    hand.hear(THE_SCHEDULER, run, later)
    hand.hear(THE_SCHEDULER, Terminate(run.task))
    assert hand.wake_at(KILL_AFTER) == [Look(1)]
    assert looked(hand, 1, Step(1)) == []
    assert hand.hear(server_address(1), done(run, 1)) == [("scheduler", done(run, 1))]
    assert hand.wake_at(KILL_AFTER + KILL_NOTICE) == [EndStep(1, Step(1))], "it looks again and kills nobody"
    assert hand.call("judged", 1, 11, False) == [(1, later)]


def test_a_word_about_the_step_of_an_earlier_process_is_not_taken_for_the_present_one() -> None:
    hand = Hand(1).open()
    run, later = hand.runs(2)
    hand.hear(THE_SCHEDULER, run, later)
    hand.hear(THE_SCHEDULER, Terminate(run.task))
    hand.wake_at(KILL_AFTER)
    looked(hand, 1, Step(1))
    hand.wake_at(KILL_AFTER + KILL_NOTICE)
    exit_of(hand, 1)
    hand.ready(1, life=2)
    assert hand.call("judged", 1, 11, False) == []


def test_a_task_that_its_client_gave_directly_is_killed_for_by_its_number() -> None:
    hand = Hand(1).open()
    lone, direct = hand.run(lend=True, fast=True), hand.run()
    hand.hear(THE_SCHEDULER, lone)
    hand.hear(server_address(1), replace(done(lone, 1), lent=True))
    server = server_address(1).epoch
    assert hand.hear(THE_CLIENT, Terminate(direct.task, server)) == [
        (1, Terminate(direct.task)),
        (1, Reclaim()),
    ]
    hand.wake_at(KILL_AFTER)
    step = Step(DIRECT + direct.task.number)
    assert looked(hand, 1, step) == [(1, Reclaim())], "it gets nothing more, from nobody"
    assert hand.wake_at(KILL_AFTER + KILL_NOTICE) == [EndStep(1, step)]
    hand.call("judged", 1, 11, True)
    lost = [word for to, word, *_ in map(tuple_of, exit_of(hand, 1)) if isinstance(word, ServerLost)]
    assert [(word.server, "its task did not end" in word.text) for word in lost] == [(server, True)]


def test_a_server_is_not_killed_for_a_task_that_waits_in_it() -> None:
    hand = Hand(1).open()
    _, waiting = runs = hand.runs(2, fast=True)
    hand.hear(THE_SCHEDULER, *runs)
    hand.hear(THE_SCHEDULER, Terminate(waiting.task))
    assert hand.wake_at(KILL_AFTER)[-1] == Look(1)
    assert looked(hand, 1, Step(1)) == [], "another one runs, and nobody asked for its end"
    assert hand.wake_at(KILL_AFTER + KILL_NOTICE) == []
    assert hand.hear(server_address(1), Recalled([waiting.task])) == [
        ("client", Outcome(waiting.task, OutcomeKind.CANCELLED, started=False)),
        ("scheduler", Done(waiting.task, OutcomeKind.CANCELLED, 0.0)),
    ]


# --- death


def test_the_node_speaks_for_a_dead_server_and_starts_the_next() -> None:
    hand = Hand(1).open()
    finished, running, behind = runs = hand.runs(3, fast=True)
    hand.hear(THE_SCHEDULER, *runs)
    hand.hear(server_address(1), done(finished, 1, 5), payload=b"value")
    hand.now = 2.0
    epoch = server_address(1).epoch
    text = f"server box/server-1 was {SIGKILL}, out of memory; compute may have started"
    assert exit_of(hand, 1, oom=True, cpu=2) == [
        ("client", Outcome(finished.task, OutcomeKind.RETURNED, 20, spot(1), 0.5), b"value"),
        ("client", Outcome(running.task, OutcomeKind.LOST, spot=spot(1), seconds=2.0, text=text)),
        ("scheduler", Done(running.task, OutcomeKind.LOST, 2.0, epoch)),
        ("scheduler", ServerDown(LEASE, spot(1), f"{SIGKILL}, out of memory", False, True)),
        ("scheduler", Recalled([behind.task])),
        ForgetPeer(epoch),
        start(1),
    ]
    assert hand.ready(1, life=2) == [("scheduler", ServerUp(LEASE, spot(1, life=2), 21))]
    assert hand.hear(THE_SCHEDULER, behind) == [(1, behind)]


def test_an_io_task_that_a_dead_server_had_not_begun_runs_elsewhere() -> None:
    hand = Hand(1).open()
    keeps, begun, waits = hand.run(), hand.run(io=True), hand.run(io=True)
    hand.hear(THE_SCHEDULER, keeps, begun, waits)
    said = [word for to, word, *_ in map(tuple_of, exit_of(hand, 1, cpu=1, io=2)) if to == "scheduler"]
    assert [word.task for word in said if isinstance(word, Done)] == [keeps.task, begun.task]
    assert Recalled([waits.task]) in said


def test_of_a_server_without_a_page_all_that_it_was_given_may_have_begun() -> None:
    hand = Hand(1).open()
    runs = hand.runs(3, fast=True)
    hand.hear(THE_SCHEDULER, *runs)
    said = hand.call("server_exited", 1, 11, SIGKILL, False)
    assert [word.task for _, word, *_ in map(tuple_of, said) if isinstance(word, Done)] == [
        run.task for run in runs
    ]


def test_what_is_given_back_leaves_a_gap_in_the_order() -> None:
    """The mark counts what was given, not what was begun."""
    hand = Hand(1).open()
    first, back, again = hand.runs(3, fast=True)
    hand.hear(THE_SCHEDULER, first, back)
    hand.wake_at(0.1)
    assert hand.hear(server_address(1), Recalled([back.task]), done(first, 1))[-1] == (1, back)
    hand.hear(THE_SCHEDULER, again)
    said = [word for to, word, *_ in map(tuple_of, exit_of(hand, 1, cpu=3)) if to == "scheduler"]
    assert [word.task for word in said if isinstance(word, Done)] == [back.task]
    assert Recalled([again.task]) in said


def test_a_dead_server_takes_only_its_own_tasks_with_it() -> None:
    hand = Hand(2).open()
    _, other = runs = hand.runs(2)
    hand.hear(THE_SCHEDULER, *runs)
    told = exit_of(hand, 1, "exited with code 3")
    assert "server box/server-1 exited with code 3; compute may have started" in str(told)
    assert str(other.task) not in str(told)
    assert hand.hear(server_address(2), done(other, 2)) == [("scheduler", done(other, 2))]


def test_an_outcome_that_the_client_has_is_not_spoken_again() -> None:
    hand = Hand(1).open()
    run = hand.run()
    hand.hear(THE_SCHEDULER, run)
    hand.hear(THE_SCHEDULER, OutcomeAck([run.task]))
    epoch = server_address(1).epoch
    assert exit_of(hand, 1)[0] == ("scheduler", Done(run.task, OutcomeKind.LOST, 0.0, epoch))


def test_a_copy_that_comes_after_its_confirmation_is_not_kept() -> None:
    hand = Hand(1).open()
    run = hand.run()
    hand.hear(THE_SCHEDULER, run)
    hand.hear(THE_SCHEDULER, OutcomeAck([run.task]))
    hand.hear(server_address(1), done(run, 1, 5), payload=b"value")
    assert hand.node.tenancy is not None and len(hand.node.tenancy.outcomes) == 0


def test_a_task_whose_outcome_the_client_has_is_not_given_back_to_run_twice() -> None:
    hand = Hand(1).open()
    first, ended = runs = hand.runs(2, fast=True)
    hand.hear(THE_SCHEDULER, *runs)
    hand.hear(THE_SCHEDULER, OutcomeAck([ended.task]))
    said = [word for to, word, *_ in map(tuple_of, exit_of(hand, 1, cpu=2)) if to == "scheduler"]
    assert [word.task for word in said if isinstance(word, Done)] == [first.task, ended.task]
    assert not any(isinstance(word, Recalled) for word in said)


def test_what_a_dead_server_left_is_said_once_and_not_kept_for_a_second_death() -> None:
    hand = Hand(1).open()
    run = hand.run()
    hand.hear(THE_SCHEDULER, run)
    hand.hear(server_address(1), done(run, 1, 5), payload=b"value")
    assert exit_of(hand, 1)[0] == (
        "client",
        Outcome(run.task, OutcomeKind.RETURNED, 20, spot(1), 0.5),
        b"value",
    )
    assert hand.node.tenancy is not None and len(hand.node.tenancy.outcomes) == 0
    assert hand.hear(THE_SCHEDULER, OutcomeAck([run.task])) == []
    hand.ready(1, life=2)
    assert not any("client" in tuple_of(effect) for effect in exit_of(hand, 1, life=2))


def test_an_exit_of_an_earlier_process_is_not_taken_for_the_present_one() -> None:
    hand = Hand(1).open()
    exit_of(hand, 1)
    assert exit_of(hand, 1) == [], "told twice"
    hand.ready(1, life=2)
    assert exit_of(hand, 1) == [], "told late"
    assert len(exit_of(hand, 1, life=2)) == 3
    assert hand.call("server_exited", 9, 9, SIGKILL, False) == []


def test_a_second_process_cannot_take_the_place_of_a_server() -> None:
    hand = Hand(1).open()
    assert hand.hear(Address(31337, 3), ServerReady(1, 666)) == []
    assert hand.hear(Address(31337, 3), ServerReady(2, 666)) == []
    assert hand.hear(Address(31337, 3), Recalled([])) == []
    assert len(hand.logs) == 3


def test_a_server_without_its_session_is_ended() -> None:
    hand = Hand(1).open()
    envelope = Envelope(server_address(1), THE_NODE, Recall(1))
    assert hand.call("peer_reset", server_address(1).epoch, [envelope]) == [KillServer(1)]


def test_servers_that_die_before_they_are_ready_are_not_started_for_ever() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    run = hand.run()
    hand.hear(THE_SCHEDULER, run)
    for pid in range(100, 105):
        hand.now += 1.0
        assert hand.call("server_exited", 1, pid, "exited with code 1", False)[-1] == start(1)
    hand.call("output", 1, 2, b"Traceback ...\nImportError: no module named 'numpie'\n", 0)
    said = "\n    Traceback ...\n    ImportError: no module named 'numpie'"
    down = ServerDown(LEASE, spot(1, life=0), "exited with code 1", lines=said)
    text = f"node box does not try again to start what always fails: server box/server-1 exited with code 1{said}"
    assert hand.call("server_exited", 1, 105, "exited with code 1", False) == [
        ("client", Notice(text, "error")),
        ("scheduler", down),
        ("scheduler", Recalled([run.task])),
    ]
    assert hand.hear(THE_SCHEDULER, run) == [("scheduler", Recalled([run.task]))]


def test_servers_that_take_long_to_fail_are_not_started_for_ever_either() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    for started in range(1, 100):
        hand.now += 60.0
        if start(1) not in hand.call("server_exited", 1, 100 + started, "exited with code 1", False):
            assert started == 21
            return
    pytest.fail("it is still started")


def test_a_server_without_a_process_is_tried_again_after_a_while_and_not_for_ever() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    run = hand.run()
    hand.hear(THE_SCHEDULER, run)
    for _ in range(5):
        death = "did not start: cannot fork"
        down = ("scheduler", ServerDown(LEASE, spot(1, life=0), death, False, True))
        assert hand.call("server_failed_to_start", 1, "cannot fork") == [down]
        assert hand.node.deadline() == hand.now + RETRY_AFTER
        assert hand.wake_at(hand.now + RETRY_AFTER) == [start(1)]
    told = hand.call("server_failed_to_start", 1, "cannot fork")
    assert told[-1] == ("scheduler", Recalled([run.task]))


def test_exits_told_before_the_end_of_their_zygote_do_not_use_up_the_restarts() -> None:
    hand = Hand(8).open()
    for number in range(1, 9):
        assert exit_of(hand, number)[-1] == start(number)
        hand.call("server_failed_to_start", number, "its zygote has ended")
    assert hand.wake_at(RETRY_AFTER) == [start(number) for number in range(1, 9)]
    hand.call("server_failed_to_start", 1, "its zygote has ended")
    assert hand.call("zygote_failed", SIGKILL)[-1] == StartZygote(LEASE)
    assert hand.call("zygote_ready") == [start(number) for number in range(1, 9)]
    assert hand.wake_at(2 * RETRY_AFTER) == []


def test_a_server_is_not_tried_again_once_its_lease_closes() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    hand.call("server_failed_to_start", 1, "cannot fork")
    assert hand.hear(THE_SCHEDULER, Close(LEASE)) == [CloseZygote(LEASE), ("scheduler", Closed(LEASE))]
    assert hand.wake_at(RETRY_AFTER) == []


def test_a_zygote_that_dies_takes_its_servers_and_comes_back_with_them() -> None:
    hand = Hand(1).open()
    run = hand.run()
    hand.hear(THE_SCHEDULER, run)
    told = hand.call("zygote_failed", "killed by SIGSEGV (11)")
    assert told[0] == KillServer(1)
    death = "lost its parent process: killed by SIGSEGV (11)"
    assert told[-3:] == [
        ("scheduler", ServerDown(LEASE, spot(1), death, False, True)),
        ForgetPeer(server_address(1).epoch),
        StartZygote(LEASE),
    ]
    assert hand.call("zygote_ready") == [start(1)]
    assert hand.call("zygote_ready") == []


def test_a_node_setup_that_always_fails_is_told_with_its_last_lines() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    for _ in range(5):
        assert hand.call("zygote_failed", "node_setup raised") == [StartZygote(LEASE)]
    assert hand.call("output", 0, 2, b"ValueError: 17\n", 0) == [
        ("client", Output("box/setup", 2), b"ValueError: 17\n")
    ]
    text = "node box does not try again to start what always fails: node_setup raised\n    ValueError: 17"
    assert hand.call("zygote_failed", "node_setup raised") == [
        ("client", Notice(text, "error")),
        ("scheduler", ServerDown(LEASE, spot(1, life=0), "node_setup raised", lines="\n    ValueError: 17")),
    ]
    run = hand.run()
    assert hand.hear(THE_SCHEDULER, run) == [("scheduler", Recalled([run.task]))]


# --- closing


def test_close_interrupts_then_kills_and_says_closed_when_all_are_gone() -> None:
    hand = Hand(2).open()
    one, two, waiting = runs = hand.runs(3)
    hand.hear(THE_SCHEDULER, *runs)
    assert hand.hear(THE_SCHEDULER, Close(LEASE, terminate=True)) == [
        ("client", Outcome(waiting.task, OutcomeKind.CANCELLED, started=False)),
        ("scheduler", Done(waiting.task, OutcomeKind.CANCELLED, 0.0)),
        (1, Shutdown(KILL_AFTER)),
        (2, Shutdown(KILL_AFTER)),
    ]
    assert hand.hear(THE_SCHEDULER, Close(LEASE, terminate=True)) == []
    late = hand.run()
    assert hand.hear(THE_SCHEDULER, late) == [("scheduler", Recalled([late.task]))]
    ended = done(one, 1, outcome=OutcomeKind.TERMINATED)
    assert hand.hear(server_address(1), ended) == [("scheduler", ended)]
    hand.hear(THE_SCHEDULER, OutcomeAck([one.task]))
    assert exit_of(hand, 1, "exited with code 0") == [
        ("scheduler", ServerDown(LEASE, spot(1), "exited with code 0", True, False)),
        ForgetPeer(server_address(1).epoch),
    ]
    assert hand.wake_at(KILL_AFTER) == [KillServer(2)]
    assert hand.wake_at(2 * KILL_AFTER) == [KillServer(2)]
    seconds, epoch = 2 * KILL_AFTER, server_address(2).epoch
    text = f"server box/server-2 was {SIGKILL}"
    assert exit_of(hand, 2) == [
        ("client", Outcome(two.task, OutcomeKind.TERMINATED, spot=spot(2), seconds=seconds, text=text)),
        ("scheduler", Done(two.task, OutcomeKind.TERMINATED, seconds, epoch)),
        ("scheduler", ServerDown(LEASE, spot(2), SIGKILL, True, False)),
        ForgetPeer(epoch),
        CloseZygote(LEASE),
        ("scheduler", Closed(LEASE)),
    ]
    assert hand.node.deadline() is None
    assert hand.wake_at(99.0) == []


def test_the_reason_why_a_node_ends_its_lease_reaches_servers_tasks_and_scheduler() -> None:
    hand = Hand(1).open()
    running, waiting = hand.runs(2)
    hand.hear(THE_SCHEDULER, running, waiting)
    reason = "its node was stopped"
    assert hand.call("end_lease", reason) == [
        ("client", Outcome(waiting.task, OutcomeKind.CANCELLED, started=False, text=reason)),
        ("scheduler", Done(waiting.task, OutcomeKind.CANCELLED, 0.0)),
        (1, Shutdown(KILL_AFTER, reason)),
    ]
    assert exit_of(hand, 1, "exited with code 0")[-1] == ("scheduler", Closed(LEASE, reason))


def test_a_server_that_gets_ready_too_late_hears_why_it_is_sent_home() -> None:
    hand = Hand(1)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    hand.call("end_lease", "its node was stopped")
    assert hand.ready(1) == [(1, Shutdown(KILL_AFTER, "its node was stopped"))]


def test_a_stopped_node_kills_its_servers_as_early_as_it_was_told() -> None:
    hand = Hand(1).open()
    hand.hear(THE_SCHEDULER, Close(LEASE))
    hand.node.end_lease("its node was stopped", 0.0, kill_after=1.0)
    assert hand.wake_at(0.9) == []
    assert hand.wake_at(1.0) == [KillServer(1)]


def test_servers_hear_which_runtimes_are_dead_but_only_from_their_scheduler() -> None:
    hand = Hand(2)
    assert hand.hear(THE_SCHEDULER, Gone([77])) == [], "there is no lease"
    hand.open()
    assert hand.hear(OTHER_SCHEDULER, Gone([77])) == []
    assert hand.hear(THE_CLIENT, Gone([77])) == []
    assert hand.hear(THE_SCHEDULER, Gone([77, 78])) == [(1, Gone([77, 78])), (2, Gone([77, 78]))]
    exit_of(hand, 1)
    assert hand.hear(THE_SCHEDULER, Gone([79])) == [(2, Gone([79]))], "the dead need not know"


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
    assert hand.ready(1) == [(1, Shutdown(KILL_AFTER))]
    assert exit_of(hand, 1)[-1] == ("scheduler", Closed(LEASE))


def test_a_lease_that_is_closing_is_not_taken_over() -> None:
    hand = Hand(1).open()
    hand.hear(THE_SCHEDULER, Close(LEASE))
    reason = "still being closed for script.py (host, pid 4242) for 0 s"
    assert hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0)) == [("scheduler", Declined(LEASE, reason))]


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
    hand.call("availability", FREE)
    pulse = ("scheduler", Pulse("box", FREE, ("10.0.0.5", 9700)))
    assert hand.wake_at(2 * given) == [pulse]
    assert hand.wake_at(2 * given + 1) == []


def test_output_goes_to_the_client_with_the_name_of_its_server() -> None:
    hand = Hand(1)
    assert hand.call("output", 1, 1, b"nobody listens\n", 0) == []
    hand.open()
    word = Output("box/server-1", 1, server_address(1).epoch, 7)
    assert hand.call("output", 1, 1, b"hello\n", 7) == [("client", word, b"hello\n")]
    assert hand.call("output", 2, 1, b"no such server\n", 0) == []


def test_a_report_tells_of_servers_and_their_tasks() -> None:
    hand = Hand(1).open()
    hand.hear(THE_SCHEDULER, hand.run())
    hand.now = 3.0
    asker = Address(4711, 0)
    hand.node.receive(Envelope(THE_NODE, asker, Inventory(), 42), hand.now)
    [effect] = hand.node.drain()
    task = TaskReport("compute", 7, 1, 1, False, "running", 3.0)
    report = NodeReport(hand.node.info, "script.py", [ServerReport(spot(1), 11, [task])])
    assert effect.envelope == Envelope(asker, THE_NODE, report, 42)  # type: ignore[attr-defined]


def test_notices_and_strange_words_are_for_the_log() -> None:
    hand = Hand(1)
    assert hand.hear(THE_SCHEDULER, Notice("the client runs Python 3.12", "warning"), Run) == []  # type: ignore[arg-type]
    assert hand.logs[0] == "the client runs Python 3.12"
    assert "is nothing for a node" in hand.logs[1]

"""Every task that a client submits ends once: the ledger hands in, hears, and decides, driven without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dispycos.actors.ledger import (
    ACK_AFTER,
    ACKS_MAX,
    CALL_MAX,
    HANDED_PER_DRAIN,
    Began,
    Failed,
    Forget,
    Freed,
    Give,
    Ledger,
    News,
    Print,
    Pulsed,
    Record,
    Resolve,
    Room,
    Say,
    Scheduled,
    scheduler_of,
)
from dispycos.actors.task import Location
from dispycos.machine import Send
from dispycos.notices import PATIENCE_S
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, SCHEDULER, SERVER, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Availability, Lease, NodeInfo, Spot, TaskId
from dispycos.protocol.status import OutcomeKind, Status

ME = Address(7, CLIENT)
BROKER = Address(5, SCHEDULER)
LEASE = Lease(1, 7, "s", 5)
SPOT = Spot("10.0.0.5", 9701, 1001, "box/server-1")
BOX = NodeInfo("box", "10.0.0.5", 9700, 2, "Linux", (3, 11), 900)
ENLIST = messages.Enlist(messages.ClientInfo("c", "h", 1, (3, 11)), [], 50.0)


class Desk:
    """A ledger, each step checked; what it drains is compared by the test."""

    def __init__(self, *, granted: int | None = None, wants_news: bool = False) -> None:
        self.ledger = Ledger(ME)
        self.ledger.wants_news = wants_news
        self.now = 100.0
        self.numbers = iter(range(16, 1 << 20))
        if granted is not None:
            self.ledger.enlist(BROKER, ENLIST, self.now)
            self.hear(messages.Granted(LEASE, "s"))
            self.hear(messages.Admit(granted))
            assert self.drain() == [self.sent(ENLIST)]

    def submit(self, call: Any = b"call", function: str = "compute", **fields: Any) -> Record:
        record = Record(TaskId(7, next(self.numbers)), function, call, **fields)
        self.ledger.submit(record)
        self.ledger.check()
        return record

    def hear(
        self, word: messages.Message, payload: Any = None, sender: Address = BROKER, correlation: int = 0
    ) -> Envelope:
        envelope = Envelope(ME, sender, word, correlation, payload)
        self.ledger.receive(envelope, self.now)
        self.ledger.check()
        return envelope

    def drain(self) -> list[object]:
        effects = self.ledger.drain()
        self.ledger.check()
        return effects

    def wait(self, seconds: float) -> list[object]:
        """So much later, what it wants done then."""
        self.now += seconds
        self.ledger.wake(self.now)
        return self.drain()

    def running(self, **fields: Any) -> Record:
        """A task that was handed in and has started, as actor 30 at SPOT."""
        record = self.submit(**fields)
        self.drain()
        self.hear(messages.Started(record.task, 30, SPOT), sender=Address(SPOT.epoch, SERVER))
        self.drain()
        return record

    @staticmethod
    def sent(word: messages.Message, to: Address = BROKER, payload: Any = None, correlation: int = 0) -> Send:
        return Send(Envelope(to, ME, word, correlation, payload))


def submitted(record: Record, call: bytes | None = b"call", **fields: Any) -> Send:
    return Desk.sent(messages.Submit(record.task, record.function, **fields), payload=call)


def outcome(record: Record, kind: OutcomeKind = OutcomeKind.RETURNED, **fields: Any) -> messages.Outcome:
    return messages.Outcome(record.task, kind, **fields)


def tell(record: Record, correlation: int = 0) -> Envelope:
    home = Address(record.task.owner, record.task.number)
    return Envelope(home, Address(33, 40), messages.Tell(), correlation, b"hello")


@pytest.fixture
def desk() -> Iterator[Desk]:
    """With a lease and room for 100 tasks; whatever is left undrained at the end was not looked at."""
    desk = Desk(granted=100)
    yield desk
    assert desk.drain() == []


# --- handing in ---


def test_tasks_wait_for_the_lease_and_go_in_order() -> None:
    desk = Desk()
    first, second = desk.submit(), desk.submit(io=True)
    desk.ledger.enlist(BROKER, ENLIST, desk.now)
    assert desk.drain() == [desk.sent(ENLIST)]
    desk.hear(messages.Granted(LEASE, "s"))
    assert desk.drain() == []
    desk.hear(messages.Admit(10))
    assert desk.drain() == [submitted(first), submitted(second, io=True)]


def test_no_more_are_handed_in_than_admitted_altogether() -> None:
    desk = Desk(granted=2)
    records = [desk.submit() for _ in range(5)]
    assert desk.drain() == [submitted(record) for record in records[:2]]
    assert desk.ledger.backlog() == 3

    desk.hear(messages.Admit(3))
    assert desk.drain() == [submitted(records[2])]
    desk.hear(messages.Admit(1))  # overtaken by the one before
    assert desk.drain() == []


def test_a_wave_of_tasks_leaves_in_portions() -> None:
    desk = Desk(granted=10_000)
    records = [desk.submit() for _ in range(HANDED_PER_DRAIN + 3)]
    assert desk.drain() == [submitted(record) for record in records[:HANDED_PER_DRAIN]]
    assert desk.drain() == [submitted(record) for record in records[HANDED_PER_DRAIN:]]


def test_a_place_and_the_state_of_the_code_travel_with_the_task(desk: Desk) -> None:
    at_node, at_server = desk.submit(node="box", code=3), desk.submit(server=1001, code=4)
    assert desk.drain() == [submitted(at_node, node="box", code=3), submitted(at_server, server=1001, code=4)]


@pytest.mark.parametrize("call", [b"x" * (CALL_MAX + 1), [b"stream", b"buffer"]])
def test_a_large_call_stays_here_until_the_server_fetches_it(desk: Desk, call: Any) -> None:
    record = desk.submit(call)
    assert desk.drain() == [submitted(record, None, fetch=True)]
    assert record.call == call


def test_a_call_of_the_allowed_size_goes_through_the_scheduler_and_is_not_kept(desk: Desk) -> None:
    record = desk.submit(b"x" * CALL_MAX)
    assert desk.drain() == [submitted(record, b"x" * CALL_MAX)]
    assert record.call is None


# --- starts, messages, ends ---


def test_a_started_task_is_known_by_its_address_and_location(desk: Desk) -> None:
    record = desk.submit()
    desk.drain()
    desk.hear(messages.Started(record.task, 30, SPOT))
    assert desk.drain() == [Began(record)]
    assert record.address == Address(1001, 30)
    assert record.location == Location("10.0.0.5", 9701)

    desk.hear(messages.Started(record.task, 30, SPOT))
    assert desk.drain() == []


def test_the_start_of_another_attempt_is_not_this_ones(desk: Desk) -> None:
    record = desk.submit()
    desk.drain()
    desk.hear(messages.Started(record.task._replace(attempt=2), 30, SPOT))
    assert not record.started


def test_messages_before_the_start_are_kept_and_follow_in_order(desk: Desk) -> None:
    record = desk.submit()
    desk.drain()
    held = [tell(record), tell(record, correlation=9)]
    for envelope in held:
        desk.ledger.pass_on(record, envelope)
    desk.hear(messages.Started(record.task, 30, SPOT))
    to = Address(1001, 30)
    assert desk.drain() == [
        *(Send(Envelope(to, e.sender, e.message, e.correlation, e.payload)) for e in held),
        Began(record),
    ]


def test_messages_after_the_start_are_passed_on_at_once(desk: Desk) -> None:
    record = desk.running()
    envelope = tell(record, correlation=9)
    desk.ledger.pass_on(record, envelope)
    assert desk.drain() == [Send(Envelope(Address(1001, 30), envelope.sender, envelope.message, 9, b"hello"))]


def test_outcomes_are_confirmed_together_a_moment_later(desk: Desk) -> None:
    records = [desk.running(), desk.running()]
    for record in records:
        desk.hear(outcome(record, node=900))
    assert desk.drain() == [Resolve(record) for record in records]
    assert desk.ledger.deadline() == desk.now + ACK_AFTER
    assert desk.wait(ACK_AFTER) == [desk.sent(messages.OutcomeAck([r.task for r in records], 900))]


def test_the_first_outcome_counts_and_is_confirmed(desk: Desk) -> None:
    record = desk.running()
    desk.hear(outcome(record, seconds=2.5, node=900), b"value")
    assert desk.drain() == [Resolve(record)]
    assert desk.wait(ACK_AFTER) == [desk.sent(messages.OutcomeAck([record.task], 900))]
    assert (record.ended, record.outcome, record.payload, record.seconds) == (
        True,
        OutcomeKind.RETURNED,
        b"value",
        2.5,
    )

    desk.hear(outcome(record, OutcomeKind.LOST, node=900, text="its server died"), None)
    assert desk.wait(ACK_AFTER) == [desk.sent(messages.OutcomeAck([record.task], 900))]
    assert record.outcome == OutcomeKind.RETURNED
    assert record.payload == b"value"


def test_the_outcome_of_an_older_attempt_does_not_count_but_its_copy_may_go(desk: Desk) -> None:
    record = desk.submit()
    record.task = record.task._replace(attempt=2)
    desk.drain()
    old = record.task._replace(attempt=1)
    desk.hear(messages.Outcome(old, OutcomeKind.LOST, node=900))
    assert desk.wait(ACK_AFTER) == [desk.sent(messages.OutcomeAck([old], 900))]
    assert not record.ended
    desk.hear(outcome(record))
    assert desk.drain() == [Resolve(record)]


def test_an_outcome_that_nobody_keeps_is_not_confirmed(desk: Desk) -> None:
    record = desk.running()
    desk.hear(outcome(record, node=0))
    assert desk.drain() == [Resolve(record)]


def test_outcomes_are_confirmed_in_bounded_messages(desk: Desk) -> None:
    tasks = [TaskId(7, number) for number in range(ACKS_MAX + 1)]
    for task in tasks:
        desk.ledger.receive(
            Envelope(ME, BROKER, messages.Outcome(task, OutcomeKind.LOST, node=900)), desk.now
        )
    assert desk.drain() == [
        desk.sent(messages.OutcomeAck(tasks[:ACKS_MAX], 900)),
        desk.sent(messages.OutcomeAck(tasks[ACKS_MAX:], 900)),
    ]


def test_a_short_task_starts_by_its_outcome(desk: Desk) -> None:
    """Fast tasks do not announce their start: where it ran is said with the outcome."""
    record = desk.submit()
    desk.drain()
    desk.hear(outcome(record, actor=31, spot=SPOT))
    assert desk.drain() == [Began(record), Resolve(record)]
    assert record.location == Location("10.0.0.5", 9701)


def test_a_task_that_ends_before_it_started_turns_its_messages_away(desk: Desk) -> None:
    record = desk.submit()
    desk.drain()
    home, sender = Address(7, record.task.number), Address(33, 40)
    desk.ledger.pass_on(record, tell(record))
    desk.ledger.pass_on(record, tell(record, correlation=9))
    desk.ledger.pass_on(record, Envelope(home, sender, messages.Ask(), 10, b"?"))
    desk.hear(outcome(record, OutcomeKind.REFUSED, started=False, text="no such node"))
    assert desk.drain() == [
        Send(Envelope(sender, home, messages.Delivered(0), 9)),
        Send(Envelope(sender, home, messages.Reply(ok=False), 10)),
        Resolve(record),
    ]
    assert not record.started


def test_who_watches_a_task_hears_its_end(desk: Desk) -> None:
    record = desk.running()
    record.watch(Address(33, 40), 5)
    record.watch(Address(7, 20), 6)
    desk.hear(outcome(record, OutcomeKind.RAISED, text=""), b"error")
    ended = messages.Ended(OutcomeKind.RAISED, "")
    assert desk.drain() == [
        Send(Envelope(Address(33, 40), ME, ended, 5, b"error")),
        Send(Envelope(Address(7, 20), ME, ended, 6, b"error")),
        Resolve(record),
    ]


def test_what_is_not_owed_any_more_is_not_kept(desk: Desk) -> None:
    records = [desk.running() for _ in range(3)]
    for record in records:
        desk.hear(outcome(record))
    desk.drain()
    assert desk.ledger.records == {}
    assert desk.ledger.backlog() == 0


# --- terminate ---


def test_a_task_that_was_not_handed_in_is_cancelled_here() -> None:
    desk = Desk(granted=0)
    record, other = desk.submit(), desk.submit()
    desk.ledger.terminate(record)
    assert desk.drain() == [Resolve(record)]
    assert (record.outcome, record.started) == (OutcomeKind.CANCELLED, False)

    desk.hear(messages.Admit(1))
    assert desk.drain() == [submitted(other)]


def test_a_cancelled_task_does_not_count_as_waiting() -> None:
    """ready() paces by this number: it must come down when waiting tasks are cancelled."""
    desk = Desk(granted=0)
    for record in [desk.submit() for _ in range(3)]:
        desk.ledger.terminate(record)
    desk.drain()
    assert desk.ledger.backlog() == 0


def test_a_task_that_was_handed_in_is_terminated_on_its_way(desk: Desk) -> None:
    record = desk.submit()
    desk.drain()
    desk.ledger.terminate(record)
    assert desk.drain() == [desk.sent(messages.Terminate(record.task))]
    assert not record.ended
    desk.hear(outcome(record, OutcomeKind.TERMINATED))
    assert desk.drain() == [Resolve(record)]
    desk.ledger.terminate(record)
    assert desk.drain() == []


# --- the cluster ---


def test_who_waits_for_room_is_told_once_when_the_backlog_has_fallen() -> None:
    desk = Desk(granted=0)
    records = [desk.submit() for _ in range(4)]
    desk.ledger.ask_for_room(2)
    assert desk.drain() == []
    desk.hear(messages.Admit(1))
    assert desk.drain() == [submitted(records[0])]
    desk.hear(messages.Admit(2))
    assert desk.drain() == [submitted(records[1]), Room()]
    desk.hear(messages.Admit(3))
    assert desk.drain() == [submitted(records[2])]


def test_who_asks_for_room_that_there_is_is_told_at_once(desk: Desk) -> None:
    desk.ledger.ask_for_room(0)
    assert desk.drain() == [Room()]


def test_cancelled_tasks_make_room() -> None:
    desk = Desk(granted=0)
    first, second = desk.submit(), desk.submit()
    desk.ledger.ask_for_room(1)
    desk.ledger.terminate(second)
    assert desk.drain() == [Resolve(second), Room()]
    assert not first.ended


def test_nobody_waits_for_room_at_a_scheduler_that_is_gone() -> None:
    desk = Desk(granted=0)
    record = desk.submit()
    desk.ledger.ask_for_room(0)
    desk.ledger.scheduler_lost("it died")
    assert desk.drain() == [Resolve(record), Failed("it died"), Freed("it died"), Room()]


def test_who_waits_in_the_queue_is_told_for_whom_after_a_while() -> None:
    desk = Desk()
    desk.ledger.enlist(BROKER, ENLIST, desk.now)
    assert desk.ledger.deadline() == desk.now + PATIENCE_S
    desk.hear(messages.Queued(2, "anna's job"))
    assert desk.drain() == [desk.sent(ENLIST)]

    desk.ledger.wake(desk.now + PATIENCE_S - 0.1)
    assert desk.drain() == []
    desk.ledger.wake(desk.now + PATIENCE_S)
    assert desk.drain() == [
        Say("waiting for the cluster: anna's job has it; place 2 in the queue", "warning")
    ]
    assert desk.ledger.deadline() is None


def test_who_has_the_cluster_is_told_nothing_of_waiting() -> None:
    desk = Desk(granted=1)
    desk.ledger.wake(desk.now + PATIENCE_S)
    assert desk.drain() == []
    assert desk.ledger.deadline() is None


def test_a_scheduler_that_turns_the_client_away_says_why() -> None:
    desk = Desk()
    desk.ledger.enlist(BROKER, ENLIST, desk.now)
    desk.hear(messages.Turned("this scheduler closes"))
    assert desk.drain() == [desk.sent(ENLIST), Failed("this scheduler closes")]


def test_schedule_is_over_when_every_node_has_settled(desk: Desk) -> None:
    desk.hear(messages.Settled(2, 8))
    assert desk.drain() == [Scheduled(8)]


def test_nodes_and_servers_come_and_go(desk: Desk) -> None:
    desk.hear(messages.NodeNews(Status.NodeDiscovered, BOX))
    desk.hear(messages.ServerNews(Status.ServerInitialized, SPOT, "box"))
    assert desk.ledger.nodes == {900: BOX}
    assert desk.ledger.servers == {1001: (SPOT, "box")}
    assert desk.drain() == []

    desk.hear(messages.ServerNews(Status.ServerClosed, SPOT, "box", "was killed by SIGKILL (9)"))
    desk.hear(messages.NodeNews(Status.NodeClosed, BOX, "is gone"))
    assert desk.drain() == [
        Forget(1001),
        Say("server box/server-1 was killed by SIGKILL (9)", "warning"),
        Say("node box: is gone", "warning"),
    ]
    assert (desk.ledger.nodes, desk.ledger.servers) == ({}, {})


def test_a_silent_node_is_still_the_clients(desk: Desk) -> None:
    desk.hear(messages.NodeNews(Status.NodeInitialized, BOX))
    desk.hear(messages.NodeNews(Status.NodeDisconnected, BOX, "is silent"))
    assert desk.drain() == [Say("node box: is silent", "warning")]
    assert desk.ledger.nodes == {900: BOX}


def test_the_end_of_servers_at_the_clients_own_close_is_no_news_for_people(desk: Desk) -> None:
    desk.hear(messages.NodeNews(Status.NodeInitialized, BOX))
    desk.hear(messages.ServerNews(Status.ServerInitialized, SPOT, "box"))
    desk.ledger.release(terminate=False, await_io=True)
    desk.hear(messages.ServerNews(Status.ServerClosed, SPOT, "box", "has ended"))
    desk.hear(messages.NodeNews(Status.NodeClosed, BOX, "lease closed"))
    desk.hear(messages.Released("done"))
    assert desk.drain() == [
        desk.sent(messages.Release(terminate=False, await_io=True)),
        Forget(1001),
        Freed("done"),
    ]


def test_a_status_task_hears_of_nodes_servers_and_tasks() -> None:
    desk = Desk(granted=100, wants_news=True)
    place = Location("10.0.0.5", 9701)
    desk.hear(messages.NodeNews(Status.NodeDiscovered, BOX))
    desk.hear(messages.ServerNews(Status.ServerInitialized, SPOT, "box"))
    left = Availability(50.0, 1000, 2000, 0)
    desk.hear(messages.Pulse("box", left))
    desk.hear(messages.Pulse("unheard of", left))
    assert desk.drain() == [
        News(Status.NodeDiscovered, BOX),
        News(Status.ServerInitialized, place),
        Pulsed(BOX._replace(available=left)),
    ]
    record = desk.submit()
    desk.drain()
    desk.hear(messages.Started(record.task, 30, SPOT))
    assert desk.drain() == [Began(record), News(Status.TaskCreated, record)]
    desk.hear(outcome(record))
    desk.drain()
    desk.ledger.release(terminate=False, await_io=False)
    desk.drain()
    desk.hear(messages.Released())
    assert desk.drain() == [Forget(1001), Freed(""), News(Status.ClientClosed, None)]


def test_requests_output_and_notices_go_to_the_body(desk: Desk) -> None:
    server = Address(1001, SERVER)
    code = desk.hear(messages.CodeWanted(), b"request", server, 3)
    call = desk.hear(messages.CallWanted(TaskId(7, 16)), None, server, 4)
    written = messages.Output("box/server-1", 1)
    desk.hear(written, b"hello\n")
    desk.hear(messages.Notice("no node found", "warning"))
    assert desk.drain() == [
        Give(code),
        Give(call),
        Print(written, b"hello\n"),
        Say("no node found", "warning"),
    ]


def test_a_task_that_cannot_be_sent_is_refused_in_words() -> None:
    desk = Desk(granted=100)
    record, other = desk.submit(), desk.submit()
    words = [effect.envelope.message for effect in desk.drain() if isinstance(effect, Send)]
    desk.ledger.unsent(words[0], "Submit cannot be sent: too long")
    assert desk.drain() == [Resolve(record)]
    assert (record.outcome, record.text) == (OutcomeKind.REFUSED, "compute: Submit cannot be sent: too long")
    assert not other.ended


def test_a_client_that_cannot_say_what_it_wants_fails_at_once(desk: Desk) -> None:
    desk.ledger.unsent(ENLIST, "Enlist cannot be sent: too long")
    assert desk.drain() == [Failed("Enlist cannot be sent: too long")]


def test_files_that_went_with_their_folders_are_named_once_for_all_nodes(desk: Desk) -> None:
    desk.ledger.release(terminate=False, await_io=False)
    desk.drain()
    desk.hear(messages.Left(1, 5, ["out.txt"]))
    desk.hear(messages.Left(700, 9_000_000, ["a", "b", "c", "d", "e"]))
    assert desk.drain() == []
    desk.hear(messages.Released())
    said = desk.drain()[0]
    assert isinstance(said, Say) and said.level == "warning"
    assert said.text.startswith(
        "701 files of tasks (9,000,005 bytes) went with their working folders: out.txt, a, b, c, d and 696 more."
    )


def test_a_word_that_is_not_for_clients_is_passed_over(desk: Desk) -> None:
    desk.hear(messages.Recall(3))
    assert desk.drain() == []


# --- the end of it ---


def test_release_leaves_after_all_tasks_that_were_submitted_before_it() -> None:
    """close() waits for CPU tasks: a scheduler that hears of the close first would end with none."""
    desk = Desk(granted=100)
    record = desk.submit()
    desk.ledger.release(terminate=False, await_io=False)
    assert desk.drain() == [
        submitted(record),
        desk.sent(messages.Release(terminate=False, await_io=False)),
    ]


def test_release_waits_until_the_backlog_is_handed_in() -> None:
    """Tasks beyond the scheduler's credit are tasks that close() waits for, too."""
    desk = Desk(granted=1)
    first, second = desk.submit(), desk.submit()
    desk.ledger.release(terminate=False, await_io=False)
    assert desk.drain() == [submitted(first)]
    desk.hear(outcome(first))
    desk.hear(messages.Admit(2))
    assert desk.drain() == [
        Resolve(first),
        submitted(second),
        desk.sent(messages.Release(terminate=False, await_io=False)),
    ]


def test_release_with_terminate_does_not_wait_for_the_backlog() -> None:
    desk = Desk(granted=0)
    record = desk.submit()
    desk.ledger.release(terminate=True, await_io=False)
    release = desk.sent(messages.Release(terminate=True, await_io=False))
    assert release in desk.drain()
    desk.hear(messages.Released())
    desk.drain()
    assert record.ended


def test_tasks_left_when_the_lease_ends_unasked_are_lost(desk: Desk) -> None:
    running = desk.running()
    desk.hear(messages.Released("the node was stopped"))
    assert desk.drain() == [
        Say("the lease has ended: the node was stopped", "warning"),
        Resolve(running),
        Freed("the node was stopped"),
    ]
    assert (running.outcome, running.started) == (OutcomeKind.LOST, True)
    assert running.text == desk.ledger.over == "the node was stopped"


def test_tasks_left_at_the_clients_own_close_say_so(desk: Desk) -> None:
    running = desk.running()
    desk.ledger.release(terminate=True, await_io=False)
    desk.hear(messages.Released())
    assert desk.drain() == [
        desk.sent(messages.Release(terminate=True, await_io=False)),
        Resolve(running),
        Freed(""),
    ]
    assert running.text == "the client closed"


def test_who_waits_for_a_client_of_its_own_program_is_told_so() -> None:
    desk = Desk()
    desk.ledger.enlist(BROKER, ENLIST, desk.now)
    desk.hear(messages.Queued(1, "another on h (pid 1)"))
    desk.ledger.wake(desk.now + PATIENCE_S)
    assert desk.drain()[-1] == Say(
        "waiting for the cluster: another on h (pid 1) has it (another Client of this very program); "
        "place 1 in the queue",
        "warning",
    )


@pytest.mark.parametrize("kind", [OutcomeKind.LOST, OutcomeKind.REFUSED])
def test_somebody_has_to_hear_of_tasks_that_were_lost(desk: Desk, kind: OutcomeKind) -> None:
    lost, monitored, unwanted, late = (desk.submit() for _ in range(4))
    desk.drain()
    monitored.watch(Address(9, 9), 1)
    desk.ledger.terminate(unwanted)
    for record in (lost, monitored, unwanted):
        desk.hear(outcome(record, kind))
    desk.ledger.release(terminate=True, await_io=False)
    desk.hear(outcome(late, kind))
    desk.drain()
    assert list(desk.ledger.unread.values()) == [lost]


def test_who_moves_up_in_the_queue_is_told_after_the_first_time() -> None:
    desk = Desk()
    desk.ledger.enlist(BROKER, ENLIST, desk.now)
    desk.hear(messages.Queued(2, "anna's job"))
    desk.ledger.wake(desk.now + PATIENCE_S)
    desk.drain()
    desk.hear(messages.Queued(1, "bert's job"))
    assert desk.drain() == [
        Say("waiting for the cluster: bert's job has it; place 1 in the queue", "warning")
    ]


def test_without_its_scheduler_every_task_is_lost_and_says_whether_it_may_have_run() -> None:
    desk = Desk(granted=2)
    running, handed, waiting = desk.submit(), desk.submit(), desk.submit()
    desk.drain()
    desk.hear(messages.Started(running.task, 30, SPOT))
    desk.drain()
    desk.ledger.scheduler_lost("no link to the scheduler for 10 s")
    assert desk.drain() == [
        Resolve(running),
        Resolve(handed),
        Resolve(waiting),
        Failed("no link to the scheduler for 10 s"),
        Freed("no link to the scheduler for 10 s"),
    ]
    assert [record.started for record in (running, handed, waiting)] == [True, True, False]
    assert {record.outcome for record in (running, handed, waiting)} == {OutcomeKind.LOST}


def test_the_size_of_a_call_counts_all_its_buffers() -> None:
    assert Record(TaskId(7, 16), "f", [b"12345", memoryview(bytes(100))]).size == 105
    assert Record(TaskId(7, 16), "f", None).size == 0


def test_a_scheduler_is_at_its_place_in_its_runtime() -> None:
    assert scheduler_of(5) == BROKER

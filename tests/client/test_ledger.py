"""Every task that a client submits ends once: the ledger gives, hears, and decides, driven without a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from dispycos.actors.client.effects import (
    Began,
    Bury,
    Dial,
    Failed,
    Forward,
    Freed,
    GiveCode,
    HangUp,
    News,
    Print,
    Pulsed,
    Relay,
    Resolve,
    Room,
    Say,
    Scheduled,
)
from dispycos.actors.client.ledger import Ledger
from dispycos.actors.client.members import DEATH_S
from dispycos.actors.client.owned import CALL_MAX, SHORT_RUNS, SHORT_S
from dispycos.actors.client.standing import scheduler_of
from dispycos.actors.dispatching.facts import Entry
from dispycos.actors.dispatching.giving import PASS_MAX
from dispycos.actors.dispatching.placement import STALL_S
from dispycos.machine import Send
from dispycos.notices import AGAIN_S, PATIENCE_S
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, HOST, NODE, SCHEDULER, SERVER, Address, Location
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Availability, Lease, Marks, NodeInfo, Spot, TaskId
from dispycos.protocol.status import OutcomeKind, Status

ME = Address(7, CLIENT)
BROKER = Address(5, SCHEDULER)
LEASE = Lease(1, 7, "s", 5)
BOX = NodeInfo("box", "10.0.0.5", 9700, 2, "Linux", (3, 11), 900)
AGENT = Address(900, NODE)
ENLIST = messages.Enlist(messages.ClientInfo("c", "h", 1, (3, 11)), [], 50.0)


def spot(number: int) -> Spot:
    return Spot("10.0.0.5", 9700 + number, 1000 + number, f"box/server-{number}")


def at(number: int) -> Address:
    """Server `number` of the box."""
    return Address(1000 + number, SERVER)


SPOT = spot(1)


class Desk:
    """A ledger with so many servers, each step checked; what it drains is compared by the test."""

    def __init__(self, *, servers: int = 1, granted: bool = True, wants_news: bool = False) -> None:
        self.ledger = Ledger(ME)
        self.ledger.wants_news = wants_news
        self.now = 100.0
        self.numbers = iter(range(16, 1 << 20))
        if granted:
            self.ledger.standing.enlist(BROKER, ENLIST, self.now)
            self.hear(messages.Granted(LEASE, "s"))
            self.hear(messages.NodeNews(Status.NodeInitialized, BOX))
            for number in range(1, servers + 1):
                self.hear_of_server(number)
            assert self.sent(ENLIST) in self.drain()

    def hear_of_server(self, number: int) -> None:
        self.hear(messages.ServerNews(Status.ServerInitialized, spot(number), 900))

    def submit(self, call: Any = b"call", function: str = "compute", **fields: Any) -> Entry:
        record = Entry(function, task=TaskId(7, next(self.numbers)), call=call, **fields)
        self.ledger.tasks.submit(record)
        self.ledger.check()
        return record

    def given(self, count: int = 1, **fields: Any) -> list[Entry]:
        """Tasks that servers have."""
        records = [self.submit(**fields) for _ in range(count)]
        self.drain()
        assert all(record.at is not None for record in records)
        return records

    def hear(
        self, word: messages.Message, payload: Any = None, sender: Address = BROKER, correlation: int = 0
    ) -> Envelope:
        envelope = Envelope(ME, sender, word, correlation, payload)
        self.ledger.receive(envelope, self.now)
        self.ledger.check()
        return envelope

    def start(self, record: Entry) -> None:
        """Its server announces it, as actor 30."""
        assert record.at is not None
        word = messages.Started(record.task, 30, spot(record.at.epoch - 1000))
        self.hear(word, sender=Address(record.at.epoch, SERVER))

    def end(
        self, record: Entry, kind: OutcomeKind = OutcomeKind.RETURNED, payload: Any = None, **fields: Any
    ) -> None:
        assert record.at is not None
        self.hear(outcome(record, kind, **fields), payload, Address(record.at.epoch, SERVER))

    def drain(self) -> list[object]:
        effects = self.ledger.drain()
        self.ledger.check()
        return effects

    def words(self) -> list[tuple[Address, messages.Message]]:
        """What is sent, and to whom; all else is left to others to look at."""
        return [
            (effect.envelope.to, effect.envelope.message)
            for effect in self.drain()
            if isinstance(effect, Send)
        ]

    def wait(self, seconds: float) -> list[object]:
        """So much later, what it wants done then."""
        self.now += seconds
        self.ledger.wake(self.now)
        return self.drain()

    def buried(self, number: int) -> list[object]:
        """What is done when it hears of a server's end."""
        return [Bury(1000 + number), self.sent(messages.Gone([1000 + number]), AGENT)]

    def terminate(self, record: Entry) -> None:
        self.ledger.tasks.terminate(record, self.now)
        self.ledger.check()

    def lose_server(
        self,
        number: int,
        text: str = "killed by SIGKILL (9)",
        *,
        begun: int | None = None,
        closing: bool = False,
    ) -> None:
        """`begun`: the last CPU task, and no io task; None: its page cannot be read."""
        marks = None if begun is None else Marks(begun, 0)
        self.hear(messages.ServerLost(1000 + number, text, marks, closing), sender=AGENT)

    def running(self, **fields: Any) -> Entry:
        """A task that has started, as actor 30."""
        (record,) = self.given(**fields)
        self.start(record)
        self.drain()
        return record

    @staticmethod
    def sent(word: messages.Message, to: Address = BROKER, payload: Any = None, correlation: int = 0) -> Send:
        return Send(Envelope(to, ME, word, correlation, payload))


def run(
    record: Entry, position: int = 1, server: int = 1, call: bytes | None = b"call", **fields: Any
) -> Send:
    word = messages.Run(record.task, record.function, position, **fields)
    return Desk.sent(word, at(server), call)


def outcome(record: Entry, kind: OutcomeKind = OutcomeKind.RETURNED, **fields: Any) -> messages.Outcome:
    return messages.Outcome(record.task, kind, **fields)


def tell(record: Entry, correlation: int = 0) -> Envelope:
    home = Address(record.task.owner, record.task.number)
    return Envelope(home, Address(33, 40), messages.Tell(), correlation, b"hello")


def terminating(record: Entry) -> list[Send]:
    """To its server, and to its node."""
    assert record.at is not None
    word = messages.Terminate(record.task, record.at.epoch, record.position, record.function)
    return [Desk.sent(word, Address(record.at.epoch, SERVER)), Desk.sent(word, AGENT)]


@pytest.fixture
def desk() -> Iterator[Desk]:
    """With a lease and one server; whatever is left undrained at the end was not looked at."""
    desk = Desk()
    yield desk
    assert desk.drain() == []


# --- giving ---


def test_tasks_wait_for_a_server_and_are_numbered_as_they_are_given() -> None:
    desk = Desk(servers=0)
    first, second = desk.submit(), desk.submit(io=True)
    assert desk.drain() == []
    assert desk.ledger.dispatcher.waiting == 2
    desk.hear_of_server(1)
    assert desk.drain() == [run(first, 1), run(second, 2, io=True)]
    assert desk.ledger.dispatcher.waiting == 0


def test_each_server_counts_its_own(desk: Desk) -> None:
    desk.hear_of_server(2)
    records = [desk.submit(alone=True) for _ in range(2)]
    given = desk.drain()
    assert {(effect.envelope.to, effect.envelope.message.position) for effect in given} == {  # type: ignore[attr-defined]
        (at(1), 1),
        (at(2), 1),
    }
    for record in records:
        desk.end(record)
    desk.drain()
    follower = desk.submit()
    assert follower.at is None
    (again,) = desk.drain()
    assert isinstance(again, Send) and again.envelope.message.position == 2


def test_a_wave_of_tasks_leaves_in_portions() -> None:
    desk = Desk()
    records = [desk.submit(io=True) for _ in range(PASS_MAX + 3)]
    assert desk.drain() == [run(record, n + 1, io=True) for n, record in enumerate(records[:PASS_MAX])]
    assert desk.drain() == [], "the next portion comes in the next turn, which is due at once"
    assert desk.ledger.deadline() == 0.0
    assert len(desk.wait(0.0)) == 3
    assert desk.ledger.deadline() != 0.0


def test_nothing_is_looked_at_again_while_nothing_changes(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Turns are many: one that brought no word for the ledger costs no pass."""
    passes: list[float] = []
    monkeypatch.setattr(desk.ledger.dispatcher, "place", passes.append)
    desk.drain()
    assert passes == []
    desk.submit()
    desk.drain()
    desk.drain()
    assert len(passes) == 1
    monkeypatch.undo()
    desk.hear(messages.Notice("words"))
    desk.drain()


def test_a_place_and_the_state_of_the_code_travel_with_the_task(desk: Desk) -> None:
    desk.hear_of_server(2)
    at_server, at_node = desk.submit(server=1002, code=4), desk.submit(node="box", code=3, io=True)
    assert desk.drain() == [run(at_server, 1, 2, code=4), run(at_node, 1, 1, io=True, code=3)]


@pytest.mark.parametrize("name", ["box", "10.0.0.5", "10.0.0.5:9700"])
def test_a_node_is_known_by_name_address_and_location(desk: Desk, name: str) -> None:
    assert desk.drain() == []
    record = desk.submit(node=name)
    assert desk.drain() == [run(record)]


def test_a_node_that_nobody_knows_is_refused(desk: Desk) -> None:
    record = desk.submit(node="bix")
    assert desk.drain() == [Resolve(record)]
    assert record.outcome == OutcomeKind.REFUSED and record.text.startswith("there is no node bix")


@pytest.mark.parametrize("call", [b"x" * (CALL_MAX + 1), [b"stream", b"buffer"]])
def test_a_large_call_stays_here_until_the_server_fetches_it(desk: Desk, call: Any) -> None:
    record = desk.submit(call)
    assert desk.drain() == [run(record, call=None, fetch=True)]
    assert record.call == call


def test_a_call_of_the_allowed_size_travels_and_is_kept_until_the_outcome(desk: Desk) -> None:
    """It may have to be given again."""
    call = b"x" * CALL_MAX
    record = desk.submit(call)
    assert desk.drain() == [run(record, call=call)]
    assert record.call == call
    desk.end(record)
    assert desk.drain() == [Resolve(record)]
    assert record.call is None


# --- short functions ---


def learned(desk: Desk, seconds: float = SHORT_S / 2, runs: int = SHORT_RUNS) -> None:
    for _ in range(runs):
        (record,) = desk.given()
        desk.end(record, seconds=seconds)
    desk.drain()


def is_short(desk: Desk, **fields: Any) -> bool:
    record = desk.submit(**fields)
    (word,) = [word for _, word in desk.words()]
    assert isinstance(word, messages.Run) and word.task == record.task
    desk.end(record)
    desk.drain()
    return word.short


def test_the_start_of_what_is_known_to_be_short_is_not_wanted(desk: Desk) -> None:
    learned(desk, runs=SHORT_RUNS - 1)
    assert not is_short(desk)
    assert is_short(desk)
    assert not is_short(desk, function="another")


def test_the_start_of_what_takes_its_time_is_wanted(desk: Desk) -> None:
    learned(desk, seconds=SHORT_S)
    assert not is_short(desk)


@pytest.mark.parametrize("fields", [{"alone": True}, {"io": True}])
def test_a_start_that_is_waited_for_is_wanted(desk: Desk, fields: dict[str, bool]) -> None:
    learned(desk)
    assert not is_short(desk, **fields)


def test_the_start_of_what_a_status_task_hears_of_is_wanted(desk: Desk) -> None:
    """Else one that takes longer than those before it is not known to run before it has ended."""
    learned(desk)
    assert not is_short(desk, info=((1,), {}))


@pytest.mark.parametrize("who", ["a message", "a watcher"])
def test_the_start_of_a_task_that_somebody_talks_to_is_wanted(desk: Desk, who: str) -> None:
    learned(desk)
    record = desk.submit()
    if who == "a message":
        desk.ledger.tasks.pass_on(record, tell(record))
    else:
        record.watch(Address(33, 40), 5)
    assert [word for _, word in desk.words()] == [messages.Run(record.task, "compute", SHORT_RUNS + 1)]


# --- starts, messages, ends ---


def test_a_started_task_is_known_by_its_address_and_location(desk: Desk) -> None:
    (record,) = desk.given()
    desk.start(record)
    assert desk.drain() == [Began(record)]
    assert record.address == Address(1001, 30)
    assert record.location == Location("10.0.0.5", 9701)
    assert record.started

    desk.start(record)
    assert desk.drain() == []


def test_a_placed_task_has_its_messages_once_and_starts_later(desk: Desk) -> None:
    (record,) = desk.given(io=True)
    held = [tell(record), tell(record, correlation=9)]
    for envelope in held:
        desk.ledger.tasks.pass_on(record, envelope)
    desk.hear(messages.Placed(record.task, 30, SPOT), sender=at(1))
    to = Address(1001, 30)
    assert desk.drain() == [
        *(Relay(record, Envelope(to, e.sender, e.message, e.correlation, e.payload)) for e in held),
        Began(record),
    ]
    assert not record.started
    desk.start(record)
    assert desk.drain() == []
    assert record.started


def test_the_start_of_another_attempt_or_by_another_server_is_not_this_ones(desk: Desk) -> None:
    (record,) = desk.given()
    desk.hear_of_server(2)
    desk.hear(messages.Started(record.task._replace(attempt=2), 30, SPOT), sender=at(1))
    desk.hear(messages.Started(record.task, 30, spot(2)), sender=at(2))
    assert desk.drain() == []
    assert not record.started and record.address is None


def test_messages_after_the_start_are_passed_on_at_once(desk: Desk) -> None:
    record = desk.running()
    envelope = tell(record, correlation=9)
    desk.ledger.tasks.pass_on(record, envelope)
    passed = Envelope(Address(1001, 30), envelope.sender, envelope.message, 9, b"hello")
    assert desk.drain() == [Relay(record, passed)]


def test_the_first_outcome_counts(desk: Desk) -> None:
    record = desk.running()
    desk.end(record, payload=b"value", seconds=2.5, cpu_s=2.0, peak_bytes=1 << 20)
    assert desk.drain() == [Resolve(record)]
    desk.hear(outcome(record, OutcomeKind.LOST, text="its server died"), sender=at(1))
    desk.lose_server(1)
    assert desk.drain() == desk.buried(1)
    assert (record.ended, record.outcome, record.payload) == (True, OutcomeKind.RETURNED, b"value")
    assert (record.seconds, record.cpu_s, record.peak_bytes) == (2.5, 2.0, 1 << 20)


def test_another_servers_word_does_not_count(desk: Desk) -> None:
    record = desk.running()
    desk.hear_of_server(2)
    desk.hear(outcome(record), sender=at(2))
    desk.hear(outcome(record))
    assert desk.drain() == [] and not record.ended
    desk.end(record)
    assert desk.drain() == [Resolve(record)]


def test_a_short_task_starts_by_its_outcome(desk: Desk) -> None:
    """Its start was not announced: where it ran is told by who says its outcome."""
    (record,) = desk.given()
    desk.end(record, actor=31)
    assert desk.drain() == [Resolve(record)]
    assert record.location == Location("10.0.0.5", 9701)


def test_a_task_that_ends_before_it_started_turns_its_messages_away(desk: Desk) -> None:
    (record,) = desk.given()
    home, sender = Address(7, record.task.number), Address(33, 40)
    desk.ledger.tasks.pass_on(record, tell(record))
    desk.ledger.tasks.pass_on(record, tell(record, correlation=9))
    desk.ledger.tasks.pass_on(record, Envelope(home, sender, messages.Ask(), 10, b"?"))
    desk.end(record, OutcomeKind.CANCELLED, started=False)
    assert desk.drain() == [
        Send(Envelope(Address(33, HOST), home, messages.NoMailbox())),
        Send(Envelope(sender, home, messages.Delivered(0), 9)),
        Send(Envelope(sender, home, messages.Reply(ok=False), 10)),
        Resolve(record),
    ]
    assert not record.started and record.seconds is None


def test_who_watches_a_task_hears_its_end(desk: Desk) -> None:
    record = desk.running()
    record.watch(Address(33, 40), 5)
    record.watch(Address(7, 20), 6)
    desk.end(record, OutcomeKind.RAISED, b"error")
    ended = messages.Ended(OutcomeKind.RAISED, "")
    assert desk.drain() == [
        Send(Envelope(Address(33, 40), ME, ended, 5, b"error")),
        Send(Envelope(Address(7, 20), ME, ended, 6, b"error")),
        Resolve(record),
    ]


def test_what_is_not_owed_any_more_is_not_kept(desk: Desk) -> None:
    for record in [desk.running() for _ in range(2)]:
        desk.end(record)
    desk.drain()
    assert desk.ledger.records == {}
    assert desk.ledger.dispatcher.waiting == 0


# --- what is given back, and given again ---


def test_what_a_server_gives_back_is_given_again(desk: Desk) -> None:
    first, second = desk.given(2)
    desk.hear_of_server(2)
    desk.hear(messages.Returned([2]), sender=at(1))
    assert desk.drain() == [run(second, 1, 2)]
    assert desk.ledger.dispatcher.waiting == 0 and not first.ended


def test_a_server_that_drains_gets_nothing_more(desk: Desk) -> None:
    (record,) = desk.given()
    desk.hear(messages.Returned([1], draining=True), sender=at(1))
    assert desk.drain() == []
    assert desk.ledger.dispatcher.waiting == 1
    desk.hear_of_server(2)
    assert desk.drain() == [run(record, 1, 2)]


def test_what_waits_behind_a_long_step_is_asked_back_for_a_server_that_is_free(desk: Desk) -> None:
    first, second = desk.given(2)
    desk.start(first)
    desk.hear_of_server(2)
    assert desk.drain() == [Began(first)]
    due = desk.ledger.deadline()
    assert due is not None and due <= desk.now + STALL_S
    assert desk.wait(due - desk.now) == [desk.sent(messages.Recall(1), at(1))]
    desk.hear(messages.Returned([2]), sender=at(1))
    assert desk.drain() == [run(second, 1, 2)]


def test_of_a_dead_server_what_had_begun_is_lost_and_the_rest_runs_elsewhere(desk: Desk) -> None:
    first, second = desk.given(2)
    desk.hear_of_server(2)
    desk.lose_server(1, begun=1)
    assert desk.drain() == [*desk.buried(1), Resolve(first), run(second, 1, 2)]
    assert first.outcome == OutcomeKind.LOST and first.started
    assert first.text == "killed by SIGKILL (9) while it ran compute"
    desk.ledger.tasks.unread.clear()


def test_of_a_server_whose_marks_nobody_could_read_all_may_have_begun(desk: Desk) -> None:
    first, second = desk.given(2)
    desk.lose_server(1)
    assert desk.drain() == [*desk.buried(1), Resolve(first), Resolve(second)]
    assert {first.text, second.text} == {"killed by SIGKILL (9); compute may have started"}


def test_what_has_its_address_is_lost_with_its_server_though_it_has_not_begun(desk: Desk) -> None:
    """Somebody may have talked to it."""
    placed, other = desk.given(2, io=True)
    desk.hear(messages.Placed(placed.task, 30, SPOT), sender=at(1))
    desk.lose_server(1, begun=0)
    assert Resolve(placed) in desk.drain()
    assert placed.outcome == OutcomeKind.LOST and not other.ended


def test_a_server_that_was_told_to_end_terminates_what_it_had_begun(desk: Desk) -> None:
    (record,) = desk.given()
    desk.lose_server(1, "its node was stopped", begun=1, closing=True)
    assert desk.drain() == [*desk.buried(1), Resolve(record)]
    assert record.outcome == OutcomeKind.TERMINATED


def test_a_task_that_may_be_retried_is_tried_again_and_that_is_said(desk: Desk) -> None:
    record = desk.running(retries=1)
    desk.hear_of_server(2)
    first = record.task
    desk.lose_server(1, begun=1)
    assert desk.drain() == [
        *desk.buried(1),
        Say("compute was lost (killed by SIGKILL (9)): attempt 2 of 2", "warning"),
        run(record, 1, 2),
    ]
    assert record.task == first._replace(attempt=2) and record.attempt == 2
    assert (record.started, record.address, record.location) == (False, None, None)

    desk.hear(messages.Started(first, 30, SPOT), sender=at(1))
    desk.hear(messages.Outcome(first, OutcomeKind.RETURNED), sender=at(1))
    desk.hear(messages.Outcome(first, OutcomeKind.RETURNED), sender=at(2))
    assert desk.drain() == [] and not record.ended
    desk.start(record)
    assert desk.drain() == [Began(record)]
    assert record.address == Address(1002, 30)
    desk.lose_server(2, begun=1)
    assert desk.drain() == [*desk.buried(2), Resolve(record)]
    assert record.outcome == OutcomeKind.LOST


@pytest.mark.parametrize("why", ["terminated", "its server was named", "closing"])
def test_a_task_is_not_retried_against_its_users_will(desk: Desk, why: str) -> None:
    record = desk.running(retries=9, server=1001 if why == "its server was named" else 0)
    desk.hear_of_server(2)
    if why == "terminated":
        desk.terminate(record)
    desk.lose_server(1, begun=1, closing=why == "closing")
    desk.drain()
    assert record.ended and record.attempt == 1


# --- nodes and servers ---


def test_nodes_and_servers_come_and_go() -> None:
    desk = Desk(servers=0)
    desk.hear(messages.NodeNews(Status.NodeDiscovered, BOX))
    desk.hear(messages.ServerNews(Status.ServerInitialized, SPOT, 900))
    assert desk.ledger.nodes == {900: BOX}
    assert desk.ledger.servers == {1001: (SPOT, 900)}
    assert desk.drain() == []

    desk.hear(messages.ServerNews(Status.ServerClosed, SPOT, 900, "was killed by SIGKILL (9)"))
    desk.lose_server(1)
    desk.hear(messages.NodeNews(Status.NodeClosed, BOX, "is gone"))
    assert desk.drain() == [
        Say("server box/server-1 was killed by SIGKILL (9)", "warning"),
        *desk.buried(1),
        HangUp(900),
        Say("node box: is gone", "warning"),
    ]
    assert (desk.ledger.nodes, desk.ledger.servers) == ({}, {})


def test_a_server_whose_end_is_told_before_it_was_known_gets_nothing(desk: Desk) -> None:
    """Its node and its scheduler speak on ways of their own."""
    desk.lose_server(2, begun=0)
    assert desk.drain() == desk.buried(2)
    desk.hear_of_server(2)
    first, *others = (desk.submit(alone=True) for _ in range(2))
    assert desk.drain() == [run(first)]
    assert list(desk.ledger.servers) == [1001]
    desk.hear(messages.ServerNews(Status.ServerClosed, spot(2), 900))
    assert desk.ledger.dispatcher.waiting == len(others)


def test_a_node_that_is_gone_takes_its_servers_along(desk: Desk) -> None:
    record = desk.running()
    desk.hear(messages.NodeNews(Status.NodeAbandoned, BOX, "was silent for 50 s"))
    assert desk.drain() == [
        HangUp(900),
        Bury(1001),
        Resolve(record),
        Say("node box: was silent for 50 s", "warning"),
    ]
    assert record.outcome == OutcomeKind.LOST and record.text.startswith("node box is gone")
    desk.lose_server(1)  # it has heard it at last
    assert desk.drain() == [Bury(1001)]


def test_what_servers_of_this_host_had_begun_is_known_though_their_node_is_gone() -> None:
    """They die with it, sooner or later than that is told; the third is of another host."""
    desk = Desk(servers=3)
    begun, placed_again, unknown = desk.given(3)
    on = {record: record.at.epoch for record in (begun, placed_again, unknown) if record.at is not None}
    desk.ledger.members.server_nearby(on[begun])
    desk.ledger.members.server_nearby(on[placed_again])
    desk.ledger.members.server_ended(on[placed_again], Marks(0, 0), desk.now)
    desk.hear(messages.NodeNews(Status.NodeClosed, BOX, "is gone"))
    desk.drain()
    assert unknown.text == "node box is gone; compute may have started"
    assert placed_again.at is None and not placed_again.ended
    assert begun.at is not None, "its server is still dying"
    desk.ledger.members.server_ended(on[begun], Marks(begun.position, 0), desk.now)
    desk.drain()
    assert begun.text == "node box is gone while it ran compute" and begun.started
    assert not desk.ledger.dispatcher.fleet.nodes
    assert desk.ledger.dispatcher.waiting == len([placed_again])


def test_a_private_process_that_dies_takes_the_node_along_that_is_an_actor_of_it() -> None:
    desk = Desk()
    begun, other = desk.running(), desk.submit(alone=True)
    desk.drain()
    desk.ledger.members.private_died(desk.now)
    assert desk.drain() == [], "the node is another process"
    mine = BOX._replace(epoch=BROKER.epoch, name="mine")
    desk.hear(messages.NodeNews(Status.NodeInitialized, mine))
    desk.hear(messages.ServerNews(Status.ServerInitialized, spot(9), mine.epoch))
    desk.drain()
    assert other.at is not None and other.at.epoch == 1009
    desk.ledger.members.private_died(desk.now)
    desk.drain()
    assert other.text == "node mine is gone; compute may have started" and not begun.ended


def test_a_server_of_this_host_that_outlives_its_node_is_not_waited_for(desk: Desk) -> None:
    record = desk.running()
    desk.ledger.members.server_nearby(1001)
    desk.hear(messages.NodeNews(Status.NodeAbandoned, BOX, "was silent for 50 s"))
    desk.drain()
    assert not record.ended
    due = desk.ledger.deadline()
    assert due == desk.now + DEATH_S
    desk.ledger.wake(due)
    desk.drain()
    assert record.text == "node box is gone; compute may have started"


def test_with_a_private_scheduler_all_is_lost_and_what_had_begun_is_told_from_the_rest() -> None:
    desk = Desk()
    desk.ledger.members.server_nearby(1001)
    begun, given = [desk.submit(io=True) for _ in range(2)]
    desk.drain()
    desk.ledger.members.all_lost("it died", desk.now)
    late = desk.submit()
    assert desk.drain() == [] and desk.ledger.deadline() == desk.now + DEATH_S
    desk.ledger.members.server_ended(1001, Marks(0, 1), desk.now)
    desk.drain()
    assert [(record.outcome, record.started, record.text) for record in (begun, given, late)] == [
        (OutcomeKind.LOST, True, "it died while it ran compute"),
        (OutcomeKind.LOST, False, "it died"),
        (OutcomeKind.LOST, False, "it died"),
    ]
    assert desk.ledger.over == "it died"


def test_with_a_private_scheduler_of_whose_servers_nothing_is_seen_all_is_lost_at_once() -> None:
    desk = Desk()
    (record,) = desk.given(retries=1)
    desk.ledger.members.all_lost("it died", desk.now)
    desk.drain()
    assert record.started and record.outcome == OutcomeKind.LOST and desk.ledger.over == "it died"


def test_a_node_that_comes_again_gets_nothing_for_servers_it_had_before(desk: Desk) -> None:
    record = desk.running()
    desk.ledger.members.server_nearby(1001)
    desk.hear(messages.NodeNews(Status.NodeAbandoned, BOX, "was silent for 50 s"))
    desk.hear(messages.NodeNews(Status.NodeInitialized, BOX))
    desk.drain()
    assert record.outcome == OutcomeKind.LOST
    assert list(desk.ledger.dispatcher.fleet.nodes) == [900]


def test_a_silent_node_is_still_the_clients_and_gets_nothing(desk: Desk) -> None:
    before = desk.running()
    desk.hear(messages.NodeNews(Status.NodeDisconnected, BOX, "is silent"))
    (said,) = desk.drain()
    assert isinstance(said, Say) and said.level == "warning"
    assert said.text.startswith("node box: is silent; 1 task (compute 1) may still run there")
    assert desk.ledger.nodes == {900: BOX}
    record = desk.submit()
    assert desk.drain() == []

    desk.hear(messages.NodeNews(Status.NodeResumed, BOX))
    assert desk.drain() == [Dial(BOX), run(record, 2)]
    desk.end(before)
    assert desk.drain() == [Resolve(before)]


def test_a_node_that_only_the_scheduler_does_not_hear_gets_tasks_by_its_own_link(desk: Desk) -> None:
    desk.ledger.members.link_ready(900)
    desk.hear(messages.NodeNews(Status.NodeDisconnected, BOX, "its link is down"))
    told = "node box: its link is down; it has one to this program, and goes on"
    assert desk.drain() == [Say(told, "warning")]
    (first,) = desk.given()
    desk.ledger.link_lost(900, desk.now)
    gone = "node box: nor is there a link to this program any more; 1 task (compute 1) may still run there"
    assert desk.drain() == [Say(gone, "warning")]
    desk.end(first)
    second = desk.submit()
    assert desk.drain() == [Resolve(first)], "nobody hears it now"
    desk.ledger.members.link_ready(900)
    assert desk.drain() == [run(second, 2)]


def test_a_lost_link_to_a_node_that_the_scheduler_hears_changes_nothing(desk: Desk) -> None:
    desk.ledger.members.link_ready(900)
    desk.ledger.link_lost(900, desk.now)
    assert desk.given()


def test_who_ends_a_task_on_a_silent_node_is_not_left_waiting(desk: Desk) -> None:
    record = desk.running()
    desk.hear(messages.NodeNews(Status.NodeDisconnected, BOX))
    desk.terminate(record)
    assert desk.drain() == terminating(record)
    assert desk.wait(9.9) == []
    assert desk.wait(0.1) == [Resolve(record)]
    assert record.outcome == OutcomeKind.LOST and "has been silent since" in record.text
    desk.hear(outcome(record, OutcomeKind.TERMINATED), sender=at(1))
    assert desk.drain() == []


def test_of_two_nodes_with_one_name_each_has_its_own_servers(desk: Desk) -> None:
    twin = BOX._replace(port=9800, epoch=901)
    desk.hear(messages.NodeNews(Status.NodeInitialized, twin))
    desk.hear(messages.ServerNews(Status.ServerInitialized, spot(2), 901))
    desk.ledger.session_lost(1002, [], desk.now)
    assert desk.drain() == [Dial(twin), desk.sent(messages.Kill(1002), Address(901, NODE))]


def test_what_a_node_was_asked_for_is_asked_again_when_it_has_forgotten_us(desk: Desk) -> None:
    word = messages.Terminate(TaskId(7, 16), 1001, 1, "compute")
    lost = [Envelope(AGENT, ME, word), Envelope(Address(1001, SERVER), ME, word)]
    desk.ledger.session_lost(AGENT.epoch, lost, desk.now)
    assert desk.drain() == [desk.sent(word, AGENT)]
    desk.ledger.session_lost(12345, [Envelope(Address(12345, 2), ME, word)], desk.now)
    assert desk.drain() == [], "it is no node of ours"


def test_a_server_that_nobody_knows_any_more_is_killed_by_its_node(desk: Desk) -> None:
    first, second = desk.given(2)
    desk.hear_of_server(2)
    for epoch in (1001, 1001, 5555, 900):
        desk.ledger.session_lost(epoch, [], desk.now)
    assert desk.drain() == [desk.sent(messages.Kill(1001), AGENT)]
    desk.submit(server=1001)
    assert desk.drain() == [], "it gets nothing more"
    desk.lose_server(1, begun=1)
    effects = desk.drain()
    assert Resolve(first) in effects and run(second, 1, 2) in effects


# --- terminate ---


def test_a_task_that_waits_is_cancelled_here() -> None:
    desk = Desk(servers=0)
    record, other = desk.submit(), desk.submit()
    desk.terminate(record)
    assert desk.drain() == [Resolve(record)]
    assert (record.outcome, record.started) == (OutcomeKind.CANCELLED, False)
    desk.hear_of_server(1)
    assert desk.drain() == [run(other)]


def test_a_cancelled_task_does_not_count_as_waiting() -> None:
    """ready() paces by this number: it must come down when waiting tasks are cancelled."""
    desk = Desk(servers=0)
    for record in [desk.submit() for _ in range(3)]:
        desk.terminate(record)
    desk.drain()
    assert desk.ledger.dispatcher.waiting == 0


def test_a_task_that_was_given_is_terminated_by_its_server_and_its_node(desk: Desk) -> None:
    (record,) = desk.given()
    desk.terminate(record)
    assert desk.drain() == terminating(record)
    assert not record.ended
    desk.end(record, OutcomeKind.TERMINATED)
    assert desk.drain() == [Resolve(record)]
    desk.terminate(record)
    assert desk.drain() == []


def test_a_task_that_comes_back_though_it_was_to_end_is_cancelled(desk: Desk) -> None:
    _, second = desk.given(2)
    desk.terminate(second)
    desk.drain()
    desk.hear(messages.Returned([2]), sender=at(1))
    assert desk.drain() == [Resolve(second)]
    assert second.outcome == OutcomeKind.CANCELLED and not second.started


# --- what waits, and for whom ---


def test_that_no_server_may_take_what_waits_is_told_at_growing_intervals() -> None:
    desk = Desk(servers=0)
    for _ in range(2):
        desk.submit()
    desk.drain()
    assert desk.ledger.deadline() == desk.now + PATIENCE_S
    assert desk.wait(PATIENCE_S - 0.1) == []
    assert desk.wait(0.1) == [desk.sent(messages.Wanting(2))]
    desk.submit()
    assert desk.wait(AGAIN_S - 0.1) == []
    assert desk.wait(0.1) == [desk.sent(messages.Wanting(3))]
    assert desk.wait(2 * AGAIN_S - 0.1) == []
    assert desk.wait(0.1) == [desk.sent(messages.Wanting(3))]


def test_when_a_server_comes_nothing_is_wanted_any_more() -> None:
    desk = Desk(servers=0)
    record = desk.submit()
    desk.drain()
    desk.wait(PATIENCE_S)
    desk.hear_of_server(1)
    assert desk.drain() == [run(record)]
    for _ in range(3):
        desk.submit()
    desk.drain()
    recall = desk.sent(messages.Recall(1), at(1))
    assert desk.ledger.dispatcher.waiting == 2 and desk.wait(AGAIN_S) == [recall]
    assert desk.wait(AGAIN_S) == [], "it is busy, and does not answer yet: that is no want"
    desk.lose_server(1, begun=0)
    desk.drain()
    assert desk.wait(PATIENCE_S) == [desk.sent(messages.Wanting(4))], "patience begins anew"


def test_servers_that_drain_are_none(desk: Desk) -> None:
    desk.given()
    desk.hear(messages.Returned([1], draining=True), sender=at(1))
    assert desk.drain() == []
    assert desk.wait(PATIENCE_S) == [desk.sent(messages.Wanting(1))]


def test_who_has_nothing_to_do_wants_nothing() -> None:
    desk = Desk(servers=0)
    assert desk.wait(PATIENCE_S) == []
    assert desk.ledger.deadline() is None
    record = desk.submit()
    desk.drain()
    desk.terminate(record)
    desk.drain()
    assert desk.ledger.deadline() is None and desk.wait(PATIENCE_S) == []


def test_what_waits_is_refused_when_no_server_can_come_any_more(desk: Desk) -> None:
    had = desk.running()
    waiting = [desk.submit(alone=True) for _ in range(2)]
    assert desk.drain() == []
    desk.hear(messages.Hopeless("no server can be started: no disk"))
    assert desk.drain() == [Resolve(record) for record in waiting]
    assert {(record.outcome, record.text) for record in waiting} == {
        (OutcomeKind.REFUSED, "no server can be started: no disk")
    }
    assert not had.ended


def test_what_waits_for_a_node_without_servers_is_refused_when_it_can_start_none() -> None:
    desk = Desk(servers=0)
    there, anywhere = desk.submit(node="box"), desk.submit()
    desk.hear(messages.Hopeless("no disk", node=900))
    assert desk.drain() == [Resolve(there)]
    assert (there.outcome, there.text) == (OutcomeKind.REFUSED, "no server can be started: no disk")
    assert not anywhere.ended


def test_who_waits_for_room_is_told_once_when_the_backlog_has_fallen(desk: Desk) -> None:
    records = [desk.submit(alone=True) for _ in range(4)]
    desk.ledger.tasks.ask_for_room(2)
    assert desk.drain() == [run(records[0])]
    desk.end(records[0])
    assert desk.drain() == [Resolve(records[0]), run(records[1], 2), Room()]
    desk.end(records[1])
    assert desk.drain() == [Resolve(records[1]), run(records[2], 3)]


def test_who_asks_for_room_that_there_is_is_told_at_once(desk: Desk) -> None:
    desk.ledger.tasks.ask_for_room(0)
    assert desk.drain() == [Room()]


def test_cancelled_tasks_make_room() -> None:
    desk = Desk(servers=0)
    first, second = desk.submit(), desk.submit()
    desk.ledger.tasks.ask_for_room(1)
    assert desk.drain() == []
    desk.terminate(second)
    assert desk.drain() == [Resolve(second), Room()]
    assert not first.ended


def test_nobody_waits_for_room_at_a_scheduler_that_is_gone() -> None:
    desk = Desk(servers=0)
    record = desk.submit()
    desk.ledger.tasks.ask_for_room(0)
    assert desk.drain() == []
    desk.ledger.standing.scheduler_lost("it died")
    assert desk.drain() == [Resolve(record), Freed("it died"), Room()]


def test_who_waits_in_the_queue_is_told_for_whom_after_a_while() -> None:
    desk = Desk(granted=False)
    desk.ledger.standing.enlist(BROKER, ENLIST, desk.now)
    assert PATIENCE_S == 3 and desk.ledger.deadline() == desk.now + PATIENCE_S
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
    desk = Desk()
    desk.ledger.wake(desk.now + PATIENCE_S)
    assert desk.drain() == []
    assert desk.ledger.deadline() is None


def test_a_scheduler_that_turns_the_client_away_says_why() -> None:
    desk = Desk(granted=False)
    desk.ledger.standing.enlist(BROKER, ENLIST, desk.now)
    desk.hear(messages.Turned("this scheduler closes"))
    assert desk.drain() == [desk.sent(ENLIST), Failed("this scheduler closes")]


def test_schedule_is_over_when_every_node_has_settled(desk: Desk) -> None:
    desk.hear(messages.Settled(2, 8))
    assert desk.drain() == [Scheduled()]


def test_a_server_gets_the_call_that_it_fetches_or_hears_that_the_task_has_ended(desk: Desk) -> None:
    server = Address(1001, SERVER)
    record = desk.submit()
    number = record.task.number
    desk.drain()
    for asked in (number, number + 1):
        desk.hear(messages.CallWanted(TaskId(7, asked)), None, server, asked)
    there = Envelope(server, desk.ledger.address, messages.CallGiven(""), number, record.call)
    gone = Envelope(server, desk.ledger.address, messages.CallGiven("the task has ended"), number + 1)
    assert desk.drain() == [Send(there), Send(gone)]


def test_requests_output_and_notices_go_to_the_body(desk: Desk) -> None:
    server = Address(1001, SERVER)
    code = desk.hear(messages.CodeWanted(), b"request", server, 3)
    written = messages.Output("box/server-1", 1)
    desk.hear(written, b"hello\n")
    desk.hear(messages.Notice("no node found", "warning"))
    assert desk.drain() == [
        GiveCode(code),
        Print(written, b"hello\n"),
        Say("no node found", "warning"),
    ]


def test_files_that_went_with_their_folders_are_named_once_for_all_nodes(desk: Desk) -> None:
    desk.ledger.standing.release(terminate=False, await_io=False)
    assert desk.drain() == [desk.sent(messages.Release())]
    desk.hear(messages.Left(1, 5, ["out.txt"]))
    desk.hear(messages.Left(700, 9_000_000, ["a", "b", "c", "d", "e"]))
    assert desk.drain() == []
    desk.hear(messages.Released())
    said = desk.drain()[0]
    assert isinstance(said, Say) and said.level == "warning"
    assert said.text.startswith(
        "701 files of tasks (9,000,005 bytes) went with their working folders: out.txt, a, b, c, d and 696 more."
    )


def test_the_end_of_servers_at_the_clients_own_close_is_no_news_for_people(desk: Desk) -> None:
    desk.ledger.standing.release(terminate=False, await_io=True)
    desk.hear(messages.ServerNews(Status.ServerClosed, SPOT, 900, "has ended"))
    desk.lose_server(1, "its lease was closed", closing=True)
    desk.hear(messages.NodeNews(Status.NodeClosed, BOX, "lease closed"))
    assert desk.drain() == [*desk.buried(1), HangUp(900), desk.sent(messages.Release())]
    desk.hear(messages.Released("done"))
    assert desk.drain() == [Freed("done")]


def test_a_status_task_hears_of_nodes_servers_and_tasks() -> None:
    desk = Desk(servers=0, wants_news=True)
    place = Location("10.0.0.5", 9701)
    desk.hear(messages.NodeNews(Status.NodeDiscovered, BOX))
    desk.hear(messages.ServerNews(Status.ServerInitialized, SPOT, 900))
    left = Availability(50.0, 1000, 2000, 0)
    desk.hear(messages.Pulse(900, left))
    desk.hear(messages.Pulse(901, left))
    assert desk.drain() == [
        News(Status.NodeDiscovered, BOX),
        News(Status.ServerInitialized, place),
        Pulsed(BOX._replace(available=left)),
    ]
    started, short = desk.given(2)
    desk.start(started)
    assert desk.drain() == [Began(started), News(Status.TaskCreated, started)]
    desk.end(started, actor=30)
    assert desk.drain() == [Resolve(started)]
    desk.end(short, actor=31)
    assert desk.drain() == [News(Status.TaskCreated, short), Resolve(short)]
    desk.ledger.standing.release(terminate=False, await_io=False)
    desk.drain()
    desk.hear(messages.Released())
    assert desk.drain() == [Bury(1001), Freed(""), News(Status.ClientClosed, None)]


def test_who_asks_is_told_how_many_tasks_there_are(desk: Desk) -> None:
    records = [desk.submit(alone=True) for _ in range(4)]
    desk.drain()
    desk.end(records[0])
    desk.drain()
    desk.hear(messages.Inventory(), correlation=12)
    assert desk.drain() == [desk.sent(messages.Counts(2, 1, 1), correlation=12)]


def test_a_task_that_cannot_be_sent_is_refused_in_words(desk: Desk) -> None:
    record, other = desk.submit(), desk.submit()
    (first, *_) = [word for _, word in desk.words()]
    desk.ledger.unsent(first, "Run cannot be sent: too long", desk.now)
    assert desk.drain() == [Resolve(record)]
    assert (record.outcome, record.text) == (OutcomeKind.REFUSED, "compute: Run cannot be sent: too long")
    assert not other.ended and other.at is not None and not record.started


def test_that_an_older_attempt_could_not_be_sent_is_no_news(desk: Desk) -> None:
    record = desk.running(retries=1)
    old = messages.Run(record.task, "compute", 1)
    desk.hear_of_server(2)
    desk.lose_server(1, begun=1)
    desk.drain()
    desk.ledger.unsent(old, "Run cannot be sent: too long", desk.now)
    assert desk.drain() == [] and not record.ended


def test_a_client_that_cannot_say_what_it_wants_fails_at_once(desk: Desk) -> None:
    desk.ledger.unsent(ENLIST, "Enlist cannot be sent: too long", desk.now)
    assert desk.drain() == [Failed("Enlist cannot be sent: too long")]


def test_a_word_that_is_not_for_clients_is_passed_over(desk: Desk) -> None:
    desk.hear(messages.Recall(3))
    assert desk.drain() == []


# --- the end of it ---


def test_who_has_no_task_is_released_at_once(desk: Desk) -> None:
    desk.ledger.standing.release(terminate=False, await_io=False)
    assert desk.drain() == [desk.sent(messages.Release())]


@pytest.mark.parametrize("await_io", [False, True])
def test_release_waits_for_all_cpu_tasks_and_for_io_tasks_if_that_is_wanted(
    desk: Desk, await_io: bool
) -> None:
    first, second, aside = desk.submit(alone=True), desk.submit(alone=True), desk.submit(io=True)
    desk.ledger.standing.release(terminate=False, await_io=await_io)
    assert desk.drain() == [run(first), run(aside, 2, io=True)]
    desk.end(first)
    assert desk.drain() == [Resolve(first), run(second, 3)]
    desk.end(second)
    release = desk.sent(messages.Release())
    assert desk.drain() == [Resolve(second), *([] if await_io else [release])]
    desk.end(aside)
    assert desk.drain() == [Resolve(aside), *([release] if await_io else [])]


def test_release_waits_until_what_a_task_printed_is_here(desk: Desk) -> None:
    record = desk.running()
    desk.end(record, marks=(1, 0))
    desk.ledger.standing.release(terminate=False, await_io=False)
    assert desk.drain() == []
    printed = messages.Output("box/server-1", 1, 1001, 1)
    desk.hear(printed, b"text\n")
    assert desk.drain() == [Print(printed, b"text\n"), Resolve(record), desk.sent(messages.Release())]


def test_release_with_terminate_waits_for_nothing(desk: Desk) -> None:
    running, behind, waiting = desk.submit(), desk.submit(), desk.submit()
    desk.drain()
    desk.ledger.standing.release(terminate=True, await_io=False)
    assert desk.drain() == [Resolve(waiting), desk.sent(messages.Release())]
    assert (waiting.outcome, waiting.text) == (OutcomeKind.CANCELLED, "the client closed")
    desk.hear(messages.Returned([2], draining=True), sender=at(1))
    assert desk.drain() == [Resolve(behind)]
    desk.end(running, OutcomeKind.TERMINATED)
    assert desk.drain() == [Resolve(running)]


def test_who_loses_patience_while_it_is_released_says_so(desk: Desk) -> None:
    desk.running(io=True)
    desk.ledger.standing.release(terminate=False, await_io=False)
    assert desk.drain() == [desk.sent(messages.Release())]
    desk.ledger.standing.release(terminate=True, await_io=False)
    assert desk.drain() == [desk.sent(messages.Release())]


def test_who_waits_in_the_queue_leaves_it_at_once() -> None:
    desk = Desk(granted=False)
    desk.ledger.standing.enlist(BROKER, ENLIST, desk.now)
    desk.ledger.standing.release(terminate=False, await_io=False)
    assert desk.drain() == [desk.sent(ENLIST), desk.sent(messages.Release())]


def test_tasks_left_when_the_lease_ends_unasked_are_lost(desk: Desk) -> None:
    running = desk.running()
    (given,) = desk.given()
    waiting = desk.submit(alone=True)
    desk.drain()
    desk.hear(messages.Released("the node was stopped"))
    assert desk.drain() == [
        Say("the lease has ended: the node was stopped", "warning"),
        Resolve(running),
        Resolve(given),
        Resolve(waiting),
        Bury(1001),
        Freed("the node was stopped"),
    ]
    assert running.outcome == OutcomeKind.LOST
    assert [record.started for record in (running, given, waiting)] == [True, True, False]
    assert running.text == desk.ledger.over == "the node was stopped"


def test_tasks_left_at_the_clients_own_close_say_so(desk: Desk) -> None:
    running = desk.running()
    desk.ledger.standing.release(terminate=True, await_io=False)
    desk.hear(messages.Released())
    assert desk.drain() == [
        desk.sent(messages.Release()),
        Resolve(running),
        Bury(1001),
        Freed(""),
    ]
    assert running.text == "the client closed"


def test_late_words_about_a_lease_that_has_ended_are_harmless(desk: Desk) -> None:
    """A scheduler that was given up may be heard again."""
    record = desk.running()
    desk.ledger.standing.scheduler_lost("no link to the scheduler for 10 s")
    desk.drain()
    desk.hear_of_server(2)
    desk.hear(outcome(record), sender=at(1))
    desk.hear(messages.Returned([1]), sender=at(1))
    desk.hear(messages.NodeNews(Status.NodeClosed, BOX))
    desk.hear(messages.NodeNews(Status.NodeInitialized, BOX))
    desk.ledger.session_lost(1001, [], desk.now)
    desk.drain()
    assert record.outcome == OutcomeKind.LOST


@pytest.mark.parametrize("kind", [OutcomeKind.LOST, OutcomeKind.REFUSED])
def test_somebody_has_to_hear_of_tasks_that_were_lost(desk: Desk, kind: OutcomeKind) -> None:
    lost, monitored, unwanted, late = desk.given(4, io=True)
    monitored.watch(Address(9, 9), 1)
    desk.terminate(unwanted)
    for record in (lost, monitored, unwanted):
        desk.end(record, kind)
    desk.ledger.standing.release(terminate=True, await_io=False)
    desk.end(late, kind)
    desk.drain()
    assert list(desk.ledger.tasks.unread.values()) == [lost]


def test_without_its_scheduler_every_task_is_lost_and_says_whether_it_may_have_run(desk: Desk) -> None:
    running = desk.running()
    (given,) = desk.given()
    waiting = desk.submit()
    desk.drain()
    reason = "no link to the scheduler for 10 s"
    desk.ledger.standing.scheduler_lost(reason)
    assert desk.drain() == [
        Resolve(running),
        Resolve(given),
        Resolve(waiting),
        Bury(1001),
        Freed(reason),
    ]
    assert [record.started for record in (running, given, waiting)] == [True, True, False]
    assert {record.outcome for record in (running, given, waiting)} == {OutcomeKind.LOST}


# --- what close() waits for ---


def close_says(desk: Desk) -> list[object]:
    desk.ledger.tasks.say_what_close_waits_for()
    return desk.drain()


def test_close_says_that_it_waits_for_tasks(desk: Desk) -> None:
    running, aside = desk.running(), desk.running(io=True, function="listen")
    desk.ledger.standing.release(terminate=False, await_io=False)
    text = "close() waits for 1 task (compute 1); close(terminate=True) would end the wait"
    assert close_says(desk) == [Say(text, "info")]
    desk.end(running)
    assert desk.drain() == [Resolve(running), desk.sent(messages.Release())]
    assert close_says(desk) == []
    desk.end(aside)
    assert desk.drain() == [Resolve(aside)]


def test_close_names_io_tasks_if_it_waits_for_them(desk: Desk) -> None:
    desk.running(io=True, function="listen")
    desk.ledger.standing.release(terminate=False, await_io=True)
    text = "close() waits for 1 task (listen 1); close(terminate=True) would end the wait"
    assert close_says(desk) == [Say(text, "info")]


def test_close_warns_if_it_may_wait_for_ever(desk: Desk) -> None:
    desk.running()
    desk.ledger.standing.release(terminate=False, await_io=False)
    desk.hear(messages.NodeNews(Status.NodeDisconnected, BOX))
    text = (
        "close() waits for 1 task (compute 1), some of them on node box, which is silent; "
        "close(terminate=True) would end the wait"
    )
    assert close_says(desk) == [Say(text, "warning")]
    desk.ledger.standing.release(terminate=True, await_io=False)
    assert close_says(desk) == [desk.sent(messages.Release())]


def test_close_warns_if_there_is_no_server() -> None:
    desk = Desk(servers=0)
    desk.submit()
    desk.ledger.standing.release(terminate=False, await_io=False)
    desk.drain()
    assert [effect.level for effect in close_says(desk) if isinstance(effect, Say)] == ["warning"]


def test_who_waits_for_a_client_of_its_own_program_is_told_so() -> None:
    desk = Desk(granted=False)
    desk.ledger.standing.enlist(BROKER, ENLIST, desk.now)
    desk.hear(messages.Queued(1, "another on h (pid 1)"))
    desk.ledger.wake(desk.now + PATIENCE_S)
    assert desk.drain()[-1] == Say(
        "waiting for the cluster: another on h (pid 1) has it (another Client of this very program); "
        "place 1 in the queue",
        "warning",
    )


def test_who_moves_up_in_the_queue_is_told_after_the_first_time() -> None:
    desk = Desk(granted=False)
    desk.ledger.standing.enlist(BROKER, ENLIST, desk.now)
    desk.hear(messages.Queued(2, "anna's job"))
    desk.ledger.wake(desk.now + PATIENCE_S)
    desk.drain()
    desk.hear(messages.Queued(1, "bert's job"))
    assert desk.drain() == [
        Say("waiting for the cluster: bert's job has it; place 1 in the queue", "warning")
    ]


def test_the_size_of_a_call_counts_all_its_buffers(desk: Desk) -> None:
    assert desk.submit([b"12345", memoryview(bytes(100))]).size == 105
    assert desk.submit(None).size == 0
    desk.drain()


def test_a_scheduler_is_at_its_place_in_its_runtime() -> None:
    assert scheduler_of(5) == BROKER


# --- tasks that tasks submit

FIRST = 17 << 32


def submit_nested(desk: Desk, number: int = 1, call: Any = b"call", **fields: Any) -> Entry | None:
    """By a task on server 1."""
    desk.ledger.tasks.submitters.add(1001, 17)
    desk.hear(messages.Nested(FIRST + number, "child", **fields), call, at(1))
    return desk.ledger.records.get(FIRST + number)


def passed_on(desk: Desk) -> list[tuple[messages.Message, Any]]:
    """To server 1, but for Runs."""
    return [
        (effect.envelope.message, effect.envelope.payload)
        for effect in desk.drain()
        if isinstance(effect, Send)
        and effect.envelope.to == at(1)
        and type(effect.envelope.message) is not messages.Run
    ]


def test_a_nested_task_is_placed_as_any_other_and_its_outcome_passed_on() -> None:
    desk = Desk(servers=2)
    record = submit_nested(desk, retries=2, code=3)
    assert record is not None and (record.retries, record.code, record.call) == (2, 3, b"call")
    run = next(word for _, word in desk.words() if isinstance(word, messages.Run))
    assert run.task == TaskId(7, FIRST + 1) and run.function == "child" and not run.fetch
    desk.start(record)
    desk.end(record, payload=b"value", actor=30, spot=spot(2), seconds=0.25, cpu_s=0.2)
    ((word, payload),) = passed_on(desk)
    assert isinstance(word, messages.Outcome) and payload == b"value"
    assert (word.task, word.outcome, word.started) == (record.task, OutcomeKind.RETURNED, True)
    assert (word.seconds, word.cpu_s) == (0.25, 0.2) and word.spot is not None


def test_who_waits_for_its_start_hears_where_it_is() -> None:
    desk = Desk(servers=2)
    record = submit_nested(desk, alone=True)
    assert record is not None
    desk.drain()
    desk.start(record)
    ((word, _),) = passed_on(desk)
    assert record.location is not None
    assert word == messages.Placed(record.task, 30, spot(record.location.port - 9700))


def test_a_large_call_is_kept_here_and_fetched() -> None:
    desk = Desk(servers=2)
    call = [b"x", bytearray(CALL_MAX)]
    record = submit_nested(desk, call=call)
    assert record is not None and record.call is call
    assert next(word for _, word in desk.words() if isinstance(word, messages.Run)).fetch


def test_a_place_that_is_not_there_refuses_it() -> None:
    desk = Desk()
    assert submit_nested(desk, addr="nowhere") is None
    ((word, _),) = passed_on(desk)
    assert isinstance(word, messages.Outcome) and word.outcome == OutcomeKind.REFUSED
    assert "no node or server nowhere" in word.text and not word.started
    record = submit_nested(desk, 2, addr="10.0.0.5", port=9701)
    assert record is not None and record.server == 1001


def test_after_a_close_that_ends_all_it_is_cancelled_at_once() -> None:
    desk = Desk()
    desk.ledger.standing.release(terminate=True, await_io=False)
    desk.drain()
    assert submit_nested(desk) is None
    ((word, _),) = passed_on(desk)
    assert isinstance(word, messages.Outcome) and word.outcome == OutcomeKind.CANCELLED


def test_close_waits_for_what_tasks_submitted() -> None:
    desk = Desk()
    (parent,) = desk.given()
    record = submit_nested(desk)
    assert record is not None
    desk.ledger.standing.release(terminate=False, await_io=False)
    desk.end(parent)
    assert messages.Release() not in [word for _, word in desk.words()]
    desk.end(record)
    assert messages.Release() in [word for _, word in desk.words()]


def test_an_error_that_a_monitor_is_told_is_no_news_at_the_end() -> None:
    desk = Desk()
    monitored, alone = desk.given(2, io=True)
    monitored.watch(Address(9, 9), 1)
    for record in (monitored, alone):
        desk.end(record, OutcomeKind.RAISED, b"error")
    assert list(desk.ledger.tasks.unread.values()) == [alone]
    desk.drain()


def test_the_failure_of_a_nested_task_is_news_until_its_task_has_looked_at_it() -> None:
    desk = Desk()
    for number in (1, 2):
        record = submit_nested(desk, number)
        desk.drain()
        assert record is not None
        desk.end(record, OutcomeKind.RAISED, b"error")
    desk.hear(messages.Heard(FIRST + 1), sender=at(1))
    assert list(desk.ledger.tasks.unread) == [FIRST + 2]
    desk.drain()


def test_what_came_before_its_task_is_passed_to_it_when_it_is_there() -> None:
    desk = Desk()
    desk.ledger.tasks.submitters.add(1001, 17)
    early = Envelope(Address(7, FIRST + 1), Address(1002, 20), messages.Tell())
    assert desk.ledger.tasks.submitters.hold(early)
    submit_nested(desk)
    assert Forward(early) in desk.drain()


def test_what_came_for_one_that_was_never_submitted_is_answered_when_its_server_is_dead() -> None:
    desk = Desk()
    desk.ledger.tasks.submitters.add(1001, 17)
    asker = Address(1002, 20)
    for correlation, word in enumerate((messages.Ask(), messages.Watch(), messages.Tell()), start=1):
        desk.ledger.tasks.submitters.hold(Envelope(Address(7, FIRST + 1), asker, word, correlation))
    desk.hear(messages.ServerLost(1001, "killed"), sender=AGENT)
    assert [word for to, word in desk.words() if to == asker] == [
        messages.Reply(ok=False),
        messages.Ended(0, "it had ended before"),
        messages.Delivered(0),
    ]


def test_a_server_submits_under_its_own_numbers_only() -> None:
    desk = Desk(servers=2)
    assert submit_nested(desk) is not None
    desk.hear(messages.Nested(FIRST + 2, "child"), b"call", at(2))
    desk.hear(messages.Nested(FIRST + 1, "again"), b"call", at(1))
    assert [record.function for record in desk.ledger.records.values()] == ["child"]
    desk.drain()

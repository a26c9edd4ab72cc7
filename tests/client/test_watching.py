"""What a client tells those who watch, and what it does for them."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.machine import Send
from dispycos.protocol import messages, watching
from dispycos.protocol.addresses import NODE, Address
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.watching import OUTPUT, TASKS, ClientSight, Enclosed, Granting, Look, Wish, disclosed

from .test_ledger import SPOT, Desk

VIEWER = Address(4000, 20)
EVERYTHING = TASKS | OUTPUT


def look(desk: Desk, parts: int = EVERYTHING, **since: int) -> ClientSight:
    desk.hear(Look(parts, **since), sender=VIEWER, correlation=3)
    (sight,) = [word for to, word in desk.words() if to == VIEWER]
    assert isinstance(sight, ClientSight)
    return sight


def wish(desk: Desk, *args: Any, **wishes: Any) -> Granting:
    desk.hear(Wish(*args, **wishes), sender=VIEWER, correlation=4)
    (granting,) = [word for to, word in desk.words() if to == VIEWER]
    assert isinstance(granting, Granting)
    return granting


def test_it_tells_of_its_node_and_servers_and_of_what_runs_there() -> None:
    desk = Desk(servers=2)
    first, second, third = desk.given(3)
    desk.now += 2.0
    desk.start(first)
    desk.now += 1.0
    sight = look(desk)
    assert (sight.state, sight.submitted, sight.waiting, sight.held) == ("active", 3, 0, 3)
    assert [node.state for node in sight.nodes] == ["running"]
    assert sorted((server.state, server.running) for server in sight.servers) == [("running", 1)] * 2
    assert sum(server.ahead for server in sight.servers) == 1
    live = {task.number: task for task in sight.live}
    assert live[first.task.number].since_s == 1.0 and live[first.task.number].state == "running"
    assert live[third.task.number].state == "queued" and "behind the task" in live[third.task.number].why
    assert second.task.number in live


def test_what_ended_is_told_once_and_failures_are_grouped() -> None:
    desk = Desk()
    one, two = desk.given(2)
    desk.end(one, seconds=0.5)
    desk.end(two, OutcomeKind.REFUSED, started=False, text="its code is missing")
    sight = look(desk)
    assert [(task.number, task.outcome) for task in sight.ended] == [
        (one.task.number, OutcomeKind.RETURNED),
        (two.task.number, OutcomeKind.REFUSED),
    ]
    assert sight.ended[0].seconds == 0.5 and sight.ended[0].server == SPOT.epoch
    (group,) = sight.failures
    assert (group.error, group.text, group.tasks) == ("TaskRefused", "its code is missing", 1)
    assert sight.ended[1].failure == group.number
    (server,) = sight.servers
    assert (server.ended, server.failed) == (2, 1)
    assert look(desk, since=2).ended == []


def test_what_waits_and_why() -> None:
    desk = Desk(servers=0)
    desk.submit()
    desk.now += 4.0
    sight = look(desk)
    (waits,) = sight.waits
    assert (waits.reason, waits.text, waits.tasks) == ("none", "there is no server", 1)
    (task,) = sight.live
    assert task.state == "queued" and "there is no server" in task.why
    queued = Desk(granted=False)
    queued.submit()
    assert look(queued).waits[0].reason == "cluster"


def test_a_suspended_server_says_so_and_so_does_what_waits_for_it() -> None:
    desk = Desk()
    assert wish(desk, "suspend", servers=[SPOT.epoch]) == Granting(1)
    desk.submit()
    sight = look(desk)
    assert [server.state for server in sight.servers] == ["suspended"]
    assert sight.waits[0].reason == "suspended" and "suspended" in sight.waits[0].text
    assert wish(desk, "resume", servers=[SPOT.epoch]) == Granting(1)
    assert [server.state for server in look(desk).servers] == ["running"]
    assert wish(desk, "suspend", nodes=[900]) == Granting(1)
    assert [node.state for node in look(desk).nodes] == ["suspended"]
    assert wish(desk, "suspend", nodes=[901]).refused == [(901, "it is not of this client's lease any more")]


def test_tasks_are_terminated_by_number_or_all_that_fit() -> None:
    desk = Desk()
    runs, *_ = desk.given(2, function="f")
    other = desk.submit(function="g")
    desk.drain()
    assert wish(desk, "terminate", tasks=[runs.task.number, 99]) == Granting(1, [(99, "it has ended")])
    assert runs.terminated and not other.terminated
    assert wish(desk, "terminate", function="g").done == 1
    assert other.terminated
    assert wish(desk, "terminate", state="running").done == 1
    assert wish(desk, "fly").done == 0


def test_a_server_that_died_has_a_certificate_with_what_it_ran() -> None:
    desk = Desk()
    (runs,) = desk.given(1)
    desk.start(runs)
    word = messages.ServerLost(SPOT.epoch, "killed by SIGKILL (9)", messages.Marks(1, 0))
    desk.hear(word, sender=Address(900, NODE))
    sight = look(desk)
    (death,) = sight.deaths
    assert (death.text, death.tasks) == ("killed by SIGKILL (9)", [(runs.task.number, "compute")])
    assert not death.expected and sight.failures[0].error == "TaskLost"
    assert look(desk, death=1).deaths == []


def test_the_end_of_the_lease_is_the_clients_to_give() -> None:
    desk = Desk()
    (runs,) = desk.given(1)
    assert wish(desk, "end_lease") == Granting(1)
    assert look(desk).state == "closing" and runs.terminated is False


def test_what_is_too_long_for_a_word_is_enclosed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thousand servers there is more to tell: it used to be an error in the client, and nothing was told."""
    monkeypatch.setattr(watching, "WORD_MAX", watching.WORD_MAX // 10)
    desk = Desk(servers=200)
    desk.hear(Look(EVERYTHING), sender=VIEWER, correlation=3)
    sent = [effect.envelope for effect in desk.drain() if isinstance(effect, Send)]
    (envelope,) = [envelope for envelope in sent if envelope.to == VIEWER]
    assert isinstance(envelope.message, Enclosed)
    assert envelope.correlation == 3
    assert len(disclosed(envelope.payload).servers) == 200


def test_what_a_node_has_done_is_told_to_the_end_of_the_lease_and_after() -> None:
    desk = Desk()
    one, two = desk.given(2)
    desk.end(one)
    desk.end(two, OutcomeKind.REFUSED, started=False)
    desk.hear(
        messages.ServerLost(SPOT.epoch, "killed by SIGKILL (9)", messages.Marks(1, 0)),
        sender=Address(900, NODE),
    )
    assert [(node.ended, node.failed) for node in look(desk).nodes] == [(2, 1)]
    desk.hear(messages.Released("the scheduler was stopped"))
    sight = look(desk)
    assert (sight.state, sight.past, sight.submitted) == ("ended", [(900, 2, 1)], 2)

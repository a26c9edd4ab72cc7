"""Suspending, closing and starting anew, as a client decides it: what is told to whom, and when."""

from __future__ import annotations

import pytest

from dispycos.actors.client.control import Control
from dispycos.actors.client.effects import News, Say
from dispycos.actors.dispatching.facts import Entry
from dispycos.machine import Send
from dispycos.notices import PATIENCE_S
from dispycos.protocol import messages
from dispycos.protocol.addresses import Location
from dispycos.protocol.messages import AbandonZombie, CloseNode, CloseServer, CloseWanted, RestartNode
from dispycos.protocol.status import OutcomeKind, Status
from tests.client.test_ledger import AGENT, BOX, BROKER, Desk, at, spot

ABOUT = CloseServer | RestartNode | CloseNode


def control_of(desk: Desk) -> Control:
    return desk.ledger.members.control


def close(desk: Desk, number: int = 1, *, terminate: bool = False, again: bool = False) -> None:
    control_of(desk).close_server(spot(number), 900, terminate=terminate, again=again)


def told(desk: Desk) -> list[tuple[object, messages.Message]]:
    """Of closing, to node or scheduler."""
    return [(to, word) for to, word in desk.words() if isinstance(word, ABOUT)]


def outcomes(*entries: Entry) -> list[int | None]:
    return [entry.outcome for entry in entries]


def test_what_is_suspended_gets_nothing_and_each_change_is_told_once() -> None:
    desk = Desk(servers=1, wants_news=True)
    desk.drain()
    for suspended, statuses in (
        (True, [Status.ServerSuspended, Status.NodeSuspended]),
        (False, [Status.ServerResumed, Status.NodeResumed]),
    ):
        for _ in range(2):
            control_of(desk).suspend_server(spot(1), 900, suspended=suspended)
            control_of(desk).suspend_node(900, suspended=suspended)
        news = [effect for effect in desk.drain() if isinstance(effect, News)]
        assert news == [News(statuses[0], Location("10.0.0.5", 9701)), News(statuses[1], BOX)]
        entry = desk.submit()
        desk.drain()
        assert (entry.at is None) is suspended


def test_who_is_started_in_the_place_of_a_suspended_server_is_suspended_too() -> None:
    desk = Desk(servers=1)
    control_of(desk).suspend_server(spot(1), 900, suspended=True)
    desk.lose_server(1)
    successor = spot(1)._replace(epoch=2001)
    desk.hear(messages.ServerNews(Status.ServerInitialized, successor, 900))
    entry = desk.submit()
    desk.drain()
    assert entry.at is None
    control_of(desk).suspend_server(successor, 900, suspended=False)
    desk.drain()
    assert entry.at is not None


def test_why_a_task_waits_for_a_suspended_place_is_said_after_3_s_though_other_servers_are_free() -> None:
    desk = Desk(servers=2)
    control_of(desk).suspend_server(spot(1), 900, suspended=True)
    desk.submit(server=1001)
    desk.drain()
    [say] = desk.wait(PATIENCE_S)
    assert isinstance(say, Say)
    assert say.text == (
        "1 task cannot run: server box/server-1 is suspended (resume_server() ends that); still waiting"
    )
    control_of(desk).suspend_server(spot(1), 900, suspended=False)
    desk.drain()
    assert desk.wait(PATIENCE_S) == []


def test_a_server_is_closed_when_its_cpu_tasks_have_ended_though_io_tasks_run() -> None:
    desk = Desk(servers=1)
    cpu = desk.running()
    io = desk.running(io=True)
    close(desk)
    assert told(desk) == []
    desk.end(cpu)
    assert told(desk) == [(AGENT, CloseServer(9701))]
    desk.lose_server(1, closing=True)
    assert outcomes(cpu, io) == [OutcomeKind.RETURNED, OutcomeKind.TERMINATED]


def test_one_whose_cpu_task_stands_aside_is_not_closed() -> None:
    desk = Desk(servers=1)
    cpu = desk.running()
    desk.hear(messages.Aside(cpu.task, True), sender=at(1))
    close(desk)
    assert told(desk) == []


def test_with_terminate_nothing_is_waited_for_also_after_a_close_that_waits() -> None:
    desk = Desk(servers=1)
    desk.running()
    close(desk, again=True)
    assert told(desk) == []
    close(desk, terminate=True)
    assert told(desk) == [(AGENT, CloseServer(9701))]
    close(desk, terminate=True)  # it is closed already
    assert told(desk) == []


@pytest.mark.parametrize("restarts", [False, True])
def test_a_closed_server_is_started_when_the_client_restarts_or_asks_for_it(restarts: bool) -> None:
    desk = Desk(servers=1)
    control_of(desk).restarts = restarts
    close(desk)
    assert told(desk) == [(AGENT, CloseServer(9701, restarts))]
    close(desk, again=True)
    assert (AGENT, CloseServer(9701, True)) in told(desk)


def test_one_that_dies_before_it_could_be_closed_is_closed_in_the_next_moment() -> None:
    for again, words in ((False, [(AGENT, CloseServer(9701))]), (True, [])):
        desk = Desk(servers=1)
        desk.running()
        close(desk, again=again)
        desk.drain()
        desk.lose_server(1, begun=1)
        assert told(desk) == words


def test_when_all_servers_are_closed_that_is_said_and_what_would_help() -> None:
    desk = Desk(servers=1)
    close(desk)
    desk.lose_server(1, closing=True)
    desk.submit()
    desk.drain()
    [say] = desk.wait(PATIENCE_S)
    assert isinstance(say, Say)
    assert "closed: server box/server-1 (restart_server() starts it)" in say.text


def test_a_node_is_given_back_by_the_scheduler_when_the_cpu_tasks_of_its_servers_have_ended() -> None:
    desk = Desk(servers=2)
    one, other = desk.running(), desk.running()
    control_of(desk).close_node(900, terminate=False, again=False)
    desk.hear_of_server(3)  # it was starting
    waiting = desk.submit()
    desk.end(one)
    assert told(desk) == []
    desk.end(other)
    assert told(desk) == [(BROKER, CloseNode(900))]
    assert waiting.at is None
    control_of(desk).scheduler_back()  # another one
    assert told(desk) == [(BROKER, CloseNode(900))]
    desk.hear(messages.NodeNews(Status.NodeClosed, BOX))
    control_of(desk).scheduler_back()
    assert told(desk) == []


def test_a_node_that_is_started_anew_is_told_itself_and_its_next_servers_get_what_waits() -> None:
    desk = Desk(servers=1)
    close(desk)
    desk.drain()
    control_of(desk).close_node(900, terminate=True, again=True)
    entry = desk.submit(node="box")
    assert told(desk) == [(AGENT, RestartNode())]
    desk.lose_server(1, closing=True)
    desk.hear(messages.SetupWanted(), sender=AGENT)
    desk.hear(messages.ServerNews(Status.ServerInitialized, spot(1)._replace(epoch=2001), 900))
    desk.drain()
    assert entry.at is not None


def test_a_server_that_comes_up_while_its_node_is_told_to_start_anew_gets_nothing() -> None:
    desk = Desk(servers=1)
    control_of(desk).close_node(900, terminate=True, again=True)
    desk.hear_of_server(2)  # it was starting, and will be ended
    entry = desk.submit()
    desk.drain()
    assert entry.at is None
    desk.lose_server(1, closing=True)
    desk.lose_server(2, closing=True)
    desk.hear(messages.SetupWanted(), sender=AGENT)
    desk.hear_of_server(3)
    desk.drain()
    assert entry.at is not None


def test_a_task_may_want_its_own_server_or_node_closed_and_nobody_elses() -> None:
    desk = Desk(servers=1)
    desk.hear(CloseWanted(False, False), sender=at(2))
    assert told(desk) == []
    cpu = desk.running()
    desk.hear(CloseWanted(False, False, True), sender=at(1))
    assert told(desk) == []
    desk.end(cpu)
    assert told(desk) == [(AGENT, CloseServer(9701, True))]
    desk.hear(CloseWanted(True, True), sender=at(1))
    assert told(desk) == [(BROKER, CloseNode(900))]


def test_what_was_wanted_of_a_node_that_is_gone_is_forgotten() -> None:
    desk = Desk(servers=2)
    control_of(desk).suspend_server(spot(1), 900, suspended=True)
    control_of(desk).suspend_node(900, suspended=True)
    close(desk, 2)
    desk.drain()
    desk.hear(messages.NodeNews(Status.NodeClosed, BOX, "is gone"))
    desk.drain()
    desk.hear(messages.NodeNews(Status.NodeInitialized, BOX))
    desk.hear_of_server(1)
    entry = desk.submit()
    desk.drain()
    assert entry.at is not None and control_of(desk).closed == {}


def test_sends_are_the_only_effects_of_a_close() -> None:
    desk = Desk(servers=1)
    close(desk)
    assert [type(effect) for effect in desk.drain()] == [Send]


def test_what_is_said_of_a_zombie_is_said_again_to_the_next_scheduler() -> None:
    desk = Desk(servers=1)
    control_of(desk).abandon_zombie(900, abandon=True)
    control_of(desk).abandon_zombie(900, abandon=False)
    said = [word for _, word in desk.words()]
    assert said == [AbandonZombie(900, True), AbandonZombie(900, False)]
    control_of(desk).scheduler_back()
    assert desk.words() == [(BROKER, AbandonZombie(900, False))]


def test_where_files_stay_is_said_at_the_end_and_not_that_they_went() -> None:
    desk = Desk(servers=1)
    desk.hear(messages.Left(2, 10, ["a", "b"]))
    desk.hear(messages.Left(3, 10, ["c"], "box:/tmp/kept-1"))
    desk.ledger.standing.release(terminate=False, await_io=False)
    desk.drain()
    desk.hear(messages.Released())
    kept, went = [effect.text for effect in desk.drain() if isinstance(effect, Say)]
    assert kept == "the files of this client stay in box:/tmp/kept-1: remove them when they are not needed"
    assert went.startswith("2 files of tasks")

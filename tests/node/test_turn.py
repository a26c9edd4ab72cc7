"""What a node agent's body does within a turn, with a machine and a runtime that only note."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any, cast

import pytest

from dispycos.actors.node.lease import CloseZygote, ForgetPeer, StartServer, StartZygote
from dispycos.actors.node.processes.words import EndStep, KillServer
from dispycos.actors.node.turn import LAST_WORDS_S, LOOK_S, NodeRole
from dispycos.actors.tasks.step import Step
from dispycos.protocol.messages import Lease
from dispycos.session.links import LinkLost, LinkReady
from dispycos.session.session import PeerReset
from dispycos.turns import FORGET_S

LEASE = Lease(1, 7, "s", 5)
ABOUT = cast(Any, "about")


class Notes:
    """Whatever is called is noted, with its arguments."""

    def __init__(self, notes: list[tuple[Any, ...]]) -> None:
        self._notes = notes

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **named: self._notes.append((name, *arguments, *named.values()))


class Agent(NodeRole):
    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        noting = Notes(self.notes)
        self.machine = cast(Any, noting)
        runtime: Any = Notes(self.notes)
        runtime.router = noting
        runtime.lives = lambda epoch: epoch == 44
        self.runtime = runtime
        for hook in ("start_server", "order", "start_zygote", "close_zygote"):
            setattr(self, hook, getattr(noting, hook))


@pytest.mark.parametrize(
    ("event", "noted"),
    [
        (LinkReady(1, 33, "server"), [("peer_up", 33, 2.0)]),
        (LinkReady(1, 5, "scheduler"), [("add_scheduler", 5, 2.0), ("peer_up", 5, 2.0)]),
        (LinkLost(1, 33), [("peer_lost", 33, 2.0, False)]),
        (LinkLost(1, 44), [("peer_lost", 44, 2.0, True)]),  # it is of this host
        (PeerReset(33, []), [("peer_reset", 33, 2.0)]),
    ],
)
def test_the_machine_hears_of_links(event: Any, noted: list[Any]) -> None:
    agent = Agent()
    agent.on_event(event, 2.0)
    assert agent.notes == noted


@pytest.mark.parametrize(
    ("effect", "noted"),
    [
        (StartServer(3), [("start_server", 3)]),
        (KillServer(3), [("order", KillServer(3))]),
        (EndStep(3, Step(7, 9)), [("order", EndStep(3, Step(7, 9)))]),
        (StartZygote(LEASE), [("prefer", 5), ("keep", 7), ("start_zygote", LEASE)]),
        (CloseZygote(LEASE), [("forget_later", 7, FORGET_S), ("close_zygote", LEASE)]),
        (ForgetPeer(33), [("bury", 33, 2.0)]),
    ],
)
def test_what_the_machine_wants_is_done(effect: object, noted: list[Any]) -> None:
    agent = Agent()
    agent.carry_out(effect, 2.0)
    assert agent.notes == noted


def test_an_effect_that_nobody_knows_is_an_error() -> None:
    with pytest.raises(TypeError, match="no such effect"):
        Agent().carry_out(object(), 2.0)


class Waiting:
    """A runtime in virtual time, one of whose clients has not confirmed all, and its loop."""

    def __init__(self) -> None:
        self.now = 0.0
        self.can_be_reached = self.is_busy_with = True
        self.schedulers: list[int] = []
        self.loop = self.router = self
        self.lock = nullcontext()
        self.calls: list[tuple[Any, ...]] = []

    def clock(self) -> float:
        return self.now

    def neighbours(self, role: str) -> list[int]:
        return self.schedulers

    def can_reach(self, epoch: int) -> bool:
        return self.can_be_reached

    def is_busy(self, epoch: int) -> bool:
        return self.is_busy_with

    def call_later(self, seconds: float, *call: Any) -> None:
        self.now += seconds
        self.calls.append(call)

    def turn_soon(self) -> None:
        """Nothing is done here."""

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.calls and self.now < until:
            call, *arguments = self.calls.pop()
            call(*arguments)


@pytest.mark.parametrize(("ending", "schedulers"), [("", []), ("its operator ends it", []), ("", [5])])
def test_the_last_words_of_a_lease_wait_for_a_way_to_its_client_and_then_a_second(
    ending: str, schedulers: list[int]
) -> None:
    agent, runtime = Agent(), Waiting()
    agent.runtime = cast(Any, runtime)
    agent.machine = cast(Any, SimpleNamespace(ending=ending, client_has_all=lambda *word: told.append(word)))
    told: list[Any] = []
    runtime.can_be_reached, runtime.schedulers = False, schedulers
    agent._await_client(LEASE, LAST_WORDS_S)
    runtime.run(60.0)
    if ending or schedulers:  # the process is waited for, or the next client
        assert told == [(LEASE, pytest.approx(LAST_WORDS_S, abs=2 * LOOK_S))]
        return
    assert not told
    runtime.can_be_reached, back = True, runtime.now
    runtime.run(60.0)
    assert told == [(LEASE, pytest.approx(back + LAST_WORDS_S, abs=2 * LOOK_S))]


def test_a_lease_ends_at_once_when_its_client_has_all() -> None:
    agent, runtime = Agent(), Waiting()
    agent.runtime = cast(Any, runtime)
    told: list[Any] = []
    agent.machine = cast(Any, SimpleNamespace(ending="", client_has_all=lambda *word: told.append(word)))
    runtime.is_busy_with = False
    agent._await_client(LEASE, LAST_WORDS_S)
    assert told == [(LEASE, 0.0)]

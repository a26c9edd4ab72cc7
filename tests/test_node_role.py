"""What a node agent's body does within a turn, with a machine and a runtime that only note."""

from __future__ import annotations

from typing import Any, cast

import pytest

from dispycos.actors.node_role import NodeRole
from dispycos.actors.tenancy import CloseZygote, ForgetPeer, KillServer, StartServer, StartZygote
from dispycos.actors.terminations import EndStep, Look, Step
from dispycos.links import LinkLost, LinkReady
from dispycos.protocol.messages import Lease
from dispycos.session import PeerReset
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
        self.runtime = cast(Any, Notes(self.notes))
        self.runtime.router = noting
        self.runtime.lives = lambda epoch: epoch == 44
        for hook in ("start_server", "kill_server", "look", "end_step", "start_zygote", "close_zygote"):
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


START = StartServer(3, "box/server-3", 9703, LEASE, 7)


@pytest.mark.parametrize(
    ("effect", "noted"),
    [
        (START, [("start_server", START)]),
        (KillServer(3), [("kill_server", 3)]),
        (Look(3), [("look", 3)]),
        (EndStep(3, Step(7, 9)), [("end_step", 3, Step(7, 9))]),
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

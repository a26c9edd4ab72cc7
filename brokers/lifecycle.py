"""Which state may follow which, for clients and nodes as the scheduler sees them.

A server has no states here: it is up for as long as it is in the table. Whether a peer can be reached
(`away`) is no state either: a node that cannot be reached for a while keeps its lease and its tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final, TypeVar


class ClientState(Enum):
    QUEUED = auto()  # others have the cluster
    ACTIVE = auto()  # has it
    CLOSING = auto()  # its nodes end their servers
    GONE = auto()  # in no table any more


class NodeState(Enum):
    IDLE = auto()  # known, nothing asked of it
    OPENING = auto()  # Open was sent
    OPEN = auto()  # the lease is granted
    DECLINED = auto()  # it refused the lease, or ended it by itself
    CLOSING = auto()  # Close was sent
    GONE = auto()  # in no table any more


CLIENT: Final[Mapping[ClientState, frozenset[ClientState]]] = {
    ClientState.QUEUED: frozenset({ClientState.ACTIVE, ClientState.GONE}),
    ClientState.ACTIVE: frozenset({ClientState.CLOSING}),
    ClientState.CLOSING: frozenset({ClientState.GONE}),
    ClientState.GONE: frozenset(),
}

NODE: Final[Mapping[NodeState, frozenset[NodeState]]] = {
    # IDLE -> CLOSING: it registered with a lease that the scheduler does not know any more.
    NodeState.IDLE: frozenset({NodeState.OPENING, NodeState.CLOSING, NodeState.GONE}),
    NodeState.OPENING: frozenset(
        {NodeState.OPEN, NodeState.DECLINED, NodeState.IDLE, NodeState.CLOSING, NodeState.GONE}
    ),
    # OPENING -> IDLE: its client said that it has it, but it came back without the lease.
    # OPEN -> CLOSING: also when it was abandoned, and closes when its link heals; or it says that it ends the lease.
    # OPEN -> DECLINED: it closed the lease by itself, so this client does not get it a second time.
    # OPEN -> IDLE: it registered again without the lease, so it lost it and may be opened anew.
    NodeState.OPEN: frozenset({NodeState.CLOSING, NodeState.DECLINED, NodeState.IDLE, NodeState.GONE}),
    # DECLINED -> OPENING: asked again after a while, or for the next client. DECLINED -> CLOSING: as of one that is idle.
    NodeState.DECLINED: frozenset({NodeState.OPENING, NodeState.CLOSING, NodeState.GONE}),
    # CLOSING -> IDLE: Closed came; or Declined, which crossed the Close; or nothing came in time.
    NodeState.CLOSING: frozenset({NodeState.IDLE, NodeState.GONE}),
    NodeState.GONE: frozenset(),
}

State = TypeVar("State", ClientState, NodeState)


def step(table: Mapping[State, frozenset[State]], now: State, then: State) -> State:
    """`then`, if the table lets it follow `now`."""
    if then not in table[now]:
        raise AssertionError(f"{then} may not follow {now}")
    return then

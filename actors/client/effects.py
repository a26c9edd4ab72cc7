"""What the client's machine wants done, beside Send: its body carries it out."""

from __future__ import annotations

import msgspec

from dispycos.protocol import messages
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import NodeInfo
from dispycos.protocol.status import Status

from ..dispatching.facts import Entry


class Resolve(msgspec.Struct, frozen=True):
    """The task has its outcome: whoever waits may look."""

    record: Entry


class Began(msgspec.Struct, frozen=True):
    """The task has its address: who waits for its start may go on."""

    record: Entry


class Forward(msgspec.Struct, frozen=True):
    """This came for a task before the task did, which is here now."""

    envelope: Envelope


class Room(msgspec.Struct, frozen=True):
    """The backlog has fallen to what `ask_for_room` named: who paces its submits may go on."""


class News(msgspec.Struct, frozen=True):
    """For the status_task (spec 6.5): info is a NodeInfo, a Location, or the Entry of a task."""

    status: Status
    info: object


class Pulsed(msgspec.Struct, frozen=True):
    """For the status_task: what a node has left (spec 6.6)."""

    node: NodeInfo


class Say(msgspec.Struct, frozen=True):
    """A line for the person at the terminal."""

    text: str
    level: str = "info"


class Print(msgspec.Struct, frozen=True):
    """What a server wrote."""

    output: messages.Output
    text: Payload


class Bury(msgspec.Struct, frozen=True):
    """This process is dead: its session can go."""

    epoch: int


class Dial(msgspec.Struct, frozen=True):
    """This node is of the lease: hold a link to it, if it can be reached."""

    node: NodeInfo


class HangUp(msgspec.Struct, frozen=True):
    """It is of the lease no more."""

    node: int  # epoch


class Scheduled(msgspec.Struct, frozen=True):
    """Every node known has started its servers or refused."""


class Failed(msgspec.Struct, frozen=True):
    """The cluster cannot be had."""

    reason: str


class Freed(msgspec.Struct, frozen=True):
    """The lease has ended."""

    reason: str


class GiveCode(msgspec.Struct, frozen=True):
    """A server asks for it."""

    request: Envelope


TOLD = (News, Pulsed, Room, Say, Print, Scheduled, Failed, Freed)  # on the loop, to people and to who waits

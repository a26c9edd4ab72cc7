"""The words that links and sessions say among themselves, outside the numbered streams."""

from typing import Annotated, Final

import msgspec

from .envelope import About

PROTOCOL: Final = (3, 3)

Unsigned = Annotated[int, msgspec.Meta(ge=0)]
ROUTES_PER_RECORD: Final = 4096
Epochs = Annotated[list[Unsigned], msgspec.Meta(max_length=ROUTES_PER_RECORD)]


class Limits(msgspec.Struct, array_like=True, frozen=True):
    """How far a stream of the peer's was received and how far it may go: absolute, and none ever falls."""

    ack: Unsigned
    limit_messages: Unsigned
    limit_bytes: Unsigned


class LinkHello(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """The first word on a link, from both ends."""

    about: About
    epoch: Unsigned
    role: str
    routes: Epochs
    wanted: Unsigned = 0  # whom the dialler means; 0: whoever listens there
    token: Unsigned = 0  # the same on all links of a runtime: so a second one is known to be its own


class Routes(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """These runtimes are behind me now, or no longer."""

    add: Epochs
    remove: Epochs


class Ping(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """Do you live?"""


class Pong(msgspec.Struct, array_like=True, tag=4, frozen=True):
    """I do."""


class Hello(msgspec.Struct, array_like=True, tag=5, frozen=True):
    """Who I am, whom I take you for, and what I have; `probe` asks for an answer, which echoes it."""

    incarnation: Unsigned
    known: Unsigned
    limits: list[Limits]  # by stream
    probe: Unsigned = 0
    echo: Unsigned = 0


class Reset(msgspec.Struct, array_like=True, tag=6, frozen=True):
    """I have no such session."""

    sid: Unsigned


class Unreachable(msgspec.Struct, array_like=True, tag=7, frozen=True):
    """A relay could not forward to `epoch`; it says PathUp when it can again."""

    epoch: Unsigned


class PathUp(msgspec.Struct, array_like=True, tag=8, frozen=True):
    epoch: Unsigned


class Bye(msgspec.Struct, array_like=True, tag=9, frozen=True):
    """The last word on a link, and why."""

    reason: str


Control = LinkHello | Routes | Ping | Pong | Hello | Reset | Unreachable | PathUp | Bye

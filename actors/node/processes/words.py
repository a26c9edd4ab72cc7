"""What agent and zygote say to each other. `KillServer` and `EndStep` are an agent's machine's own words, passed on as they are."""

from __future__ import annotations

import msgspec

from ...tasks.step import Step


class ZygoteBorn(msgspec.Struct, tag=True, frozen=True):
    """The first word of a zygote: orders may come."""

    pid: int


class ZygoteFailed(msgspec.Struct, tag=True, frozen=True):
    """There is none, or it could not begin to serve."""

    text: str


class ForkServer(msgspec.Struct, tag=True, frozen=True):
    """With the write ends of the server's two output pipes, and its page. Answered by ServerForked or ForkFailed.

    `entry` ("module:function") is called in `dispycosproc-<number>`, with `argument` and the descriptor of its page.
    """

    number: int
    entry: str
    argument: bytes = b""


class ServerForked(msgspec.Struct, tag=True, frozen=True):
    number: int
    pid: int


class ForkFailed(msgspec.Struct, tag=True, frozen=True):
    number: int
    text: str


class KillServer(msgspec.Struct, tag=True, frozen=True):
    """SIGKILL to the server's process group; its exit is told as any other. Void if it has ended."""

    number: int


class EndStep(msgspec.Struct, tag=True, frozen=True):
    """Kill this server if this very step still runs, else leave it as it is."""

    number: int
    step: Step


class ServerEnded(msgspec.Struct, tag=True, frozen=True):
    number: int
    status: int
    for_step: bool  # it was killed by EndStep


ToZygote = ForkServer | KillServer | EndStep
FromZygote = ZygoteBorn | ZygoteFailed | ServerForked | ForkFailed | ServerEnded

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


class Prepare(msgspec.Struct, tag=True, frozen=True):
    """Call `entry` ("module:function") before servers are forked, which inherit what it returns.

    With a memory that holds its frames, and the write ends of two pipes for what it prints. Answered by PrepareDone, and by
    CodeAsked meanwhile.
    """

    entry: str
    argument: bytes


class PrepareDone(msgspec.Struct, tag=True, frozen=True):
    error: str = ""  # it has failed, in words


class CodeAsked(msgspec.Struct, tag=True, frozen=True):
    """What is prepared lacks code: the request, encoded. Answered by CodeAnswered."""

    request: bytes


class CodeAnswered(msgspec.Struct, tag=True, frozen=True):
    """With a memory that holds the answer."""

    error: str = ""


class ForkServer(msgspec.Struct, tag=True, frozen=True):
    """With the write ends of the server's two output pipes, and its page. Answered by ServerForked or ForkFailed.

    `entry` ("module:function") is called in `dispycosproc-<number>`, with `argument`, the descriptor of its page, and what was
    prepared.
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


ToZygote = Prepare | CodeAnswered | ForkServer | KillServer | EndStep
FromZygote = ZygoteBorn | ZygoteFailed | PrepareDone | CodeAsked | ServerForked | ForkFailed | ServerEnded

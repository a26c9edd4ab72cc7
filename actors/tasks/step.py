"""What an agent and its servers have in common: how one is started, what a step is, and the time that a task has to end."""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

VISIBLE_DEVICES: Final = "CUDA_VISIBLE_DEVICES"
KILL_AFTER: Final = 5.0  # seconds that a task has after its KeyboardInterrupt


class Step(NamedTuple):
    """A stretch of a task's code that runs without giving the server back; the two together never come again."""

    position: int  # of the task in the order in which its server was given tasks; 0: no step runs
    since: int = 0  # nanoseconds of the monotonic clock


NO_STEP: Final = Step(0)


class Start(msgspec.Struct, frozen=True):
    """What the agent tells a new server."""

    ipc: str  # the agent's socket
    number: int
    name: str  # node/server-k, for people
    addr: str
    port: int
    client: int  # epoch of the lease's client
    client_name: str = "the client"
    node_name: str = ""
    client_ipc: str = ""
    debug: bool = False


class Preparation(msgspec.Struct, frozen=True):
    """What the agent tells a zygote that has files and node_setup to see to."""

    client_name: str
    node_name: str
    max_file_size: int  # bytes; 0: no limit

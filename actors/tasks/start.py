"""The word with which an agent has a server started; apart, because agents need none of what servers need."""

from __future__ import annotations

import msgspec


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

"""Names every actor: which runtime it lives in, and its number there."""

from typing import Final, NamedTuple

import msgspec

RUNTIME: Final = 0
SCHEDULER: Final = 1
NODE: Final = 2
SERVER: Final = 3
CLIENT: Final = 4
HOST: Final = 5  # of the tasks of a runtime: replies to calls made outside of any task, and credit
BOOK: Final = 6  # of a client: who has which name
CHANNELS: Final = 7
FILES: Final = 8  # who takes files in a node or client
PROGRAM: Final = 9  # of a program that finds others without a scheduler
PROGRAM_FILES: Final = 10  # who takes files from such programs
FIRST_TASK: Final = 16


class Location(msgspec.Struct, frozen=True, order=True, array_like=True):
    """Where a node or a server is: ``Location("10.0.0.5", 9701)``. It can be compared, hashed, and is shown as addr:port.

    Attributes
    ----------
    addr: an IP address, as text.
    port: an int, which tells the node and the servers of a host apart.
    """

    addr: str
    port: int

    def __str__(self) -> str:
        return f"{self.addr}:{self.port}"


class Address(NamedTuple):
    """`epoch` is 64 random bits that name one runtime; `actor` is given by that runtime."""

    epoch: int
    actor: int

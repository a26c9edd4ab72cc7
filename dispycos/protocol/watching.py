"""The words of those who watch a cluster: what they ask, and what clients and nodes answer (docs/web.md).

Times are told as ages, in seconds before the answer was made: clocks of hosts differ. Who is asked for what came since a number
answers with what it has kept of it, the newest last.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Union

import msgspec

from . import messages
from .envelope import Payload, buffers_of
from .messages import ClientInfo, Message, NodeInfo, ServerReport, TaskId

# What an asker wants beside counters, added up (`Look.parts`).
TASKS: Final = 1  # those that run, wait and have ended
OUTPUT: Final = 2  # the lines that tasks wrote
ARGUMENTS: Final = 4  # of tasks that run, as text
MAILBOXES: Final = 8
LINKS: Final = 16
SERVERS: Final = 32  # of a node: they are asked, too


class Look(Message, frozen=True, tag=67):
    """Viewer -> client, node: what is there, and what is new? Answered by ClientSight or NodeSight."""

    parts: int = 0
    since: int = 0  # the last ended task that the asker has heard of
    line: int = 0  # the last line of output
    death: int = 0  # the last end of a server
    limit: int = 1000  # tasks and lines of each kind, at most; the newest


# --- of a client -----------------------------------------------------------------------------------------------------------


class FunctionTotals(NamedTuple):
    """The tasks of one function; the two histograms are of seconds, as tally.py has them: (bucket, count)."""

    name: str
    submitted: int
    held: int  # that servers have, and have not ended
    outcomes: list[int]  # by OutcomeKind
    cpu_s: float
    run: list[tuple[int, int]]
    wait: list[tuple[int, int]]


class EndedTask(NamedTuple):
    n: int  # in the order in which tasks ended, from 1
    number: int
    attempt: int
    function: str
    outcome: int  # OutcomeKind
    server: int  # its epoch; 0: it had none
    ago_s: float
    seconds: float | None
    wait_s: float
    cpu_s: float | None
    peak_bytes: int | None
    failure: int  # number of its group; 0: it is in none
    io: bool
    text: str = ""  # how it failed, in its first line


class LiveTask(NamedTuple):
    number: int
    attempt: int
    function: str
    server: int  # epoch; 0: it waits at the client
    state: str  # "running", "queued"
    since_s: float  # it runs, or was submitted
    wait_s: float | None  # before it began
    io: bool
    why: str  # it waits


class FailureGroup(NamedTuple):
    """Tasks of one function that failed in the same way."""

    number: int
    function: str
    outcome: int
    error: str  # the name of the exception's class, or of the outcome
    text: str  # of the last one
    trace: str  # of the first one
    tasks: int  # how many
    first_s: float  # ago
    last_s: float
    servers: list[int]  # epochs of some


class ServerCounts(NamedTuple):
    """A server of the lease, by what its client gave it and heard."""

    epoch: int
    node: int
    addr: str
    port: int
    name: str
    state: str  # "running", "idle", "suspended", "closing", "lost"
    running: int
    ahead: int  # given to it, and not begun
    ended: int
    failed: int


class Death(NamedTuple):
    """A server that is gone."""

    n: int  # in their order, from 1
    ago_s: float
    epoch: int
    name: str
    addr: str
    port: int
    node: str  # its name
    text: str
    expected: bool
    tasks: list[tuple[int, str]]  # numbers and functions of some that it took along
    lines: list[str] = []  # that it wrote last


class Waiting(NamedTuple):
    """Tasks that wait for the same reason."""

    reason: str  # "servers", "place", "suspended", "none"
    place: str  # that they ask for; empty: any
    text: str  # for people
    tasks: int  # how many
    oldest_s: float


class OutputLine(NamedTuple):
    n: int  # in their order, from 1
    ago_s: float
    server: str
    stream: int  # 1: standard output, 2: errors; 0: a log record
    level: str  # of that, in lower case, and ...
    logger: str  # ... its name
    text: str


class Peer(NamedTuple):
    """A process that this one has a session with."""

    epoch: int
    role: str
    way: str  # "direct", or whose link it is
    sent: int  # messages
    received: int
    size: int  # bytes that were sent
    rtt_s: float | None  # there and back
    waiting: int  # messages that have not left


class ClientNode(NamedTuple):
    info: NodeInfo
    state: str  # "running", "suspended", "silent", "closing"
    text: str  # why
    ended: int = 0  # tasks of servers that are gone ...
    failed: int = 0  # ... and of these, that did not return a value


class ClientSight(Message, frozen=True, tag=68):
    """Client -> viewer."""

    client: ClientInfo
    scheduler: str
    state: str  # "active", "queued", "closing", "ended"
    age_s: float  # since it has the cluster, or waits for it
    submitted: int
    waiting: int
    held: int
    outcomes: list[int]  # by OutcomeKind
    cpu_s: float
    nodes: list[ClientNode]
    servers: list[ServerCounts]
    functions: list[FunctionTotals]
    failures: list[FailureGroup]
    waits: list[Waiting]
    live: list[LiveTask] = []
    ended: list[EndedTask] = []
    deaths: list[Death] = []
    lines: list[OutputLine] = []
    line: int = 0  # number of the last line
    peers: list[Peer] = []
    actors: list[messages.TaskReport] = []  # local tasks
    past: list[
        tuple[int, int, int]
    ] = []  # of nodes that it has no more: epoch, tasks that ended there, and that failed


class Enclosed(Message, frozen=True, tag=98):
    """A ClientSight that is too long for a word: the payload is that, encoded."""


# --- of a node -------------------------------------------------------------------------------------------------------------


class Machine(NamedTuple):
    """The host of a node, by what its agent sees; sizes in bytes."""

    load: float  # of one minute
    memory: int  # in all
    disk: int
    swap: int


class LeaseSummary(NamedTuple):
    """A lease that has ended."""

    client: str
    host: str
    ago_s: float
    seconds: float  # that it lasted
    ended: int  # tasks
    failed: int
    cpu_s: float
    failures: list[tuple[str, str, int]]  # function, error, how many
    unknown: int  # servers of which nothing is known, as they were killed
    reason: str


class NodeSight(Message, frozen=True, tag=69):
    """Node -> viewer."""

    node: NodeInfo
    client: ClientInfo | None
    lease_s: float  # that it has it
    machine: Machine | None
    servers: list[ServerReport]
    absent: list[tuple[int, str]]  # ports of its lease's servers that are not there, and why
    summaries: list[LeaseSummary]
    resting: str = ""
    served: int = 0
    insecure: bool = False


# --- wishes ----------------------------------------------------------------------------------------------------------------


class Wish(Message, frozen=True, tag=94):
    """Viewer -> the client of a lease, which carries it out; "end_lease" also to a node. Answered by Granting."""

    what: str  # "terminate", "suspend", "resume", "close", "restart", "end_lease"
    tasks: list[int] = []  # numbers
    function: str = ""  # all tasks of it that have not ended ...
    node: int = 0  # ... on this one
    state: str = ""  # ... and only those that are "queued" or "running"
    nodes: list[int] = []  # epochs
    servers: list[int] = []
    client: int = 0  # epoch: "end_lease" is meant for its lease alone; 0: whoever has it


class Granting(Message, frozen=True, tag=95):
    """How many were carried out, and which not, and why."""

    done: int
    refused: list[tuple[int, str]] = []


class StackWanted(Message, frozen=True, tag=96):
    """Viewer -> node -> server: where is this task now? Answered by StackGiven."""

    server: int  # epoch
    task: TaskId


class Frame(NamedTuple):
    file: str
    line: int
    function: str
    code: str


class StackGiven(Message, frozen=True, tag=97):
    frames: list[Frame]  # the outermost first
    text: str = ""  # what there is to say of them, or why there are none
    function: str = ""


Word: Any = Union[tuple(Message.__subclasses__())]  # noqa: UP007 - for the codec: all words

WORD_MAX: Final = 60_000  # bytes: what is longer is enclosed; a word with what goes around it has 128 KiB
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[ClientSight] = msgspec.msgpack.Decoder(ClientSight)


def enclosed(sight: ClientSight) -> tuple[Message, Payload]:
    """What to send: of a thousand servers there is more to tell than a word can hold."""
    encoded = _encoder.encode(sight)
    return (sight, None) if len(encoded) <= WORD_MAX else (Enclosed(), encoded)


def disclosed(payload: Payload) -> ClientSight:
    """Raises msgspec.DecodeError."""
    return _decoder.decode(b"".join(buffers_of(payload)))

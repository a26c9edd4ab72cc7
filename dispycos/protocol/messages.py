"""Every message that actors send each other, as typed words; one tag each, never used again for another meaning.

The tables below follow the way of a task: a client enlists with a scheduler, the scheduler opens nodes, a node starts
servers, tasks run, speak and end. Fields are only ever added at the end, with a default: a peer of another release ignores
what it does not know, and an unknown tag is answered with `Unsupported` by the codec's user.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec


class Message(msgspec.Struct, array_like=True, frozen=True, tag=0):
    """Base of all words; `tag` numbers are grouped by who speaks."""


class TaskId(NamedTuple):
    """Who asked for a task, as which of its tasks, and which try this is; never used twice."""

    owner: int  # epoch of the client's runtime
    number: int  # counted by that runtime; the task's home address is (owner, number)
    attempt: int = 1


class Lease(NamedTuple):
    """A node granted to one client through one scheduler (DESIGN section 5)."""

    number: int  # counted by the scheduler
    client: int  # epoch of the client's runtime
    scheduler: str  # id kept in the scheduler's state folder, the same after a restart
    scheduler_epoch: int


class Allocation(NamedTuple):
    """One DispycosNodeAllocate as a scheduler applies it (spec 6.7, DECISIONS: cpus)."""

    node: str = "*"
    port: int | None = None
    platform: str = ""
    cpus: int | None = None
    memory: int = 0  # bytes
    disk: int = 0  # bytes
    asked: bool = False  # True: a subclass decides at the client (Offer -> Accept)


class ClientInfo(NamedTuple):
    name: str
    host: str
    pid: int
    python: tuple[int, int]
    ipc: str = ""  # its socket: servers that find it, being on the same host, talk to it directly


class Availability(NamedTuple):
    """What a node has left (spec 6.6): cpu in percent, the rest in bytes."""

    cpu: float
    memory: int
    disk: int
    swap: int


class NodeInfo(NamedTuple):
    """A node as scheduler, client and user know it."""

    name: str
    addr: str
    port: int
    cpus: int
    platform: str
    python: tuple[int, int]
    epoch: int
    available: Availability | None = None


class Spot(NamedTuple):
    """Where a server is: the spec's Location, its runtime, and a name for people."""

    addr: str
    port: int
    epoch: int
    name: str


# --- client to scheduler -------------------------------------------------------------------------------------------------


class Enlist(Message, frozen=True, tag=10):
    """A client asks for the cluster; answered by Queued ..., Granted or Turned."""

    client: ClientInfo
    allocations: list[Allocation]
    pulse_interval: float  # seconds
    restart_servers: bool = False
    abandon_zombies: bool = False
    zombie_period: float = 0.0  # seconds, 0: off


class Wanting(Message, frozen=True, tag=16):
    """Client -> scheduler: so many tasks wait, and no server may take them. Answered by Notice (what is missing) or Hopeless."""

    tasks: int


class Submit(Message, frozen=True, tag=11):  # goes with the old path
    """Run this; the payload is the pickled call. Larger calls stay at the client, which the server asks (`fetch`)."""

    task: TaskId
    function: str  # the function's name, for placement, status and people
    io: bool = False  # io_rtask: does not count as CPU task
    node: str = ""  # rtask_at: only on the node of this addr or name
    server: int = 0  # rtask_at: only on the server of this epoch
    code: int = 0  # main_version of the call
    fetch: bool = False
    lend: bool = False  # if it is short, the client would like to keep its server afterwards


class Terminate(Message, frozen=True, tag=12):
    """KeyboardInterrupt for a task, about 5 s later the end; a queued one is dropped. Client -> scheduler -> node -> server.

    Of a task that it sent to a server itself the client tells the node.
    """

    task: TaskId
    server: int = 0  # epoch: it was sent to this one directly


class Release(Message, frozen=True, tag=13):
    """The client has done, or does not care for its tasks: its nodes close. Answered by Released when its servers are gone."""

    terminate: bool = False  # goes with the old path, as does ...
    await_io: bool = False


class OutcomeAck(Message, frozen=True, tag=14):  # goes with the old path
    """These outcomes are in the client's ledger. To the scheduler, which notes it and tells the node: forget your copies."""

    tasks: list[TaskId]
    node: int = 0  # its epoch


class Tally(Message, frozen=True, tag=15):  # goes with the old path
    """So many tasks ended that the scheduler did not see, because their servers were on loan; for status."""

    ended: int


# --- scheduler to client -------------------------------------------------------------------------------------------------


class Queued(Message, frozen=True, tag=20):
    position: int  # 1 = next
    holder: str  # who has the cluster now, for people


class Granted(Message, frozen=True, tag=21):
    lease: Lease
    scheduler: str  # name, for people


class Turned(Message, frozen=True, tag=22):
    """Enlist refused for good, in words."""

    reason: str


class NodeNews(Message, frozen=True, tag=23):
    """DispycosStatus of a node; status is one of dispycos.protocol.status."""

    status: int
    node: NodeInfo
    text: str = ""


class ServerNews(Message, frozen=True, tag=24):
    """DispycosStatus of a server."""

    status: int
    spot: Spot
    node: str
    text: str = ""
    node_epoch: int = 0


class Settled(Message, frozen=True, tag=25):
    """Every node known at the grant has started its servers or refused: schedule() may return."""

    nodes: int
    servers: int


class Admit(Message, frozen=True, tag=26):  # goes with the old path
    """Application credit: how many tasks the client may have handed in altogether since Granted."""

    limit: int


class Released(Message, frozen=True, tag=27):
    reason: str = ""


class Hopeless(Message, frozen=True, tag=29):
    """Scheduler -> client: no server can come any more, or none on this node: what waits for one is to be refused.

    In force until a node is discovered, or a server gets ready after all; Wanting is answered by it until then.
    """

    reason: str
    node: int = 0  # epoch; 0: on any


class Notice(Message, frozen=True, tag=28):
    """A line for the person at the client's terminal (a refused node, a missing server ...)."""

    text: str
    level: str = "info"


# --- scheduler to node, and back -----------------------------------------------------------------------------------------


class Register(Message, frozen=True, tag=30):
    """A node presents itself to a scheduler, anew with each link; answered by nothing: Open comes when a client wants it."""

    node: NodeInfo
    lease: Lease | None = None
    closing: bool = False  # the lease is ending, and Closed follows


class Open(Message, frozen=True, tag=31):
    """Start `cpus` servers for this client; answered by Opened or Declined."""

    lease: Lease
    client: ClientInfo
    cpus: int
    pulse_interval: float
    restart_servers: bool = (
        False  # those closed on purpose, which nothing does yet; a server that dies is always replaced
    )


class Opened(Message, frozen=True, tag=32):
    """The lease is granted; `servers` of them start now and report one by one by ServerUp or ServerDown."""

    lease: Lease
    servers: int
    pulse_interval: float = 0.0  # of its pulses: what was asked for, or the nearest that the node allows


class Declined(Message, frozen=True, tag=33):
    lease: Lease
    reason: str


class ServerUp(Message, frozen=True, tag=34):
    lease: Lease
    spot: Spot
    pid: int


class ServerDown(Message, frozen=True, tag=35):
    """A server ended or never came up; its tasks were or will be spoken for by the node."""

    lease: Lease
    spot: Spot
    death: str  # for people: "killed by SIGKILL (9)"
    expected: bool = False
    restarting: bool = False
    lines: str = ""  # what it wrote last, if it is not started again; each line begins with a newline


class Run(Message, frozen=True, tag=36):
    """Scheduler -> node -> server; the payload is the pickled call, not looked at on the way."""

    task: TaskId
    function: str
    io: bool = False
    server: int = 0  # epoch; 0: any server of the node
    code: int = 0
    fetch: bool = False
    fast: bool = False  # known to be short: may wait in a server's queue, start is not announced
    lend: bool = False  # nothing waits behind it: afterwards the server is lent to the client (Outcome.lent)


class Began(Message, frozen=True, tag=37):  # goes with the old path
    """Server -> node -> scheduler: runs now, there. Not sent for fast tasks."""

    task: TaskId
    server: int = 0


class Done(Message, frozen=True, tag=38):  # goes with the old path
    """Server -> node with a copy of the outcome as payload; node -> scheduler without."""

    task: TaskId
    outcome: int  # see status.OUTCOMES
    seconds: float  # time it ran
    server: int = 0
    actor: int = 0
    size: int = (
        0  # bytes of the outcome's payload; over the limit of a copy the payload stays with the server
    )
    lent: bool = False  # the server is lent to the client now, until Returned or Adopt


class Recall(Message, frozen=True, tag=39):
    """Give back up to so many tasks that have not started."""

    count: int


class Recalled(Message, frozen=True, tag=70):  # goes with the old path
    """These came back, not started."""

    tasks: list[TaskId]


class Pulse(Message, frozen=True, tag=71):
    """Node -> scheduler -> client, every pulse_interval (spec 6.4, 6.6)."""

    node: str
    available: Availability
    location: tuple[str, int] = ("", 0)


class Close(Message, frozen=True, tag=72):
    """End the lease: tasks that are left get their KeyboardInterrupt. Answered by Closed."""

    lease: Lease
    terminate: bool = False  # goes with the old path, as does ...
    await_io: bool = False


class Closed(Message, frozen=True, tag=73):
    lease: Lease
    reason: str = ""
    last: bool = False  # the node ends, and takes nobody any more


class ServerReady(Message, frozen=True, tag=74):
    """Server -> node: code is there, tasks may come."""

    number: int
    pid: int


class Gone(Message, frozen=True, tag=76):
    """Scheduler -> node -> server: these runtimes of the lease are dead."""

    epochs: list[int]


class Reclaim(Message, frozen=True, tag=77):  # goes with the old path
    """Node or client -> server: the loan is over; the node is answered by Returned when no task runs on it any more, or Adopt."""


class Returned(Message, frozen=True, tag=78):
    """Server -> node: it is lent to nobody now."""


class Adopt(Message, frozen=True, tag=79):  # goes with the old path
    """Server -> node -> scheduler: a task that the client gave it directly runs for long: it is the node's from now on, and
    the loan is over."""

    task: TaskId
    function: str
    server: int = 0  # epoch; filled in by the node


class ServerLost(Message, frozen=True, tag=80):
    """Node -> client: a server died; said for a task that the client gave it directly."""

    server: int  # epoch
    text: str
    reached: TaskId | None = None  # the last such task that it began; None: not known
    closing: bool = False


class Shutdown(Message, frozen=True, tag=75):
    """Node -> server: end; tasks still there get their KeyboardInterrupt first."""

    grace: float  # seconds until the server is killed
    reason: str = ""  # for the tasks' outcomes


# --- tasks ---------------------------------------------------------------------------------------------------------------


class Started(Message, frozen=True, tag=40):
    """Server -> client: the task runs, as this actor."""

    task: TaskId
    actor: int
    spot: Spot


class Outcome(Message, frozen=True, tag=41):
    """Server -> client, on the session of the task's own messages, so it follows all that the task sent; or the node, or the
    scheduler, speaks for a server that died. The first one for (task, attempt) counts."""

    task: TaskId
    outcome: int
    actor: int = 0
    spot: Spot | None = None
    seconds: float = 0.0
    started: bool = True
    text: str = ""  # for LOST and TERMINATED: how it came
    node: int = 0  # epoch of the node that keeps a copy until OutcomeAck; 0: nobody
    lent: bool = False  # the server is the client's: it may send it one short task (Run) at a time
    marks: tuple[int, int] | None = None  # behind what it wrote to the streams 1 and 2; 0: nothing there


class Tell(Message, frozen=True, tag=42):
    """send() and deliver(): payload is the pickled message; a correlation asks for Delivered."""

    code: int = 0


class Delivered(Message, frozen=True, tag=43):
    code: int  # 1 in the mailbox, 0 the task has ended; to AwaitsMessage: whether it does


class Ask(Message, frozen=True, tag=44):
    """ask(): answered by Reply with the same correlation."""

    code: int = 0


class Reply(Message, frozen=True, tag=45):
    ok: bool = True
    code: int = 0


class Watch(Message, frozen=True, tag=46):
    """monitor(): tell me when you end; answered by Ended (at once if it has)."""

    end: bool = False  # stop watching


class Ended(Message, frozen=True, tag=47):
    """A watched task ended; the payload is its outcome's."""

    outcome: int
    text: str = ""


class TerminateActor(Message, frozen=True, tag=48):
    """terminate() by somebody who is not the owner: goes to the task's home, which forwards it as Terminate."""

    cancelled: bool = False  # it was cancel(): who waits there gets CancelledError


class Output(Message, frozen=True, tag=49):
    """Node -> client: a server wrote whole lines to its standard output (1) or error (2). Payload: these, of any length."""

    server: str
    stream: int
    epoch: int = 0  # of that server, and the last of its marks (`Outcome.marks`) before the end of this, if there is one
    mark: int = 0


class Left(Message, frozen=True, tag=84):
    """Node -> scheduler -> client, before Closed: files of tasks in working folders that are removed with the lease."""

    count: int
    size: int  # bytes
    names: list[str]  # of some


class AwaitsMessage(Message, frozen=True, tag=57):
    """Client -> task: do you wait in receive() now? Answered by Delivered: 1 yes, 0 no."""


# --- code ----------------------------------------------------------------------------------------------------------------


class CodeWanted(Message, frozen=True, tag=50):
    """Server -> client; payload: an encoded shipping.CodeRequest. Answered by CodeGiven."""


class CodeGiven(Message, frozen=True, tag=51):
    """Client -> server; payload: an encoded shipping.CodeBundle."""

    error: str = ""


class Levels(Message, frozen=True, tag=56):
    """Client -> server, when they change; payload: what its loggers let pass, encoded."""


class CallWanted(Message, frozen=True, tag=52):
    """Server -> client: the call of this task, which was too large to travel through the scheduler (Submit.fetch)."""

    task: TaskId


class CallGiven(Message, frozen=True, tag=53):
    error: str = ""


# --- status --------------------------------------------------------------------------------------------------------------


class Inventory(Message, frozen=True, tag=60):
    """What is there? Anybody may ask a scheduler or a node; answered by SchedulerReport or NodeReport.

    The scheduler asks the client that has the cluster, which answers by Counts.
    """


class Counts(Message, frozen=True, tag=63):
    """Client -> scheduler, as answer to Inventory: how many of its tasks wait, run and have ended."""

    waiting: int
    running: int
    ended: int


class TaskReport(NamedTuple):
    function: str
    owner: int
    number: int
    attempt: int
    io: bool
    state: str  # "running", "waiting"
    since: float  # seconds it is in that state


class ServerReport(NamedTuple):
    spot: Spot
    pid: int
    tasks: list[TaskReport]


class NodeReport(Message, frozen=True, tag=61):
    node: NodeInfo
    client: str
    servers: list[ServerReport]
    served: int = 0  # clients served
    insecure: bool = False


class ClientReport(NamedTuple):
    name: str
    host: str
    pid: int
    state: str  # "running", "queued"
    queued: int | None  # tasks waiting for a server; None: the client did not answer
    running: int | None
    done: int | None


class SchedulerReport(Message, frozen=True, tag=62):
    name: str
    addr: str
    port: int
    private: bool
    clients: list[ClientReport]
    nodes: list[tuple[str, str, int, str]]  # name, addr, port, state
    insecure: bool = False


Word = (
    Enlist
    | Wanting
    | Submit
    | Terminate
    | Release
    | OutcomeAck
    | Tally
    | Queued
    | Granted
    | Turned
    | NodeNews
    | ServerNews
    | Settled
    | Admit
    | Released
    | Hopeless
    | Notice
    | Register
    | Open
    | Opened
    | Declined
    | ServerUp
    | ServerDown
    | Run
    | Began
    | Done
    | Recall
    | Recalled
    | Pulse
    | Close
    | Closed
    | ServerReady
    | Gone
    | Reclaim
    | Returned
    | Adopt
    | ServerLost
    | Shutdown
    | Started
    | Outcome
    | Tell
    | Delivered
    | Ask
    | Reply
    | Watch
    | Ended
    | TerminateActor
    | Output
    | AwaitsMessage
    | Left
    | Levels
    | CodeWanted
    | CodeGiven
    | CallWanted
    | CallGiven
    | Inventory
    | Counts
    | NodeReport
    | SchedulerReport
)

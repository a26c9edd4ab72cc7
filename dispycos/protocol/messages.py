"""Every message that actors send each other, as typed words; one tag each, never used again for another meaning.

The tables below follow the way of a task: a client enlists with a scheduler, the scheduler opens nodes, a node starts
servers, tasks run, speak and end. Fields are only ever added at the end, with a default: a peer of another release ignores
what it does not know, be it a field or a whole word.

`way` says how a session carries a word (protocol.envelope): CONTROL, so that nothing holds it up, but for the messages between
tasks (MESSAGES), and for what is said of an actor when all that it sent has arrived (BEHIND).
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import msgspec

from .addresses import FILES, Address
from .envelope import ANYBODY, BEHIND, CONTROL, MESSAGES


class Message(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=0):
    """Base of all words; `tag` numbers are grouped by who speaks."""

    way: ClassVar[int] = CONTROL


class TaskId(NamedTuple):
    """Who asked for a task, as which of its tasks, and which try this is; never used twice."""

    owner: int  # epoch of the client's runtime
    number: int  # counted by that runtime; the task's home address is (owner, number)
    attempt: int = 1


class Lease(NamedTuple):
    """A node granted to one client through one scheduler."""

    number: int  # of the grant: counted on from the clock of the scheduler's start, so the newest of all its lives is the largest
    client: int  # epoch of the client's runtime
    scheduler: str  # id kept in the scheduler's state folder until it ends in order
    scheduler_epoch: int
    opening: int = 0  # tells apart how often a node was opened under this grant


class Allocation(NamedTuple):
    """One DispycosNodeAllocate as a scheduler applies it (spec 6.7, DECISIONS: cpus)."""

    node: str = "*"
    port: int | None = None
    platform: str = ""
    cpus: int | None = None
    memory: int = 0  # bytes
    disk: int = 0  # bytes
    own: bool = False  # the client has an allocate() of its own for it, and is asked (Offer)


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
    addresses: tuple[str, ...] = ()  # where it listens, at `port`
    ipc: str = ""  # its socket, for processes of its user on its host
    max_file_size: int = 0  # bytes of a file that it takes; 0: no limit
    host: str = ""  # the same for all nodes that run there: an address may be that of a router, and a name is not unique
    resources: tuple[tuple[str, int], ...] = ()  # what tasks may ask for: its name, and how many


class Spot(NamedTuple):
    """Where a server is: the spec's Location, its runtime, and a name for people."""

    addr: str
    port: int
    epoch: int
    name: str


class Marks(NamedTuple):
    """The last tasks that a server had begun when it died, by the positions of their Runs."""

    cpu: int
    io: int


# --- client to scheduler -------------------------------------------------------------------------------------------------


class Enlist(Message, frozen=True, tag=10):
    """A client asks for the cluster; answered by Queued ..., Granted or Turned."""

    client: ClientInfo
    allocations: list[Allocation]
    pulse_interval: float  # seconds
    abandon_zombies: bool = False
    settle_s: float = 10.0  # for which Settled waits for the servers of a node
    # To a scheduler that was started anew, or has forgotten this client: what it had.
    lease: Lease | None = None
    ticket: int = 0  # its place in the queue
    releasing: bool = False  # it has done, as by Release
    nodes: list[NodeInfo] = []
    unrestricted: bool = (
        False  # what no allocation matches is used all the same: they came later, by Allocate
    )


class Release(Message, frozen=True, tag=13):
    """The client has done: its nodes are closed. Answered by Released when its servers are gone."""


# --- scheduler to client -------------------------------------------------------------------------------------------------


class Queued(Message, frozen=True, tag=20):
    position: int  # 1 = next
    holder: str  # who has the cluster now, for people; empty: the scheduler was started anew and hears first who has it
    ticket: int = 0  # the place to come back to: smaller ones go first


class Granted(Message, frozen=True, tag=21):
    lease: Lease
    scheduler: str  # name, for people
    max_file_size: int = 0  # bytes of a file that its clients may send; 0: as their receivers say


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
    node: int  # epoch
    text: str = ""


class Settled(Message, frozen=True, tag=25):
    """Every node known at the grant has started its servers or refused: schedule() may return."""

    nodes: int
    servers: int


class Released(Message, frozen=True, tag=27):
    """The servers are gone, and all that they printed has been said."""

    way = BEHIND
    actor = ANYBODY
    reason: str = ""


class Wanting(Message, frozen=True, tag=16):
    """Client -> scheduler: so many tasks wait, and no server may take them. Answered by a Notice, or by Hopeless."""

    tasks: int


class Hopeless(Message, frozen=True, tag=29):
    """Scheduler -> client: no server can come any more, or none on this node: what waits for one is to be refused."""

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
    client: ClientInfo | None = None  # whose lease it is


class Open(Message, frozen=True, tag=31):
    """Start `cpus` servers for this client, or keep those that it has by this grant; answered by Opened or Declined."""

    lease: Lease
    client: ClientInfo
    cpus: int
    pulse_interval: float
    max_file_size: int = 0  # bytes of a file; 0: what the node takes


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


class Pulse(Message, frozen=True, tag=71):
    """Node -> scheduler -> client, every pulse_interval (spec 6.4, 6.6)."""

    node: int  # epoch
    available: Availability
    oldest_s: float = 0.0  # reserved: age of the oldest message that waits there, and how many tasks ...
    waiting: int = 0
    running: int = 0
    ended: int = 0
    hears_client: bool = False  # by a link of its own
    idle_s: float = 0.0  # for so long no task has run there


class Close(Message, frozen=True, tag=72):
    """End the lease: the tasks that are left get their KeyboardInterrupt. Answered by Closed."""

    lease: Lease
    goes_on: bool = False  # its client does, and is to hear what became of its tasks before Closed


class Closed(Message, frozen=True, tag=73):
    lease: Lease
    reason: str = ""
    last: bool = False  # the node ends, and takes nobody any more
    # By the operator, or for running nothing: without another node its client loses the cluster.
    dismissed: bool = False
    failed: bool = False  # it could not be set up: nor will it be for this client


class ServerReady(Message, frozen=True, tag=74):
    """Server -> node: code is there, tasks may come."""

    number: int
    pid: int


class Gone(Message, frozen=True, tag=76):
    """Client -> node -> server: these servers of the lease are dead. From the scheduler: its client is.

    Scheduler -> other clients' books and their nodes: servers of a client, or itself, are dead, or have `left` the cluster.
    """

    epochs: list[int]
    left: list[int] = []  # clients that closed, and may come back


class Shutdown(Message, frozen=True, tag=75):
    """Node -> server: end; tasks still there get their KeyboardInterrupt first."""

    reason: str = ""  # for the tasks' outcomes
    drain: bool = False  # what runs may go on to its end, however long it takes


# --- client and server, node and client -------------------------------------------------------------------------------------


class Run(Message, frozen=True, tag=36):
    """Client -> server; the payload is the pickled call. Larger calls stay at the client, which the server asks (`fetch`)."""

    task: TaskId
    function: str  # the function's name, for status and people
    position: int  # of this among all that the client gave this server, from 1
    io: bool = False  # it mostly waits: it runs beside others
    code: int = 0  # main_version of the call
    fetch: bool = False
    short: bool = False  # known to be: its start is not announced
    key: str = ""  # reserved: to find the task again after its client came back
    priority: int = 0  # reserved, as is ...
    share: str = ""  # ... the fairness key: tasks of one key share what they get
    units: dict[str, list[int]] | None = None  # what it has of its node's resources, by their numbers there


class Placed(Message, frozen=True, tag=54):
    """Server -> client: the task has its address and mailbox, and is not given back any more."""

    task: TaskId
    actor: int
    spot: Spot


class Started(Message, frozen=True, tag=40):
    """Server -> client: its first step comes next; it is this actor."""

    task: TaskId
    actor: int
    spot: Spot


class Outcome(Message, frozen=True, tag=41):
    """Server -> client, on the session of the task's own messages, so it follows all that the task sent."""

    way = BEHIND
    task: TaskId
    outcome: int
    actor: int = 0
    spot: Spot | None = None  # for who does not know the server: the task's client does
    seconds: float = 0.0
    started: bool = True
    text: str = ""  # for TERMINATED: how it came
    marks: tuple[int, int] | None = None  # behind what it wrote to the streams 1 and 2; 0: nothing there
    cpu_s: float | None = None  # seconds of CPU that it used; None: not known
    peak_bytes: int | None = None  # by which the server's peak of memory rose; None: not known
    index: int = 0  # reserved: which of the values of a task that yields several, 1 the first


class Recall(Message, frozen=True, tag=39):
    """Client -> server: give back the CPU tasks behind this position that have not begun. Answered by Returned."""

    after: int


class Returned(Message, frozen=True, tag=78):
    """Server -> client: these have not begun, and will not here: it was asked, or drains."""

    positions: list[int]
    draining: bool = False  # it takes nothing any more


class Terminate(Message, frozen=True, tag=12):
    """Client -> server: KeyboardInterrupt for the task; one that has not begun is dropped. Client -> node: its end, 5 s later."""

    task: TaskId
    server: int = 0  # epoch
    position: int = 0  # of its Run there
    function: str = ""


class Kill(Message, frozen=True, tag=81):
    """Client -> node: nobody knows any more what this server has. Answered by ServerLost."""

    server: int  # epoch


class ServerLost(Message, frozen=True, tag=80):
    """Node -> client: a server's process has ended. The marks are from its page; None: not known."""

    server: int  # epoch
    text: str
    marks: Marks | None = None
    closing: bool = False  # it was told to end


class Nested(Message, frozen=True, tag=85):
    """Server -> client: a task of yours submits this one; the payload is the call. Answered by Placed, if `alone`, and Outcome."""

    number: int  # of the new task, within what CodeGiven.first allows
    function: str
    io: bool = False
    alone: bool = False  # its start is waited for
    retries: int = 0
    code: int = 0  # main_version of the call
    addr: str = ""  # where it is to run: a node by its name or address ...
    port: int = 0  # ... or with it a Location
    values: list[int] = []  # for the marks in its call: those of the tasks of these numbers
    timeout: float = 0.0  # seconds that it may run; 0: any
    priority: int = 0
    needs: tuple[tuple[str, int], ...] = ()  # so many of a node's resources of these names
    may_receive: bool = False  # it could be an actor: who waits long for its value is told so


class Aside(Message, frozen=True, tag=86):
    """Server -> client: this CPU task waits for tasks that it submitted, so another may run there; or it goes on."""

    task: TaskId
    aside: bool


class ValueWanted(Message, frozen=True, tag=91):
    """Client -> server: what you submitted as `by` needs the value of this task, of which nothing is known here any more."""

    by: int
    number: int


class ValueGiven(Message, frozen=True, tag=92):
    """Server -> client: how that task has ended; the payload is its value, or its exception."""

    number: int
    function: str
    outcome: int
    text: str = ""
    started: bool = True


class Heard(Message, frozen=True, tag=87):
    """Server -> client: somebody has looked at how the task of this number ended."""

    number: int


# --- a client's control of its nodes and servers -----------------------------------------------------------------------------


class CloseServer(Message, frozen=True, tag=110):
    """Client -> node: its tasks get their KeyboardInterrupt, and it ends. With `again` the next one is started in its place."""

    port: int  # of the server, whichever process it is
    again: bool = False


class RestartNode(Message, frozen=True, tag=111):
    """Client -> node: end all servers so, then start anew with what the client gives for it (SetupWanted)."""


class CloseNode(Message, frozen=True, tag=112):
    """Client -> scheduler: end the lease there, and do not offer this node again."""

    node: int  # epoch


class Allocate(Message, frozen=True, tag=114):
    """Client -> scheduler: one more allocation, behind those that it has. A node that it matches counts as closed no more."""

    allocation: Allocation


class Offer(Message, frozen=True, tag=115):
    """Scheduler -> client: how many servers of this node, by your own allocate()? Answered by Accept."""

    node: NodeInfo
    entry: int  # which of its allocations, from 0
    is_at: bool  # whether the node is at the place that it names


class Accept(Message, frozen=True, tag=116):
    node: int  # epoch
    entry: int
    servers: int  # 0: it is not used; negative: the next allocation decides


class AbandonZombie(Message, frozen=True, tag=117):
    """Client -> scheduler: whether this node is given up when it was silent for too long, or now, if it was."""

    node: int  # epoch
    abandon: bool


class CloseWanted(Message, frozen=True, tag=113):
    """Server -> client: a task there wants its server closed, or its node."""

    node: bool
    terminate: bool
    again: bool = False


# --- tasks ---------------------------------------------------------------------------------------------------------------


class Tell(Message, frozen=True, tag=42):
    """send() and deliver(): payload is the pickled message; a correlation asks for Delivered."""

    way = MESSAGES
    code: int = 0
    urgent: bool = False  # reserved: it overtakes others in the mailbox
    via: int = 0  # epoch of who passed it on, to whom credit for it is given


class Delivered(Message, frozen=True, tag=43):
    way = MESSAGES
    code: int  # 1 in the mailbox, 0 the task has ended; to AwaitsMessage: whether it does


class Ask(Message, frozen=True, tag=44):
    """ask(): answered by Reply with the same correlation."""

    way = MESSAGES
    code: int = 0
    via: int = 0  # as in Tell


class Credit(Message, frozen=True, tag=118):
    """From a mailbox, to the host of a process that sends there: so much more of it was taken. Who sends little hears nothing."""

    messages: int
    size: int  # bytes


class NoMailbox(Message, frozen=True, tag=119):
    """There is no such mailbox any more; to the host of who sent there and waits for no answer."""


class Reply(Message, frozen=True, tag=45):
    way = MESSAGES
    ok: bool = True
    code: int = 0


class Watch(Message, frozen=True, tag=46):
    """monitor(): tell me when you end; answered by Ended (at once if it has)."""

    way = MESSAGES
    brief: bool = False  # that it has ended is all, not how: a channel's question, asked where messages go


class Ended(Message, frozen=True, tag=47):
    """A watched task ended; the payload is its outcome's."""

    way = MESSAGES
    outcome: int
    text: str = ""


class TerminateActor(Message, frozen=True, tag=48):
    """terminate() by somebody who is not the owner: goes to the task's home, which forwards it as Terminate."""

    cancelled: bool = False  # it was cancel(): who waits there gets CancelledError


class Output(Message, frozen=True, tag=49):
    """Node -> client: a server wrote whole lines to its standard output (1) or error (2). Payload: these, of any length."""

    way = MESSAGES
    server: str
    stream: int
    epoch: int = 0  # of that server, and the last of its marks (`Outcome.marks`) before the end of this, if there is one
    mark: int = 0


class Left(Message, frozen=True, tag=84):
    """Node -> scheduler -> client, before Closed: files of tasks in working folders that are removed with the lease."""

    count: int
    size: int  # bytes
    names: list[str]  # of some
    kept: str = ""  # "node:folder", where all files of the lease stay: they are not removed


class AwaitsMessage(Message, frozen=True, tag=57):
    """Client -> task: do you wait in receive() now? Answered by Delivered: 1 yes, 0 no."""

    way = MESSAGES


# --- names, channels and peers ---------------------------------------------------------------------------------------------


class Named(Message, frozen=True, tag=100):
    """Any process -> its client's book: a task or channel here has this name from now on, or no more. Payload: its handle."""

    name: str
    channel: bool = False
    over: bool = False


class Locate(Message, frozen=True, tag=101):
    """Who has this name? Task -> book, answered by Located when somebody has it; book -> scheduler -> the other clients' books.

    Without an answer it is asked again each second, until it is `over`: so nobody has to remember it.
    """

    name: str
    channel: bool = False
    addr: str = ""  # where it has to be: a node by its name or address ...
    port: int = 0  # ... or with it the Location of a node or server
    is_patient: bool = False  # it waits for ever: after a while a person is told
    over: bool = False
    asker: Address | None = None  # the book to be answered, set by the scheduler


class Located(Message, frozen=True, tag=102):
    """Payload: the handle."""


class Subscribe(Message, frozen=True, tag=103):
    """To a channel: messages of it are for this task or channel, too, or no more (`over`). Answered by Delivered."""

    way = MESSAGES
    who: Address  # the home of a task, the address of a channel
    to: Address  # where it is reached
    channel: bool = False
    over: bool = False


class Publish(Message, frozen=True, tag=104):
    """To a channel, for all its subscribers. With a correlation Delivered says how many have it in their mailboxes."""

    way = MESSAGES
    code: int = 0
    n: int = 0  # at least so many are waited for
    timeout: float | None = None  # seconds
    via: list[Address] = []  # channels that it has passed
    over: bool = False  # who sent the one of this correlation waits no more


class WatchPeers(Message, frozen=True, tag=105):
    """Task -> book: tell me of the client, nodes and servers that are there, come and go, or no more (`over`)."""

    over: bool = False


class HotSwap(Message, frozen=True, tag=107):
    """To a task: another function is to take the place of yours. Payload: that and its arguments."""

    way = MESSAGES
    code: int = 0


class Link(Message, frozen=True, tag=106):
    """To a task: the end of this one, if it fails, is to end you."""

    way = MESSAGES
    home: Address
    name: str


# --- code ----------------------------------------------------------------------------------------------------------------


class CodeWanted(Message, frozen=True, tag=50):
    """Server -> client; payload: an encoded shipping.CodeRequest. Answered by CodeGiven."""


class CodeGiven(Message, frozen=True, tag=51):
    """Client -> server; payload: an encoded shipping.CodeBundle."""

    error: str = ""


class SetupWanted(Message, frozen=True, tag=88):
    """Node or server -> client: what belongs here before the first task? Answered by SetupGiven, when the client lets it.

    A node asks for each of its zygotes, a server when it has started. Payload of a server: an encoded shipping.CodeRequest.
    """

    spot: Spot | None = None  # of a server ...
    node: int = 0  # ... and the epoch of its node


class SetupGiven(Message, frozen=True, tag=89):
    """Payload: an encoded shipping.NodeSetup with the files' data behind it, or an encoded shipping.ServerSetup."""

    error: str = ""  # it cannot be had
    first: int = 0  # to a server: from here on it counts the tasks that its tasks submit
    keep: bool = False  # to a node: the folder of the lease is to stay when that has ended


class SetupDone(Message, frozen=True, tag=90):
    """Node -> client: it is set up, and its servers are started. Server -> node: server_setup has failed, so it ends."""

    number: int = 0  # of the server
    error: str = ""


class Levels(Message, frozen=True, tag=56):
    """Client -> server, when they change; payload: what its loggers let pass, encoded."""


class CallWanted(Message, frozen=True, tag=52):
    """Server -> client: the call of this task, which is too large to travel ahead of its turn (Run.fetch)."""

    task: TaskId


class CallGiven(Message, frozen=True, tag=53):
    error: str = ""


# --- files: to FILES of a node or a client ---------------------------------------------------------------------------------


class FileOffer(Message, frozen=True, tag=120):
    """Will you have this file? Answered by FileAnswer, as are the next words; then come its chunks, if it says so."""

    way = MESSAGES
    number: int  # of the transfer, by its sender
    client: int  # epoch of the client whose file it is: who does not know that has no business here
    path: bytes  # below the folder of the client's lease there, or of the client
    size: int
    mode: int  # permissions
    port: int = 0  # of a server: below its working folder
    overwrite: bool = False


class FileDigest(Message, frozen=True, tag=121):
    way = MESSAGES
    number: int
    digest: bytes


class FileChunk(Message, frozen=True, tag=122):
    """The payload is what comes at this offset."""

    way = MESSAGES
    number: int
    offset: int


class FileDrop(Message, frozen=True, tag=123):
    """The rest does not come. Not answered."""

    way = MESSAGES
    number: int


class FileDelete(Message, frozen=True, tag=124):
    way = MESSAGES
    client: int
    path: bytes
    port: int = 0


class FileAnswer(Message, frozen=True, tag=125):
    way = MESSAGES
    state: int  # protocol.status.FileState
    text: str = ""


class PlaceWanted(Message, frozen=True, tag=126):
    """Server -> client: a task names this node (port 0: by its name or address) or server; who takes files there?"""

    addr: str
    port: int = 0


class FilePlace(NamedTuple):
    """Who takes files for a node or server."""

    epoch: int
    port: int  # of the server; 0: the node
    title: str  # for people
    actor: int = FILES


class PlaceGiven(Message, frozen=True, tag=127):
    places: list[FilePlace]
    error: str = ""


# --- status --------------------------------------------------------------------------------------------------------------


class TaskReport(NamedTuple):
    function: str
    owner: int
    number: int
    attempt: int
    io: bool
    state: str  # "running", "waiting"
    since: float  # seconds it is in that state
    actor: int = 0  # of its mailbox, if it has one
    args: str | None = None  # as text, if it was asked for
    messages: int = 0  # in its mailbox
    taken: int = 0  # out of that, since its start
    cpu_s: float | None = None  # that it has used, if it has its server for itself and is not short
    peak_bytes: int | None = None  # by which the peak of memory rose meanwhile
    names: list[str] = []  # by which others find it


class ServerUse(NamedTuple):
    """What a server process has done and used."""

    ended: int = 0  # tasks
    failed: int = 0
    cpu_s: float = 0.0
    memory: int = 0  # bytes, resident
    peak: int = 0  # of that


class ServerTasks(Message, frozen=True, tag=64):
    """Server -> node, when somebody asks for a NodeReport: what it has."""

    tasks: list[TaskReport]
    use: ServerUse = ServerUse()


class Served(Message, frozen=True, tag=65):
    """Server -> node, before it ends: what it has done, for the summary of its lease."""

    use: ServerUse
    failures: list[tuple[str, str, int]]  # function, error, how many


class Counts(Message, frozen=True, tag=63):
    """Client -> scheduler, when somebody asks for a SchedulerReport: how many of its tasks wait, run and have ended."""

    waiting: int
    running: int
    ended: int


class Inventory(Message, frozen=True, tag=60):
    """What is there? Anybody may ask a scheduler or a node; answered by SchedulerReport or NodeReport."""

    parts: int = 0  # Node -> server: what is asked for beside names and states, as in watching.Look


class ServerReport(NamedTuple):
    spot: Spot
    pid: int
    tasks: list[TaskReport]
    use: ServerUse | None = None  # None: it did not answer


class Neighbour(NamedTuple):
    """A node that another one has found on its network: a hint, since anybody may announce it there."""

    name: str
    addresses: tuple[str, ...]
    port: int
    epoch: int


class NodeReport(Message, frozen=True, tag=61):
    node: NodeInfo
    client: str
    servers: list[ServerReport]
    served: int = 0  # clients served
    insecure: bool = False
    resting: str = ""  # why it takes nothing new
    neighbours: tuple[Neighbour, ...] = ()  # for a scheduler that is of another network


class ClientReport(NamedTuple):
    name: str
    host: str
    pid: int
    state: str  # "running", "queued"
    queued: int | None  # tasks waiting for a server; None: the client did not answer
    running: int | None
    done: int | None
    epoch: int = 0


class SchedulerReport(Message, frozen=True, tag=62):
    name: str
    addr: str
    port: int
    private: bool
    clients: list[ClientReport]
    nodes: list[tuple[str, str, int, str]]  # name, addr, port, state
    insecure: bool = False
    epochs: list[int] = []  # of the nodes, in the same order

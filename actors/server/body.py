"""The server process's body: connects to its agent, gets the client's code, and runs tasks until it is told to end.

The zygote forks it and calls `main`. Tasks run in the main thread on the asyncio loop; when a step keeps the loop for longer
than about 20 ms the relief thread runs the driver's turns, so that messages, recalls and terminations go on being served.
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Callable
from contextvars import Context
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from dispycos.config import Failure
from dispycos.errors import RemoteError
from dispycos.protocol import messages
from dispycos.protocol.addresses import BOOK, CLIENT, NODE, SERVER, Address, Location
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import Spot, TaskId
from dispycos.protocol.status import OutcomeKind
from dispycos.runtime import Runtime
from dispycos.session.router import Event
from dispycos.session.session import PeerReset

from ..sharing.sharing import Sharing
from ..shipping.mirror import Mirror
from ..shipping.words import MissingCode
from ..tasks.calling import ATOMS
from ..tasks.cell import Cell
from ..tasks.current import current_cell
from ..tasks.ends import Outcome, Raised, Returned, add_note, explain_what_differs, raised
from ..tasks.host import TaskHost
from ..tasks.logs import LevelSetter, RecordWriter
from ..tasks.loops import use_fresh_loops
from ..tasks.page import CPU, IO, PageWriter
from ..tasks.reasons import raising_of
from ..tasks.results import pack_outcome
from ..tasks.running.interrupts import Interrupts
from ..tasks.running.relief import Relief
from ..tasks.stdio import OutputMarks
from ..tasks.step import Start
from ..tasks.working import WorkingFolder
from .code import ServerPayloads, single
from .devices import Devices
from .last_words import LastWords
from .meter import Meter
from .nested import NestedTasks
from .queue import Drop, Interrupt, PassOn, Server, Stop, Tell, TellStack, Work
from .setup import Prepared, SetupFailed, refuse_value, setup_failed
from .sight import Sight
from .wishes import offer_names

log = logging.getLogger("dispycos")

WORK_S = 0.005  # starting tasks goes on for so long before the loop gets its turn
FAREWELL_S = 2.0  # the last outcomes have so long to be confirmed
CONNECT_S = 10.0


def main(argument: bytes, page: int, prepared: Prepared) -> int:
    """Entry point in a forked server, with the descriptor of its page and what its zygote has; returns the exit code."""
    start = msgspec.msgpack.decode(argument, type=Start)
    marks = OutputMarks()
    set_up_logging(start.debug, marks)
    sys.setswitchinterval(0.0005)  # an answer beside a busy step takes 0.7 ms instead of 5 (relief.py)
    writer = PageWriter(page)
    os.close(page)  # mapped, it has another one
    interrupts = Interrupts(page=writer.words)  # SIGINT was ignored: a stray one between steps is nobody's
    interrupts.install()
    use_fresh_loops()
    offer_names()
    try:
        # Made by a factory it is nobody's current loop: get_event_loop() of a plain function is not to find it.
        with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
            return runner.run(_serve(start, prepared.mirror, interrupts, writer, marks))
    except Failure as failure:
        print(failure, file=sys.stderr)
        return failure.exit_code


def set_up_logging(debug: bool, marks: OutputMarks) -> None:
    """What tasks log is for the client's handlers; what this process says of itself is a line on standard error."""
    log.setLevel(logging.DEBUG if debug else logging.INFO)
    log.propagate = False
    # A descriptor of our own: a task may close its standard error, or put a file in its place.
    stream = open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    own = logging.StreamHandler(stream)
    own.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))
    log.addHandler(own)
    logging.root.addHandler(RecordWriter(marks.write, _task_name))


def _task_name() -> str:
    cell = current_cell()
    return cell.name if cell is not None else ""


async def _serve(
    start: Start, mirror: Mirror, interrupts: Interrupts, page: PageWriter, marks: OutputMarks
) -> int:
    runtime = Runtime("server", start.name, None)
    runtime.in_child += [interrupts.in_child, page.in_child]
    dialler = runtime.dial([f"ipc://{start.ipc}"], uplink=True, keep=False)
    async with asyncio.timeout(CONNECT_S):
        node = await dialler.ready
    body = ServerBody(start, runtime, mirror, interrupts, page, marks, Address(node, NODE))
    dialler.on_lost = lambda reason: body.lose_agent(reason)
    relief = Relief(runtime, interrupts)
    await body.get_ready()
    open_lane(runtime, start)  # not before the agent knows of us: it is whose word ends the session
    relief.start()
    code = await body.stopped
    await runtime.quiet(FAREWELL_S, also_unreachable=True)
    relief.stop()
    await runtime.close()
    return code


def open_lane(runtime: Runtime, start: Start) -> None:
    """A link of our own to a client of this host and user: two hops less. Its messages go by the tree until it is up."""
    if start.client_ipc and os.path.exists(start.client_ipc):
        lane = runtime.dial([f"ipc://{start.client_ipc}"], expected=start.client)
        lane.on_silence = lane.on_lost = log.debug


class ServerBody:
    """Carries out what the server's machine wants."""

    def __init__(
        self,
        start: Start,
        runtime: Runtime,
        mirror: Mirror,
        interrupts: Interrupts,
        page: PageWriter,
        marks: OutputMarks,
        node: Address,
    ) -> None:
        self.start = start
        self.runtime = runtime
        self.interrupts = interrupts
        self._page = page
        self._marks = marks
        self._meter = Meter()
        self._devices = Devices()
        self.stopped: asyncio.Future[int] = runtime.loop.create_future()
        spot = Spot(start.addr, start.port, runtime.epoch, start.name)
        client = Address(start.client, CLIENT)
        self.machine = Server(
            runtime.address(SERVER), client, node, spot, lambda run: self._place(run).address.actor
        )
        self.payloads = ServerPayloads(start.client, start.client_name, mirror)
        self.host = TaskHost(runtime, self.payloads, interrupts, Location(start.addr, start.port))
        self.host.adopt_subtasks()
        self.host.sharing = Sharing(self.host, Address(start.client, BOOK))
        self.payloads.host = self.host
        self.host.explain = self._explain
        self._cells: dict[TaskId, Cell] = {}
        self._sight = Sight(runtime, self.machine, interrupts, self._cells, self._meter)
        self._begun = 0  # of these
        self._unsaid: dict[TaskId, LastWords] = {}  # outcomes behind messages for which there is no room yet
        self._folder = WorkingFolder(Path.cwd())
        self._levels = LevelSetter()
        self._fetching: set[asyncio.Task[None]] = set()
        self._nested: NestedTasks | None = None  # what tasks here submit
        self._node = node
        runtime.attach(SERVER, self)

    async def get_ready(self) -> None:
        """What belongs here first, then tasks may come."""
        setup, call = await self.payloads.get_setup(messages.SetupWanted(self.machine.spot, self._node.epoch))
        self.host.records = self._nested = NestedTasks(
            self.host, self.payloads, self.machine, self._let_others_run
        )
        self._levels.take(setup.levels)
        self._enter_folder(os.fsdecode(setup.cwd), os.fsdecode(setup.program_folder))
        try:
            if setup.function:
                await self._run_setup(setup.function, call)
        except SetupFailed as failure:
            self._tell_node(messages.SetupDone(self.start.number, str(failure)))
            self._stop()
        else:
            self._tell_node(messages.ServerReady(self.start.number, os.getpid()))

    async def _run_setup(self, name: str, call: Payload) -> None:
        """server_setup, as a task of this process. Raises SetupFailed."""
        payloads, mirror = self.payloads, self.payloads.mirror
        while True:
            try:
                function, args, kwargs = mirror.within(payloads.loads_call, name, call)
                break
            except MissingCode as missing:
                await payloads.fetch(missing)
            except Exception as error:
                raise setup_failed("server_setup", error) from error
        done: asyncio.Future[Outcome] = self.runtime.loop.create_future()
        with self.runtime.lock:
            cell = self.host.prepare("server_setup", lambda cell, outcome: done.set_result(outcome))
        with mirror.owning():
            self.runtime.loop.call_soon(cell.begin, function, args, kwargs)
            outcome = await done
        if isinstance(outcome, Raised):
            raise setup_failed("server_setup", outcome.error)
        refuse_value("server_setup", outcome.value)

    def _tell_node(self, word: messages.Message) -> None:
        self.runtime.send(Envelope(self._node, self.machine.address, word))

    def _let_others_run(self) -> None:
        """Beside a CPU task, which waits."""
        self._meter.forget()
        self._devices.end()

    def _enter_folder(self, wanted: str, program: str) -> None:
        why_not = self._folder.enter(wanted, program)
        if why_not and self.start.number == 1:  # once a node
            node = self.start.node_name
            text = f"cwd: {wanted} cannot be used on node {node} ({why_not}): tasks there run in folders of their servers"
            notice = messages.Notice(text, "warning")
            self.runtime.send(Envelope(self.payloads.client, self.machine.address, notice))

    def lose_agent(self, reason: str) -> None:
        """Without its agent a server is nobody's."""
        if not self.stopped.done():
            log.error("the node agent is gone (%s): this server ends", reason)
            os._exit(1)

    # --- turns.Role ---

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, PeerReset):
            self.host.peer_gone(event.epoch, event.unconfirmed)
            if self._nested is not None and event.epoch == self.payloads.client.epoch:
                self._nested.owner_gone()

    def carry_out(self, effect: object, now: float) -> None:
        if type(effect) is Work:
            self.runtime.defer(self.work)
        elif isinstance(effect, Drop):
            dropped = self._cells.pop(effect.task)
            dropped.on_end = None  # its outcome is on the way
            self.runtime.defer(partial(dropped.finished, Raised(KeyboardInterrupt())))
        elif isinstance(effect, Interrupt):
            cell = self._cells.get(effect.task)
            if cell is not None:
                cell.terminate()
            elif (unsaid := self._unsaid.get(effect.task)) is not None:
                unsaid.end()
        elif isinstance(effect, PassOn):
            self._hear(effect.envelope, now)
        elif isinstance(effect, Tell):
            self._sight.tell(effect)
        elif isinstance(effect, TellStack):
            self._sight.tell_stack(effect)
        elif isinstance(effect, Stop):
            self.runtime.defer(self._stop)
        else:
            raise TypeError(f"no such effect: {effect!r}")

    def _hear(self, envelope: Envelope, now: float) -> None:
        word = envelope.message
        if isinstance(word, messages.Gone):
            for epoch in word.epochs:
                self.host.peer_gone(epoch, self.runtime.router.bury(epoch, now))
            for epoch in word.left:
                self.host.peer_gone(epoch, self.runtime.router.forget(epoch, now))
        elif isinstance(word, messages.Levels):
            self.runtime.defer(partial(self._levels.take, single(envelope.payload)))
        else:
            assert self._nested is not None, "nothing was submitted here before the components came"
            self._nested.on_word(envelope)

    def _stop(self) -> None:
        if not self.stopped.done():
            self._tell_node(messages.Served(self._sight.use(), self.machine.failures.listed()))
            self.stopped.set_result(0)

    # --- tasks ---

    def work(self) -> None:
        """Start what may start now."""
        runtime, machine = self.runtime, self.machine
        until = runtime.clock() + WORK_S
        while True:
            with runtime.lock:
                envelope = machine.take()
                if envelope is None:
                    return
                cell, waits = self._begin(envelope.message)
            runtime.turn_soon()
            try:
                if waits:
                    self._later(self._fetch(cell, envelope.payload))
                else:
                    self._open(cell, envelope.payload)
            except BaseException:  # the loop will report it; the tasks behind must not wait for ever
                runtime.defer(self.work)
                raise
            if runtime.clock() > until:
                runtime.defer(self.work)
                return

    def _place(self, run: messages.Run) -> Cell:
        """Make it known here; under the lock, an io task perhaps on the relief thread."""
        cell = self._cells[run.task] = Cell(self.host, run.function, run.task)
        cell.on_end, cell.run, cell.position = self._on_end, run, run.position
        return cell

    def _begin(self, run: messages.Run) -> tuple[Cell, bool]:
        """From here on it counts as started; under the lock. True: its call, or code, is fetched before it is opened."""
        if not self._begun:  # else it may be where another one wants to be
            self._folder.come_back()
        self._begun += 1
        self._page.begin(IO if run.io else CPU, run.position)
        waits = run.fetch or self.payloads.is_behind(run.code)
        if run.io:
            return self._cells[run.task], waits
        cell = self._place(run)
        actor = 0 if run.short and not waits else cell.address.actor
        self.machine.begin(run, actor, self.runtime.clock(), waits=waits)
        return cell, waits

    def _open(self, cell: Cell, payload: Payload) -> None:
        """Unpickle the call, which is the user's code already, and take the first step."""
        run: messages.Run = cell.run
        missing: MissingCode | None = None
        outcome: Outcome | None = None
        call: Any = None
        if not run.io:
            self._devices.begin(run.task, run.units)
        self.interrupts.begin(cell)
        try:
            call = self.payloads.mirror.within(self.payloads.loads_call, run.function, payload)
        except MissingCode as error:
            missing = error
        except (
            BaseException
        ) as error:  # the user's __setstate__ or module may raise anything, KeyboardInterrupt included
            add_note(error, f"while the call of {run.function} was unpickled")
            outcome = raised(error)
        due = self.interrupts.end()
        if due is not None:
            cell.stopping = True
        if cell.stopping and outcome is None:
            outcome = Raised(KeyboardInterrupt())
        if outcome is not None:
            cell.finished(outcome)
        elif missing is not None:
            self._later(self._fetch(cell, payload, missing))
        else:
            function, args, kwargs = call
            with self.runtime.lock:
                announced = self.machine.enter(run.task, self.runtime.clock())
            if announced:
                self.runtime.push()
            if not run.io:
                self._meter.begin(measured=not (run.short or self.machine.aside))
            cell.call = call
            cell.begin(function, args, kwargs, self.payloads.mirror.context())
            cell.call = None
            if not cell.ended:
                with self.runtime.lock:
                    self.machine.suspended(run.task, cell.address.actor)
                self.runtime.turn_soon()

    def _later(self, coroutine: Any) -> None:
        # No subtask; and in no task's context, though one's step may have called us: what it asks for is answered to the server,
        # where that task, once it has ended, would get no answer.
        task = asyncio.Task(coroutine, loop=self.runtime.loop, context=Context())
        self._fetching.add(task)
        task.add_done_callback(self._fetching.discard)

    async def _fetch(self, cell: Cell, payload: Payload, missing: MissingCode | None = None) -> None:
        """The code that a call turned out to miss; else what is known to be missing before it is opened."""
        run: messages.Run = cell.run
        try:
            if missing is not None:
                await self.payloads.fetch(missing)
            elif self.payloads.is_behind(run.code):
                await self.payloads.catch_up(run.code)
            if missing is None and run.fetch:
                payload = await self.payloads.get_call(run.task)
        except Exception as error:
            cell.finished(raised(error))
            return
        self.runtime.defer(lambda: self._open(cell, payload))  # not inside this asyncio.Task

    def _on_end(self, cell: Cell, outcome: Outcome) -> None:
        """Pickle the outcome, which is the user's code once more, and hand it over."""
        run: messages.Run = cell.run
        if isinstance(outcome, Raised):
            self._folder.explain(outcome.error)
            explain_what_differs(outcome.error)
        kind, payload = self._pack(cell, outcome)
        self._page.end()
        self._devices.end(run.task)
        del self._cells[run.task]
        self._begun -= 1
        now = self.runtime.clock()
        seconds = self.machine.seconds_of(run.task, now)
        cpu_s, peak_bytes = (None, None) if run.io else self._meter.end(seconds)
        marks = self._marks.after_task(seconds, others=self._begun > 0)
        error = raising_of(payload).type_name.removeprefix("builtins.") if kind == OutcomeKind.RAISED else ""
        with self.runtime.lock:
            end = partial(
                self.machine.end,
                run.task,
                kind,
                payload,
                marks,
                now,
                actor=cell.actor,
                cpu_s=cpu_s,
                peak_bytes=peak_bytes,
                error=error,
            )
            # What it sent to tasks of the client is there before its value is; an error is told at once.
            last = self.host.windows.last_of(cell.address, self.start.client) if cell.actor else []
            if last and type(outcome) is Returned:
                self._unsaid[run.task] = LastWords(
                    run.function,
                    last,
                    self.host.windows,
                    partial(self._say_late, run.task, end),
                    self.runtime,
                )
            else:
                end()
        self.runtime.turn_soon()

    def _say_late(self, task: TaskId, end: Callable[[], None]) -> None:
        self._unsaid.pop(task, None)
        end()

    def _explain(self, error: BaseException) -> None:
        """To one that is packed elsewhere: of an item in a chunk."""
        self._folder.explain(error)
        explain_what_differs(error)
        self.payloads.mirror.explain(error)

    def _pack(self, cell: Cell, outcome: Outcome) -> tuple[OutcomeKind, Payload]:
        name = cell.run.function
        if type(outcome) is Returned and type(outcome.value) in ATOMS:  # nothing of the user's runs
            return pack_outcome(self.payloads, outcome, name, cell.stopping)
        self.interrupts.begin(cell)
        try:
            if isinstance(outcome, Raised):
                self.payloads.mirror.explain(outcome.error)
            return pack_outcome(self.payloads, outcome, name, cell.stopping)
        except KeyboardInterrupt:
            return OutcomeKind.TERMINATED, None
        except BaseException as error:  # a SystemExit of the user's __reduce__, for one
            failure = RemoteError(
                f"the value of {name} cannot be pickled: {error!r}", type(error).__qualname__
            )
            return pack_outcome(self.payloads, Raised(failure), name, cell.stopping)
        finally:
            self.interrupts.end()

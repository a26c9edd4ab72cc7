"""Scheduler, node agent and client of the simulated cluster: the real machines, and bodies that act in virtual time.

What they do within a turn is the real bodies' own (brokers/broker.py, actors/client/turn.py, actors/node/turn.py); processes, links
and time are virtual.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import inf
from typing import Any, Final, cast

from dispycos.actors.client import effects
from dispycos.actors.client.ledger import Ledger
from dispycos.actors.client.turn import ClientRole
from dispycos.actors.dispatching.facts import Entry
from dispycos.actors.node.agent import Node
from dispycos.actors.node.lease import CloseZygote
from dispycos.actors.node.processes.words import EndStep, KillServer
from dispycos.actors.node.turn import NodeRole
from dispycos.actors.tasks.record import Record
from dispycos.actors.tasks.step import KILL_AFTER, NO_STEP, Step
from dispycos.brokers.broker import GOODBYE_S, Broker
from dispycos.brokers.leasing import FORGET_AFTER_S
from dispycos.brokers.scheduler import Scheduler
from dispycos.cli.scheduler import HOLD_S
from dispycos.machine import Send
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, NODE, SCHEDULER, Address
from dispycos.protocol.envelope import Buffer, Envelope, Payload
from dispycos.protocol.messages import Availability, ClientInfo, Enlist, Lease, NodeInfo, Spot, TaskId
from dispycos.runtime import Runtime

from .cluster_leases import WatchedScheduler
from .cluster_links import End, Universe
from .cluster_runtime import Process
from .cluster_servers import ServerProcess
from .cluster_tasks import Book, Cell, Host, Plan, Words

PYTHON: Final = (3, 11)
STOP_S: Final = KILL_AFTER  # cli/node.py: what a node gives its tasks when it is stopped
BRISK: Final = "brisk"  # a function that is short, and soon known to be


class BrokerBody(Broker):
    """The real one, and its end in virtual time."""

    def __init__(self, process: Process, name: str, identity: str, hold_until: float | None = None) -> None:
        self.process = process
        address, count = Address(process.epoch, SCHEDULER), int(process.world.now * 1e6)
        private = isinstance(process, PrivateProcess)
        scheduler = WatchedScheduler(
            process.world.referee,
            name,
            identity,
            address,
            private=private,
            count=count,
            hold_until=hold_until,
        )
        if process.world.forget_node_s < FORGET_AFTER_S:
            scheduler.leasing.forget_after = 0.9 * process.world.forget_node_s
        super().__init__(cast(Runtime, process), scheduler)

    def stop(self, why: str, then: Callable[[], None]) -> None:
        """Broker.end: its operator, or the end of its client, stops it."""
        process = self.process
        self.machine.stop(why, process.world.now)
        process.turn()
        self._end_when_quiet(process.world.now + GOODBYE_S, then)

    def _end_when_quiet(self, until: float, then: Callable[[], None]) -> None:
        process = self.process
        if process.router.is_quiet or process.world.now >= until:
            then()
        else:
            process.later(0.01, partial(self._end_when_quiet, until, then))


class SchedulerProcess(Process):
    role = "scheduler"
    identity = ""  # cli.scheduler.Identity: it lasts until an end in order

    def boot(self) -> None:
        hold_until = self.world.now + HOLD_S if self.identity else None
        self.identity = self.identity or f"id {self.life} of {self.name}"
        self.broker = BrokerBody(self, self.name, self.identity, hold_until)

    @property
    def scheduler(self) -> Scheduler:
        return self.broker.machine

    def stop(self) -> None:
        if not self.scheduler.is_holding:
            self.identity = ""
        self.broker.stop("the scheduler was stopped", self.leave)


class WatchedNode(Node):
    """Remembers which servers it told to end, with their tasks, and when."""

    def __init__(self, world: Universe, *about: Any, **options: Any) -> None:
        super().__init__(*about, **options)
        self.world = world
        self.told_to_end: dict[int, float] = {}  # since when, by epoch

    def drain(self) -> list[object]:
        effects = super().drain()
        for effect in effects:
            if isinstance(effect, Send):
                to, said = effect.envelope.to, effect.envelope.message
                if isinstance(said, messages.Shutdown) and not said.drain:
                    self.told_to_end.setdefault(to.epoch, self.world.now)
        return effects


class NodeBody(NodeRole):
    """For actors/node/run.py: processes that start, are killed, and whose ends are told after all they had sent."""

    def __init__(self, process: Process, book: Book, name: str, cpus: int, options: dict[str, Any]) -> None:
        self.process = process
        self.runtime = cast(Runtime, process)
        self.book = book
        self.name = name
        available = Availability(50.0, 1 << 30, 1 << 30, 0)
        self.info = NodeInfo(
            name, f"10.0.0.{len(name)}{name[-1]}", 9706, cpus, "Linux", PYTHON, process.epoch, available
        )
        ports = list(range(9707, 9707 + cpus))
        self.machine = watched = WatchedNode(
            process.world,
            self.info,
            Address(process.epoch, NODE),
            ports,
            min_pulse_interval=0.1,
            max_pulse_interval=100,
            **options,
        )
        self.machine.step_of = self.step_of
        self.told_to_end = watched.told_to_end
        self.servers: dict[int, ServerProcess] = {}
        self.has_zygote = False
        self.zygote_of: Lease | None = None  # one that comes too late for its lease is nobody's
        self.forget_s = process.world.forget_s
        process.attach(NODE, self)

    # --- NodeRole

    def start_server(self, number: int) -> None:
        granted = self.machine.granted
        assert granted is not None
        delay = self.process.world.dice.random() * 0.05
        spot = granted.places[number - 1].spot
        self.process.later(delay, partial(self._fork, number, spot, granted.lease.client))

    def order(self, word: KillServer | EndStep) -> None:
        """A step is ended by the zygote, a little later."""
        server = self.servers.get(word.number)
        if server is None:
            return
        if isinstance(word, KillServer):
            server.exit("killed by SIGKILL (9)")
        else:
            dice = self.process.world.dice
            delay = dice.random() * dice.choice((0.001, 0.3))
            self.process.later(delay, partial(self._end_step, server, word.step))

    def _end_step(self, server: ServerProcess, step: Step) -> None:
        if server.is_alive and server.step == step:
            server.check_kill(self.told_to_end.get(server.epoch, inf))
            server.ended_for_step = True
            server.exit("killed by SIGKILL (9)")

    def step_of(self, number: int) -> Step:
        server = self.servers.get(number)
        return server.step if server is not None else NO_STEP

    def start_zygote(self, lease: Lease) -> None:
        self.zygote_of = lease
        self.process.later(self.process.world.dice.random() * 0.1, partial(self._zygote_up, lease))

    def close_zygote(self, word: CloseZygote) -> None:
        self.has_zygote, self.zygote_of = False, None

    def end(self) -> None:
        self.process.leave()

    # --- processes

    def _zygote_up(self, lease: Lease) -> None:
        now = self.process.world.now
        if self.zygote_of != lease:
            return
        if self.process.world.dice.random() < 0.02:
            self.machine.zygote_failed("fork: Resource temporarily unavailable", now)
        else:
            self.machine.zygote_born(now)
        self.process.turn_soon()

    def prepare_zygote(self, setup: list[Buffer]) -> None:
        self.process.later(self.process.world.dice.random() * 0.1, partial(self._prepared, self.zygote_of))

    def _prepared(self, lease: Lease | None) -> None:
        if lease is not None and self.zygote_of == lease:
            self.has_zygote = True
            self.machine.zygote_ready(self.process.world.now)
            self.process.turn_soon()

    def _fork(self, number: int, spot: Spot, client: int) -> None:
        process, now = self.process, self.process.world.now
        if not self.has_zygote or process.world.dice.random() < 0.01:
            self.machine.server_failed_to_start(number, "its zygote has ended", now)
            process.turn_soon()
            return
        self.book.pids += 1
        server = ServerProcess(
            process.world, self.book, process, number, spot, client, self.book.pids, self._exited
        )
        self.servers[number] = server
        self.book.servers.append(server)
        server.start()

    def _exited(self, server: ServerProcess, text: str) -> None:
        """Told later, by the zygote; nothing if the agent itself has ended."""
        self.process.later(self.process.world.dice.random() * 0.05, partial(self._bury, server, text))

    def _bury(self, server: ServerProcess, text: str) -> None:
        """First all that it had sent, then its death."""
        number, now = server.number, self.process.world.now
        if self.servers.get(number) is server:
            del self.servers[number]
        self.process.read_all(of=server.epoch)
        self.process.note(f"hears that {server.name} {text}")
        self.machine.server_exited(number, text, server.marks, now, for_step=server.ended_for_step)
        self.process.turn_soon()

    def kill_all(self) -> None:
        """The agent has ended: PR_SET_PDEATHSIG."""
        for server in list(self.servers.values()):
            if server.is_alive:
                server.die()

    def stop(self) -> None:
        """cli/node.py stop(): Ctrl-C at a node."""
        process = self.process
        self.machine.end_lease("its node was stopped", process.world.now, kill_after=STOP_S)
        process.turn_soon()
        self._end_when_closed(process.world.now + STOP_S + 0.2)

    def _end_when_closed(self, until: float) -> None:
        process = self.process
        if self.machine.granted is None or process.world.now >= until:
            process.leave()
        else:
            process.later(0.01, partial(self._end_when_closed, until))


class NodeProcess(Process):
    role = "node"

    def __init__(self, world: Universe, book: Book, name: str, cpus: int, options: dict[str, Any]) -> None:
        super().__init__(world, name)
        self._make = partial(NodeBody, self, book, name, cpus, options)

    def boot(self) -> None:
        self.agent = self._make()

    def die(self, dying_words: tuple[End, ...] = ()) -> None:
        self.agent.kill_all()
        super().die(dying_words)


class PrivateProcess(Process):
    """cli/private.py: scheduler and node as two actors of one runtime."""

    role = "scheduler"

    def __init__(self, world: Universe, book: Book, name: str, cpus: int, options: dict[str, Any]) -> None:
        super().__init__(world, name)
        self._make = partial(NodeBody, self, book, "node0", cpus, options)

    def boot(self) -> None:
        self.broker = BrokerBody(self, self.name, f"id of {self.name}")  # its client gives it the same again
        self.agent = self._make()
        self.agent.machine.add_scheduler(self.epoch, self.world.now)

    @property
    def scheduler(self) -> Scheduler:
        return self.broker.machine

    def die(self, dying_words: tuple[End, ...] = ()) -> None:
        self.agent.kill_all()
        super().die(dying_words)

    def stop(self) -> None:
        """Its client has ended."""
        self.broker.stop("its client has ended", self.agent.stop)


class ClientLeaseBody(ClientRole):
    """For actors/client/lease.py: one stay at a scheduler, told to the book and to the user's program."""

    def __init__(self, client: ClientProcess) -> None:
        super().__init__(cast(Runtime, client), cast(Any, client), Ledger(Address(client.epoch, CLIENT)))
        self.client = client
        self.is_leaving = self.is_scheduled = False
        client.attach(CLIENT, self)

    def enlist(self, pulse_interval: float, abandon_zombies: bool) -> None:
        """When the dialler is ready."""
        client = self.client
        if client.lease is not self:
            return  # given up meanwhile
        assert client.uplink is not None
        if isinstance(client.uplink, PrivateProcess) and not client.uplink.is_alive:
            self.lose("the private scheduler ended")  # PrivateProcess.next_line() raises
            return
        if not client.is_linked(client.uplink.epoch):
            client.later(0.01, partial(self.enlist, pulse_interval, abandon_zombies))
            return
        info = ClientInfo(client.name, "here", 1, PYTHON)
        word = Enlist(info, [], pulse_interval, abandon_zombies=abandon_zombies)
        self.ledger.standing.enlist(Address(client.uplink.epoch, SCHEDULER), word, client.world.now)
        client.turn_soon()

    def release(self, *, terminate: bool) -> None:
        self.client.note(f"closes, terminate={terminate}")
        self.is_leaving = True
        if not self.is_freed and self.ledger.scheduler is not None:
            self.ledger.standing.release(terminate=terminate, await_io=False)
        self.client.turn_soon()

    def leave(self) -> None:
        self.client.remove(CLIENT, self)

    # --- ClientRole

    def watch_nearby(self, epoch: int, link: int) -> None:
        server = next(server for server in self.client.book.servers if server.epoch == epoch)
        if self.client.world.is_one_host and server.is_alive:
            self.ledger.members.server_nearby(epoch)
            server.seen_by.append(partial(self._see_end, server, epoch))

    def forget_nearby(self, epoch: int) -> None:
        """What is told of it then means nothing."""

    def _see_end(self, server: ServerProcess, epoch: int) -> None:
        self.client.later(self.client.world.dice.random() * 0.3, partial(self._server_ended, server, epoch))

    def _server_ended(self, server: ServerProcess, epoch: int) -> None:
        client = self.client
        client.read_all(of=epoch)
        if client.lease is self:
            self.ledger.members.server_ended(epoch, server.marks, client.world.now)
            client.turn_soon()

    def endpoints_to(self, node: NodeInfo) -> list[str]:
        world = self.client.world
        process = world.listeners[f"ipc://{node.epoch}"]
        ipc = [f"ipc://{node.epoch}"] if world.is_one_host and not world.gate else []
        return [*ipc, "gate://" if process in world.gate else f"tcp://{process.name}"]

    def resolved(self, record: Entry) -> None:
        client = self.client
        client.records.setdefault(client.book.plans[record.task].number, record)
        client.book.resolved(record.task, record.outcome, record.started, record.text, record.payload)
        client.defer(lambda: client.on_resolved(record))

    def began(self, record: Entry) -> None:
        """Nobody waits for it."""

    def code_for(self, request: Payload) -> tuple[str, Payload]:
        return "", None

    def setup_for(self, effect: effects.GiveSetup) -> tuple[str, Payload]:
        return "", b"setup"

    def carry_out(self, effect: object, now: float) -> None:
        if isinstance(effect, effects.Bury):
            self.client.forgotten.add(effect.epoch)
        super().carry_out(effect, now)

    def tell(self, effect: object) -> None:
        if isinstance(effect, effects.Scheduled):
            if not self.is_scheduled:  # a scheduler that was started anew says it again
                self.is_scheduled = True
                self.client.on_scheduled()
        elif isinstance(effect, effects.Print):
            self.client.book.read(self.client.epoch, effect.text)
        elif isinstance(effect, effects.Freed):
            self.client.book.lines_end(self.client.epoch)
            self.client.on_freed(effect.reason)
        elif isinstance(effect, effects.Failed):
            self.client.note(f"failed: {effect.reason}")
        elif isinstance(effect, effects.Say):
            self.client.note(f"says: {effect.text}")


class ClientProcess(Host):
    """A client's program: its stays, and the user's main task with its mailbox."""

    role = "client"

    def __init__(self, world: Universe, book: Book, name: str) -> None:
        super().__init__(world, name)
        self.book = book
        self.on_scheduled: Callable[[], None] = lambda: None
        self.on_resolved: Callable[[Entry], None] = lambda record: None
        self.on_freed: Callable[[str], None] = lambda reason: None

    def boot(self) -> None:
        super().boot()
        self.correspondence.records = cast(Any, self)
        self.book.clients[self.epoch] = self
        self.main = Cell(self, self.book.next_number(), Address(self.epoch, 16))
        self.attach_inbox(16, self.main.on_envelope)
        self.lease: ClientLeaseBody | None = None
        self.plans: dict[int, Plan] = {}
        self.records: dict[int, Entry] = {}  # by number of the plan
        self.forgotten: set[int] = set()
        self.waits_for = 0

    # --- the lease

    @property
    def ledger(self) -> Ledger | None:
        return self.lease.ledger if self.lease is not None else None

    @property
    def is_leaving(self) -> bool:
        return self.lease is None or self.lease.is_leaving

    @property
    def is_freed(self) -> bool:
        return self.lease is None or self.lease.is_freed

    def take_lease(self, pulse_interval: float, abandon_zombies: bool) -> None:
        self.lease = ClientLeaseBody(self)
        self.lease.enlist(pulse_interval, abandon_zombies)

    def leave_lease(self) -> None:
        assert self.lease is not None
        self.lease.leave()
        self.lease = None

    def release(self, *, terminate: bool) -> None:
        assert self.lease is not None
        self.lease.release(terminate=terminate)

    def private_died(self) -> None:
        """The watcher of a private process that was killed."""
        if (
            self.is_alive
            and self.lease is not None
            and not self.lease.is_freed
            and self.lease.ledger.scheduler
        ):
            self.lease.ledger.members.private_died(self.world.now)
            self.turn_soon()

    def private_ended(self) -> None:
        """The watcher of the private process: its end is the end of our tasks."""
        if self.is_alive and self.lease is not None:
            self.lease.private_ended("the private scheduler ended")

    # --- tasks and their messages

    def submit(
        self, plan: Plan, *, node: str = "", server: int = 0, values: list[Entry] | None = None
    ) -> Entry:
        """TaskHost.submit; the plan is in the book before anybody can start it."""
        assert self.ledger is not None
        task = TaskId(self.epoch, self.take_number())
        record = Entry(plan.function, task=task, call=plan.call(task), io=plan.io, node=node, server=server)
        self.book.plans[task] = plan
        self.records[plan.number] = record
        self.note(f"submits task {task.number}: {plan}")
        self.ledger.tasks.submit(record, list[Record](values or ()))
        self.turn_soon()
        return record

    def terminate(self, record: Entry) -> None:
        if self.ledger is not None and not record.ended:
            self.note(f"terminates task {record.task.number}")
            self.book.asked_to_end.setdefault(record.task, self.world.now)
            self.ledger.tasks.terminate(record, self.world.now)
            self.turn_soon()

    def words_to(self, record: Entry, count: int) -> Words:
        """The handle of a task, as it would travel in a message now."""
        home = Address(record.task.owner, record.task.number)
        number = self.book.plans[record.task].number
        direct = record.address if not record.held and not record.ended else None
        return Words(number, home, direct, count)

    def talk_to(self, record: Entry, count: int, *, deliver: bool = False) -> None:
        """send() or deliver() of the main task."""
        plan = self.book.plans[record.task]
        for _ in range(count):
            if record.ended:
                return  # Task.send on a handle that knows its end is dropped
            to = Address(record.task.owner, record.task.number)
            if record.address is not None and not record.held:
                to = record.address
                pair = self.main.number, plan.number
                self.book.direct.setdefault(pair, []).append(self.book.said.get(pair, 0) + 1)
            if not deliver:
                self.tell(self.main, to, plan.number)
                continue
            self.waits_for += 1
            home = to.actor if to.epoch == self.epoch else 0
            correlation = self.correspondence.expect(to.epoch, self._delivered, home=home)
            payload = self.book.words(self.main.number, plan.number)
            self.send(Envelope(to, self.main.address, messages.Tell(), correlation, payload))

    def _delivered(self, answer: Envelope | None) -> None:
        self.waits_for -= 1

    # --- correspondence.Records

    @property
    def owner(self) -> int:
        return self.epoch

    def hold(self, envelope: Envelope) -> bool:
        return self.ledger is not None and self.ledger.tasks.submitters.hold(envelope)

    def forward(self, envelope: Envelope) -> bool:
        return self.correspondence.forward(envelope)

    def record(self, number: int) -> Entry | None:
        return self.ledger.records.get(number) if self.ledger is not None else None

    def pass_on(self, record: Entry, envelope: Envelope) -> None:
        assert self.ledger is not None
        self.ledger.tasks.pass_on(record, envelope)

"""Scheduler, node agent and client of the simulated cluster: the real machines, and bodies that act in virtual time.

Kept in step with brokers/broker.py, actors/host/run_node.py, cli/private.py and actors/seat.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from dispycos.actors import ledger
from dispycos.actors.ledger import Ledger, Record
from dispycos.actors.node import Node
from dispycos.actors.seat import SCHEDULER_GONE_AFTER
from dispycos.actors.tenancy import CloseZygote, ForgetPeer, KillServer, StartServer, StartZygote
from dispycos.brokers.broker import GOODBYE_S, LOOK_S, LOOKS
from dispycos.brokers.placement import Pace
from dispycos.brokers.scheduler import Scheduler
from dispycos.links import LinkLost, LinkReady
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, NODE, SCHEDULER, Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import Availability, ClientInfo, Enlist, NodeInfo, TaskId
from dispycos.protocol.status import OutcomeKind
from dispycos.router import Event
from dispycos.runtime import FORGET_S
from dispycos.session import PeerReset

from .cluster_runtime import End, Process, Role, Universe
from .cluster_servers import ServerProcess
from .cluster_tasks import Book, Cell, Host, Plan, Words

PYTHON: Final = (3, 11)
STOP_S: Final = 0.6  # cli/node.py: what a node gives its tasks when it is stopped
BRISK: Final = "brisk"  # a function that is short, and soon known to be


class BrokerBody(Role):
    """brokers/broker.py; and a head start for one function, so that it is fed ahead after a few runs."""

    def __init__(self, process: Process, name: str, *, private: bool) -> None:
        self.process = process
        address = Address(process.epoch, SCHEDULER)
        self.machine: Scheduler = Scheduler(name, f"id of {name}", address, private=private)
        process.attach(SCHEDULER, self)

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, LinkReady):
            self.machine.peer_up(event.epoch, event.about, now)
        elif isinstance(event, LinkLost):
            self.machine.peer_lost(event.epoch, now)
            self.process.defer(partial(self._look_at, event.epoch, LOOKS))
        elif isinstance(event, PeerReset):
            self.machine.peer_reset(event.epoch, event.unconfirmed, now)

    def carry_out(self, effect: object, now: float) -> None:
        raise TypeError(f"no such effect: {effect!r}")

    def _look_at(self, epoch: int, looks: int) -> None:
        """Where all run on one host, the dead are known at once."""
        process = self.process
        if process.router.is_linked(epoch):
            return
        if process.world.is_one_host and epoch in process.world.dead:
            self.machine.peer_reset(epoch, [], process.world.now)
            process.turn_soon()
        elif looks > 1:
            process.later(LOOK_S, partial(self._look_at, epoch, looks - 1))

    def end(self, why: str, then: Callable[[], None]) -> None:
        """Its operator, or the end of its client, stops it."""
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

    def know_pace(self) -> None:
        registry = self.machine.registry
        if registry.active is not None and BRISK not in registry.paces:
            pace = registry.paces[BRISK] = Pace()
            pace.wanted = 3


class SchedulerProcess(Process):
    role = "scheduler"

    def boot(self) -> None:
        self.broker = BrokerBody(self, self.name, private=False)

    @property
    def scheduler(self) -> Scheduler:
        return self.broker.machine

    def turn(self) -> None:
        super().turn()
        self.broker.know_pace()

    def stop(self) -> None:
        self.broker.end("the scheduler was stopped", self.leave)


class NodeBody(Role):
    """actors/host/run_node.py: processes that start, are killed, and whose ends are told after all they had sent."""

    def __init__(self, process: Process, book: Book, name: str, cpus: int, options: dict[str, Any]) -> None:
        self.process = process
        self.book = book
        self.name = name
        available = Availability(50.0, 1 << 30, 1 << 30, 0)
        self.info = NodeInfo(
            name, f"10.0.0.{len(name)}{name[-1]}", 9706, cpus, "Linux", PYTHON, process.epoch, available
        )
        ports = list(range(9707, 9707 + cpus))
        self.machine = Node(
            self.info,
            Address(process.epoch, NODE),
            ports,
            min_pulse_interval=0.1,
            max_pulse_interval=100,
            **options,
        )
        self.servers: dict[int, ServerProcess] = {}
        self.has_zygote = False
        process.attach(NODE, self)

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, LinkReady):
            if event.role == "scheduler":
                self.machine.add_scheduler(event.epoch, now)
            self.machine.peer_up(event.epoch, event.about, now)
        elif isinstance(event, LinkLost):
            self.machine.peer_lost(event.epoch, now)
        elif isinstance(event, PeerReset):
            self.machine.peer_reset(event.epoch, event.unconfirmed, now)

    def carry_out(self, effect: object, now: float) -> None:
        process, dice = self.process, self.process.world.dice
        if isinstance(effect, StartServer):
            process.later(dice.random() * 0.05, partial(self._fork, effect))
        elif isinstance(effect, KillServer):
            server = self.servers.get(effect.number)
            if server is not None:
                server.exit("killed by SIGKILL (9)")
        elif isinstance(effect, StartZygote):
            process.router.prefer(effect.lease.scheduler_epoch)
            process.later(dice.random() * 0.1, self._zygote_up)
        elif isinstance(effect, CloseZygote):
            self.has_zygote = False
            process.forget_later(effect.lease.client, FORGET_S)
        else:
            assert isinstance(effect, ForgetPeer), effect
            process.router.bury(effect.epoch, now)

    def _zygote_up(self) -> None:
        now = self.process.world.now
        if self.process.world.dice.random() < 0.02:
            self.machine.zygote_failed("fork: Resource temporarily unavailable", now)
        else:
            self.has_zygote = True
            self.machine.zygote_ready(now)
        self.process.turn_soon()

    def _fork(self, order: StartServer) -> None:
        process, now = self.process, self.process.world.now
        if not self.has_zygote or process.world.dice.random() < 0.01:
            self.machine.server_failed_to_start(order.number, "its zygote has ended", now)
            process.turn_soon()
            return
        self.book.pids += 1
        server = ServerProcess(process.world, self.book, process, order, self.book.pids, self._exited)
        self.servers[order.number] = server
        self.book.servers.append(server)
        server.start()

    def _exited(self, server: ServerProcess, text: str) -> None:
        """Told later, by the zygote; nothing if the agent itself has ended."""
        number = server.order.number
        self.process.later(self.process.world.dice.random() * 0.05, partial(self._bury, server, number, text))

    def _bury(self, server: ServerProcess, number: int, text: str) -> None:
        """First all that it had sent, then its death."""
        if self.servers.get(number) is server:
            del self.servers[number]
        for cable in self.process.world.cables:
            for end in cable.ends:
                if end.owner is self.process and end.other.owner is server:
                    cable.hurry(end)
        self.process.turn()
        self.process.note(f"hears that {server.name} {text}")
        self.machine.server_exited(number, server.pid, text, False, self.process.world.now, server.progress)
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
        if self.machine.tenancy is None or process.world.now >= until:
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
        self.broker = BrokerBody(self, self.name, private=True)
        self.agent = self._make()
        self.agent.machine.add_scheduler(self.epoch, self.world.now)

    @property
    def scheduler(self) -> Scheduler:
        return self.broker.machine

    def turn(self) -> None:
        super().turn()
        self.broker.know_pace()

    def die(self, dying_words: tuple[End, ...] = ()) -> None:
        self.agent.kill_all()
        super().die(dying_words)

    def stop(self) -> None:
        """Its client has ended."""
        self.broker.end("its client has ended", self.agent.stop)


class ClientProcess(Host):
    """actors/seat.py: its ledger, and the user's main task with its mailbox."""

    role = "client"

    def __init__(self, world: Universe, book: Book, name: str) -> None:
        super().__init__(world, name)
        self.book = book
        self.on_scheduled: Callable[[], None] = lambda: None
        self.on_resolved: Callable[[Record], None] = lambda record: None
        self.on_freed: Callable[[str], None] = lambda reason: None

    def boot(self) -> None:
        self.main = Cell(self, self.book.next_number(), Address(self.epoch, 16))
        self.attach_inbox(16, self.main.on_envelope)
        self.ledger: Ledger | None = None
        self.plans: dict[int, Plan] = {}
        self.records: dict[int, Record] = {}  # by number of the plan
        self.forgotten: set[int] = set()
        self.waits_for = 0
        self._await = False

    # --- the seat

    def take_seat(self, pulse_interval: float) -> None:
        self.machine = self.ledger = Ledger(Address(self.epoch, CLIENT))
        self.is_leaving = self.is_freed = False
        self._await = False
        self.attach(CLIENT, self)
        self._enlist(pulse_interval)

    def _enlist(self, pulse_interval: float) -> None:
        """When the dialler is ready."""
        assert self.uplink is not None and self.ledger is not None
        if isinstance(self.uplink, PrivateProcess) and not self.uplink.is_alive:
            self.private_ended()  # PrivateProcess.next_line() raises
            return
        if not self.router.is_linked(self.uplink.epoch):
            self.later(0.01, partial(self._enlist, pulse_interval))
            return
        info = ClientInfo(self.name, "here", 1, PYTHON)
        word = Enlist(info, [], pulse_interval)
        self.ledger.enlist(Address(self.uplink.epoch, SCHEDULER), word, self.world.now)
        self.turn_soon()

    def leave_seat(self) -> None:
        self.remove(CLIENT, self)
        self.ledger = None

    def release(self, *, terminate: bool) -> None:
        assert self.ledger is not None
        self.note(f"closes, terminate={terminate}")
        self.is_leaving = True
        if not self.is_freed and self.ledger.scheduler is not None:
            self.ledger.release(terminate=terminate, await_io=False)
        self.turn_soon()

    def on_event(self, event: Event, now: float) -> None:
        assert self.ledger is not None
        scheduler = self.ledger.scheduler
        if isinstance(event, PeerReset):
            self.peer_gone(event.epoch, event.unconfirmed)
            if self._is_schedulers(event.epoch):
                self.ledger.scheduler_lost("the scheduler was started anew and does not know this client")
        elif isinstance(event, LinkLost) and self._is_schedulers(event.epoch):
            if not self._await and not self.is_freed:
                self._await = True
                self.later(SCHEDULER_GONE_AFTER, partial(self._give_up, self.ledger))
        elif (
            isinstance(event, LinkReady)
            and event.role == "scheduler"
            and scheduler is not None
            and not self.is_freed
            and not self._is_schedulers(event.epoch)
        ):
            self.ledger.scheduler_lost("the scheduler was started anew and does not know this client")

    def _is_schedulers(self, epoch: int) -> bool:
        scheduler = self.ledger.scheduler if self.ledger is not None else None
        return scheduler is not None and epoch == scheduler.epoch

    def _give_up(self, seat: Ledger) -> None:
        if self.ledger is not seat:
            return
        self._await = False
        if (
            seat.scheduler is not None
            and not self.router.is_linked(seat.scheduler.epoch)
            and not self.is_freed
        ):
            seat.scheduler_lost(f"no link to the scheduler for {SCHEDULER_GONE_AFTER:g} s")
            self.turn_soon()

    def private_ended(self) -> None:
        """The watcher of the private process: its end is the end of our tasks."""
        if self.is_alive and self.ledger is not None and not self.is_freed:
            self.ledger.scheduler_lost("the private scheduler ended")
            self.turn_soon()

    def carry_out(self, effect: object, now: float) -> None:
        if isinstance(effect, ledger.Resolve):
            record = effect.record
            self.book.resolved(record.task, record.outcome, record.started, record.text, record.payload)
            self.defer(lambda: self.on_resolved(record))
            if record.outcome == OutcomeKind.LOST:
                self.defer(lambda: self.record_lost(record.task.number))
        elif isinstance(effect, ledger.Give):
            self._give(effect.request)
        elif isinstance(effect, ledger.Forget):
            self.forgotten.add(effect.epoch)
            self.peer_gone(effect.epoch, self.router.bury(effect.epoch, now))
        elif isinstance(effect, ledger.Scheduled):
            self.defer(self.on_scheduled)
        elif isinstance(effect, ledger.Failed):
            self.note(f"failed: {effect.reason}")
        elif isinstance(effect, ledger.Freed):
            self.is_freed = True
            self.defer(lambda: self.on_freed(effect.reason))
        elif isinstance(effect, ledger.Say):
            self.note(f"says: {effect.text}")

    def _give(self, request: Envelope) -> None:
        assert self.ledger is not None
        word: messages.Message
        payload: Payload = None
        if isinstance(request.message, messages.CallWanted):
            record = self.ledger.records.get(request.message.task.number)
            payload = record.call if record is not None else None
            word = messages.CallGiven("" if payload is not None else "the task has ended")
        else:
            word = messages.CodeGiven("")
        answer = Envelope(request.sender, self.ledger.address, word, request.correlation, payload)
        self.router.send(answer, self.world.now)

    # --- tasks and their messages

    def submit(self, plan: Plan) -> Record:
        """TaskHost.submit; the plan is in the book before anybody can start it."""
        assert self.ledger is not None
        task = TaskId(self.epoch, self.take_number())
        record = Record(task, plan.function, plan.call(task), io=plan.io)
        self.book.plans[task] = plan
        self.records[plan.number] = record
        self.note(f"submits task {task.number}: {plan}")
        self.ledger.submit(record)
        self.turn_soon()
        return record

    def terminate(self, record: Record) -> None:
        if self.ledger is not None and not record.ended:
            self.note(f"terminates task {record.task.number}")
            self.book.asked_to_end.add(record.task)
            self.ledger.terminate(record)
            self.turn_soon()

    def words_to(self, record: Record, count: int) -> Words:
        """The handle of a task, as it would travel in a message now."""
        home = Address(record.task.owner, record.task.number)
        number = self.book.plans[record.task].number
        direct = record.address if not record.held and not record.ended else None
        return Words(number, home, direct, count)

    def talk_to(self, record: Record, count: int, *, deliver: bool = False) -> None:
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
            correlation = self.expect(to.epoch, self._delivered, to.actor if to.epoch == self.epoch else 0)
            payload = self.book.words(self.main.number, plan.number)
            self.send(Envelope(to, self.main.address, messages.Tell(), correlation, payload))

    def _delivered(self, answer: Envelope | None) -> None:
        self.waits_for -= 1

    def fallback(self, envelope: Envelope) -> bool:
        """TaskHost.forward: a message for the home of a task that was asked for here."""
        record = self.ledger.records.get(envelope.to.actor) if self.ledger is not None else None
        if self.ledger is None or record is None or record.ended:
            return False
        self.ledger.pass_on(record, envelope)
        return True

"""One fault schedule of a whole cluster from a seed: real machines on real routers, in virtual time, and what must hold.

Clients submit, talk, terminate and leave; links break, processes pause, die and come back. Then everything heals, the clients
close, and the book of what really happened is compared with what the ledgers say.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from dispycos.actors.dispatching.facts import Entry
from dispycos.actors.node.agent import Node
from dispycos.brokers.scheduler import Scheduler
from dispycos.protocol.status import OutcomeKind
from dispycos.session.links import NODE_ROLE

from .cluster_bodies import ClientProcess, NodeProcess, PrivateProcess, SchedulerProcess
from .cluster_links import Universe
from .cluster_runtime import Process
from .cluster_tasks import Book
from .cluster_users import User

TROUBLE_S: Final = 4.0
GRACE_S: Final = 10.0  # a node without its client or scheduler ends the lease after this
FORGET_S: Final = (12.0, 20.0)  # as the figures of dispycos.runtime, but so early that it is played
ZOMBIE_S: Final = (4.5, 5.5)  # longer than 5 pulses, and so short that nobody else is out of patience
LONG_S: Final = 30.0  # an outage that outlasts the patience of everybody
WORK_MAX: Final = 90.0  # by then every task has its outcome
REST_MAX: Final = 100.0  # and then so long until nothing is left of anybody

PLAIN: Final = frozenset({OutcomeKind.RETURNED, OutcomeKind.RAISED})
Fault = Callable[[], None]


class Cluster:
    """A scheduler with nodes, or a private process; one client, or up to three in turn."""

    def __init__(self, seed: int, *, chains: bool = False, keeps_diary: bool = False) -> None:
        self.seed = seed
        self.world = Universe(seed, keeps_diary=keeps_diary)
        self.dice = self.world.dice
        self.chains = random.Random(-1 - seed) if chains else None
        self.book = Book(self.world)
        self.violence: set[str] = set()  # faults that may cost a task its life
        self.killed: set[str] = set()  # nodes
        self.is_private = self.dice.random() < 0.25
        if self.dice.random() < 0.5:
            self.world.forget_s, self.world.forget_node_s = FORGET_S
        self.lasting: set[frozenset[str]] = set()  # outages that nobody repairs
        self.nodes: list[NodeProcess] = []
        self.head: SchedulerProcess | PrivateProcess
        options = {"lease_grace": GRACE_S}
        if self.is_private:
            self.head = PrivateProcess(self.world, self.book, "private", self.dice.choice((1, 2, 2)), options)
            self.head.start()
        else:
            self.head = SchedulerProcess(self.world, "scheduler")
            self.head.start()
            for n in range(self.dice.choice((1, 2, 2))):
                node = NodeProcess(self.world, self.book, f"node{n}", self.dice.choice((1, 2, 2)), options)
                node.uplink = self.head
                node.start()
                self.nodes.append(node)
        if self.nodes and self.dice.random() < 0.5:
            self._block_ways()
        self.has_queue = not self.is_private and self.dice.random() < 0.1
        users = 1 if self.is_private else 3 if self.has_queue else self.dice.choice((1, 1, 2))
        self.users = [self._new_user(n) for n in range(users)]

    def _block_ways(self) -> None:
        """Clients do not reach every node, or not the one that they mean."""
        if len(self.nodes) > 1 and self.dice.random() < 0.5:
            self.world.gate += self.nodes
        else:
            walled = self.dice.sample(self.nodes, self.dice.randrange(1, len(self.nodes) + 1))
            self.world.walls |= {frozenset((f"client{n}", node.name)) for n in range(3) for node in walled}

    def _new_user(self, n: int) -> User:
        client = ClientProcess(self.world, self.book, f"client{n}")
        client.uplink = self.head
        self.world.referee.clients.append(client)
        return User(client, self.violence, self.chains)

    # --- what happens

    def play(self) -> list[str]:
        """Runs all of it; what went wrong, in words."""
        world, dice = self.world, self.dice
        random.seed(self.seed)  # the real dialler's jitter
        world.run(0.5)
        troubles = dice.choice((0, 1, 2, 3, 4, 6))
        self.book.is_calm = not troubles
        for _ in range(troubles):
            world.after(dice.random() * TROUBLE_S, self._trouble)
        if self.has_queue:
            world.after(dice.random() * TROUBLE_S, self._kill_scheduler)
        world.run(0.5 + TROUBLE_S, self._are_users_done)
        self._repair()
        world.run(world.now + WORK_MAX, self._are_users_done)
        for user in self.users:
            user.force()
        if not world.faults:
            world.run(world.now + REST_MAX, self._is_at_rest)
            self._judge()
        return world.faults

    def _are_users_done(self) -> bool:
        return bool(self.world.faults) or all(user.is_done or not user.client.is_alive for user in self.users)

    def _trouble(self) -> None:
        dice = self.dice
        gentle: list[Fault] = [
            self._cut,
            self._cut,
            self._cut,
            self._outage,
            self._outage_of_a_shortcut,
            self._deafen,
            self._pause,
            self._pause,
        ]
        if not self.is_private:
            gentle += [self._kill_scheduler, self._kill_scheduler]
        harsh: list[Fault] = [
            self._kill_server,
            self._kill_server,
            self._kill_server,
            self._kill_borrowed,
            self._long_pause,
            self._zombie,
        ]
        rare: list[Fault] = [
            self._kill_node,
            self._stop_node,
            self._kill_client,
            self._stop_head,
            self._long_outage,
        ]
        dice.choice(dice.choice((gentle, gentle, harsh, harsh, rare)))()

    def _cut(self) -> None:
        cables = [
            cable
            for cable in self.world.cables
            if not cable.is_cut and (cable.is_lane or cable.ends[0].owner.role != "server")
        ]
        if cables:
            cable = self.dice.choice(cables)
            self.world.note(f"CUT {cable.ends[0].owner.name} - {cable.ends[1].owner.name}")
            # A lane is a socket of one kernel, which tells its ends at once; of other links they may hear late.
            noticed_s = self.dice.choice((0.05, 0.3, 0.3 if cable.is_lane else 3.0))
            self._disturb({end.owner.name for end in cable.ends}, noticed_s)
            cable.cut(noticed_s)

    def _disturb(self, names: Iterable[str], seconds: float) -> None:
        for name in names:
            self.world.referee.disturb(name, self.world.now + seconds)

    def _outage(self) -> None:
        process = self.dice.choice([*self.nodes, *(user.client for user in self.users)])
        self._part(process, self.dice.random() * 2.0)

    def _outage_of_a_shortcut(self) -> None:
        """A client and a node cannot connect for a while."""
        if self.nodes:
            client, node = self.dice.choice(self.users).client, self.dice.choice(self.nodes)
            self._block(frozenset((client.name, node.name)), self.dice.random() * TROUBLE_S)

    def _deafen(self) -> None:
        """One end hears nothing any more, and only silence tells."""
        cables = [
            cable
            for cable in self.world.cables
            if not (cable.is_cut or cable.is_ipc) and cable.ends[0].owner.role != "server"
        ]
        if cables and not self.world.is_one_host:  # there silence means nothing
            cable = self.dice.choice(cables)
            cable.deaf = self.dice.choice(cable.ends)
            self.world.note(f"DEAF {cable.deaf.owner.name} to {cable.deaf.other.owner.name}")

    def _zombie(self) -> None:
        """A node is silent for more than 5 pulses: to a client that does not abandon it nothing is lost."""
        if self.nodes and not self.lasting:
            if any(user.abandons for user in self.users):
                self.violence.add("outage")
            self._part(self.dice.choice(self.nodes), self.dice.uniform(*ZOMBIE_S), lasts=True)

    def _part(self, process: Process, seconds: float, *, lasts: bool = False) -> None:
        """Without a link to its uplink for a while."""
        assert process.uplink is not None
        self._block(frozenset((process.name, process.uplink.name)), seconds, lasts=lasts)

    def _block(self, pair: frozenset[str], seconds: float, *, lasts: bool = False) -> None:
        self.world.note(f"OUTAGE {sorted(pair)}")
        self.world.down.add(pair)
        self._disturb(pair, seconds)
        for cable in self.world.cables:
            if {end.owner.name for end in cable.ends} == pair:
                cable.cut(0.3)
        if lasts:
            self.lasting.add(pair)
        self.world.after(seconds, lambda: self._mend(pair))

    def _mend(self, pair: frozenset[str]) -> None:
        self.world.down.discard(pair)
        self.lasting.discard(pair)

    def _long_outage(self) -> None:
        self.violence.add("outage")
        process = self.dice.choice([*self.nodes, *self.nodes, *(user.client for user in self.users)])
        lasts = process in self.nodes
        self._part(process, self.dice.random() * (LONG_S if lasts else 2 * TROUBLE_S), lasts=lasts)

    def _processes(self) -> list[Process]:
        servers = [server for server in self.book.servers if server.is_alive]
        clients = [user.client for user in self.users]
        return [process for process in [self.head, *self.nodes, *clients, *servers] if process.is_alive]

    def _pause(self, seconds: float = 0.8) -> None:
        living = self._processes()
        if living:
            self.dice.choice(living).pause(self.dice.random() * seconds)

    def _long_pause(self) -> None:
        self.violence.add("pause")
        self._pause(6.0)

    def _kill_server(self) -> None:
        servers = [server for server in self.book.servers if server.is_alive]
        if servers:
            self.violence.add("server")
            self.dice.choice(servers).exit("killed by SIGKILL (9)")

    def _kill_borrowed(self, looks: int = 3000) -> None:
        """A server, or its node, while it runs a task that its client sent itself, which is short: so it is waited for."""
        busy = [
            server
            for server in self.book.servers
            if server.is_alive and server.machine.deadline() is not None
        ]
        if busy:
            agent = busy[0].uplink
            if isinstance(agent, NodeProcess | PrivateProcess) and self.dice.random() < 0.5:
                self._kill(agent, 0.5)
            else:
                self.violence.add("server")
                busy[0].exit("killed by SIGKILL (9)")
        elif looks:
            self.world.after(0.001, lambda: self._kill_borrowed(looks - 1))

    def _kill_node(self) -> None:
        there: Sequence[Process] = self.nodes or [self.head]
        agents = [node for node in there if node.is_alive]
        if agents:
            agent = self.dice.choice(agents)
            assert isinstance(agent, NodeProcess | PrivateProcess)
            self._kill(agent, 0.05 + self.dice.random() * 3)

    def _kill(self, agent: NodeProcess | PrivateProcess, again: float) -> None:
        """With its servers, of which its client knows what they had begun, if they were of its host. Another takes its place."""
        self.violence.add("server" if self.world.is_one_host else "node")
        self.killed.add(agent.agent.name)
        agent.die()
        if agent is not self.head:
            self._start_again(agent, again)
            return
        (user,) = self.users

        def replace() -> None:
            user.client.private_died()
            self._start_again(agent, again)

        user.client.later(self.dice.random() * 0.1, replace)  # it is its client that starts another one

    def _stop_node(self) -> None:
        nodes = [node for node in self.nodes if node.is_alive]
        if nodes:
            self.violence.add("node")
            node = self.dice.choice(nodes)
            node.note("is told to stop")
            node.agent.stop()
            self._start_again(node, 1.5 + self.dice.random() * 3)

    def _start_again(self, process: Process, delay: float) -> None:
        """After its end; one that was told to stop takes its time."""
        life = process.life

        def start() -> None:
            if not process.is_alive:
                process.start()
            elif process.life == life:
                self.world.after(0.5, start)

        self.world.after(delay, start)

    def _kill_client(self) -> None:
        client = self.dice.choice(self.users).client
        if client.is_alive:
            self.violence.add("client")
            client.die()
            if isinstance(self.head, PrivateProcess) and self.head.is_alive:
                self.head.later(self.dice.random() * 0.1, self.head.stop)

    def _kill_scheduler(self) -> None:
        """It is started again, and costs nobody anything; mostly it is killed more than once."""
        if self.head.is_alive:
            self.head.die()
            self._start_again(self.head, 0.1 + self.dice.random() * self.dice.choice((0.3, 3.0)))
            if self.dice.random() < 0.5:
                self.world.after(self.dice.random() * 4.0, self._kill_scheduler)

    def _stop_head(self) -> None:
        """In order; a private one with its node."""
        if not self.head.is_alive:
            return
        self.violence.add("scheduler")
        self.head.note("is told to stop")
        self.head.stop()
        if self.is_private:
            for user in self.users:
                user.client.later(self.dice.random() * 0.1, user.client.private_ended)
        else:
            self._start_again(self.head, 0.6 + self.dice.random() * 3)

    def _repair(self) -> None:
        self.world.note("REPAIR")
        self.world.down &= self.lasting
        for process in self._processes():
            process.paused_until = min(process.paused_until, self.world.now)
            process.turn_soon()

    # --- what must hold

    def _machines(self) -> list[tuple[str, Node]]:
        found = [(node.name, node.agent.machine) for node in self.nodes if node.is_alive]
        if isinstance(self.head, PrivateProcess) and self.head.is_alive:
            found.append((self.head.name, self.head.agent.machine))
        return found

    def _is_at_rest(self) -> bool:
        return bool(self.world.faults) or not self._leftovers()

    def _leftovers(self) -> list[str]:
        """What clients that are gone have left behind."""
        left = []
        for name, machine in self._machines():
            if machine.granted is not None:
                left.append(f"{name} still holds {machine.granted.lease}")
        for server in self.book.servers:
            if server.is_alive:
                left.append(f"{server.name} still runs")
        if self.head.is_alive:
            left += self._left_at(self.head.scheduler)
        living = {process.epoch: process for process in self._processes()}
        for process in living.values():
            if isinstance(process, ClientProcess) and process.is_freed:
                dialled = process.router.neighbours(NODE_ROLE)
                left += [f"{process.name} still has a link to {self.world.name_of(node)}" for node in dialled]
            for peer in process.router.busy_peers():
                if peer in living:
                    left.append(f"{process.name} is busy with {self.world.name_of(peer)}")
                elif isinstance(process, ClientProcess) and peer in process.forgotten:
                    left.append(f"{process.name} speaks to the dead {self.world.name_of(peer)}")
        return left

    def _left_at(self, scheduler: Scheduler) -> list[str]:
        registry = scheduler.registry
        tables: dict[str, Mapping[Any, Any]] = {
            "clients": registry.clients,
            "servers": registry.servers,
        }
        return [f"the scheduler still has {name}: {list(table)}" for name, table in tables.items() if table]

    def _judge(self) -> None:
        for text in self._leftovers():
            self.world.wrong(text)
        for user in self.users:
            if user.client.is_alive:
                self._judge_user(user)

    def _judge_user(self, user: User) -> None:
        wrong, client, book = self.world.wrong, user.client, self.book
        for record in client.records.values():
            if record.task not in book.outcomes:
                wrong(f"task {record.task.number} of {client.name} has no outcome")
            else:
                fault = self._objection(user, record)
                if fault:
                    outcome, started, text = book.outcomes[record.task]
                    plan = book.plans[record.task]
                    wrong(f"task {record.task.number} ({plan.function}) of {client.name} is {OutcomeKind(outcome).name}, "
                          f"started={started} {text!r}: {fault}")  # fmt: skip
        if client.waits_for:
            wrong(f"{client.name} waits for the answers to {client.waits_for} deliver() calls")
        self._judge_words(user)

    def _objection(self, user: User, record: Entry) -> str:
        """Why this outcome cannot be right after what happened; empty if it can."""
        book, task = self.book, record.task
        outcome = book.outcomes[task][0]
        plan = book.plans[task]
        start = book.starts.get(task)
        whole = self.violence - {"client", "deaf"}
        if outcome in PLAIN:
            return "" if outcome == plan.kind else "not what it did"
        if outcome == OutcomeKind.LOST:
            if whole - {"server"}:
                return ""
            # Which tasks a dead server had begun its page tells; that is before their calls are fetched.
            # What has an address is lost with its server in any case.
            placed = plan.fetch or record.address is not None
            dead = placed if start is None else start.server.died_of_kill
            return (
                ""
                if dead and ("server" in whole or "deaf" in self.violence)
                else "nothing happened that could lose it"
            )
        if outcome == OutcomeKind.REFUSED and book.without_value(task):
            return ""
        if task in book.asked_to_end or whole - {"server"} or record.server or record.node in self.killed:
            return ""
        if outcome == OutcomeKind.REFUSED and record.node and "server" in whole:
            return ""  # its node was killed before it had begun
        closing = user.closings[task]
        if closing == "terminate" or (closing == "early" and (plan.io or "deaf" in self.violence)):
            return ""
        if plan.io and "deaf" in self.violence:
            return ""
        if plan.is_nested and (plan.io or closing == "early"):  # it may outlive who submitted it
            return ""
        return "nobody asked for that"

    def _judge_words(self, user: User) -> None:
        """What a task said to its client's main task, and what that one said to tasks."""
        book, client = self.book, user.client
        main = client.main.number
        for record in client.records.values():
            plan = book.plans[record.task]
            start = book.starts.get(record.task)
            if start is not None and book.outcomes.get(record.task, (0,))[0] in PLAIN and plan.words:
                self._count(plan.number, plan.words[0].target, start.server)
            if not self.violence & {"freed", "scheduler", "outage", "pause"}:
                self._count_handed_back(main, plan.number, record)

    def _count(self, source: int, target: int, server: Any) -> None:
        said, heard = self.book.said.get((source, target), 0), self.book.heard.get((source, target), [])
        if server.died_of_kill or target not in {user.client.main.number for user in self.users}:
            return
        if heard != list(range(1, said + 1)):
            self.world.wrong(f"of {said} words of actor {source} to {target} only {heard} came")

    def _count_handed_back(self, source: int, target: int, record: Entry) -> None:
        heard = self.book.heard.get((source, target), [])
        start = self.book.starts.get(record.task)
        if start is None or start.epoch not in self.world.dead or not start.server.died_of_kill:
            return
        missing = [
            n
            for n in self.book.direct.get((source, target), ())
            if n not in heard and (source, target, n) not in self.book.told
        ]
        if missing and start.epoch not in self._received_by(record):
            self.world.wrong(
                f"words {missing} of actor {source} to task {record.task.number} neither came nor came back"
            )

    def _received_by(self, record: Entry) -> set[int]:
        """Epochs of servers that confirmed words for a task that had ended there: those were dropped, rightly."""
        return {self.book.starts[record.task].epoch} if record.task in self.book.ends else set()


def failures(count: int, first: int = 0, *, chains: bool = False) -> list[str]:
    """Plays schedules; each failure names the seed that repeats it."""
    found = []
    for seed in range(first, first + count):
        wrong = Cluster(seed, chains=chains).play()
        if wrong:
            found.append(f"cluster seed {seed}: {'; '.join(wrong[:3])}")
    return found


def story(seed: int, *, chains: bool = False) -> list[str]:
    """All that happens in one schedule, line by line."""
    cluster = Cluster(seed, chains=chains, keeps_diary=True)
    cluster.play()
    assert cluster.world.diary is not None
    return cluster.world.diary

"""Books tasks: takes them from the client into the queues, and hears from the nodes how they end.

The handlers only record; then one pass gives out what waits in the queues (`placing`), so a batch of messages
costs one. Work per task does not grow with the number of tasks: queues are kept by what may unblock them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Final

from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Admit, Adopt, Outcome, OutcomeAck, Recalled, Submit, TaskId, Terminate
from dispycos.protocol.status import OutcomeKind

from .lifecycle import ClientState, TaskState
from .outbox import Outbox
from .placement import Pace, cpu_level, io_level
from .placing import Placing, count_on, is_usable
from .registry import CREDIT, Alarm, Client, Node, Registry, Server, Site, Task

PACES_MAX: Final = 10_000  # functions whose run times are remembered
TERMINATE_PATIENCE_S: Final = 10.0  # a node that cannot be reached is not waited for longer than this
LISTED_MAX: Final = 20  # nodes or servers that an error message lists

# Reading a member from its Enum costs as much as a dictionary look-up, and these are read for each task.
WAITING, GIVEN, RUNNING, ENDED = TaskState.WAITING, TaskState.GIVEN, TaskState.RUNNING, TaskState.ENDED
ACTIVE = ClientState.ACTIVE


class Dispatch:
    """The tasks of the active client."""

    def __init__(self, registry: Registry, placing: Placing, out: Outbox) -> None:
        self.registry = registry
        self.placing = placing
        self.out = out
        self.turns = 0

    # --- what comes from the client

    def on_submit(self, envelope: Envelope, now: float) -> None:
        submit: Submit = envelope.message
        registry = self.registry
        client = registry.active
        if (
            client is None
            or client.state is not ACTIVE
            or submit.task[0] != client.address[0]
            or envelope.sender[0] != client.address[0]
            or client.handed_in >= client.limit
            or submit.task in registry.tasks
        ):
            self._refuse(envelope, client)
            return
        client.handed_in += 1
        self.turns += 1
        pace = registry.paces.get(submit.function) or self._new_pace(submit.function)
        task = Task(submit, envelope.payload, self.turns, pace)
        registry.tasks[submit.task] = task
        if (submit.node or submit.server) and not self._bind(task, submit):
            return
        self._queue_of(task).append(task)

    def _refuse(self, envelope: Envelope, client: Client | None) -> None:
        submit: Submit = envelope.message
        known = self.registry.tasks.get(submit.task)
        if known is not None and known.submit.task[0] == envelope.sender[0]:
            # Answering would end the first one.
            self.out.log("warning", f"{submit.task} was handed in twice; the second time is ignored")
            return
        if client is None or envelope.sender[0] != client.address[0]:
            text = "this client does not have the cluster"
        elif submit.task[0] != client.address[0]:
            text = "the task belongs to another client"
        elif client.state is not ACTIVE:
            text = "the client is closing"
        else:
            text = f"more than {CREDIT} tasks were handed in before others ended"
        self.out.send(
            envelope.sender, Outcome(submit.task, OutcomeKind.REFUSED, started=False, text=f"refused: {text}")
        )

    def _new_pace(self, function: str) -> Pace:
        paces = self.registry.paces
        if len(paces) >= PACES_MAX:
            paces.clear()  # all are measured anew; tasks under way keep theirs
        return paces.setdefault(function, Pace())

    def _bind(self, task: Task, submit: Submit) -> bool:
        """Find the one place where an rtask_at may run; without one, that is its end."""
        if submit.server:
            server = self.registry.servers.get(submit.server)
            if server is not None:
                task.server = server
                task.bound = server.site
                return True
            there = [server.spot.name for server in self.registry.servers.values()]
            text = f"there is no such server ({submit.server:016x}); there are: {_listing(there)}"
        else:
            sites = [site for site in self.registry.sites() if submit.node in _names_of(site.node)]
            if sites:
                task.bound = min(sites, key=lambda site: _load(site, submit.io))
                return True
            there = [site.node.title for site in self.registry.sites()]
            text = f"there is no node {submit.node}; there are: {_listing(there)}"
        self._end(task, OutcomeKind.REFUSED, False, text)
        return False

    def on_terminate(self, envelope: Envelope, now: float) -> None:
        message: Terminate = envelope.message
        task = self.registry.tasks.get(message.task)
        if task is None or envelope.sender[0] != message.task.owner:
            return  # it has ended, and its outcome is on its way
        if task.site is None:
            self._unqueue(task)
            self._end(task, OutcomeKind.CANCELLED, False, "terminated before it started")
        else:
            task.terminated = True
            node = task.site.node
            self.out.send(node.address, message)
            if not node.confirmed:
                self.await_terminated(node, now)

    def await_terminated(self, node: Node, now: float) -> None:
        """It cannot be reached: whoever asked for the end of tasks there does not wait for it for ever."""
        alarms = self.registry.alarms
        if (Alarm.NODE_UNANSWERING, node.epoch) not in alarms.times:
            alarms.set(Alarm.NODE_UNANSWERING, node.epoch, now + TERMINATE_PATIENCE_S)

    def on_node_unanswering(self, epoch: int, now: float) -> None:
        """What had to end there is lost and not terminated: whether it had its KeyboardInterrupt nobody knows."""
        node = self.registry.nodes[epoch]
        if node.confirmed or node.site is None:
            return
        text = (
            f"terminated, but {node.title} has been silent since: it may still run there, "
            "until the node is back and ends it"
        )
        for task in [task for task in self.registry.tasks.values() if task.site is node.site]:
            if task.terminated:
                self._give_up(task, node.site, text)

    def _give_up(self, task: Task, site: Site, text: str) -> None:
        """Not waited for any more; what its node says of it later is about a task that nobody knows."""
        self.placing.leave(task, site)
        if task.submit.task in site.heard:
            self._forget_heard(task, site)
        else:
            self._end(task, OutcomeKind.LOST, True, text)

    # --- what comes from the nodes

    def on_began(self, envelope: Envelope, now: float) -> None:
        message = envelope.message
        task = self.registry.tasks.get(message.task)
        if task is None or task.state is not GIVEN or not _is_there(task, envelope):
            return
        task.state = RUNNING
        assert task.site is not None
        if task.server is None:
            task.server = task.site.servers.get(message.server)
            if task.server is not None:
                count_on(task.server, task.submit.io, 1)

    def on_adopt(self, envelope: Envelope, now: float) -> None:
        """A task that the client sent to a server itself takes its place here, until it ends."""
        adopt: Adopt = envelope.message
        client, node = self.registry.active, self.registry.nodes.get(envelope.sender.epoch)
        site = node.site if node is not None else None
        known = adopt.task in self.registry.tasks
        if client is None or site is None or known or adopt.task.owner != client.epoch:
            return
        self.turns += 1
        pace = self.registry.paces.get(adopt.function) or self._new_pace(adopt.function)
        task = Task(Submit(adopt.task, adopt.function), None, self.turns, pace, RUNNING, site, adopted=True)
        task.server = site.servers.get(adopt.server)
        self.registry.tasks[adopt.task] = task
        self.placing.enter(task, site)

    def on_done(self, envelope: Envelope, now: float) -> None:
        done = envelope.message
        task = self.registry.tasks.get(done.task)
        if task is None:
            return
        site = task.site
        if site is None or site.node.address[0] != envelope.sender[0]:
            self.out.log("warning", f"{done.task} was done by a node that does not have it: ignored")
            return
        self.placing.leave(task, site)
        self._forget(task)
        if done.task in site.heard:
            del site.heard[done.task]
        else:
            site.unheard[done.task] = done.outcome
        if task.pace.saw(done.outcome, done.seconds):
            self._regroup()

    def on_outcome_ack(self, envelope: Envelope, now: float) -> None:
        """The client has these outcomes: the node may forget its copies, and nobody need speak for them."""
        ack: OutcomeAck = envelope.message
        node = self.registry.nodes.get(ack.node)
        site = node.site if node is not None else None
        if node is None or site is None or site.client.epoch != envelope.sender.epoch:
            return
        for name in ack.tasks:
            task = self.registry.tasks.get(name)
            if name in site.unheard:
                del site.unheard[name]
            elif task is not None and task.site is site:  # else it was confirmed before: the word came twice
                site.heard[name] = None
        self.out.send(node.address, OutcomeAck(ack.tasks))

    def on_recalled(self, envelope: Envelope, now: float) -> None:
        message: Recalled = envelope.message
        back = []
        for name in message.tasks:
            task = self.registry.tasks.get(name)
            if task is not None and _is_there(task, envelope):
                assert task.site is not None
                task.site.recall_not_before = now
                if self._take_back(task):
                    back.append(task)
        self._requeue(back)

    def _take_back(self, task: Task) -> bool:
        """A node did not start it; False if that is its end."""
        assert task.site is not None and self.registry.active is not None
        begun, site = task.state is RUNNING, task.site
        self.placing.leave(task, site)
        if task.submit.task in site.heard:  # it ended, and only its node does not know
            self._forget_heard(task, site)
        elif begun:  # it would start twice
            self._end(task, OutcomeKind.LOST, True, "its node gave it back after it had begun")
        elif task.terminated or self.registry.active.state is ClientState.CLOSING:
            self._end(task, OutcomeKind.CANCELLED, False, "terminated before it started")
        elif task.server is not None and task.server.spot.epoch not in self.registry.servers:
            self._end(task, OutcomeKind.REFUSED, False, f"server {task.server.spot.name} is gone")
        else:
            task.state = WAITING
            task.site = None
            return True
        return False

    # --- sites

    def touch(self, site: Site) -> None:
        """Its servers changed, or whether it can be used."""
        self.placing.touched[site] = None

    def server_gone(self, server: Server, death: str) -> None:
        """Its node speaks for the tasks it had; those that wait for it will wait for ever."""
        for io in (False, True):
            for task in server.site.pinned.pop((server.spot.epoch, io), ()):
                self._end(task, OutcomeKind.REFUSED, False, f"server {server.spot.name} is gone: {death}")
        self.touch(server.site)

    def drop_site(self, site: Site, kind: OutcomeKind, text: str) -> None:
        """Nobody else will speak for the tasks that are there or wait for it."""
        for task in [task for task in self.registry.tasks.values() if task.site is site]:
            self._end(task, kind, True, text)  # whether it had started nobody can tell: say what is safe
        site.heard.clear()
        for name, ended in site.unheard.items():  # the true word may be on its way: the first one counts
            self.out.tell(site.client, _word_for(name, ended, text))
        site.unheard.clear()
        unstarted = OutcomeKind.REFUSED if kind is OutcomeKind.LOST else OutcomeKind.CANCELLED
        for queue in site.pinned.values():
            for task in queue:
                self._end(task, unstarted, False, text)
        site.pinned.clear()
        self.placing.remove(site)

    def end_waiting(self, kind: OutcomeKind, text: str) -> None:
        """Of all tasks that no node has."""
        for queue in list(self.registry.queues()):
            for task in queue:
                self._end(task, kind, False, text)
            queue.clear()
        for site in self.registry.sites():
            site.pinned.clear()

    def refuse_pinned(self) -> None:
        """Tasks whose only site will never have a server: it was touched when that or they became known."""
        for site in self.placing.touched:
            if site.pinned and site.is_hopeless:
                for queue in site.pinned.values():
                    for task in queue:
                        self._end(
                            task, OutcomeKind.REFUSED, False, f"no server can be started: {site.failure}"
                        )
                site.pinned.clear()

    def work(self, await_io: bool) -> list[Task]:
        """The tasks that close() waits for."""
        return [task for task in self.registry.tasks.values() if _is_work(task, await_io)]

    def has_work(self, await_io: bool) -> bool:
        return any(_is_work(task, await_io) for task in self.registry.tasks.values())

    def has_usable_server(self) -> bool:
        return any(site.servers and is_usable(site) for site in self.registry.sites())

    # --- what the client may hand in

    def admit(self, client: Client) -> None:
        """Raise the client's credit by what ended, a quarter of it at a time."""
        limit = client.ended + CREDIT
        if limit - client.limit >= CREDIT // 4:
            client.limit = limit
            self.out.tell(client, Admit(limit))

    # --- tables

    def _queue_of(self, task: Task) -> deque[Task]:
        io = task.submit.io
        if task.bound is not None:
            self.placing.touched[task.bound] = None
            key = (task.server.spot.epoch if task.server is not None else 0, io)
            return task.bound.pinned.setdefault(key, deque())
        if io:
            return self.registry.io
        return self.registry.fast if task.pace.fast else self.registry.slow

    def _unqueue(self, task: Task) -> None:
        """A search, but of no more tasks than the client's credit."""
        queue = self._queue_of(task)
        queue.remove(task)
        if task.bound is not None and not queue:
            task.bound.pinned = {key: kept for key, kept in task.bound.pinned.items() if kept}

    def _requeue(self, tasks: Iterable[Task]) -> None:
        """Back to where their turn is: before all that came after them."""
        queues = {}
        for task in tasks:
            queue = self._queue_of(task)
            queue.append(task)
            queues[id(queue)] = queue
        for queue in queues.values():
            _sort(queue)

    def _regroup(self) -> None:
        """A function counts as fast now, or no longer: its waiting tasks change queues."""
        slow, fast = self.registry.slow, self.registry.fast
        everything = [*slow, *fast]
        slow.clear()
        fast.clear()
        for task in everything:
            (fast if task.pace.fast else slow).append(task)
        _sort(slow)
        _sort(fast)

    def _forget(self, task: Task) -> None:
        del self.registry.tasks[task.submit.task]
        task.state = ENDED
        assert self.registry.active is not None
        if not task.adopted:  # it was never handed in
            self.registry.active.ended += 1

    def _forget_heard(self, task: Task, site: Site) -> None:
        del site.heard[task.submit.task]
        self._forget(task)

    def _end(self, task: Task, kind: OutcomeKind, started: bool, text: str) -> None:
        """It is in no queue and at no site: tell its client how it ended."""
        client = self.registry.active
        assert client is not None
        self._forget(task)
        self.out.tell(client, Outcome(task.submit.task, kind, started=started, text=text))


# --- small questions about one task or site


def _names_of(node: Node) -> tuple[str, ...]:
    """What a task may call it by that has to run there."""
    info = node.info
    return info.name, info.addr, f"{info.addr}:{info.port}"


def _load(site: Site, io: bool) -> tuple[bool, int, int]:
    """By which the nodes of one name compare; what was bound to them a moment ago counts too."""
    bound = sum(map(len, site.pinned.values()))
    servers = len(site.servers)
    level = io_level(servers, site.io + bound) if io else cpu_level(servers, site.slow + bound, site.fast)
    return not is_usable(site), level, bound


def _is_there(task: Task, envelope: Envelope) -> bool:
    return task.site is not None and task.site.node.address[0] == envelope.sender[0]


def _word_for(name: TaskId, ended: int, text: str) -> Outcome:
    """How a task ended whose outcome the client may not have: only a value cannot be said again."""
    if ended in (OutcomeKind.RETURNED, OutcomeKind.RAISED):
        return Outcome(name, OutcomeKind.LOST, text=f"it ended, but its outcome was lost: {text}")
    return Outcome(name, ended, started=ended not in (OutcomeKind.CANCELLED, OutcomeKind.REFUSED), text=text)


def _is_work(task: Task, await_io: bool) -> bool:
    """Not what has ended: the client may have heard the outcome before the node, which is silent, could tell us."""
    heard = task.site is not None and task.submit.task in task.site.heard
    return not heard and (await_io or not task.submit.io)


def _sort(queue: deque[Task]) -> None:
    in_order = sorted(queue, key=lambda task: task.turn)
    queue.clear()
    queue.extend(in_order)


def _listing(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - LISTED_MAX} more" if len(names) > LISTED_MAX else ""
    return ", ".join(sorted(names)[:LISTED_MAX]) + more

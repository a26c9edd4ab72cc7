"""Faults planted into the machines of the cluster, each plausible in review, to prove that its simulator finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import msgspec

from dispycos.actors.client import members
from dispycos.actors.client.links import NodeLinks
from dispycos.actors.client.members import Members
from dispycos.actors.client.needs import Waits
from dispycos.actors.client.owned import Tasks
from dispycos.actors.client.standing import Standing
from dispycos.actors.client.submitters import Submitters
from dispycos.actors.dispatching.dispatch import Dispatcher
from dispycos.actors.dispatching.facts import Entry, FleetServer
from dispycos.actors.node.agent import Node
from dispycos.actors.node.lease import NodeOutbox
from dispycos.actors.node.terminations import Terminations
from dispycos.actors.server.queue import Server
from dispycos.actors.tasks.record import Record
from dispycos.actors.tasks.step import Step
from dispycos.brokers import leasing
from dispycos.brokers.leasing import Leasing
from dispycos.brokers.lifecycle import ClientState, NodeState
from dispycos.brokers.registry import Client, Registry
from dispycos.brokers.scheduler import Scheduler
from dispycos.protocol import messages
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Marks
from dispycos.protocol.status import OutcomeKind
from dispycos.session.links import Link, Topology
from dispycos.session.neighbours import Neighbours
from dispycos.session.router import Router
from dispycos.session.session import Session
from dispycos.turns import Turns

from . import cluster_bodies, cluster_servers
from .sim_bugs import Patch, Plant


def the_node_is_silent_about_a_dead_server(patch: Patch) -> None:
    original = NodeOutbox.to_client

    def to_client(self: NodeOutbox, granted: Any, message: Any, *rest: Any, **more: Any) -> None:
        if not isinstance(message, messages.ServerLost):
            original(self, granted, message, *rest, **more)

    patch.setattr(NodeOutbox, "to_client", to_client)


def _marks_are(patch: Patch, change: Callable[[Any, Marks], Marks]) -> None:
    """What the page of a dead server tells."""
    original = Dispatcher.server_lost

    def server_lost(
        self: Dispatcher, epoch: int, text: str, cpu: Any = None, io: Any = None, *, closing: bool = False
    ) -> None:
        server = self.fleet.servers.get(epoch)
        if server is not None and cpu is not None:
            cpu, io = change(server, Marks(cpu, io))
        original(self, epoch, text, cpu, io, closing=closing)

    patch.setattr(Dispatcher, "server_lost", server_lost)


def what_a_dead_server_had_begun_runs_again(patch: Patch) -> None:
    _marks_are(patch, lambda server, marks: Marks(server.reached_cpu, server.reached_io))


def what_a_dead_server_had_waiting_counts_as_begun(patch: Patch) -> None:
    _marks_are(patch, lambda server, marks: Marks(server.given, server.given))


def a_position_is_off_by_one(patch: Patch) -> None:
    _marks_are(patch, lambda server, marks: marks._replace(cpu=max(marks.cpu - 1, server.reached_cpu)))


def a_mark_is_torn(patch: Patch) -> None:
    """The reader finds the low half of the new number beside the high half of the old one, as if halves had 2 bits."""
    _marks_are(patch, lambda server, marks: marks._replace(cpu=marks.cpu & 3 | (max(marks.cpu - 1, 0) & ~3)))


def a_task_is_marked_when_it_comes_and_not_when_it_begins(patch: Patch) -> None:
    """So the mark is beyond what waits, and beyond what is given back."""
    original = cluster_servers.ServerProcess.turn

    def turn(self: cluster_servers.ServerProcess) -> None:
        original(self)
        if self.machine._cpu:
            self.marks = self.marks._replace(cpu=self.machine._cpu[-1].message.position)

    patch.setattr(cluster_servers.ServerProcess, "turn", turn)


def the_kill_is_aimed_at_whatever_runs_by_then(patch: Patch) -> None:
    def end_step(self: cluster_bodies.NodeBody, server: Any, step: Step) -> None:
        original(self, server, server.step)

    original = cluster_bodies.NodeBody._end_step
    patch.setattr(cluster_bodies.NodeBody, "_end_step", end_step)


def the_5_s_run_from_the_request_alone(patch: Patch) -> None:
    original = Terminations._looked

    def looked(self: Terminations, server: int, step: Step, now: float) -> bool:
        return original(self, server, step._replace(since=0), now)

    patch.setattr(Terminations, "_looked", looked)


def a_server_is_killed_for_a_task_that_waits(patch: Patch) -> None:
    original = cluster_servers.ServerProcess._drop

    def drop(self: cluster_servers.ServerProcess, cell: Any) -> None:
        if not cell.ended:
            self.check_kill()
            self.exit("killed by SIGKILL (9)")
        original(self, cell)

    patch.setattr(cluster_servers.ServerProcess, "_drop", drop)


def a_lost_task_is_said_not_to_have_started(patch: Patch) -> None:
    original = Dispatcher._end

    def end(self: Dispatcher, entry: Entry, kind: OutcomeKind, text: str, *, started: bool = False) -> None:
        original(self, entry, kind, text, started=False)

    patch.setattr(Dispatcher, "_end", end)


def what_comes_back_is_forgotten(patch: Patch) -> None:
    patch.setattr(Dispatcher, "_give_again", lambda self, entries, gone="": None)


def a_task_that_is_given_back_stays_as_well(patch: Patch) -> None:
    def on_recall(self: Server, envelope: Envelope, now: float) -> None:
        after = envelope.message.after
        back = [waiting.message.position for waiting in self._cpu if waiting.message.position > after]
        self._send(self.client, messages.Returned(back))

    patch.setattr(Server, "on_recall", on_recall)


def a_recall_takes_what_has_begun(patch: Patch) -> None:
    original = Server.on_recall

    def on_recall(self: Server, envelope: Envelope, now: float) -> None:
        begun = [task.run.position for task in self.running.values() if not task.run.io]
        original(self, envelope, now)
        if begun:
            self._send(self.client, messages.Returned(begun))

    patch.setattr(Server, "on_recall", on_recall)


def words_for_a_task_that_waits_are_dropped(patch: Patch) -> None:
    original = Tasks.pass_on

    def pass_on(self: Tasks, record: Entry, envelope: Envelope) -> None:
        if record.address is not None:
            original(self, record, envelope)

    patch.setattr(Tasks, "pass_on", pass_on)


def nodes_are_not_told_that_the_client_left(patch: Patch) -> None:
    def close_all(self: Leasing, client: Any) -> None:
        for share in list(self.registry.shares):
            self._share_gone(share.node, "closed")
            share.node.turn(NodeState.CLOSING)
            share.node.turn(NodeState.IDLE)

    patch.setattr(Leasing, "close_all", close_all)


def the_tasks_of_a_node_that_is_gone_are_forgotten(patch: Patch) -> None:
    patch.setattr(Members, "lose_gone", lambda self, now: self._gone.clear())


def nobody_reads_the_pages_of_a_node_that_is_gone(patch: Patch) -> None:
    patch.setattr(Members, "server_nearby", lambda self, epoch: None)


def a_dead_server_is_not_waited_for_when_its_node_is_gone(patch: Patch) -> None:
    patch.setattr(members, "DEATH_S", 0.0)


def every_zombie_is_abandoned(patch: Patch) -> None:
    """After one pulse, so that any outage shows it."""

    def on_node_silent(self: Leasing, node: Any, now: float) -> None:
        if node.share is not None:
            self._abandon(node)

    patch.setattr(leasing, "NODE_PATIENCE_PULSES", 1)
    patch.setattr(Leasing, "on_node_silent", on_node_silent)


def a_lost_lane_ends_its_session(patch: Patch) -> None:
    original = Turns.outlasts

    def forgetful(self: Turns, role: str) -> float | None:
        return 0.05 if "server" in (self.role, role) else original(self, role)

    patch.setattr(Turns, "outlasts", forgetful)


# --- a scheduler that is killed and started anew


def it_grants_before_it_has_heard_who_has_the_cluster(patch: Patch) -> None:
    original = Scheduler.__init__

    def begin(self: Scheduler, *about: Any, **options: Any) -> None:
        original(self, *about, **{**options, "hold_until": None})

    patch.setattr(Scheduler, "__init__", begin)


def who_comes_back_first_is_the_next(patch: Patch) -> None:
    def queued(self: Registry) -> list[Client]:
        return [client for client in self.clients.values() if client.state is ClientState.QUEUED]

    patch.setattr(Registry, "queued_clients", queued)


def each_of_its_lives_counts_tickets_from_one(patch: Patch) -> None:
    original = Scheduler.__init__

    def begin(self: Scheduler, *about: Any, **options: Any) -> None:
        original(self, *about, **{**options, "count": 0})

    patch.setattr(Scheduler, "__init__", begin)
    patch.setattr(Registry, "note", lambda self, number: None)


def it_closes_the_lease_that_a_node_comes_back_with(patch: Patch) -> None:
    patch.setattr(Leasing, "_is_of_earlier_stay", lambda self, held, client: True)


def who_has_done_is_granted_again(patch: Patch) -> None:
    original = Scheduler.on_enlist

    def on_enlist(self: Scheduler, envelope: Envelope, now: float) -> None:
        wants = msgspec.structs.replace(envelope.message, releasing=False)
        original(self, Envelope(envelope.to, envelope.sender, wants), now)

    patch.setattr(Scheduler, "on_enlist", on_enlist)


def a_client_gives_its_tasks_up_with_its_scheduler(patch: Patch) -> None:
    def scheduler_back(self: Standing, scheduler: Any, now: float) -> None:
        if self._has.scheduler is not None and scheduler != self._has.scheduler:
            self.scheduler_lost("the scheduler was started anew")

    patch.setattr(Standing, "scheduler_back", scheduler_back)


def nodes_that_died_with_it_are_not_asked_for(patch: Patch) -> None:
    patch.setattr(Leasing, "hear_of", lambda self, info, client, now: None)


def a_node_goes_on_speaking_to_the_dead_one(patch: Patch) -> None:
    patch.setattr(Node, "_follow", lambda self, granted, scheduler: None)


# --- tasks that tasks submit


def a_task_that_waits_for_its_own_keeps_its_server(patch: Patch) -> None:
    patch.setattr(Server, "set_aside", lambda self, task: False)


def the_client_does_not_hear_that_a_server_is_lent(patch: Patch) -> None:
    patch.setattr(Dispatcher, "aside", lambda self, entry, epoch, now, *, aside: None)


def a_server_stays_lent_when_its_task_goes_on(patch: Patch) -> None:
    original = Server.on_outcome

    def on_outcome(self: Server, envelope: Envelope, now: float) -> None:
        aside = set(self.aside)
        original(self, envelope, now)
        self._holding -= aside
        self.aside |= aside & self.running.keys()

    patch.setattr(Server, "on_outcome", on_outcome)


def what_was_lent_counts_as_given_once_more(patch: Patch) -> None:
    original = Dispatcher.server_lost

    def server_lost(self: Dispatcher, epoch: int, text: str, *rest: Any, **more: Any) -> None:
        server = self.fleet.servers.get(epoch)
        for entry in server.io.values() if server is not None else ():
            entry.placed = entry.placed and entry.io
        original(self, epoch, text, *rest, **more)

    patch.setattr(Dispatcher, "server_lost", server_lost)
    patch.setattr(FleetServer, "begun_by", _begun_but_for_lent)


def _begun_but_for_lent(self: FleetServer, cpu: int | None, io: int | None) -> set[Any]:
    return {entry for entry in begun_by(self, cpu, io) if entry.io or not entry.aside}


begun_by = FleetServer.begun_by


def nobody_says_that_a_nested_task_was_lost(patch: Patch) -> None:
    original = Tasks._pass_outcome

    def pass_outcome(self: Tasks, record: Entry) -> None:
        if record.outcome != OutcomeKind.LOST:
            original(self, record)

    patch.setattr(Tasks, "_pass_outcome", pass_outcome)


def what_comes_before_its_task_is_dropped(patch: Patch) -> None:
    patch.setattr(Submitters, "hold", lambda self, envelope: False)


# --- in the turn (dispycos/turns.py)


def a_broken_link_is_dropped_before_it_is_read_empty(patch: Patch) -> None:
    original = Turns._transmit

    def transmit(self: Turns) -> None:
        original(self)
        if self._broken:
            self._drop_broken(self._now)

    patch.setattr(Turns, "_transmit", transmit)


def a_link_that_takes_nothing_more_is_dropped_without_a_word_to_its_dialler(patch: Patch) -> None:
    def drop_broken(self: Turns, now: float) -> None:
        broken, self._broken = self._broken, {}
        for link in broken:
            self.router.link_down(link, now)
            self.mailbox.close_link(link)
        self.turn_soon()

    patch.setattr(Turns, "_drop_broken", drop_broken)


def what_machines_want_sent_waits_for_the_next_turn(patch: Patch) -> None:
    flush, original = Router.flush, Turns._settle

    def settle(self: Turns, now: float) -> None:
        flush(self.router, now)
        original(self, now)

    patch.setattr(Turns, "_settle", settle)
    patch.setattr(Router, "flush", lambda self, now: None)
    patch.setattr(Router, "is_dirty", False)


def a_role_that_is_due_is_not_woken(patch: Patch) -> None:
    original = Turns._wake

    def wake(self: Turns, now: float) -> None:
        roles, self._roles = self._roles, []
        original(self, now)
        self._roles = roles

    patch.setattr(Turns, "_wake", wake)


def nobody_answers_for_an_actor_that_has_ended(patch: Patch) -> None:
    patch.setattr(Turns, "_undeliverable", lambda self, envelope: self.fallback and self.fallback(envelope))


def a_session_is_forgotten_though_its_link_is_back(patch: Patch) -> None:
    original = Turns._wake

    def wake(self: Turns, now: float) -> None:
        for due, _, epoch in self._forgets:
            if due <= now:
                self.router.forget(cast(int, epoch), now)
        original(self, now)

    patch.setattr(Turns, "_wake", wake)


def what_is_deferred_runs_inside_the_turn(patch: Patch) -> None:
    original = Turns._send_all

    def send_all(self: Any, now: float) -> None:
        self.run_deferred()
        original(self, now)

    patch.setattr(Turns, "_send_all", send_all)


# --- links of clients to their nodes


def a_client_takes_whoever_answers_where_its_node_was(patch: Patch) -> None:
    original = Neighbours.link_up

    def link_up(self: Neighbours, new: Link, now: float) -> None:
        new.wanted = 0
        original(self, new, now)

    patch.setattr(Neighbours, "link_up", link_up)


def a_lease_ends_before_its_client_has_what_was_printed(patch: Patch) -> None:
    original = Node.output

    def output(self: Node, *args: Any) -> None:
        original(self, *args)
        if self.granted is not None:
            self.granted.has_printed = False

    patch.setattr(Node, "output", output)


def there_is_no_way_to_a_node_but_its_own_link(patch: Patch) -> None:
    original = Topology.route

    def route(self: Any, epoch: int) -> Any:
        self.__dict__.setdefault("had", set()).update(self._direct)
        return self._direct.get(epoch) if epoch in self.had else original(self, epoch)

    patch.setattr(Topology, "route", route)


def a_way_is_left_while_messages_are_on_it(patch: Patch) -> None:
    patch.setattr(Session, "is_in_flight", lambda self: False)


def a_node_that_is_the_clients_no_more_is_still_dialled(patch: Patch) -> None:
    patch.setattr(NodeLinks, "hang_up", lambda self, epoch: None)


def one_value_of_many_is_enough(patch: Patch) -> None:
    original = Waits.add

    def add(self: Waits, record: Entry, values: list[Record]) -> None:
        original(self, record, values)
        needs = self.needs[record.task.number]
        needs.left = min(needs.left, 1)

    patch.setattr(Waits, "add", add)
    patch.setattr(Waits, "check", lambda self, records: None)


def of_those_that_wait_for_a_value_one_hears_of_it(patch: Patch) -> None:
    original = Waits.take_wanting
    patch.setattr(Waits, "take_wanting", lambda self, value: original(self, value)[:1])
    patch.setattr(Waits, "check", lambda self, records: None)


def who_waits_for_the_value_of_a_lost_task_goes_on_waiting(patch: Patch) -> None:
    original = Tasks._tell_waiting

    def tell_waiting(self: Tasks, record: Record) -> None:
        if record.outcome != OutcomeKind.LOST:
            original(self, record)

    patch.setattr(Tasks, "_tell_waiting", tell_waiting)
    patch.setattr(Waits, "check", lambda self, records: None)


def who_waits_for_a_value_is_not_told_that_its_client_closes(patch: Patch) -> None:
    original = Waits.take_all

    def take_all(self: Waits) -> list[Entry]:
        original(self)
        return []

    patch.setattr(Waits, "take_all", take_all)


BUGS: list[Plant] = [
    the_node_is_silent_about_a_dead_server,
    what_a_dead_server_had_begun_runs_again,
    what_a_dead_server_had_waiting_counts_as_begun,
    a_position_is_off_by_one,
    a_mark_is_torn,
    a_task_is_marked_when_it_comes_and_not_when_it_begins,
    the_kill_is_aimed_at_whatever_runs_by_then,
    the_5_s_run_from_the_request_alone,
    a_server_is_killed_for_a_task_that_waits,
    a_lost_task_is_said_not_to_have_started,
    what_comes_back_is_forgotten,
    a_task_that_is_given_back_stays_as_well,
    a_recall_takes_what_has_begun,
    words_for_a_task_that_waits_are_dropped,
    nodes_are_not_told_that_the_client_left,
    the_tasks_of_a_node_that_is_gone_are_forgotten,
    nobody_reads_the_pages_of_a_node_that_is_gone,
    a_dead_server_is_not_waited_for_when_its_node_is_gone,
    every_zombie_is_abandoned,
    a_lost_lane_ends_its_session,
    it_grants_before_it_has_heard_who_has_the_cluster,
    who_comes_back_first_is_the_next,
    each_of_its_lives_counts_tickets_from_one,
    it_closes_the_lease_that_a_node_comes_back_with,
    who_has_done_is_granted_again,
    a_client_gives_its_tasks_up_with_its_scheduler,
    nodes_that_died_with_it_are_not_asked_for,
    a_node_goes_on_speaking_to_the_dead_one,
    a_task_that_waits_for_its_own_keeps_its_server,
    the_client_does_not_hear_that_a_server_is_lent,
    a_server_stays_lent_when_its_task_goes_on,
    what_was_lent_counts_as_given_once_more,
    nobody_says_that_a_nested_task_was_lost,
    what_comes_before_its_task_is_dropped,
    a_broken_link_is_dropped_before_it_is_read_empty,
    a_link_that_takes_nothing_more_is_dropped_without_a_word_to_its_dialler,
    what_machines_want_sent_waits_for_the_next_turn,
    a_role_that_is_due_is_not_woken,
    nobody_answers_for_an_actor_that_has_ended,
    a_session_is_forgotten_though_its_link_is_back,
    what_is_deferred_runs_inside_the_turn,
    a_client_takes_whoever_answers_where_its_node_was,
    a_lease_ends_before_its_client_has_what_was_printed,
    there_is_no_way_to_a_node_but_its_own_link,
    a_way_is_left_while_messages_are_on_it,
    a_node_that_is_the_clients_no_more_is_still_dialled,
]

CHAIN_BUGS: list[Plant] = [
    one_value_of_many_is_enough,
    of_those_that_wait_for_a_value_one_hears_of_it,
    who_waits_for_the_value_of_a_lost_task_goes_on_waiting,
    who_waits_for_a_value_is_not_told_that_its_client_closes,
]

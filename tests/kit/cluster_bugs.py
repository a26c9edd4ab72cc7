"""Faults planted into the machines of the cluster, each plausible in review, to prove that its simulator finds them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from dispycos.actors import ledger
from dispycos.actors.dispatching import dispatch
from dispycos.actors.dispatching.dispatch import Dispatcher
from dispycos.actors.ledger import Ledger
from dispycos.actors.record import Record
from dispycos.actors.server import Server
from dispycos.actors.tenancy import Outbox
from dispycos.actors.terminations import EndStep, Step, Terminations
from dispycos.brokers.leasing import Leasing
from dispycos.brokers.lifecycle import NodeState
from dispycos.protocol import messages
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Marks
from dispycos.router import Router
from dispycos.turns import Turns

from . import cluster_bodies, cluster_servers
from .sim_bugs import Patch, Plant


def the_node_is_silent_about_a_dead_server(patch: Patch) -> None:
    original = Outbox.to_client

    def to_client(self: Outbox, tenancy: Any, message: Any, payload: Any = None) -> None:
        if not isinstance(message, messages.ServerLost):
            original(self, tenancy, message, payload)

    patch.setattr(Outbox, "to_client", to_client)


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
    def judge(self: cluster_bodies.NodeBody, server: Any, step: Step) -> None:
        original(self, server, server.step)

    original = cluster_bodies.NodeBody._judge
    patch.setattr(cluster_bodies.NodeBody, "_judge", judge)


def the_5_s_run_from_the_request_alone(patch: Patch) -> None:
    original = Terminations.looked

    def looked(self: Terminations, server: int, step: Step, now: float) -> None:
        asked = self._servers[server].asked.get(step.position) if server in self._servers else None
        since = min(step.since, int(asked.at * 1e9) if asked is not None else 0)
        original(self, server, step._replace(since=since), now)
        if self.effects and isinstance(self.effects[-1], EndStep):
            self._servers[server].judging = step
            self.effects[-1] = EndStep(server, step)

    patch.setattr(Terminations, "looked", looked)


def a_server_is_killed_for_a_task_that_waits(patch: Patch) -> None:
    original = cluster_servers.ServerProcess._drop

    def drop(self: cluster_servers.ServerProcess, cell: Any) -> None:
        if not cell.ended:
            self.check_kill()
            self.exit("killed by SIGKILL (9)")
        original(self, cell)

    patch.setattr(cluster_servers.ServerProcess, "_drop", drop)


def a_lost_task_is_said_not_to_have_started(patch: Patch) -> None:
    original = Ledger._end_untold

    def end_untold(self: Ledger, effect: Any) -> None:
        original(self, msgspec.structs.replace(effect, started=False))

    patch.setitem(Ledger._carry, dispatch.Ended, end_untold)


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
    original = Ledger.pass_on

    def pass_on(self: Ledger, record: Record, envelope: Envelope) -> None:
        if record.address is not None:
            original(self, record, envelope)

    patch.setattr(Ledger, "pass_on", pass_on)


def nodes_are_not_told_that_the_client_left(patch: Patch) -> None:
    def close_all(self: Leasing, client: Any) -> None:
        for share in list(self.registry.shares):
            self._share_gone(share.node, "closed")
            share.node.turn(NodeState.CLOSING)
            share.node.turn(NodeState.IDLE)

    patch.setattr(Leasing, "close_all", close_all)


def the_tasks_of_a_node_that_is_gone_are_forgotten(patch: Patch) -> None:
    patch.setattr(Dispatcher, "node_lost", lambda self, epoch, text: None)


def nobody_reads_the_pages_of_a_node_that_is_gone(patch: Patch) -> None:
    patch.setattr(Ledger, "server_nearby", lambda self, epoch: None)


def a_dead_server_is_not_waited_for_when_its_node_is_gone(patch: Patch) -> None:
    patch.setattr(ledger, "DEATH_S", 0.0)


def every_zombie_is_abandoned(patch: Patch) -> None:
    def on_node_silent(self: Leasing, node: Any, now: float) -> None:
        if node.share is not None:
            self._abandon(node)

    patch.setattr(Leasing, "on_node_silent", on_node_silent)


def a_lost_lane_ends_its_session(patch: Patch) -> None:
    original = Turns.outlasts

    def forgetful(self: Turns, role: str) -> float | None:
        return 0.05 if "server" in (self.role, role) else original(self, role)

    patch.setattr(Turns, "outlasts", forgetful)


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
                self.router.forget(epoch, now)
        original(self, now)

    patch.setattr(Turns, "_wake", wake)


def what_is_deferred_runs_inside_the_turn(patch: Patch) -> None:
    original = Turns._send_all

    def send_all(self: Any, now: float) -> None:
        self.run_deferred()
        original(self, now)

    patch.setattr(Turns, "_send_all", send_all)


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
    a_broken_link_is_dropped_before_it_is_read_empty,
    a_link_that_takes_nothing_more_is_dropped_without_a_word_to_its_dialler,
    what_machines_want_sent_waits_for_the_next_turn,
    a_role_that_is_due_is_not_woken,
    nobody_answers_for_an_actor_that_has_ended,
    a_session_is_forgotten_though_its_link_is_back,
    what_is_deferred_runs_inside_the_turn,
]

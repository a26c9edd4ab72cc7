"""Faults planted into the machines of the cluster, each plausible in review, to prove that its simulator finds them."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple, Protocol

import msgspec
import pytest

from dispycos.actors import feeding, outcomes, supervisor
from dispycos.actors.feeding import Feeding, NodeTask
from dispycos.actors.ledger import Ledger, Record
from dispycos.actors.server import Server
from dispycos.brokers.dispatch import Dispatch
from dispycos.brokers.leasing import Leasing
from dispycos.brokers.lifecycle import NodeState
from dispycos.protocol import messages
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Spot, TaskId
from dispycos.protocol.status import OutcomeKind
from dispycos.router import Router
from dispycos.turns import Turns

Patch = pytest.MonkeyPatch


class Plant(Protocol):
    __name__: str

    def __call__(self, patch: Patch) -> None: ...


def the_node_is_silent_about_a_dead_server(patch: Patch) -> None:
    def speak_for(self: Any, tenancy: Any, server: feeding.Server, *rest: Any) -> list[TaskId]:
        tenancy.outcomes.take(server.address.epoch)
        tenancy.feeding.drop(server)
        return []

    patch.setattr(supervisor.Supervisor, "_speak_for", speak_for)


def the_mark_of_progress_is_ignored(patch: Patch) -> None:
    def begun_by(server: feeding.Server, reached: TaskId | None) -> Container[TaskId]:
        return list(server.cpu)[:1]

    patch.setattr(supervisor, "begun_by", begun_by)


def what_a_dead_server_had_waiting_counts_as_begun(patch: Patch) -> None:
    patch.setattr(supervisor, "begun_by", lambda server, reached: list(server.cpu))


def a_lost_task_is_said_not_to_have_started(patch: Patch) -> None:
    original = outcomes.verdict

    def verdict(
        task: NodeTask, started: bool, had_to_end: bool, spot: Spot, sentence: str, now: float
    ) -> Any:
        word = original(task, started, had_to_end, spot, sentence, now)
        if word is None or not started:
            return word
        return messages.Outcome(word.task, word.outcome, started=False, text=word.text)

    patch.setattr(supervisor, "verdict", verdict)


def the_scheduler_forgets_what_comes_back(patch: Patch) -> None:
    patch.setattr(Dispatch, "_requeue", lambda self, tasks: None)


def a_second_outcome_counts(patch: Patch) -> None:
    original = Ledger.on_outcome

    def on_outcome(self: Ledger, envelope: Envelope, now: float) -> None:
        ended: dict[TaskId, Record] = self.__dict__.setdefault("ended", {})
        task = envelope.message.task
        if task in ended:
            self.records[task.number] = ended[task]
            ended[task].ended = False
        elif task.number in self.records:
            ended[task] = self.records[task.number]
        original(self, envelope, now)

    patch.setattr(Ledger, "on_outcome", on_outcome)


def a_task_that_is_given_back_stays_as_well(patch: Patch) -> None:
    def on_recall(self: Server, envelope: Envelope, now: float) -> None:
        tasks = [waiting.message.task for waiting in self._cpu]
        self._send(self.node, messages.Recalled(tasks[-envelope.message.count :]))

    patch.setattr(Server, "on_recall", on_recall)


def a_recall_takes_what_has_begun(patch: Patch) -> None:
    def take_back(self: Feeding, count: int) -> list[NodeTask]:
        tasks = [task for server in self.servers.values() for task in server.cpu.values()]
        for task in tasks:
            del self.tasks[task.id]
            if task.server is not None:
                del task.server.cpu[task.id]
                self._changed[task.server] = None
        return tasks

    patch.setattr(Feeding, "take_back", take_back)


def words_for_a_task_that_waits_are_dropped(patch: Patch) -> None:
    original = Ledger.pass_on

    def pass_on(self: Ledger, record: Record, envelope: Envelope) -> None:
        if record.address is not None:
            original(self, record, envelope)

    patch.setattr(Ledger, "pass_on", pass_on)


def nodes_are_not_told_that_the_client_left(patch: Patch) -> None:
    def close_all(self: Leasing, client: Any) -> None:
        for site in list(self.registry.sites()):
            self._site_gone(site.node, OutcomeKind.TERMINATED, "closed")
            site.node.turn(NodeState.CLOSING)
            site.node.turn(NodeState.IDLE)

    patch.setattr(Leasing, "close_all", close_all)


def the_tasks_of_a_node_that_is_gone_are_forgotten(patch: Patch) -> None:
    original = Dispatch._end

    def end(self: Dispatch, task: Any, kind: OutcomeKind, started: bool, text: str) -> None:
        if started:
            self._forget(task)
        else:
            original(self, task, kind, started, text)

    patch.setattr(Dispatch, "_end", end)


def every_zombie_is_abandoned(patch: Patch) -> None:
    def on_node_silent(self: Leasing, epoch: int, now: float) -> None:
        if self.registry.nodes[epoch].site is not None:
            self._abandon(self.registry.nodes[epoch])

    patch.setattr(Leasing, "on_node_silent", on_node_silent)


def a_lost_lane_ends_its_session(patch: Patch) -> None:
    original = Turns.outlasts

    def forgetful(self: Turns, role: str) -> float | None:
        return 0.05 if "server" in (self.role, role) else original(self, role)

    patch.setattr(Turns, "outlasts", forgetful)


def a_lent_server_is_given_tasks(patch: Patch) -> None:
    patch.setattr(Feeding, "lend", lambda self, server: None)


def what_a_dead_server_had_on_loan_runs_again(patch: Patch) -> None:
    original = Ledger.on_server_lost

    def on_server_lost(self: Ledger, envelope: Envelope, now: float) -> None:
        nothing = msgspec.structs.replace(envelope.message, reached=TaskId(0, 0, 0))
        original(self, Envelope(envelope.to, envelope.sender, nothing), now)

    patch.setattr(Ledger, "on_server_lost", on_server_lost)


def what_a_server_on_loan_does_not_take_is_forgotten(patch: Patch) -> None:
    patch.setattr(Ledger, "_hand_in_again", lambda self, record: None)


def loans_at_a_node_that_is_gone_are_kept(patch: Patch) -> None:
    patch.setattr(Ledger, "_lose_loans", lambda self, node: None)


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


class Bug(NamedTuple):
    """A fault, and a seed not long before one that shows it."""

    plant: Plant
    first_seed: int = 0


BUGS = [
    Bug(the_node_is_silent_about_a_dead_server),
    Bug(the_mark_of_progress_is_ignored),
    Bug(what_a_dead_server_had_waiting_counts_as_begun),
    Bug(a_lost_task_is_said_not_to_have_started),
    Bug(the_scheduler_forgets_what_comes_back),
    Bug(a_second_outcome_counts),
    Bug(a_task_that_is_given_back_stays_as_well),
    Bug(a_recall_takes_what_has_begun),
    Bug(words_for_a_task_that_waits_are_dropped),
    Bug(nodes_are_not_told_that_the_client_left),
    Bug(the_tasks_of_a_node_that_is_gone_are_forgotten),
    Bug(every_zombie_is_abandoned, 800),
    Bug(a_lost_lane_ends_its_session),
    Bug(a_lent_server_is_given_tasks),
    Bug(what_a_dead_server_had_on_loan_runs_again, 600),
    Bug(what_a_server_on_loan_does_not_take_is_forgotten),
    Bug(loans_at_a_node_that_is_gone_are_kept),
    Bug(a_broken_link_is_dropped_before_it_is_read_empty),
    Bug(a_link_that_takes_nothing_more_is_dropped_without_a_word_to_its_dialler),
    Bug(what_machines_want_sent_waits_for_the_next_turn),
    Bug(a_role_that_is_due_is_not_woken),
    Bug(nobody_answers_for_an_actor_that_has_ended),
    Bug(a_session_is_forgotten_though_its_link_is_back),
    Bug(what_is_deferred_runs_inside_the_turn),
]

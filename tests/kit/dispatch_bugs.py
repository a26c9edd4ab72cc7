"""Faults planted into the dispatcher, each plausible in review, to prove that its simulator finds them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dispycos.actors.dispatching import facts, giving, placement, recalling
from dispycos.actors.dispatching.dispatch import Dispatcher
from dispycos.actors.dispatching.facts import Entry, FleetServer, Phase, Queue
from dispycos.actors.dispatching.fleet import Fleet
from dispycos.actors.dispatching.giving import Giving
from dispycos.actors.dispatching.learning import Learner, Learners
from dispycos.actors.dispatching.placement import Choice
from dispycos.actors.dispatching.recalling import Recalling

from .sim_bugs import Patch, Plant


def a_run_is_given_again_after_a_reset(patch: Patch) -> None:
    original = Dispatcher.session_reset

    def session_reset(self: Dispatcher, epoch: int) -> None:
        original(self, epoch)
        server = self.fleet.servers.get(epoch)
        if server is not None:
            self._give_again(self._take_back(server, [entry.position for entry in server.cpu]))

    patch.setattr(Dispatcher, "session_reset", session_reset)


def a_reset_server_is_not_killed(patch: Patch) -> None:
    def session_reset(self: Dispatcher, epoch: int) -> None:
        if epoch in self.fleet.servers:
            self._drain(self.fleet.servers[epoch])

    patch.setattr(Dispatcher, "session_reset", session_reset)


def the_position_is_off_by_one(patch: Patch) -> None:
    original = facts._reached

    def reached(entries: Iterable[Entry], mark: int | None, known: int, refused: int) -> set[Entry]:
        return {entry for entry in original(entries, mark, known, refused) if entry.position != mark}

    patch.setattr(facts, "_reached", reached)


def all_that_a_dead_server_had_counts_as_begun(patch: Patch) -> None:
    patch.setattr(FleetServer, "begun_by", lambda self, cpu, io: {*self.cpu, *self.io.values()})


def only_the_first_of_a_dead_server_counts_as_begun(patch: Patch) -> None:
    patch.setattr(FleetServer, "begun_by", lambda self, cpu, io: {*list(self.cpu)[:1], *self.io.values()})


def a_torn_mark_is_believed(patch: Patch) -> None:
    def reached(entries: Iterable[Entry], mark: int | None, known: int, refused: int) -> set[Entry]:
        has = {entry.position: entry for entry in entries}
        return {entry for position, entry in has.items() if mark in has and position <= (mark or 0)}

    patch.setattr(facts, "_reached", reached)


def positions_of_returned_tasks_are_used_again(patch: Patch) -> None:
    original = Dispatcher._take_back

    def take_back(self: Dispatcher, server: FleetServer, positions: Sequence[int]) -> list[Entry]:
        back = original(self, server, positions)
        server.given -= len(positions)
        return back

    patch.setattr(Dispatcher, "_take_back", take_back)


def what_was_asked_back_of_a_dead_server_had_not_begun(patch: Patch) -> None:
    original = FleetServer.begun_by

    def begun_by(self: FleetServer, cpu: int | None, io: int | None) -> set[Entry]:
        begun = original(self, cpu, io)
        return begun - set(list(self.cpu)[1:]) if self.phase is Phase.RECALLING else begun

    patch.setattr(FleetServer, "begun_by", begun_by)


def the_word_placed_is_lost(patch: Patch) -> None:
    original = Dispatcher.placed

    def placed(self: Dispatcher, entry: Entry, *rest: Any, **options: Any) -> bool:
        result = original(self, entry, *rest, **options)
        entry.placed = False
        return result

    patch.setattr(Dispatcher, "placed", placed)


def a_server_is_given_tasks_while_its_recall_is_unanswered(patch: Patch) -> None:
    def update(self: Choice, server: FleetServer, lag: float) -> None:
        phase = server.phase
        if phase is Phase.RECALLING:
            server.phase = Phase.READY
        original(self, server, lag)
        server.phase = phase

    original = Choice.update
    patch.setattr(Choice, "update", update)
    patch.setattr(Choice, "check", lambda self, nodes: None)


def a_drained_server_is_given_tasks(patch: Patch) -> None:
    def drain(self: Dispatcher, server: FleetServer) -> None:
        if server.phase is Phase.RECALLING:
            server.turn(Phase.READY)

    patch.setattr(Dispatcher, "_drain", drain)


def a_closed_node_is_offered_again(patch: Patch) -> None:
    original = Dispatcher.node_heard

    def node_heard(self: Dispatcher, epoch: int) -> None:
        self.node_opened(epoch, True)
        original(self, epoch)

    patch.setattr(Dispatcher, "node_heard", node_heard)


def what_a_silent_node_has_is_given_elsewhere(patch: Patch) -> None:
    original = Dispatcher.node_silent

    def node_silent(self: Dispatcher, epoch: int, now: float) -> None:
        original(self, epoch, now)
        for server in self.fleet.nodes[epoch].servers.values() if epoch in self.fleet.nodes else ():
            self._give_again(self._take_back(server, [entry.position for entry in server.cpu]))

    patch.setattr(Dispatcher, "node_silent", node_silent)


def a_suspended_server_is_offered(patch: Patch) -> None:
    patch.setattr(
        FleetServer, "is_offered", property(lambda self: self.phase is Phase.READY and self.node.is_offered)
    )


def a_silent_node_is_offered(patch: Patch) -> None:
    patch.setattr(facts.FleetNode, "is_offered", property(lambda self: self.is_open))


def recalls_are_not_sent(patch: Patch) -> None:
    patch.setattr(Recalling, "due", lambda self, now: [])
    patch.setattr(Recalling, "deadline", None)


def nothing_is_evened_out(patch: Patch) -> None:
    patch.setattr(Recalling, "_even_out", lambda self, asked: [])


def what_waits_behind_an_io_step_is_left_there(patch: Patch) -> None:
    patch.setattr(recalling, "_has_waiting", lambda server: len(server.cpu) > 1)


def what_may_run_nowhere_else_is_asked_back(patch: Patch) -> None:
    def recallable(server: FleetServer) -> list[Entry]:
        entries = [entry for entry in server.cpu if not entry.placed]
        return entries[1:] if entries[:1] == [server.cpu[0]] and not server.io else entries

    patch.setattr(recalling, "recallable", recallable)


def what_comes_back_goes_to_the_end(patch: Patch) -> None:
    patch.setattr(Queue, "put_back", lambda self, back: self.entries.extend(back))


def a_returned_server_is_forgotten(patch: Patch) -> None:
    original = Dispatcher.returned

    def returned(self: Dispatcher, epoch: int, positions: Sequence[int], *, draining: bool = False) -> None:
        original(self, epoch, positions, draining=draining)
        self.fleet.changed.clear()

    patch.setattr(Dispatcher, "returned", returned)
    patch.setattr(Choice, "check", lambda self, nodes: None)


def an_outcome_of_another_server_counts(patch: Patch) -> None:
    original = Dispatcher.outcome

    def outcome(self: Dispatcher, entry: Entry, epoch: int, *rest: Any, **options: Any) -> bool:
        if entry.at is None and not entry.over:
            self.giving.take_out(entry)
            return True
        return original(self, entry, entry.at.epoch if entry.at is not None else epoch, *rest, **options)

    patch.setattr(Dispatcher, "outcome", outcome)


def one_retry_too_many(patch: Patch) -> None:
    original = Dispatcher._may_retry

    def may_retry(self: Dispatcher, entry: Entry, server: FleetServer, closing: bool) -> bool:
        return entry.attempt == entry.retries + 1 or original(self, entry, server, closing)

    patch.setattr(Dispatcher, "_may_retry", may_retry)


def a_retry_is_not_counted(patch: Patch) -> None:
    original = Giving.put_back

    def put_back(self: Giving, entries: Iterable[Entry]) -> None:
        entries = list(entries)
        for entry in entries:
            entry.attempt = 1
        original(self, entries)

    patch.setattr(Giving, "put_back", put_back)


def a_terminated_task_that_comes_back_is_given_again(patch: Patch) -> None:
    def give_again(self: Dispatcher, entries: Iterable[Entry], gone: str = "") -> None:
        entries = list(entries)
        ended = [entry for entry in entries if entry.terminated]
        for entry in ended:
            entry.terminated = False
        original(self, entries, gone)
        for entry in ended:
            entry.terminated = True

    original = Dispatcher._give_again
    patch.setattr(Dispatcher, "_give_again", give_again)


def who_waits_for_a_dead_server_is_forgotten(patch: Patch) -> None:
    original = Dispatcher._refuse_at

    def refuse_at(self: Dispatcher, pin: Any, *rest: Any) -> None:
        if pin.server is None:
            original(self, pin, *rest)

    patch.setattr(Dispatcher, "_refuse_at", refuse_at)
    patch.setattr(Giving, "check", lambda self: None)


def a_task_whose_start_is_waited_for_goes_behind_others(patch: Patch) -> None:
    original = Giving._ahead

    def ahead(self: Giving) -> None:
        alone = [entry for entry in self.cpu.entries if entry.alone]
        for entry in alone:
            entry.alone = False
        original(self)
        for entry in alone:
            entry.alone = True

    patch.setattr(Giving, "_ahead", ahead)


def any_number_of_bytes_goes_ahead(patch: Patch) -> None:
    patch.setattr(placement, "CALLS_MAX", 1 << 40)


def there_is_no_horizon(patch: Patch) -> None:
    patch.setattr(placement, "AHEAD_S", 1000.0)


def much_of_an_unknown_function_goes_ahead(patch: Patch) -> None:
    patch.setattr(giving, "UNKNOWN_S", 0.0001)


def all_functions_are_remembered(patch: Patch) -> None:
    def missing(self: Learners, function: str) -> Learner:
        return self.setdefault(function, Learner())

    patch.setattr(Learners, "__missing__", missing)


def later_tasks_pass_one_that_needs_a_free_server(patch: Patch) -> None:
    original = Giving._ahead

    def ahead(self: Giving) -> None:
        head = self.cpu.head()
        if head is not None and head.alone and len(self.cpu.entries) > 1:
            self.cpu.entries.popleft()
            original(self)
            self.cpu.entries.appendleft(head)
        else:
            original(self)

    patch.setattr(Giving, "_ahead", ahead)


def what_the_dead_had_is_not_free_again(patch: Patch) -> None:
    original = Dispatcher.server_lost

    def server_lost(self: Dispatcher, epoch: int, *rest: Any, **options: Any) -> None:
        server = self.fleet.servers.get(epoch)
        node = server.node if server is not None else None
        if node is not None:
            kept, node.units = node.units, {name: list(units) for name, units in node.units.items()}
        original(self, epoch, *rest, **options)
        if node is not None:
            node.units = kept

    patch.setattr(Dispatcher, "server_lost", server_lost)
    patch.setattr(Fleet, "_check_resources", lambda self, node: None)


def what_comes_back_is_free_twice(patch: Patch) -> None:
    original = Giving.left

    def left(self: Giving, entry: Entry) -> None:
        server, units = entry.at, entry.units
        original(self, entry)
        if server is not None and units is not None and not entry.over:
            server.node.take_back(units)

    patch.setattr(Giving, "left", left)
    patch.setattr(Fleet, "_check_resources", lambda self, node: None)


BUGS: list[Plant] = [
    what_the_dead_had_is_not_free_again,
    what_comes_back_is_free_twice,
    a_run_is_given_again_after_a_reset,
    a_reset_server_is_not_killed,
    the_position_is_off_by_one,
    all_that_a_dead_server_had_counts_as_begun,
    only_the_first_of_a_dead_server_counts_as_begun,
    a_torn_mark_is_believed,
    positions_of_returned_tasks_are_used_again,
    what_was_asked_back_of_a_dead_server_had_not_begun,
    the_word_placed_is_lost,
    a_server_is_given_tasks_while_its_recall_is_unanswered,
    a_drained_server_is_given_tasks,
    a_closed_node_is_offered_again,
    what_a_silent_node_has_is_given_elsewhere,
    a_silent_node_is_offered,
    a_suspended_server_is_offered,
    recalls_are_not_sent,
    nothing_is_evened_out,
    what_waits_behind_an_io_step_is_left_there,
    what_may_run_nowhere_else_is_asked_back,
    what_comes_back_goes_to_the_end,
    a_returned_server_is_forgotten,
    an_outcome_of_another_server_counts,
    one_retry_too_many,
    a_retry_is_not_counted,
    a_terminated_task_that_comes_back_is_given_again,
    who_waits_for_a_dead_server_is_forgotten,
    a_task_whose_start_is_waited_for_goes_behind_others,
    any_number_of_bytes_goes_ahead,
    there_is_no_horizon,
    much_of_an_unknown_function_goes_ahead,
    all_functions_are_remembered,
    later_tasks_pass_one_that_needs_a_free_server,
]

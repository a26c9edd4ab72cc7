"""The programs of clients in the simulated cluster: bursts of tasks, talk with them, and ways to close."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Final

from dispycos.actors.dispatching.facts import Entry
from dispycos.actors.shipping.pickling import OUT_OF_BAND_MIN
from dispycos.protocol.messages import TaskId
from dispycos.protocol.status import OutcomeKind

from .cluster_bodies import BRISK, ClientProcess, PrivateProcess
from .cluster_tasks import Plan, Words

PULSE_S: Final = 0.8  # a node that cannot be reached for 5 of them is given up, or a zombie
PARTNER_S: Final = 1.0  # for the last words of a task that has ended
CLOSINGS: Final = ("wait", "wait", "wait", "early", "terminate")


class User:
    """The program that a client runs: bursts of tasks, talk with them, and one way to close."""

    def __init__(self, client: ClientProcess, violence: set[str], chains: Random | None) -> None:
        self.violence = violence  # the schedule's: faults that may cost a task its life
        self.client = client
        self.dice = client.world.dice
        self.chains = chains  # the dice for them, if tasks are to wait for the values of others
        self.stays = self.dice.choice((1, 1, 1, 2))
        self.abandons = self.dice.random() < 0.5  # zombies
        self.closing = ""
        self.is_done = False
        self.was_freed = ""
        self.partners: dict[int, Entry] = {}  # who waits for words of the task of this number
        self.open: set[TaskId] = set()
        self.closings: dict[TaskId, str] = {}  # of the stay in which a task was submitted
        self.bursts = 0
        self.callers: dict[TaskId, Callable[[], None]] = {}  # who goes on when that task has its outcome
        client.on_scheduled = self.on_scheduled
        client.on_resolved = self.on_resolved
        client.on_freed = self.on_freed
        client.start()
        client.later(self.dice.random(), self._enlist)

    def _enlist(self) -> None:
        self.stays -= 1
        self.open.clear()
        self.closing = self.dice.choice(CLOSINGS)
        self.client.take_lease(PULSE_S, self.abandons)

    def on_scheduled(self) -> None:
        self.client.on_users_side()
        self.client.note("is scheduled")
        dice = self.dice
        self.bursts = dice.randrange(1, 5)
        for _ in range(self.bursts):
            self._in_this_stay(dice.random() * dice.choice((0.1, 2.0)), self._burst)
        for _ in range(dice.choice((0, 0, 1, 2))):
            self.bursts += 1
            self._in_this_stay(dice.random() * 2.0, partial(self._call, dice.randrange(4, 20)))
        if self.closing != "wait":
            self._in_this_stay(dice.random() * 2.5, self._close)

    def _in_this_stay(self, delay: float, action: Callable[[], None]) -> None:
        ledger, client = self.client.ledger, self.client

        def act() -> None:
            if client.ledger is ledger and not client.is_leaving and not client.is_freed:
                action()

        client.later(delay, act)

    def _burst(self) -> None:
        self.bursts -= 1
        for _ in range(self.dice.choice((1, 2, 4, 10, 20))):
            self._submit_something()
        if self.closing == "early" and self.dice.random() < 0.3:
            self._close()
        self._close_when_done()

    def _call(self, times: int) -> None:
        """Short tasks one after the other, each waited for."""
        client = self.client
        if client.is_leaving or client.is_freed:
            times = 0
        if not times:
            self.bursts -= 1
            self._close_when_done()
            return
        plan = self._plan(brisk=True)
        record = self._submit(plan)
        if self.dice.random() < 0.01:
            plan.deaf, plan.nap = True, 1000.0
            client.later(self.dice.random() * 0.1, partial(client.terminate, record))
        pause = self.dice.choice((0.0, 0.0, 0.0, 0.0005, 0.02))
        self.callers[record.task] = partial(client.later, pause, partial(self._call, times - 1))

    def _submit_something(self) -> None:
        roll = self.dice.random()
        if roll < 0.06:
            self._submit_pair()
        elif roll < 0.08:
            self._submit_deaf()
        else:
            record = self._submit(self._plan())
            while self.chains is not None and self.chains.random() < 0.4:
                record = self._submit_behind(record, self.chains)

    def _submit_behind(self, record: Entry, chains: Random) -> Entry:
        """One that needs the value of this, and of others, which may have ended long ago, well or not."""
        client = self.client
        own = list(client.records.values())
        values = list(
            dict.fromkeys([record, *chains.sample(own, chains.choice((0, 0, 1, min(2, len(own)))))])
        )
        plan = Plan(
            client.book.next_number(), "gather", first=chains.random() * 0.01, io=chains.random() < 0.2
        )
        plan.raises, plan.size = chains.random() < 0.05, chains.choice((0, 0, 500, 20_000))
        plan.needs = [value.task for value in values]
        plan.fetch = any(client.book.plans[need].size > OUT_OF_BAND_MIN for need in plan.needs)
        return self._submit(plan, values)

    def _plan(self, *, brisk: bool = False) -> Plan:
        dice = self.dice
        plan = Plan(self.client.book.next_number(), "compute")
        roll = dice.random() * 0.5 if brisk else dice.random()
        if roll < 0.5:
            plan.function, plan.first = BRISK, dice.random() * 0.002
            if dice.random() < 0.04:
                plan.first = dice.random() * 0.3  # not so short this time
            if brisk and dice.random() < 0.05:
                plan.nap, plan.last = dice.random() * 0.03, 0.0005
        elif roll < 0.65:
            plan.first = dice.random() * 0.3
        else:
            plan.io = roll > 0.8
            plan.function = "wait" if plan.io else "think"
            plan.first, plan.nap, plan.last = (dice.random() * choice for choice in (0.002, 0.4, 0.002))
        if dice.random() < 0.2:
            plan.words = [self.client_words(dice.randrange(1, 6))]
        if plan.suspends and dice.random() < 0.3:
            plan.expects = dice.randrange(1, 5)
        if not brisk and dice.random() < 0.12:
            self._give_children(plan, depth=2)
        plan.raises = dice.random() < 0.05
        plan.fetch = dice.random() < 0.03
        plan.size = dice.choice((0, 0, 0, 0, 500, 20_000, 70_000)) if dice.random() < 0.3 else 0
        return plan

    def _give_children(self, plan: Plan, depth: int) -> None:
        """Tasks that it submits and waits for, some of which do the same."""
        for _ in range(self.dice.randrange(1, 4)):
            child = self._plan(brisk=True) if self.dice.random() < 0.5 else self._plan()
            child.is_nested = True
            child.children.clear()
            if depth > 1 and self.dice.random() < 0.3:
                self._give_children(child, depth - 1)
            plan.children.append(child)

    def client_words(self, count: int) -> Words:
        main = self.client.main
        return Words(main.number, main.address, main.address, count)

    def _submit(self, plan: Plan, values: list[Entry] | None = None) -> Entry:
        dice, client = self.dice, self.client
        ledger = client.ledger
        node, server = "", 0
        if ledger is not None and ledger.servers and dice.random() < 0.06:
            if dice.random() < 0.5:
                server = dice.choice(list(ledger.servers))
            else:
                _, epoch = dice.choice(list(ledger.servers.values()))
                node = ledger.nodes[epoch].name if epoch in ledger.nodes else ""
        record = client.submit(plan, node=node, server=server, values=values)
        self.closings[record.task] = self.closing
        self.open.add(record.task)
        if plan.expects:
            left = plan.expects
            while left:
                count = dice.randrange(1, left + 1)
                left -= count
                deliver = dice.random() < 0.3
                talk = partial(client.talk_to, record, count, deliver=deliver)
                client.later(dice.random() * dice.choice((0.01, 0.5)), talk)
        if dice.random() < 0.06:
            client.later(dice.random() * 0.5, partial(client.terminate, record))
        return record

    def _submit_pair(self) -> None:
        """One waits for what the other says, by its handle."""
        count = self.dice.randrange(2, 8)
        listener = Plan(self.client.book.next_number(), "listen", io=True, nap=0.001, expects=count)
        record = self.client.submit(listener)
        self.closings[record.task] = self.closing
        self.open.add(record.task)
        speaker = self._plan()
        self.client.later(self.dice.random() * 0.2, partial(self._submit_speaker, speaker, record, count))

    def _submit_speaker(self, plan: Plan, record: Entry, count: int) -> None:
        client = self.client
        if record.ended or client.is_leaving or client.is_freed:
            client.terminate(record)
            return
        plan.words = [client.words_to(record, count)]
        plan.raises = False
        self.partners[plan.number] = record
        self._submit(plan)

    def _submit_deaf(self) -> None:
        """Ignores its KeyboardInterrupt: costs its server its life, but nobody anything if it only waits."""
        plan = Plan(
            self.client.book.next_number(), "deaf", io=self.dice.random() < 0.5, deaf=True, nap=1000.0
        )
        roll, asked = self.dice.random(), self.dice.random()
        if roll < 0.5:
            # It hangs for ever, or ends about when its 5 s are over: who kills has to look at what runs by then.
            plan.first = self.dice.choice((1000.0, asked + 4.8 + self.dice.random() * 0.5))
        elif roll < 0.7:
            plan.nap, plan.last = self.dice.random() * 4, 1000.0
        if plan.first or plan.last:
            self.violence.add("deaf")
        record = self._submit(plan)
        self.client.later(asked, partial(self.client.terminate, record))

    def on_resolved(self, record: Entry) -> None:
        self.client.on_users_side()
        self.open.discard(record.task)
        self.closings.setdefault(record.task, self.closing)  # of one that a task submitted
        caller = self.callers.pop(record.task, None)
        if caller is not None:
            caller()
        plan = self.client.book.plans[record.task]
        partner = self.partners.pop(plan.number, None)
        if partner is not None:
            self.client.later(PARTNER_S, partial(self._release_partner, partner, record))
        self._close_when_done()

    def _release_partner(self, partner: Entry, record: Entry) -> None:
        """Who waits for one that is dead, given up, or did not say all, waits in vain."""
        start = self.client.book.starts.get(record.task)
        is_over = start is None or start.server.died_of_kill or start.epoch in self.client.forgotten
        if record.outcome != OutcomeKind.RETURNED or is_over:
            self.client.terminate(partner)
        elif not partner.ended:
            self.client.later(PARTNER_S, partial(self._release_partner, partner, record))

    def _close_when_done(self) -> None:
        if self.closing == "wait" and not self.open and not self.bursts:
            self._in_this_stay(self.dice.random() * 0.2, self._close)

    def _close(self) -> None:
        if not self.client.is_leaving:
            self.client.release(terminate=self.closing == "terminate")

    def on_freed(self, reason: str) -> None:
        client = self.client
        client.on_users_side()
        if client.ledger is None:
            return
        client.note(f"is freed: {reason}")
        if client.ledger.records or client.ledger.dispatcher.waiting:
            client.world.wrong(f"{client.name} is freed and still waits for {list(client.ledger.records)}")
        if not client.is_leaving and reason:
            self.was_freed = reason
            self.violence.add("freed")
        client.leave_lease()
        if self.stays and not isinstance(client.uplink, PrivateProcess):
            client.later(self.dice.random(), self._enlist)
        else:
            self.is_done = True

    def force(self) -> None:
        """Nobody should need this."""
        client = self.client
        if client.is_alive and not self.is_done and client.ledger is not None:
            state = f"leaving={client.is_leaving}, lease={client.ledger.lease is not None}, queued={client.ledger.standing.queued}"
            open_tasks = sorted(record.task.number for record in client.ledger.records.values())
            client.world.wrong(f"{client.name} waits for ever ({state}) for tasks {open_tasks}")

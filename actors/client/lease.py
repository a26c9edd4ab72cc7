"""A client's lease, from the line of its loop's clients to Released (spec 6.4), and what is said of its tasks at the end."""

from __future__ import annotations

import asyncio
import gc
import os
import platform
from functools import partial
from pathlib import Path
from typing import Any

from dispycos.errors import ScheduleError, TaskLost
from dispycos.notices import NAMED_MAX, listing
from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, Address, Location
from dispycos.protocol.messages import ClientInfo, FilePlace
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.texts import NAME_MAX, cut
from dispycos.transport.folders import FolderError, make_missing, make_private
from dispycos.version import PYTHON

from ..dispatching.facts import Entry
from ..tasks.files.receiver import Receiver
from ..tasks.files.receiving import Ground
from ..tasks.files.sender import Files
from ..tasks.streams import say
from ..tasks.submitting import Task
from ..tasks.waiting import complete, fail, telling
from .code import ClientPayloads, SetupCall
from .connect import Uplink
from .ledger_body import LedgerBody
from .local import GOODBYE_S, LEFT_OPEN, Held, Home
from .output import tell_unread
from .places import servers_at
from .shown import Shown, shown
from .standing import scheduler_of
from .status import DispycosNodeAllocate, choose
from .wishes import Wishes, clients_folder

RELEASED_AFTER_S = 10.0  # for Released, once the tasks were told to end
ASKED_MAX = 1000  # tasks that are asked whether they wait for a message
ANSWER_S = 1.0


class ClientLease(LedgerBody, Held):
    """From schedule() on it stands in line: first come, first served."""

    def __init__(
        self, home: Home, payloads: ClientPayloads, status_task: Task | None, wishes: Wishes, title: str
    ) -> None:
        LedgerBody.__init__(self, home, payloads, status_task)
        Held.__init__(self, home, title)
        self.wishes = wishes
        self.added: list[DispycosNodeAllocate] = []  # to those in its wishes
        self.lost: list[Entry] = []  # tasks of which it has to be said that they were lost; known at the end
        setups = self.ledger.members.setups
        setups.nodes.disabled, setups.nodes.call = wishes.disable_nodes, wishes.node_setup
        setups.servers.disabled, setups.servers.call = wishes.disable_servers, wishes.server_setup
        setups.keeps_files = not wishes.cleanup
        self.ledger.members.control.restarts = wishes.restart_servers
        self.files = Files(
            self.host,
            self.runtime.epoch,
            self._find_places,
            partial(say, level="warning"),
            lambda: self.ledger.standing.max_file_size,
        )
        self._receiver: Receiver | None = None  # of the files that tasks send
        self._uplink: Uplink | None = None
        self._awaits_io = False
        self._ended_before = 0  # tasks that had ended when its private scheduler last died
        self._hurried: asyncio.Future[None] = self.loop.create_future()

    # --- getting the cluster ---

    async def take(self, location: str | Location | None, secret_file: Path | None) -> None:
        """Wait in line, find a scheduler, enlist, wait for the servers."""
        await self._wait_in_line()
        self._sit_down()
        self._uplink = Uplink(
            self.runtime, secret_file, on_death=self._private_died, on_end=self.private_ended
        )
        wishes = self.wishes
        words = [allocation._as_word() for allocation in wishes.allocations]
        epoch = await self._uplink.reach(location, words)
        info = ClientInfo(
            cut(wishes.name, NAME_MAX), platform.node(), os.getpid(), PYTHON, self.host.home.ipc
        )
        with self.changing() as ledger:
            word = messages.Enlist(
                info,
                [*words, *(allocation._as_word() for allocation in self.added)],
                wishes.pulse_interval,
                wishes.abandon_zombies,
                wishes.settle_s,
                unrestricted=not words and bool(self.added),
            )
            ledger.standing.enlist(scheduler_of(epoch), word, self.runtime.clock())
        await asyncio.shield(self.scheduled)
        self.is_open = True

    async def _wait_in_line(self) -> None:
        if len(self.home.ahead_of(self)) == 1:
            gc.collect()  # of a client that has the cluster perhaps only a cycle is left, as an error with its traceback makes one
        while ahead := self.home.ahead_of(self):
            first, ends = ahead[0], [ahead[-1].left]
            if first.is_forsaken:
                first.make_way()
            elif first.yields and not self.yields and not first.is_leaving:
                if first.is_open:
                    first.leave(terminate=False)
                else:  # its users could not tell this from a failure
                    ends.append(first.scheduled)
            with telling(self.loop, self._tell_of_line):
                await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)

    async def _tell_of_line(self) -> None:
        ahead = self.home.ahead_of(self)
        if not ahead:
            return
        has_it = "is being closed" if ahead[0].is_leaving else "has it: close that one first"
        say(
            f"waiting for the cluster: another Client of this very program, {ahead[0].title}, {has_it}; "
            f"place {len(ahead)} in the line",
            "warning",
        )

    @property
    def waits_for(self) -> str:
        """Why it is not scheduled yet."""
        queued = self.ledger.standing.queued
        if ahead := self.home.ahead_of(self):
            return f"another Client of this very program, {ahead[0].title}, has the cluster"
        if queued is not None:
            return f"{queued.holder or 'somebody'} has the cluster; place {queued.position} in the queue"
        if self.ledger.lease is not None:
            return "nodes are still starting their servers"
        return "no scheduler has answered yet"

    def _sit_down(self) -> None:
        self.host.payloads = self.payloads
        self.host.records = self
        self.runtime.attach(CLIENT, self)
        self.home.directory.machine.cluster = self.ledger
        self._receiver = Receiver(
            self.runtime, "the client", self._ground_of, self.wishes.max_file_size, "Client(max_file_size={})"
        )

    def _private_died(self) -> bool:
        """Whether a task has ended since the last one died."""
        before, self._ended_before = self._ended_before, self.ledger.tally.ended
        if self.ledger.scheduler is not None and not self.is_freed:
            with self.changing() as ledger:
                ledger.members.private_died(self.runtime.clock())
        return self._ended_before > before

    # --- leaving ---

    def leave(
        self, *, terminate: bool, await_io: bool = False, patience: float | None = None
    ) -> asyncio.Task[None]:
        """The Task waits for Released, `patience` seconds and then, with all tasks told to end, as long again.
        It goes on when nobody waits for it any more, and ends soon when it is cancelled, as at the end of its loop.
        """
        self.is_open = False
        if self._ending is None:
            self._awaits_io = await_io
            fail(self.scheduled, ScheduleError("the client was closed before it had the cluster"))
            if terminate:
                self.hurry()
            else:
                self._release(terminate=False)
            self._ending = self._begin_end(patience)
        elif terminate:
            self.hurry()
        return self._ending

    def _begin_end(self, patience: float | None) -> asyncio.Task[None]:
        ending = asyncio.Task(self._end(patience), loop=self.loop)
        ending.add_done_callback(partial(self._see_end, patience))
        return ending

    def _see_end(self, patience: float | None, ending: asyncio.Task[None]) -> None:
        """A Task that is cancelled before its first step takes none: of all Tasks of the loop, at its end."""
        if ending.cancelled() and not self.left.done():
            self._ending = self._begin_end(patience)

    def hurry(self) -> None:
        """The tasks are told to end, and none is waited for."""
        if not self._hurried.done():
            self._hurried.set_result(None)
            self._release(terminate=True)

    def _release(self, *, terminate: bool) -> None:
        if self._has_lease():
            with self.changing() as ledger:
                ledger.standing.release(terminate=terminate, await_io=self._awaits_io and not terminate)

    def _has_lease(self) -> bool:
        """Or waits for it, in the scheduler's queue."""
        return self.ledger.scheduler is not None and not self.is_freed

    def make_way(self) -> None:
        self._tell_what_ends("makes way for the Client that was made after it: it is closed, which ends {}")
        self.hurry()

    def tell_left_open(self) -> None:
        """Its loop ends."""
        if not self.is_leaving or self.is_forsaken:
            self._tell_what_ends(LEFT_OPEN)

    def _tell_what_ends(self, text: str) -> None:
        if self.ledger.records and not self._hurried.done():
            tasks = listing(record.function for record in self.ledger.records.values())
            say(f"{self.title} {text.format(tasks)}", "warning")

    async def _end(self, patience: float | None) -> None:
        try:
            await self._await_release(patience)
        except asyncio.CancelledError:
            self.hurry()
            if self._has_lease():
                await asyncio.wait([self.freed], timeout=GOODBYE_S)
        finally:
            self._stand_up()
            try:
                if self._uplink is not None:
                    await self._uplink.close()
            finally:
                complete(self.left, None)
                self.home.leave(self)

    async def _await_release(self, patience: float | None) -> None:
        if not self._has_lease():
            return
        if not self._hurried.done():
            with telling(self.loop, self._tell_who_waits):
                ends = (self.freed, self._hurried)
                await asyncio.wait(ends, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if self.freed.done():
            return
        self.hurry()
        await asyncio.wait([self.freed], timeout=RELEASED_AFTER_S if patience is None else patience)

    def vanish(self) -> None:
        self.is_open = False
        self._release(terminate=True)
        self._stand_up()
        self.home.leave(self)

    def _stand_up(self) -> None:
        if self.host.records is not self:
            return  # it was still in line
        if self.ledger.scheduler is not None:
            self.lose("the client left, and its scheduler did not answer")
        if self._uplink is not None:
            self._uplink.drop()
        self._tell_unread()
        self._nearby.close()
        self.runtime.remove(CLIENT, self)
        self.home.directory.machine.cluster = None
        if self._receiver is not None:
            self._receiver.close("the client has given the cluster back")
        self.host.records = None

    # --- words about its tasks ---

    async def _tell_who_waits(self) -> None:
        """Of the tasks that are waited for: those that wait for a message may do so for ever."""
        with self.changing() as ledger:
            ledger.tasks.say_what_close_waits_for()
        records = [
            record
            for record in list(self.ledger.records.values())
            if record.address is not None and (self._awaits_io or not record.io)
        ][:ASKED_MAX]
        answers = await asyncio.gather(*(self._awaits_message(record.address) for record in records))
        waiting = [record for record, waits in zip(records, answers, strict=True) if waits]
        if not waiting:
            return
        names = [f"{record.function} at {self._server_of(record)}" for record in waiting[:NAMED_MAX]]
        more = f" and {len(waiting) - NAMED_MAX} more" if len(waiting) > NAMED_MAX else ""
        what = f"{self.title}, to which nobody refers any more," if self.is_forsaken else "close()"
        say(
            f"{what} waits for {', '.join(names)}{more}, waiting in receive() for a message: "
            "send them what ends them, terminate() them, or use close(terminate=True)",
            "warning",
        )

    async def _awaits_message(self, task: Address | None) -> bool:
        assert task is not None
        try:
            answer = await self.host.call(task, messages.AwaitsMessage(), None, ANSWER_S)
        except TimeoutError:
            return False
        return answer is not None and bool(answer.message.code)

    def _server_of(self, record: Entry) -> str:
        spot, _ = self.ledger.servers.get(record.address.epoch if record.address else 0, (None, 0))
        return spot.name if spot is not None else str(record.location)

    def _tell_unread(self) -> None:
        """Of those that were lost nobody hears if close() is not awaited, or an exception is under way; see `take_lost`."""
        unread, self.ledger.tasks.unread = list(self.ledger.tasks.unread.values()), {}
        tell_unread(
            self._err, self.payloads, [record for record in unread if record.outcome == OutcomeKind.RAISED]
        )
        self.lost = [record for record in unread if record.outcome != OutcomeKind.RAISED]
        if self.lost and (self._hurried.done() or self.is_forsaken):
            say(str(self.take_lost()), "warning")

    def take_lost(self) -> TaskLost | None:
        """What close() raises, once."""
        lost, self.lost = self.lost, []
        if not lost:
            return None
        is_or_are = "was" if len(lost) == 1 else "were"
        what = "lost" if any(record.outcome == OutcomeKind.LOST for record in lost) else "refused"
        reasons = list(dict.fromkeys(record.text for record in lost))
        more = f"; and {len(reasons) - NAMED_MAX} other reasons" if len(reasons) > NAMED_MAX else ""
        return TaskLost(
            f"{listing(record.function for record in lost)} that nobody awaited {is_or_are} {what}: "
            f"{'; '.join(reasons[:NAMED_MAX])}{more}",
            started=any(record.started for record in lost),
        )

    # --- what there is ---

    def addresses(self) -> list[str]:
        """Of its nodes, each once."""
        return list(dict.fromkeys(node.addr for node in list(self.ledger.nodes.values())))

    def locations(self) -> list[Location]:
        """Of its servers."""
        return [Location(spot.addr, spot.port) for spot, _ in list(self.ledger.servers.values())]

    @property
    def server_count(self) -> int:
        return len(self.ledger.servers)

    def tasks_at(self, where: str | Location | None) -> list[Task]:
        """Those that run there, or anywhere."""
        chosen = None if where is None else set(servers_at(where, self.ledger.nodes, self.ledger.servers))
        return [
            self.handle_of(record)
            for record in list(self.ledger.records.values())
            if record.address is not None and (chosen is None or record.address.epoch in chosen)
        ]

    def shown(self, name: str, state: str) -> Shown:
        with self.host.shield, self.runtime.lock:
            return shown(name, state, self.ledger)

    # --- nodes and servers ---

    def allocate(self, allocation: DispycosNodeAllocate) -> None:
        """One more, behind those that the client has."""
        word = allocation._as_word()
        with self.changing() as ledger:
            self.added.append(allocation)
            if ledger.standing.wishes is not None:  # else it goes with them
                ledger.standing.allocate(word)

    def choose(self, offer: messages.Offer) -> None:
        allocation = [*self.wishes.allocations, *self.added][offer.entry]
        count, fault = choose(allocation, offer)
        if fault:
            say(fault, "warning")
        with self.changing() as ledger:
            ledger.standing.accept(offer, count)

    def setup_call(self, what: str, args: tuple[Any, ...]) -> SetupCall | None:
        """`what`: node_setup or server_setup. Raises TypeError: it is not there to have arguments. NotPicklable."""
        given: SetupCall | None = getattr(self.wishes, what)
        if given is not None:
            return self.payloads.setup_call(given.function, args)
        if args:
            raise TypeError(f"arguments for {what}, but this client has none: Client({what}=function)")
        return None

    # --- files

    async def _find_places(self, where: str | Location | Task) -> list[FilePlace]:
        if isinstance(where, Task):
            if where.location is None:
                raise ValueError(f"{where.name} has no server yet: wait until it has started")
            where = where.location
        return self.ledger.members.file_places(where)

    def _ground_of(self, client: int, port: int) -> Ground | str:
        """Where files from tasks belong."""
        if client != self.runtime.epoch or port:
            return "it is another client now"
        folder = self.wishes.dest_path
        try:
            if clients_folder() in folder.parents:
                make_private(folder)
            else:
                make_missing(folder)
        except (OSError, FolderError) as error:
            return f"its dest_path {folder} cannot be made: {error}"
        return Ground(str(folder))

    def forget_nearby(self, epoch: int) -> None:
        super().forget_nearby(epoch)
        if self._receiver is not None:
            self._receiver.machine.peer_gone(epoch)

"""The servers that a client has on loan: it sends each one short task at a time itself, past scheduler and node.

A loan begins and goes on with `Outcome.lent`, which the server says of itself: it ran a short task that its node gave it with
`Run.lend`, and nothing waits there. The server alone decides: what it gets without a loan it sends back (`Recalled`). It ends
when its node or the client asks for it (`Reclaim`), or a task turns out to be long (`Adopt`). So a task that is waited for
takes two hops instead of three or four, and nobody else works for it. Ray's worker leases (Moritz et al., OSDI 2018) are the
same idea.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from dispycos.protocol.addresses import SERVER, Address

if TYPE_CHECKING:
    from .ledger import Record

SHORT_MAX: Final = 10_000  # functions known to be short


class Loan:
    """A server, and the task that it runs for this loan."""

    __slots__ = ("node", "record", "server")

    def __init__(self, server: Address, node: int) -> None:
        self.server = server
        self.node = node  # epoch
        self.record: Record | None = None


class Loans:
    """All of one client, by the epochs of their servers."""

    def __init__(self) -> None:
        self._idle: dict[int, Loan] = {}  # the one that ran last is the last
        self._busy: dict[int, Loan] = {}
        self._short: dict[str, None] = {}  # functions that were run on loan, or before it
        self.count = 0  # tasks that ended on loan and were not yet told to the scheduler
        self.lanes: set[int] = set()  # servers with a link of their own to us: only there it is worth while

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def busy(self) -> int:
        """Tasks that run on loan."""
        return len(self._busy)

    def take(self, record: Record) -> Loan | None:
        """A server for this task, if its function is short."""
        if not self._idle or record.function not in self._short:
            return None
        epoch, loan = self._idle.popitem()
        self._busy[epoch] = loan
        loan.record = record
        record.loan = loan
        return loan

    def lent(self, server: int, node: int, function: str) -> None:
        """The server says so, of a task that just ended there."""
        loan = self._busy.get(server) or self._idle.get(server)
        if loan is None:
            loan = Loan(Address(server, SERVER), node)
        if loan.record is None:
            self._idle[server] = loan
        if len(self._short) >= SHORT_MAX:
            self._short.clear()
        self._short[function] = None

    def ended(self, loan: Loan) -> None:
        """Its task has its outcome, or was given back: the loan is over, unless `lent` follows."""
        if loan.record is not None:
            loan.record.loan = None
            loan.record = None
        self._busy.pop(loan.server.epoch, None)

    def was_long(self, function: str) -> None:
        self._short.pop(function, None)

    def lose(self, server: int) -> Record | None:
        """The server is gone: the task that it had on loan."""
        self._idle.pop(server, None)
        loan = self._busy.get(server)
        record = loan.record if loan is not None else None
        if loan is not None:
            self.ended(loan)
        return record

    def drop_idle(self, server: int) -> None:
        self._idle.pop(server, None)

    def on_node(self, node: int) -> list[int]:
        """Servers there."""
        return [
            loan.server.epoch for loan in [*self._idle.values(), *self._busy.values()] if loan.node == node
        ]

    def give_back(self) -> list[Address]:
        """Those that are idle; each is to be sent a Reclaim."""
        servers = [loan.server for loan in self._idle.values()]
        self._idle.clear()
        return servers

    def clear(self) -> None:
        self._idle.clear()
        for loan in list(self._busy.values()):
            self.ended(loan)

    def check(self) -> None:
        assert not self._idle.keys() & self._busy.keys(), "a loan is idle and busy"
        for epoch, loan in self._busy.items():
            assert loan.server.epoch == epoch and loan.record is not None and loan.record.loan is loan
            assert not loan.record.ended, f"task {loan.record.task.number} has ended and keeps its loan"
        assert all(loan.record is None for loan in self._idle.values())

"""What a node keeps of leases that have ended: one summary of each, by what its servers told before they ended."""

from __future__ import annotations

from collections import deque
from typing import Final

from dispycos.protocol.messages import ClientInfo, Served
from dispycos.protocol.watching import LeaseSummary

from ..tasks.failures import Failures

KEPT: Final = 100


class LeaseTally:
    """Of the servers of one lease that have ended."""

    def __init__(self) -> None:
        self.ended = self.failed = 0  # tasks
        self.cpu_s = 0.0
        self.failures = Failures()
        self.unknown = 0  # servers that were killed

    def add(self, word: Served) -> None:
        self.ended += word.use.ended
        self.failed += word.use.failed
        self.cpu_s += word.use.cpu_s
        self.failures.add_all(word.failures)


class Summaries:
    """The last ones."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, LeaseSummary]] = deque(maxlen=KEPT)

    def add(self, client: ClientInfo, since: float, until: float, tally: LeaseTally, reason: str) -> None:
        summary = LeaseSummary(
            client.name,
            client.host,
            0.0,
            until - since,
            tally.ended,
            tally.failed,
            tally.cpu_s,
            tally.failures.listed(),
            tally.unknown,
            reason,
        )
        self._kept.append((until, summary))

    def told(self, now: float) -> list[LeaseSummary]:
        """The newest last."""
        return [summary._replace(ago_s=now - at) for at, summary in self._kept]

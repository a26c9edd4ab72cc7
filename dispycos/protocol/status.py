"""The numbers of spec 6.5 (DispycosStatus) and how a task can end."""

from __future__ import annotations

from enum import IntEnum
from typing import Final


class Status(IntEnum):
    """What a status_task is told; the numbers are those that scripts know as Scheduler.X."""

    NodeDiscovered = 2
    NodeInitialized = 3
    NodeSuspended = 4
    NodeResumed = 5
    NodeClosed = 6
    NodeDisconnected = 7
    NodeAbandoned = 8
    ServerDiscovered = 12
    ServerInitialized = 13
    ServerSuspended = 14
    ServerResumed = 15
    ServerClosed = 16
    ServerDisconnected = 17
    ServerAbandoned = 18
    TaskCreated = 21
    TaskStarted = 21  # the name in older scripts
    TaskAbandoned = 23
    TaskTerminated = 24
    ClientScheduled = 31
    ClientClosed = 32


class OutcomeKind(IntEnum):
    """How a task ended; a payload goes with the first two, and with REFUSED if it was to get the value of one that failed."""

    RETURNED = 1  # payload: its value
    RAISED = 2  # payload: its exception
    TERMINATED = 3  # by terminate() or the end of its server's lease; with a payload by its own timeout
    CANCELLED = 4  # terminated before it started
    LOST = 5  # its server or node is gone; Outcome.started says whether it had started
    REFUSED = 6  # cannot run: no such server or node, code missing; text says why


ENDED: Final = {  # the states that people are told
    OutcomeKind.RETURNED: "done",
    OutcomeKind.RAISED: "failed",
    OutcomeKind.TERMINATED: "cancelled",
    OutcomeKind.CANCELLED: "cancelled",
    OutcomeKind.LOST: "lost",
    OutcomeKind.REFUSED: "failed",
}


class FileState(IntEnum):
    """What a receiver of files says; the first two ask for more."""

    GO = 1  # send what comes next
    COMPARE = 2  # one of this name and size is there: send the digest
    DONE = 3  # the file is there, or gone
    EXISTS = 4  # another one of this name is there, and stays
    REFUSED = 5
    MISSING = 6  # there is no such file to delete

"""An outcome comes to its handle after what its task printed, whatever came first."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dispycos.actors.client.effects import Print, Resolve
from dispycos.actors.client.unprinted import AWAITED_S
from dispycos.actors.dispatching.facts import Entry
from dispycos.actors.tasks.stdio import CHILD_S, take_marks
from dispycos.protocol import messages
from dispycos.protocol.addresses import SERVER, Address
from dispycos.protocol.status import OutcomeKind
from tests.client.test_ledger import SPOT, Desk, outcome

SERVER_ADDRESS = Address(SPOT.epoch, SERVER)


def ended(desk: Desk, marks: tuple[int, int]) -> Entry:
    record = desk.running()
    desk.hear(outcome(record, marks=marks), b"value", SERVER_ADDRESS)
    return record


def printed(desk: Desk, mark: int, stream: int = 1, epoch: int = SPOT.epoch) -> messages.Output:
    word = messages.Output("box/server-1", stream, epoch, mark)
    desk.hear(word, b"text\n")
    return word


def test_an_outcome_waits_for_the_output_of_its_task() -> None:
    desk = Desk()
    record = ended(desk, (3, 0))
    assert desk.drain() == []
    earlier, others = printed(desk, 2), printed(desk, 3, epoch=SPOT.epoch + 1)
    assert desk.drain() == [Print(earlier, b"text\n"), Print(others, b"text\n")]
    its_own = printed(desk, 3)
    assert desk.drain() == [Print(its_own, b"text\n"), Resolve(record)]


def test_a_mark_without_output_is_not_printed_and_both_streams_are_waited_for() -> None:
    desk = Desk()
    record = ended(desk, (1, 1))
    desk.hear(messages.Output("box/server-1", 2, SPOT.epoch, 1))
    assert desk.drain() == []
    desk.hear(messages.Output("box/server-1", 1, SPOT.epoch, 1))
    assert desk.drain() == [Resolve(record)]


def test_what_came_before_its_outcome_is_not_waited_for() -> None:
    desk = Desk()
    printed(desk, 5)
    desk.drain()
    record = ended(desk, (5, 0))
    assert desk.drain() == [Resolve(record)]


def test_an_agent_that_says_nothing_delays_an_outcome_by_a_second() -> None:
    desk = Desk()
    record = ended(desk, (1, 0))
    assert desk.ledger.deadline() == desk.now + AWAITED_S
    assert desk.wait(AWAITED_S - 0.01) == []
    assert desk.wait(0.01) == [Resolve(record)]
    due = desk.ledger.deadline()
    assert due is None or due > desk.now


def test_the_outcome_that_waits_is_the_one_that_counts() -> None:
    desk = Desk()
    record = ended(desk, (1, 0))
    desk.ledger.standing.scheduler_lost("it is gone")
    assert Resolve(record) in desk.drain()
    assert (record.outcome, record.payload) == (OutcomeKind.RETURNED, b"value")


# --- the marks ---


@pytest.mark.parametrize(
    ("data", "text", "mark", "part"),
    [
        (b"plain", b"plain", 0, b""),
        (b"a\n\x1e7\x1eb\n\x1e12\x1e", b"a\nb\n", 12, b""),
        (b"a\x1e7\x1e\x1e1", b"a", 7, b"\x1e1"),
        (b'\x1e{"msg": 1}\n', b'\x1e{"msg": 1}\n', 0, b""),
        (b"a\x1e", b"a", 0, b"\x1e"),
    ],
)
def test_marks_are_taken_out_of_what_was_read(data: bytes, text: bytes, mark: int, part: bytes) -> None:
    assert take_marks(data) == (text, mark, part)


MARKS = f"""
import os, subprocess, sys
from dispycos.actors.tasks.stdio import OutputMarks, renew_stdio

renew_stdio()
marks = OutputMarks()
told = [marks.after_task(1.0)]
print("out"); told += marks.after_task(0.0), marks.after_task(0.0)
print("err", file=sys.stderr); told.append(marks.after_task(0.0))
marks.write(b"a record"); told.append(marks.after_task(0.0))
subprocess.run(["true"]); told += marks.after_task({CHILD_S / 2}), marks.after_task({CHILD_S}), marks.after_task({CHILD_S})
sys.stdout.close()
renew_stdio()
print("again"); told.append(marks.after_task(0.0))
os.write(2, repr(told).encode())
"""


def test_a_server_marks_what_it_wrote_and_what_its_children_may_have_written() -> None:
    done = subprocess.run([sys.executable, "-c", MARKS], capture_output=True, env=dict(os.environ))
    out, err = done.stdout, done.stderr
    assert out == b"out\n\x1e1\x1e\x1e4\x1eagain\n\x1e5\x1e"
    told = "[None, (1, 0), None, (0, 2), (0, 3), None, (4, 4), None, (5, 0)]"
    assert err.decode() == f"err\n\x1e2\x1ea record\x1e3\x1e\x1e4\x1e{told}"

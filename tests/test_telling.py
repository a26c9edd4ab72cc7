"""What a client says to people."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from dispycos.actors.host.ends import Raised
from dispycos.actors.host.results import pack_outcome
from dispycos.actors.ledger import Record
from dispycos.actors.parcels import ClientParcels
from dispycos.actors.task import Location
from dispycos.actors.telling import UNREAD_TOLD, print_output, say, tell_unread
from dispycos.protocol.messages import Output, TaskId

PARCELS = ClientParcels()


def raised(number: int, error: Exception) -> Record:
    """A task that ended by this error."""
    record = Record(TaskId(7, number), "compute", None)
    record.location = Location("10.0.0.5", 9701)
    kind, record.payload = pack_outcome(PARCELS, Raised(error), "compute", False)
    record.outcome = int(kind)
    return record


def test_each_line_of_output_names_its_server(capsys: pytest.CaptureFixture[str]) -> None:
    print_output(Output("box/server-1", 1, "one\ntwo\n"))
    print_output(Output("box/server-1", 2, "oops"))
    assert capsys.readouterr() == (
        "[box/server-1] one\n[box/server-1] two\n",
        "[box/server-1] oops\n",
    )


def test_an_empty_line_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_output(Output("box/server-1", 1, ""))
    assert capsys.readouterr().out == "[box/server-1] \n"


def test_an_error_that_nobody_awaited_is_told_with_its_traceback(capsys: Any) -> None:
    tell_unread(PARCELS, [raised(16, ValueError("no such value"))])
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "[compute at 10.0.0.5:9701] nobody awaited this error:"
    assert told[-1] == "[compute at 10.0.0.5:9701] ValueError: no such value"


def test_of_many_errors_a_few_are_told_and_the_rest_counted(capsys: Any, caplog: Any) -> None:
    tell_unread(PARCELS, [raised(16 + n, ValueError(f"number {n}")) for n in range(UNREAD_TOLD + 3)])
    assert capsys.readouterr().err.count("nobody awaited") == UNREAD_TOLD
    assert "3 more tasks raised" in caplog.text


def test_warnings_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dispycos"):
        say("a warning", "warning")
        say("a remark")
    assert [(entry.levelname, entry.message) for entry in caplog.records] == [
        ("WARNING", "a warning"),
        ("INFO", "a remark"),
    ]

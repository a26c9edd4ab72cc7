"""A notebook: cells that are edited and run again, a client that is made again, a cell that is interrupted."""

from __future__ import annotations

import importlib.util
import re

import pytest

from tests.conftest import SCRIPTS
from tests.kit.programs import User

MISSING = [name for name in ("nbclient", "ipykernel") if importlib.util.find_spec(name) is None]

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
]


def test_a_notebook_as_people_use_one(user: User) -> None:
    lines = user.python(str(SCRIPTS / "notebook.py")).succeed(90).splitlines()
    parted = [line.partition(": ") if ": " in line else (line.rstrip(":"), "", "") for line in lines]
    cells = [(name, text) for name, _, text in parted]
    by_name = dict(cells)
    runs = [text for name, text in cells if name == "run"]
    first, edited = "42 [0, 2, 4]", "2121 ['00', '11', '22']"
    assert runs[0] == first
    assert set(runs[1:-3]) == {edited}, "as edited, also by the clients that came after"
    assert runs[-3:] == [first, edited, first], "another notebook, before and after the restart of its kernel"
    assert by_name["delay"] == "True", "a task starts though its cell keeps the loop"
    said = by_name["say"].split(" | ")
    assert [line.split("] ")[1] for line in said[:-1]] == [f"said {n}" for n in range(20)], (
        "before the values"
    )
    clients = [text for name, text in cells if name == "client"]
    assert clients[0] == clients[2] == ""
    assert "(made in cell [2], line 1) makes way" in clients[1] and "counter 1" in clients[1]
    assert by_name["gone"] == "False", "the actor of the client that was made again has ended"
    assert (
        "another Client of this very program" in by_name["second"]
        and "close that one first" in by_name["second"]
    )
    assert "TimeoutError" in by_name["second"]
    assert by_name["gather"] == "napping |  CancelledError:", "so ipykernel interrupts a cell that awaits"
    assert by_name["asleep"].startswith("asleep |  KeyboardInterrupt")
    assert by_name["ended"] == "all have ended"
    assert by_name["start"] == "starting |  CancelledError:", "without our frames"
    alive, client = by_name["others"].split(" |  ")
    assert alive == "True", "an interrupted cell ends what it waits for, and nothing else"
    assert re.fullmatch(r"<Client notebook: 2 servers on 1 node; tasks: .*> as a table", client), client
    assert by_name["map"] == "mapping |  CancelledError:"
    assert [text for name, text in cells if name == "close"] == ["0", "0", "0"]
    assert "double: 100 %, 3 of 3 done" in by_name["with"] and "as a bar" in by_name["with"]
    assert by_name["with"].split("as a bar")[1].startswith("2121 {"), "the sync style: it waits in the cell"
    assert [text.split(" | ")[0] for name, text in cells if name == "helper"] == ["6", "6"]
    assert by_name["kept"].endswith("] said 7"), "under the cell that submitted it"
    assert by_name["result"] == "waiting |  KeyboardInterrupt:", "without our frames"
    assert by_name["after"] == "TaskTerminated True", "it ends what the cell waited for, and nothing else"
    opened = [text for name, text in cells if name == "open"]
    assert opened[0] == "" and "makes way" in opened[1] and "nap 1" in opened[1], "the cell can be run again"
    assert by_name["closed"] == "0"
    assert user.processes() == [], "also of the kernel that was restarted"

"""That docs/web.md names each field of each table, as a real reader fills them."""

from __future__ import annotations

import re
from pathlib import Path

from dispycos.protocol.messages import ServerReport, ServerUse, Spot, TaskReport
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.watching import (
    Death,
    FailureGroup,
    FunctionTotals,
    LeaseSummary,
    LiveTask,
    NodeSight,
    OutputLine,
    Peer,
    Waiting,
)

from .test_reading import INFO, Desk, ended, node_info, sight, tick

TEXT = (Path(__file__).parents[2] / "docs" / "web.md").read_text()


def documented() -> dict[str, set[str]]:
    """By table: what stands in its line, with what is said of each in brackets taken away."""
    lines = re.findall(r"^\| (\w+)(?: \([^|]*\))? \| ([^|]*) \|$", TEXT, flags=re.MULTILINE)
    return {name: set(re.sub(r"\([^)]*\)", "", fields).replace(" ", "").split(",")) for name, fields in lines}


def filled() -> Desk:
    desk = Desk()
    live = LiveTask(17, 1, "f", 1001, "running", 3.0, 1.0, False, "")
    group = FailureGroup(1, "f", OutcomeKind.RAISED, "E", "no", "trace", 1, 2.0, 2.0, [1001])
    told = sight(
        live=[live],
        ended=[ended(1, 3)],
        functions=[FunctionTotals("f", 1, 0, [0] * 7, 0.0, [], [])],
        failures=[group],
        waits=[Waiting("servers", "", "text", 1, 1.0)],
        lines=[OutputLine(1, 0.1, "n1/server-1", 1, "", "", "hello")],
        line=1,
        deaths=[Death(1, 0.5, 1002, "n1/server-2", "10.0.0.1", 9708, "n1", "killed", False, [])],
        peers=[Peer(101, "node", "direct", 1, 1, 100, 0.1, 0)],
    )
    tick(desk, told)
    task = TaskReport("f", desk.reader.own, 17, 1, False, "running", 4.0, 30, "x=1", 7, 3)
    report = ServerReport(
        Spot("10.0.0.1", 9707, 1001, "n1/server-1"), 77, [task], ServerUse(5, 1, 3.0, 10, 20)
    )
    summary = LeaseSummary("survey.py", "desk", 5.0, 9.0, 3, 1, 2.0, [("f", "E", 1)], 0, "")
    desk.hear(NodeSight(node_info(), INFO, 5.0, None, [report], [], [summary]), 101)
    return desk


def test_each_field_of_each_table_is_documented() -> None:
    desk, known = filled(), documented()
    missing = {}
    for table in desk.tables.names:
        row = next(iter(desk.tables.rows(table).values()), None)
        assert row is not None, f"nothing was put into {table}"
        fields = set(row) - known.get("cluster" if table == "meta" else table, set())
        if fields:
            missing[table] = sorted(fields)
    assert not missing, "docs/web.md lacks these"

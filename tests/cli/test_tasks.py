"""Which tasks are listed, in which order, and how the cells are written."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.actors.web.desk import Done
from dispycos.cli.cancel import tell
from dispycos.cli.stack import lines_of
from dispycos.cli.tables import Column, make_table
from dispycos.cli.tasks import choose, is_at, newest
from dispycos.cli.viewing import merge
from dispycos.cli.words import size, span
from dispycos.config import CancelSettings, Misuse, TasksSettings
from dispycos.protocol.messages import ClientReport, NodeInfo, NodeReport, SchedulerReport


def row(number: int, state: str = "done", **changes: Any) -> dict[str, Any]:
    return {
        "id": f"c.{number}",
        "function": "f",
        "state": state,
        "node": "ash:9706",
        "start": 100.0 + number,
        "end": None if state in ("running", "queued") else 200.0 - number,
        **changes,
    }


def ids(rows: list[Any]) -> list[str]:
    return [one["id"] for one in rows]


def test_what_runs_and_waits_stands_after_what_has_ended_and_the_newest_at_the_end() -> None:
    rows = [row(1, "queued", start=None), row(2, "running"), row(3), row(4, "failed"), row(5, "running")]
    assert ids(choose(rows, TasksSettings())) == ["c.4", "c.3", "c.2", "c.5", "c.1"]


@pytest.mark.parametrize(
    ("settings", "found"),
    [
        (TasksSettings(failed=True), ["c.4", "c.3"]),
        (TasksSettings(running=True, queued=True), ["c.2", "c.1"]),
        (TasksSettings(function="g"), ["c.2"]),
        (TasksSettings(node="elm"), ["c.3"]),
        (TasksSettings(node="elm:9706", running=True), []),
    ],
)
def test_filters(settings: TasksSettings, found: list[str]) -> None:
    """Who asks what has failed wants to hear of what was lost, too."""
    rows = [
        row(1, "queued", start=None, node=None),
        row(2, "running", function="g"),
        row(3, "lost", node="elm:9706"),
        row(4, "failed"),
    ]
    assert ids(choose(rows, settings)) == found


def test_the_newest_are_shown_and_with_json_all() -> None:
    rows: list[Any] = [row(number) for number in range(100)]
    assert len(newest(rows, TasksSettings())) == 40
    assert ids(newest(rows, TasksSettings(limit=2))) == ["c.98", "c.99"]
    assert len(newest(rows, TasksSettings(limit=0))) == len(newest(rows, TasksSettings(json=True))) == 100


def test_a_node_is_meant_by_its_name_or_its_id() -> None:
    assert is_at("ash:9706", "ash") and is_at("ash:9706", "ash:9706")
    assert not is_at("ash:9706", "as") and not is_at(None, "ash")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, ""), (0.0123, "12 ms"), (0.9999, "1.0 s"), (12.34, "12.3 s"), (99.96, "1:40"), (3725, "1:02:05")],
)
def test_spans_are_short(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(None, ""), (0, "0 B"), (1536, "1.5 KiB"), (1023 * 1024, "1.0 MiB")]
)
def test_sizes_are_short(count: float | None, text: str) -> None:
    assert size(count) == text


def test_a_narrow_table_drops_columns_by_their_rank_and_never_cuts_an_id() -> None:
    columns = (Column("TASK"), Column("WHERE", rank=1), Column("EMPTY", rank=1), Column("ERROR", least=5))
    cells = [["9abcdef0.17", "ash:9706", "", "ValueError: bad"]]
    assert [str(column.header) for column in make_table(columns, cells, 80).columns] == [
        "TASK",
        "WHERE",
        "ERROR",
    ]
    narrow = make_table(columns, cells, 20)
    assert [str(column.header) for column in narrow.columns] == ["TASK", "ERROR"]
    assert [column.width for column in narrow.columns] == [11, 7]


# --- stack, cancel ---


def test_a_stack_reads_like_a_traceback() -> None:
    frames = [{"file": "run.py", "line": 8, "function": "simulate", "code": "    x = crunch(n)\n"}]
    stack = {"task": "c.1", "function": "simulate", "server": "10.0.0.1:9707", "node": "ash:9706"}
    assert lines_of({**stack, "frames": frames, "text": "it waits", "note": ""}) == [
        "task c.1, simulate, at 10.0.0.1:9707 of ash:9706",
        "  run.py:8 in simulate",
        "      x = crunch(n)",
        "it waits",
    ]


def test_who_was_refused_is_told_and_none_done_is_exit_3(capsys: pytest.CaptureFixture[str]) -> None:
    assert tell(Done(2, [("c.9", "it has ended")]), CancelSettings(task=("c.1",))) == 0
    assert capsys.readouterr() == ("2 tasks were told to end\n", "c.9: it has ended\n")
    assert tell(Done(0, []), CancelSettings(task=("c.1",))) == 3


@pytest.mark.parametrize(
    "settings",
    [CancelSettings(), CancelSettings(state="queued"), CancelSettings(task=("c.1",), function="f")],
)
def test_what_is_to_be_cancelled_is_named_in_one_way(settings: CancelSettings) -> None:
    with pytest.raises(Misuse):
        settings.check()


# --- several schedulers ---


def test_reports_of_several_schedulers_are_one_and_a_lease_goes_before_other_words() -> None:
    client = ClientReport("run.py", "desk", 7, "running", 0, 1, 2, 71)
    other = client._replace(name="more.py", epoch=72)
    first = SchedulerReport("a", "", 1, False, [client], [("ash", "h", 1, "open")], epochs=[11])
    nodes = [("ash", "h", 1, "held by a"), ("elm", "h", 2, "free")]
    second = SchedulerReport("b", "", 2, False, [other], nodes, epochs=[11, 12])
    alone = NodeReport(NodeInfo("oak", "h", 3, 4, "", (3, 11), 13), "", [])
    for reports in ([first, second], [second, first]):
        told = merge(reports, {13: alone})
        assert {report.epoch for report in told.clients} == {71, 72}
        assert dict(zip(told.epochs, [node[3] for node in told.nodes], strict=True)) == {
            11: "open",
            12: "free",
            13: "free",
        }

"""What `dispycos top` shows in how much room."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from dispycos.cli.screen import SORTS, Snapshot, show

META: dict[str, Any] = {
    "nodes": 3,
    "servers": 8,
    "servers_busy": 5,
    "cpu": 62.4,
    "memory_used": 2 << 30,
    "memory": 8 << 30,
    "running": 5,
    "queued": 12040,
    "done": 1204331,
    "failed": 18,
    "lost": 0,
    "cancelled": 0,
    "rate": 123.44,
}


def node(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"n{number}:9706",
        "state": "running",
        "cpu": 10.0 * number,
        "servers": 4,
        "running": 2,
        "memory": 1 << 30,
        "memory_total": 4 << 30,
        "rate": 1.5,
        "done": 70,
        "failed": number % 2,
        "client": "c",
        "text": "",
        "absent": [],
        **changes,
    }


def server(number: int, **changes: Any) -> dict[str, Any]:
    return {
        "id": f"s{number}",
        "task": f"c.{number}",
        "function": "simulate",
        "name": f"n1/server-{number}",
        "node": "n1:9706",
        "since": 1000.0 - number,
        "cpu_s": 1.5,
        "memory": 1 << 20,
        "pid": 4000 + number,
        "done": 1,
        "failed": 0,
        **changes,
    }


def lines(seen: Snapshot, width: int = 120, height: int | None = None, **more: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None)
    with console.capture() as capture:
        console.print(show(seen, width, height, **more))
    return [line.rstrip() for line in capture.get().splitlines()]


def seen(nodes: int = 3, servers: int = 2, **changes: Any) -> Snapshot:
    return Snapshot(
        1000.0,
        {**META, **changes},
        [node(number) for number in range(1, nodes + 1)],
        [server(number) for number in range(1, servers + 1)],
        {"c": {"name": "run.py"}},
    )


def test_the_sums_stand_first() -> None:
    first, second, *_ = lines(seen())
    assert first.startswith("3 nodes  5 of 8 servers busy  CPU 62 %  memory 2.0 GiB of 8.0 GiB")
    assert second == "running 5  queued 12,040  done 1,204,331  failed 18  123.4 tasks/s"


def test_the_busiest_node_and_the_task_that_runs_longest_stand_first() -> None:
    shown = lines(seen())
    assert [line.split()[0] for line in shown[4:7]] == ["n3:9706", "n2:9706", "n1:9706"]
    assert [line.split()[0] for line in shown[9:11]] == ["c.2", "c.1"]
    by_failed = lines(seen(), sort=SORTS[3])
    assert [line.split()[0] for line in by_failed[4:7]] == ["n1:9706", "n3:9706", "n2:9706"]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 16), (140, 50)])
def test_it_fits_the_terminal_and_says_how_many_it_leaves_out(width: int, height: int) -> None:
    shown = lines(seen(nodes=200, servers=300), width, height, note="q quits")
    assert len(shown) <= height and max(map(len, shown)) <= width
    assert shown[-1] == "q quits"
    left_out = [line for line in shown if line.endswith("shown")]
    assert [line.split(" of ")[1] for line in left_out] == ["200 nodes shown", "300 tasks shown"]
    assert any("failed 18" in line for line in shown) and any(line.startswith("n200:9706") for line in shown)


def test_without_a_height_all_is_shown() -> None:
    assert len(lines(seen(nodes=200, servers=300))) > 500


def test_an_idle_cluster_says_so_and_closed_nodes_are_not_listed() -> None:
    idle = seen(nodes=2, servers=0)
    idle.nodes[1]["state"] = "closed"  # type: ignore[index]
    shown = lines(idle)
    assert shown[-1] == "nothing runs" and not any(line.startswith("n2") for line in shown)


def test_a_node_without_some_of_its_servers_says_why() -> None:
    there = seen(nodes=1)
    there.nodes[0]["absent"] = [[9707, "it starts"], [9708, "it starts"]]  # type: ignore[index]
    assert lines(there, width=200)[4].endswith("2 servers not there: it starts")

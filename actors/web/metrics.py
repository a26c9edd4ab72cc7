"""The tables for Prometheus, in its text format 0.0.4.

Only what is there has a sample: a node that is gone takes its labels along, so that no series goes on for ever.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

Rows = Sequence[Mapping[str, Any]]

# name, kind, help, table, column, and the labels with their columns
SERIES: Final[tuple[tuple[str, str, str, str, str, dict[str, str]], ...]] = (
    ("tasks_submitted_total", "counter", "Tasks that were submitted.", "meta", "submitted", {}),
    ("tasks_queued", "gauge", "Tasks that wait for a server.", "meta", "queued", {}),
    ("tasks_running", "gauge", "Tasks that run.", "meta", "running", {}),
    ("servers", "gauge", "Servers that are there.", "meta", "servers", {}),
    ("nodes", "gauge", "Nodes that are there.", "meta", "nodes", {}),
    ("node_servers", "gauge", "Servers of a node.", "nodes", "servers", {"node": "id"}),
    ("node_tasks_running", "gauge", "Tasks that run on a node.", "nodes", "running", {"node": "id"}),
    ("node_tasks_done_total", "counter", "Tasks that a node has done.", "nodes", "done", {"node": "id"}),
    ("node_tasks_failed_total", "counter", "Tasks that failed on a node.", "nodes", "failed", {"node": "id"}),
    ("node_cpu_percent", "gauge", "CPU in use.", "nodes", "cpu", {"node": "id"}),
    ("node_memory_available_bytes", "gauge", "Memory that is free.", "nodes", "memory", {"node": "id"}),
    ("node_disk_available_bytes", "gauge", "Disk that is free.", "nodes", "disk", {"node": "id"}),
    ("node_swap_free_bytes", "gauge", "Swap that is free.", "nodes", "swap", {"node": "id"}),
    (
        "function_tasks_running",
        "gauge",
        "Tasks of a function that run.",
        "functions",
        "running",
        {"function": "function"},
    ),
    (
        "function_cpu_seconds_total",
        "counter",
        "CPU time of a function.",
        "functions",
        "cpu_s",
        {"function": "function"},
    ),
    ("client_servers", "gauge", "Servers of a client.", "clients", "servers", {"client": "name", "id": "id"}),
    (
        "client_tasks_queued",
        "gauge",
        "Tasks of a client that wait.",
        "clients",
        "queued",
        {"client": "name", "id": "id"},
    ),
)
STATES: Final = ("done", "failed", "lost", "cancelled")
GONE: Final[dict[str, tuple[str, ...]]] = {"nodes": ("closed", "lost"), "clients": ("ended",)}


def exposition(tables: Mapping[str, Rows]) -> str:
    """`tables`: meta, nodes, functions and clients."""
    lines: list[str] = []
    _ended(lines, "tasks_ended_total", "Tasks that ended, by how.", tables.get("meta", ()), {})
    _ended(
        lines,
        "function_tasks_ended_total",
        "As that, by function.",
        tables.get("functions", ()),
        {"function": "function"},
    )
    for name, kind, text, table, column, labels in SERIES:
        rows = [row for row in tables.get(table, ()) if row.get("state") not in GONE.get(table, ())]
        _head(lines, name, kind, text)
        for row in rows:
            if row.get(column) is not None:
                lines.append(_sample(name, {label: row[key] for label, key in labels.items()}, row[column]))
    return "\n".join(lines) + "\n"


def _ended(lines: list[str], name: str, text: str, rows: Rows, labels: Mapping[str, str]) -> None:
    _head(lines, name, "counter", text)
    for row in rows:
        for state in STATES:
            own = {label: row[key] for label, key in labels.items()}
            lines.append(_sample(name, {**own, "state": state}, row.get(state, 0)))


def _head(lines: list[str], name: str, kind: str, text: str) -> None:
    lines += [f"# HELP dispycos_{name} {text}", f"# TYPE dispycos_{name} {kind}"]


def _sample(name: str, labels: Mapping[str, object], value: float) -> str:
    told = ",".join(f'{label}="{_escaped(str(text))}"' for label, text in labels.items())
    return f"dispycos_{name}{{{told}}} {value}" if told else f"dispycos_{name} {value}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")

"""What all subjects share: rows of the table, rounds in turn with the peers, and what processes cost.

A subject is a module that `python -m tests.bench.SUBJECT` runs in a process of its own, as a user's script would be run. It
says rows, a line of JSON each. Ours and the peers take turns, round by round, and the median of the rounds counts: so what
else the machine does hits all of them alike, and the ratios mean more than the figures.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

SERVERS = 2
OURS = "dispycos"


@dataclass
class Row:
    """One line of the table: ours beside the peers and floors of the same run."""

    what: str
    unit: str
    ours: float
    beside: list[tuple[str, float]] = field(default_factory=list)
    more_is_better: bool = True
    note: str = ""

    def better_by(self, other: float) -> float:
        """How many times better ours is; below 1 it is worse."""
        if not self.ours or not other:
            return 0.0
        return self.ours / other if self.more_is_better else other / self.ours


def say(row: Row) -> None:
    print(json.dumps(asdict(row)), flush=True)


@dataclass
class Options:
    quick: bool
    cluster: bool  # through the scheduler and the node that were started by hand

    @property
    def rounds(self) -> int:
        return 2 if self.quick else 5

    @property
    def way(self) -> str:
        servers = os.environ.get("DISPYCOS_CPUS", str(SERVERS))
        return (
            "scheduler + node"
            if self.cluster
            else "private" + f", {servers} servers" * (servers != str(SERVERS))
        )


def options() -> Options:
    """What __main__ passed to this subject."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--cluster", action="store_true")
    given = parser.parse_args()
    return Options(given.quick, given.cluster)


Round = Callable[[], Awaitable[float]]


async def in_turn(rounds: int, contestants: Mapping[str, Round]) -> dict[str, float]:
    """Let each do its round, again and again; the median of each one's rounds."""
    seen: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, once in contestants.items():
            seen[name].append(await once())
    return {name: statistics.median(values) for name, values in seen.items()}


async def percentiles_in_turn(
    rounds: int, contestants: Mapping[str, Callable[[], Awaitable[list[float]]]]
) -> dict[str, tuple[float, float]]:
    """As in_turn, for rounds that give many durations: the medians of p50 and p99, in microseconds."""
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, once in contestants.items():
            seen[name].append(p50_p99(await once()))
    return {
        name: (statistics.median(p50 for p50, _ in pairs), statistics.median(p99 for _, p99 in pairs))
        for name, pairs in seen.items()
    }


def p50_p99(seconds: Sequence[float]) -> tuple[float, float]:
    in_order = sorted(seconds)
    return in_order[len(in_order) // 2] * 1e6, in_order[len(in_order) * 99 // 100] * 1e6


def rows_of_percentiles(what: str, found: dict[str, tuple[float, float]]) -> None:
    for index, name in enumerate(("p50", "p99")):
        ours = found[OURS][index]
        beside = [(peer, pair[index]) for peer, pair in found.items() if peer != OURS]
        say(Row(f"{what}, {name}", "us", ours, beside, more_is_better=False))


def row_of(what: str, unit: str, found: dict[str, float], *, more_is_better: bool = True) -> Row:
    beside = [(peer, value) for peer, value in found.items() if peer != OURS]
    return Row(what, unit, found[OURS], beside, more_is_better)


def warm_pool(function: Callable[..., Any], *arguments: Any) -> ProcessPoolExecutor:
    """A ProcessPoolExecutor whose processes run. Made before anything of ours: it may fork."""
    pool = ProcessPoolExecutor(SERVERS)
    for future in [pool.submit(function, *arguments) for _ in range(64)]:
        future.result()
    return pool


# --- what processes cost ---


def cpu_seconds(processes: Sequence[psutil.Process]) -> float:
    """By the kernel's account in nanoseconds, of their threads that live; that of the whole process counts in steps of 10 ms."""
    stats = [stat for process in processes for stat in Path(f"/proc/{process.pid}/task").glob("*/schedstat")]
    return sum(int(stat.read_text().split()[0]) for stat in stats) / 1e9


class Cpu:
    """CPU seconds that groups of processes use between `with` and its end."""

    def __init__(self, groups: dict[str, list[psutil.Process]]) -> None:
        self._groups = groups
        self.seconds: dict[str, float] = {}
        self.wall = 0.0

    def _now(self) -> dict[str, float]:
        return {name: cpu_seconds(group) for name, group in self._groups.items()}

    def __enter__(self) -> Cpu:
        self._before = self._now()
        self._began = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self._began
        after = self._now()
        self.seconds = {name: after[name] - before for name, before in self._before.items()}

    def each(self, count: int) -> dict[str, float]:
        """Microseconds per piece of work."""
        return {name: seconds / count * 1e6 for name, seconds in self.seconds.items()}


def groups_of_ours(cluster: bool) -> dict[str, list[psutil.Process]]:
    """Our processes by what they are: this client, the scheduler and the node (or both in one), the servers."""
    me = psutil.Process()
    if not cluster:
        privates = [child for child in me.children() if _is(child, "private")]
        return {"client": [me], "private": privates, "servers": servers_of(privates)}
    home = me.environ()["HOME"]
    mine = [process for process in psutil.process_iter() if _lives_in(process, home)]
    nodes = [process for process in mine if _is(process, "node") and not _is(process.parent(), "node")]
    schedulers = [process for process in mine if _is(process, "scheduler")]
    return {"client": [me], "scheduler": schedulers, "node": nodes, "servers": servers_of(nodes)}


def servers_of(agents: list[psutil.Process]) -> list[psutil.Process]:
    """All below the agents: template and zygote idle, so what is used there is the servers'."""
    return [below for agent in agents for below in agent.children(recursive=True)]


def _is(process: psutil.Process | None, command: str) -> bool:
    try:
        return process is not None and command in process.cmdline()[1:6] and "dispycos" in process.cmdline()
    except psutil.Error:
        return False


def _lives_in(process: psutil.Process, home: str) -> bool:
    try:
        return bool(process.environ().get("HOME") == home)
    except (psutil.Error, ProcessLookupError):
        return False


def in_words(parts: dict[str, float]) -> str:
    return " + ".join(f"{name} {value:.1f}" for name, value in parts.items())

"""Runs the subjects one after the other, each in a process of its own, and prints one table. Nothing is asserted."""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
from typing import NamedTuple

import psutil

from tests.bench.measure import OURS, Row
from tests.kit.programs import ROOT, User


class Subject(NamedTuple):
    module: str
    cluster: bool = False  # through `dispycos scheduler` and `dispycos node` as processes of their own
    servers: int = 2
    limit: float = 60.0  # seconds; then it is ended and said so

    @property
    def name(self) -> str:
        return self.module + "-cluster" * self.cluster + f"-{self.servers}" * (self.servers != 2)


SUBJECTS = (
    Subject("tasks"),
    Subject("tasks", cluster=True),
    Subject("tasks", servers=64),
    Subject("mapped"),
    Subject("many", limit=120.0),
    Subject("busy"),
    Subject("far"),
    Subject("roundtrips"),
    Subject("roundtrips", cluster=True),
    Subject("messages"),
    Subject("bulk"),
    Subject("start"),
    Subject("memory"),
    Subject("pool"),
    Subject("watched", limit=180.0),
)
TOTAL_S = {False: 600.0, True: 120.0}  # by --quick: what has not begun by then is left out


def run(subject: Subject, quick: bool, limit: float) -> list[Row]:
    """Its rows. Raises AssertionError with what it said, if it failed or took too long."""
    with User(DISPYCOS_CPUS=str(subject.servers), PYTHONPATH=str(ROOT)) as user:
        if subject.cluster:
            user.scheduler()
            user.node("bench", cpus=subject.servers)
        arguments = ["-m", f"tests.bench.{subject.module}"]
        arguments += ["--quick"] * quick + ["--cluster"] * subject.cluster
        out = user.python(*arguments).succeed(limit)
    for line in out.splitlines():
        if not line.startswith("{"):
            print(line)  # why it says nothing
    return [Row(**json.loads(line)) for line in out.splitlines() if line.startswith("{")]


def in_figures(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def show(row: Row) -> None:
    ours = f"{in_figures(row.ours)} {row.unit}"
    first, *others = row.beside or [("", 0.0)]
    for what, mine, (peer, value) in [(row.what, ours, first), *(("", "", other) for other in others)]:
        theirs = f"{in_figures(value)} {row.unit}" if peer else ""
        ratio = f"{row.better_by(value):.2f}" if peer else ""
        print(f"{what:<46} {mine:>16}   {peer:<22} {theirs:>16} {ratio:>8}")
    if row.note:
        print(f"    {row.note}")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    names = [subject.name for subject in SUBJECTS]
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all if none is given"
    )
    parser.add_argument("--quick", action="store_true", help="fewer and shorter rounds: at most two minutes")
    given = parser.parse_args()
    unknown = sorted(set(given.names) - set(names))
    if unknown:
        parser.error(f"no such subject: {', '.join(unknown)}; there are {', '.join(names)}")
    print(
        f"Python {platform.python_version()}, {psutil.cpu_count()} CPUs, load {psutil.getloadavg()[0]:.1f} before the start"
    )
    print(f"{'':<46} {OURS:>16}   {'beside':<22} {'':>16} {'better x':>8}")
    until = time.monotonic() + TOTAL_S[given.quick]
    failed = 0
    for subject in SUBJECTS:
        if given.names and subject.name not in given.names:
            continue
        left = until - time.monotonic()
        if left < 1:
            print(f"{subject.name}: left out, the time is up")
            continue
        try:
            for row in run(subject, given.quick, min(subject.limit, left)):
                show(row)
        except AssertionError as error:
            failed += 1
            print(f"{subject.name}: failed: {error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

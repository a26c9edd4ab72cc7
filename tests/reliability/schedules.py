"""Simulated schedules and planted faults: `python -m tests.reliability.schedules 10000` plays so many of each simulator.

Real machines on real routers, with links that break, processes that die and stall, in virtual time; in as many processes as there
are CPUs. Then each planted fault is sought in the first 2,000 schedules.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from tests.sim import SIMULATORS, SOUGHT_IN, is_found, without_warnings

AT_ONCE = 100  # schedules that a process plays before it gets more


def play(count: int) -> Iterator[str]:
    """One line for each simulator; raises AssertionError at the first failure, or when a planted fault is not found."""
    with ProcessPoolExecutor(os.cpu_count(), initializer=without_warnings) as pool:
        for name in SIMULATORS:
            began = time.monotonic()
            played = list(pool.map(partial(play_some, name), range(0, count, AT_ONCE)))
            found = [failure for failures, _ in played for failure in failures]
            assert not found, "\n".join(found)
            spent = sum(seconds for _, seconds in played)
            took = time.monotonic() - began
            yield (
                f"{name}: {count} schedules, {spent / count * 1e3:.1f} ms of CPU each, no failure, in {took:.0f} s"
            )
        for name, simulator in SIMULATORS.items():
            names = [bug.__name__ for bug in simulator.bugs]
            missed = [
                bug
                for bug, found in zip(names, pool.map(partial(is_found, name), names), strict=True)
                if not found
            ]
            assert not missed, f"planted in {name}, and not found: {missed}"
            yield f"{name}: {len(names)} planted faults, all found in at most {SOUGHT_IN} schedules"


def play_some(name: str, first: int) -> tuple[list[str], float]:
    """What was wrong, and the seconds of CPU that it took."""
    began = time.process_time()
    return SIMULATORS[name].failures(AT_ONCE, first), time.process_time() - began


if __name__ == "__main__":
    for line in play(int(sys.argv[1])):
        print(line, flush=True)

"""Fault schedules: `python -m tests.sim N [first_seed]` plays N of sessions and N of clusters; `--trace SEED` tells one.

`--suite` is what the test suite has played beside its other tests, on the second CPU: schedules of clusters, and the search
for each planted fault; it says a line of JSON for each.
"""

import json
import os
import sys
import time
from collections.abc import Callable

import pytest

from tests.kit import cluster, cluster_bugs, sim

SIMULATORS: list[tuple[str, Callable[[int, int], list[str]]]] = [
    ("sessions", sim.failures),
    ("clusters", cluster.failures),
]
SUITE_SCHEDULES = 2000
SEARCHED = 300  # schedules in which a planted fault has to show


def main(arguments: list[str]) -> int:
    if arguments[:1] == ["--trace"]:
        print("\n".join(cluster.story(int(arguments[1]))))
        return 0
    if arguments == ["--suite"]:
        return play_suite()
    count = int(arguments[0]) if arguments else 2000
    first = int(arguments[1]) if len(arguments) > 1 else 0
    total = 0
    for name, failures in SIMULATORS:
        began = time.process_time()
        found = failures(count, first)
        for failure in found:
            print(failure)
        spent = time.process_time() - began
        print(f"{count} schedules of {name} from seed {first}: {len(found)} failures, {spent:.1f} s CPU")
        total += len(found)
    return 1 if total else 0


def play_suite() -> int:
    os.nice(10)  # the tests beside which it runs go first
    say(schedules=SUITE_SCHEDULES, failures=cluster.failures(SUITE_SCHEDULES))
    for bug in cluster_bugs.BUGS:
        with pytest.MonkeyPatch.context() as patch:
            bug.plant(patch)
            say(bug=bug.plant.__name__, shows=shows(bug.first_seed))
    return 0


def shows(first: int) -> bool:
    return any(cluster.Cluster(first + n).play() for n in range(SEARCHED))


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Fault schedules: `python -m tests.sim [NAME] N [first_seed]` plays N of each simulator, or of one of them.

Their names are sessions, clusters, chains and dispatch. `[NAME] --trace SEED` tells one schedule, of clusters without a name.

`--suite` is what the test suite has played beside its other tests, on the second CPU: schedules, and the search for each
planted fault; it says a line of JSON for each.
"""

import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import pytest

from tests.kit import cluster, cluster_bugs, dispatch_bugs, dispatch_sim, sim, sim_bugs
from tests.kit.beside import END
from tests.kit.sim_bugs import Plant

SUITE_SCHEDULES = (
    2000  # in these each planted fault has to show; of what takes long fewer are played without a fault
)


class Simulator(NamedTuple):
    failures: Callable[[int, int], list[str]]
    bugs: Sequence[Plant]
    play: Callable[[int], list[str]]  # one schedule: what was wrong
    story: Callable[[int], list[str]] | None = None  # ... line by line
    schedules: int = SUITE_SCHEDULES  # that the suite plays


SIMULATORS = {
    "sessions": Simulator(sim.failures, sim_bugs.BUGS, lambda seed: sim.Schedule(seed).play()),
    "clusters": Simulator(
        cluster.failures, cluster_bugs.BUGS, lambda seed: cluster.Cluster(seed).play(), cluster.story, 800
    ),
    "chains": Simulator(  # clusters whose tasks wait for the values of others
        partial(cluster.failures, chains=True),
        cluster_bugs.CHAIN_BUGS,
        lambda seed: cluster.Cluster(seed, chains=True).play(),
        partial(cluster.story, chains=True),
        200,
    ),
    "dispatch": Simulator(dispatch_sim.failures, dispatch_bugs.BUGS, dispatch_sim.play, dispatch_sim.story),
}


def main(arguments: list[str]) -> int:
    without_warnings()
    played = SIMULATORS
    if arguments[:1] and arguments[0] in SIMULATORS:
        name, *arguments = arguments
        played = {name: SIMULATORS[name]}
    if arguments[:1] == ["--trace"]:
        story = played.get("clusters", next(iter(played.values()))).story
        assert story is not None, "sessions cannot be told"
        print("\n".join(story(int(arguments[1]))))
        return 0
    if arguments == ["--suite"]:
        return play_suite()
    count = int(arguments[0]) if arguments else 2000
    first = int(arguments[1]) if len(arguments) > 1 else 0
    total = 0
    for name, simulator in played.items():
        began = time.process_time()
        found = simulator.failures(count, first)
        for failure in found:
            print(failure)
        spent = time.process_time() - began
        print(f"{count} schedules of {name} from seed {first}: {len(found)} failures, {spent:.1f} s CPU")
        total += len(found)
    return 1 if total else 0


def play_suite() -> int:
    os.nice(10)  # the tests beside which it runs go first
    for name, simulator in SIMULATORS.items():
        count = simulator.schedules
        say(of=name, schedules=count, failures=simulator.failures(count, 0))
        for bug in simulator.bugs:
            try:
                say(of=name, bug=bug.__name__, shows=is_found(name, bug.__name__))
            except Exception:  # what is wrong with one is not the failure of all tests that ask for others
                say(of=name, bug=bug.__name__, shows=False, error=traceback.format_exc())
    say(**END)
    return 0


def is_found(name: str, bug: str) -> bool:
    """Whether this planted fault shows in what the suite plays."""
    simulator = SIMULATORS[name]
    (plant,) = [plant for plant in simulator.bugs if plant.__name__ == bug]
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        return any(map(simulator.play, range(SUITE_SCHEDULES)))


def without_warnings() -> None:
    """Bodies tell users of lost messages."""
    logging.getLogger("dispycos").setLevel(logging.ERROR)


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

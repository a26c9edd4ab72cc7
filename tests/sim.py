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
from itertools import chain
from typing import NamedTuple

import pytest

from tests.kit import cluster, cluster_bugs, dispatch_bugs, dispatch_sim, sim, sim_bugs
from tests.kit.beside import END
from tests.kit.sim_bugs import Plant

SOUGHT_IN = 2000  # schedules, in which each planted fault has to show

# Planted faults that show late, each with a schedule that shows it: this one is played first. When a change makes it show another
# one, the fault is found as before, only later.
LATE = {
    "a_new_route_is_taken_without_a_word": 77,
    "acks_of_one_stream_are_taken_for_all": 200,
    "what_comes_early_is_dropped": 301,
    "a_broken_link_is_kept_to_oneself": 437,
    "who_has_done_is_granted_again": 6,
    "a_mark_is_torn": 7,
    "what_a_dead_server_had_begun_runs_again": 10,
    "a_position_is_off_by_one": 10,
    "it_grants_before_it_has_heard_who_has_the_cluster": 12,
    "who_comes_back_first_is_the_next": 12,
    "the_tasks_of_a_node_that_is_gone_are_forgotten": 18,
    "what_was_lent_counts_as_given_once_more": 18,
    "what_machines_want_sent_waits_for_the_next_turn": 22,
    "the_5_s_run_from_the_request_alone": 27,
    "a_session_is_forgotten_though_its_link_is_back": 56,
    "a_node_goes_on_speaking_to_the_dead_one": 59,
    "there_is_no_way_to_a_node_but_its_own_link": 65,
    "it_closes_the_lease_that_a_node_comes_back_with": 67,
    "a_way_is_left_while_messages_are_on_it": 68,
    "a_lease_ends_before_its_client_has_what_was_printed": 82,
    "nobody_reads_the_pages_of_a_node_that_is_gone": 88,
    "a_dead_server_is_not_waited_for_when_its_node_is_gone": 88,
    "a_lost_lane_ends_its_session": 88,
    "a_client_gives_its_tasks_up_with_its_scheduler": 88,
    "nobody_says_that_a_nested_task_was_lost": 101,
    "the_kill_is_aimed_at_whatever_runs_by_then": 145,
    "every_zombie_is_abandoned": 193,
    "nobody_answers_for_an_actor_that_has_ended": 223,
    "nodes_that_died_with_it_are_not_asked_for": 231,
    "who_waits_for_a_value_is_not_told_that_its_client_closes": 38,
    "the_word_placed_is_lost": 66,
    "nothing_is_evened_out": 304,
    "a_closed_node_is_offered_again": 413,
}


class Simulator(NamedTuple):
    failures: Callable[[int, int], list[str]]
    bugs: Sequence[Plant]
    play: Callable[[int], list[str]]  # one schedule: what was wrong
    schedules: int  # that the suite plays
    story: Callable[[int], list[str]] | None = None  # one, line by line


SIMULATORS = {
    "sessions": Simulator(sim.failures, sim_bugs.BUGS, lambda seed: sim.Schedule(seed).play(), 500),
    "clusters": Simulator(
        cluster.failures, cluster_bugs.BUGS, lambda seed: cluster.Cluster(seed).play(), 240, cluster.story
    ),
    "chains": Simulator(  # clusters whose tasks wait for the values of others
        partial(cluster.failures, chains=True),
        cluster_bugs.CHAIN_BUGS,
        lambda seed: cluster.Cluster(seed, chains=True).play(),
        70,
        partial(cluster.story, chains=True),
    ),
    "dispatch": Simulator(
        dispatch_sim.failures, dispatch_bugs.BUGS, dispatch_sim.play, 500, dispatch_sim.story
    ),
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
    """Whether this planted fault shows in one of so many schedules."""
    simulator = SIMULATORS[name]
    (plant,) = [plant for plant in simulator.bugs if plant.__name__ == bug]
    with pytest.MonkeyPatch.context() as patch:
        plant(patch)
        return any(map(simulator.play, chain([LATE.get(bug, 0)], range(SOUGHT_IN))))


def without_warnings() -> None:
    """Bodies tell users of lost messages."""
    logging.getLogger("dispycos").setLevel(logging.ERROR)


def say(**words: object) -> None:
    print(json.dumps(words), flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

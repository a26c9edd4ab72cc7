"""A node outside of its service hours: it takes nothing, first lets what runs go on, then ends it, and is there again later."""

from __future__ import annotations

from dispycos.actors.node.lease import CloseZygote, StartZygote
from dispycos.actors.node.processes.words import EndStep
from dispycos.actors.tasks.step import KILL_AFTER, Step
from dispycos.hours import Hours, TimeOfDay, parse_time_of_day
from dispycos.protocol.addresses import Address
from dispycos.protocol.messages import (
    Closed,
    Declined,
    Inventory,
    Marks,
    NodeReport,
    Notice,
    Open,
    Register,
    Shutdown,
)
from tests.kit.node import INFO, LEASE, SCHEDULER_EPOCH, THE_SCHEDULER, Hand

NIGHT = Hours(*map(parse_time_of_day, ("17:00", "07:00", "08:00")))
RESTING = "its service hours are 17:00 to 07:00"
OPEN = Open(LEASE, INFO, 1, 50.0)
NEWS = Notice(
    f"node box takes no new tasks, {RESTING}; what runs there goes on until 08:00 at the latest", "warning"
)


def at(hand: Hand, clock: str) -> list[object]:
    hand.node.tell_time(TimeOfDay(*map(int, clock.split(":"))), hand.now)
    return hand.did()


def opened(hours: Hours = NIGHT, clock: str = "18:00") -> Hand:
    """With a lease, at this time."""
    hand = Hand(1, hours=hours)
    assert at(hand, clock) == []
    hand.node.add_scheduler(SCHEDULER_EPOCH, 0.0)
    hand.open()
    return hand


def test_at_stop_it_drains_and_says_so_to_client_and_scheduler() -> None:
    hand = opened()
    assert at(hand, "23:59") == at(hand, "00:00") == at(hand, "06:59") == []
    assert at(hand, "07:00") == [
        ("client", NEWS),
        (1, Shutdown(drain=True)),
        ("scheduler", Register(hand.node.info, LEASE, True, INFO)),
    ]
    assert at(hand, "07:01") == [], "once"
    assert hand.wake_at(10 * KILL_AFTER) == [], "nobody is killed"


def test_what_has_drained_closes_and_the_node_goes_on_declining() -> None:
    hand = opened()
    at(hand, "07:00")
    done = hand.call("server_exited", 1, "exited with code 0", Marks(1, 0))
    assert done[-2:] == [CloseZygote(LEASE), ("scheduler", Closed(LEASE, RESTING))]
    assert hand.hear(THE_SCHEDULER, OPEN) == [("scheduler", Declined(LEASE, RESTING))]
    assert at(hand, "08:00") == []
    assert hand.hear(THE_SCHEDULER, OPEN) == [("scheduler", Declined(LEASE, RESTING))]


def test_at_end_what_still_runs_is_killed_after_its_5_seconds() -> None:
    hand = opened()
    at(hand, "07:00")
    assert at(hand, "08:00") == [(1, Shutdown(RESTING))]
    assert hand.wake_at(KILL_AFTER - 0.1) == []
    hand.steps[1] = Step(1, 0)
    assert hand.wake_at(KILL_AFTER) == [EndStep(1, Step(1, 0))]


def test_without_a_stop_it_serves_to_the_end() -> None:
    hand = opened(Hours(parse_time_of_day("17:00"), None, parse_time_of_day("08:00")))
    assert at(hand, "07:59") == []
    assert at(hand, "08:00") == [(1, Shutdown("its service hours are 17:00 to 08:00"))]


def test_without_an_end_what_runs_goes_on_and_the_next_lease_is_taken_from_start_on() -> None:
    hand = opened(Hours(parse_time_of_day("17:00"), parse_time_of_day("07:00"), None))
    [notice, *_] = at(hand, "07:00")
    assert notice[1].text.endswith("what runs there goes on")  # type: ignore[index]
    at(hand, "17:00")
    done = hand.call("server_exited", 1, "exited with code 0", Marks(1, 0))
    assert ("scheduler", Closed(LEASE, "its service hours are 17:00 to 07:00")) in done
    assert StartZygote(LEASE) in hand.hear(THE_SCHEDULER, OPEN)


def test_at_start_it_offers_itself_to_all_schedulers_that_it_knows() -> None:
    hand = Hand(1, hours=NIGHT)
    at(hand, "12:00")
    hand.node.add_scheduler(SCHEDULER_EPOCH, 0.0)
    hand.node.add_scheduler(55, 0.0)
    hand.did()
    assert hand.hear(THE_SCHEDULER, OPEN) == [("scheduler", Declined(LEASE, RESTING))]
    word = Register(hand.node.info)
    assert at(hand, "17:00") == [("scheduler", word), (Address(55, THE_SCHEDULER.actor), word)]
    assert StartZygote(LEASE) in hand.hear(THE_SCHEDULER, OPEN)


def test_who_looks_sees_that_it_rests() -> None:
    hand = Hand(1, hours=NIGHT)
    viewer = Address(77, 20)

    def report() -> NodeReport:
        [said] = hand.hear(viewer, Inventory())
        assert isinstance(said, tuple) and isinstance(said[1], NodeReport)
        return said[1]

    at(hand, "12:00")
    assert report().resting == RESTING
    at(hand, "18:00")
    assert report().resting == ""


def test_it_tells_its_own_log_when_it_goes_and_comes() -> None:
    hand = Hand(1, hours=NIGHT)
    for clock in ("12:00", "17:00", "07:30"):
        at(hand, clock)
    assert hand.logs == [
        f"out of service: {RESTING}",
        "in service: 17:00 to 07:00",
        f"out of service: {RESTING}",
    ]

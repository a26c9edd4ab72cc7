"""How long nothing ran under a lease: the node reads it off its servers' pages, says it, and by --zombie_period ends the lease."""

from __future__ import annotations

from dispycos.actors.tasks.step import KILL_AFTER
from dispycos.protocol.messages import Availability, Closed, Marks, Open, Pulse, Shutdown
from tests.kit.node import INFO, LEASE, MACHINE, NODE_EPOCH, THE_SCHEDULER, Hand

LOAD = Availability(50.0, 1, 2, 3)
REASON = "nothing ran on it for 60 s, the --zombie_period of node box"


def opened(servers: int = 1, **options: float) -> Hand:
    hand = Hand(servers, **options).open()
    hand.call("measured", LOAD, MACHINE)
    return hand


def pulses(done: list[object]) -> list[float]:
    """What was said of idleness."""
    return [word[1].idle_s for word in done if isinstance(word, tuple) and isinstance(word[1], Pulse)]


def saw(hand: Hand, now: float, running: int = 0, begun: int = 0) -> list[object]:
    hand.now = now
    return hand.call("saw", running, {11: Marks(begun, 0)})


def test_a_pulse_says_for_how_long_nothing_ran() -> None:
    hand = opened()
    saw(hand, 5.0, running=1, begun=1)
    saw(hand, 10.0, running=0, begun=1)
    saw(hand, 40.0, running=0, begun=1)
    assert hand.wake_at(50.0) == [("scheduler", Pulse(NODE_EPOCH, LOAD, idle_s=45.0))]


def test_what_began_and_ended_between_two_looks_counts() -> None:
    hand = opened()
    saw(hand, 5.0, begun=1)
    saw(hand, 45.0, begun=2)
    assert pulses(hand.wake_at(50.0)) == [5.0]


def test_a_task_that_waits_runs() -> None:
    """An io task at its receive(), or a CPU task that awaits others, has begun and not ended."""
    hand = opened(zombie_period=60.0)
    for now in range(5, 500, 5):
        assert not any(isinstance(word, Closed | Shutdown) for word in saw(hand, now, running=1, begun=1))
    assert hand.node.granted is not None and hand.node.granted.closing is None


def test_who_was_said_to_idle_and_does_not_any_more_is_spoken_for_at_once() -> None:
    hand = opened()
    saw(hand, 5.0)
    assert pulses(hand.wake_at(50.0)) == [45.0]
    assert pulses(saw(hand, 55.0, running=1, begun=1)) == [], "a whole interval of idleness was not said"
    saw(hand, 60.0, running=0, begun=1)
    assert pulses(hand.wake_at(100.0)) == [45.0]
    assert pulses(hand.wake_at(150.0)) == [95.0]
    assert pulses(saw(hand, 155.0, running=1, begun=2)) == [0.0]
    assert pulses(saw(hand, 160.0, running=1, begun=3)) == [], "but once"


def test_a_lease_under_which_nothing_runs_for_the_zombie_period_ends_in_words() -> None:
    hand = opened(zombie_period=60.0)
    saw(hand, 5.0, begun=1)
    assert saw(hand, 64.9, begun=1) == []
    assert saw(hand, 65.0, begun=1) == [(1, Shutdown(REASON))]
    assert saw(hand, 70.0, begun=1) == [], "it is closing already"
    done = hand.call("server_exited", 1, "exited with code 0", Marks(1, 0))
    assert ("scheduler", Closed(LEASE, REASON, dismissed=True)) in done
    assert hand.node.granted is None


def test_who_is_dismissed_by_the_operator_is_told_so_as_well() -> None:
    hand = opened()
    assert hand.call("dismiss", "the operator closed it") == [(1, Shutdown("the operator closed it"))]
    done = hand.call("server_exited", 1, "exited with code 0", Marks(0, 0))
    assert ("scheduler", Closed(LEASE, "the operator closed it", dismissed=True)) in done


def test_servers_that_are_still_starting_do_not_idle() -> None:
    """A node_setup may load for minutes."""
    hand = Hand(2, zombie_period=60.0)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 2, 50.0))
    assert saw(hand, 100.0) == []
    hand.call("zygote_ready")
    hand.ready(1)
    assert saw(hand, 200.0) == [], "the second is not up yet"
    hand.ready(2)
    saw(hand, 205.0)
    assert len(saw(hand, 260.0)) == 2


def test_servers_that_cannot_be_started_keep_no_lease() -> None:
    hand = Hand(1, zombie_period=60.0)
    hand.hear(THE_SCHEDULER, Open(LEASE, INFO, 1, 50.0))
    hand.call("zygote_ready")
    while any(place.is_starting for place in hand.node.granted.places):  # type: ignore[union-attr]
        hand.call("server_exited", 1, "exited with code 1", Marks(0, 0))
    saw(hand, 5.0 + KILL_AFTER)
    done = saw(hand, 100.0 + KILL_AFTER)
    assert any(isinstance(word, tuple) and isinstance(word[1], Closed) and word[1].dismissed for word in done)


def test_without_a_zombie_period_a_lease_idles_for_ever() -> None:
    hand = opened()
    for now in (5.0, 1e6):
        assert not any(isinstance(word, tuple) and isinstance(word[1], Shutdown) for word in saw(hand, now))

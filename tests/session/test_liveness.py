"""Liveness: when a link is asked, and when it is given up."""

from dispycos.session.liveness import CLIENT, DEFAULT, Liveness, Patience, patience_for


def until_down(liveness: Liveness) -> tuple[float, int]:
    """Wakes at each deadline; when the link was given up, after how many questions."""
    pings = 0
    for _ in range(100):
        now = liveness.deadline()
        advice = liveness.wake(now)
        if advice == "down":
            return now, pings
        pings += advice == "ping"
    raise AssertionError("never given up")


def test_a_silent_link_is_asked_three_times_and_given_up_within_three_and_a_half_seconds() -> None:
    when, pings = until_down(Liveness(DEFAULT, 100.0))
    assert pings == 3
    assert 103.0 <= when <= 103.5


def test_a_silent_client_has_ten_seconds() -> None:
    assert until_down(Liveness(CLIENT, 0.0)) == (10.0, 3)


def test_a_link_that_is_used_is_not_asked() -> None:
    liveness = Liveness(DEFAULT, 0.0)
    for tenth in range(1, 100):
        now = tenth / 10
        assert liveness.wake(now) is None
        liveness.heard(now)


def test_an_answer_starts_the_patience_anew() -> None:
    liveness = Liveness(DEFAULT, 0.0)
    assert liveness.wake(1.0) == "ping"
    assert liveness.wake(1.75) == "ping"
    liveness.heard(2.0)
    assert liveness.wake(2.5) is None
    assert liveness.deadline() == 3.0
    assert liveness.wake(3.0) == "ping"


def test_waking_before_the_deadline_does_nothing() -> None:
    liveness = Liveness(Patience(1.0, 1.0, 1), 0.0)
    assert liveness.wake(0.999) is None
    assert liveness.deadline() == 1.0


def test_a_process_that_was_paused_asks_before_it_gives_up() -> None:
    liveness = Liveness(DEFAULT, 0.0)
    assert liveness.wake(60.0) == "ping"
    assert liveness.deadline() == 60.75


def test_nobody_asks_a_server_and_no_server_asks() -> None:
    assert patience_for("node", "server") is None
    assert patience_for("server", "node") is None
    assert patience_for("scheduler", "client") == CLIENT
    assert patience_for("client", "scheduler") == DEFAULT

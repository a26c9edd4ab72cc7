"""Whoever wants a link gets one: all endpoints at once, the first that answers is kept, a lost one is dialled again."""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dispycos.config import Refused
from dispycos.runtime import Runtime
from dispycos.transport.dialler import BACKOFF_FIRST, BACKOFF_MAX, JITTER, SILENCE_MAX, SOON_S, Dialler
from dispycos.transport.secret import Secret
from dispycos.transport.security import Keys

pytestmark = pytest.mark.timeout(30)

OURS = Keys.from_secret(Secret(b"o" * 32, "test"))
THEIRS = Keys.from_secret(Secret(b"t" * 32, "test"))


class Timer:
    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Clock:
    """As much of an event loop as a dialler uses; time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []
        self.loop = asyncio.new_event_loop()

    def create_future(self) -> asyncio.Future[int]:
        return self.loop.create_future()

    def call_later(self, delay: float, call: Callable[[], None]) -> Timer:
        self.timers.append(Timer(self.now + delay, call))
        return self.timers[-1]

    def delays(self) -> list[float]:
        return sorted(timer.due - self.now for timer in self.timers if timer.call is not None)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while due := sorted(
            (t.due, i) for i, t in enumerate(self.timers) if t.call is not None and t.due <= until
        ):
            timer = self.timers[due[0][1]]
            self.now = timer.due
            call, timer.call = timer.call, None
            assert call is not None
            call()
        self.now = until


class Phone:
    """The runtime as a dialler sees it: links are numbers, what is asked for is written down."""

    def __init__(self) -> None:
        self.loop = Clock()
        self.numbers = itertools.count(1)
        self.opened: list[tuple[int, str]] = []
        self.greeted: list[int] = []
        self.dropped: list[int] = []
        self.linked: set[int] = set()
        self.stopped: list[Dialler] = []
        self.are_missing = False  # descriptors

    def clock(self) -> float:
        return self.loop.now

    def open_link(self, endpoint: str, dialler: Dialler) -> int:
        if self.are_missing:
            raise OSError(errno.EMFILE, "Too many open files", endpoint)
        self.opened.append((next(self.numbers), endpoint))
        return self.opened[-1][0]

    def greet(self, link: int) -> None:
        self.greeted.append(link)

    def drop_link(self, link: int, reason: str) -> None:
        assert reason
        self.dropped.append(link)

    def is_linked(self, epoch: int) -> bool:
        return epoch in self.linked

    def dialler_stopped(self, dialler: Dialler) -> None:
        self.stopped.append(dialler)


class Desk:
    """A dialler with three endpoints at a phone."""

    def __init__(self, *endpoints: str, keep: bool = True, expected: int = 0) -> None:
        self.phone = Phone()
        runtime: Any = self.phone
        self.dialler = Dialler(
            runtime, endpoints or ("a", "b", "c"), uplink=False, keep=keep, expected=expected
        )
        self.silences: list[str] = []
        self.losses: list[str] = []
        self.dialler.on_silence = self.silences.append
        self.dialler.on_lost = self.losses.append
        self.dialler.start()


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: 1.0)


def test_a_socket_of_this_host_goes_first_and_the_addresses_remain_where_nobody_listens_there() -> None:
    desk = Desk("ipc://s", "a", "b")
    assert desk.phone.opened == [(1, "ipc://s")]
    desk.dialler.link_ready(1, 7)
    desk.dialler.link_down(1, "connection lost", refused=False)
    desk.phone.loop.run(BACKOFF_FIRST)
    assert desk.phone.opened[1:] == [(2, "ipc://s")]
    desk.dialler.link_down(2, "nobody listens there", refused=False)
    assert [endpoint for _, endpoint in desk.phone.opened[2:]] == ["ipc://s", "a", "b"]
    desk.dialler.link_ready(4, 8)
    assert (desk.dialler.link, desk.phone.dropped) == (4, [3, 5])


def test_one_address_after_the_other_is_greeted() -> None:
    """Of two links of one process the other end keeps the later, the dialler the first: for ever none would last."""
    desk = Desk(expected=77)
    for link in (2, 1, 3):
        desk.dialler.connected(link)
    assert desk.phone.greeted == [2]
    desk.dialler.link_down(2, "it did not answer in time", refused=False)
    assert desk.phone.greeted == [2, 1]
    desk.dialler.link_ready(1, 66)  # a stranger
    assert desk.phone.greeted == [2, 1, 3]
    desk.dialler.link_ready(3, 77)
    assert desk.dialler.link == 3


def test_who_connects_when_another_address_has_answered_is_not_greeted() -> None:
    desk = Desk("a", "b")
    desk.dialler.connected(1)
    desk.dialler.link_ready(1, 77)
    desk.dialler.connected(2)
    assert desk.phone.greeted == [1] and desk.phone.dropped == [2]


def test_all_endpoints_are_tried_at_once_each_one_once() -> None:
    desk = Desk("a", "b", "a", "c")
    assert desk.phone.opened == [(1, "a"), (2, "b"), (3, "c")]


def test_the_first_that_answers_is_kept_and_the_others_are_dropped() -> None:
    desk = Desk()
    desk.dialler.link_ready(2, 77)
    assert sorted(desk.phone.dropped) == [1, 3]
    assert (desk.dialler.link, desk.dialler.epoch) == (2, 77)
    assert desk.dialler.ready.result() == 77


def test_one_that_answers_late_is_dropped() -> None:
    desk = Desk()
    desk.dialler.link_ready(2, 77)
    desk.phone.dropped.clear()
    desk.dialler.link_ready(3, 77)
    assert desk.phone.dropped == [3]
    assert desk.dialler.link == 2


def test_when_none_answers_all_are_tried_again_after_a_pause() -> None:
    desk = Desk()
    for link in (1, 2):
        desk.dialler.link_down(link, "no answer", refused=False)
    desk.phone.loop.run(1.0)
    assert len(desk.phone.opened) == 3, "one is still under way"
    desk.dialler.link_down(3, "no answer", refused=False)
    desk.phone.loop.run(BACKOFF_FIRST)
    assert [endpoint for _, endpoint in desk.phone.opened[3:]] == ["a", "b", "c"]


def test_without_a_descriptor_it_is_tried_again_and_told_what_is_missing() -> None:
    desk = Desk("a", "b")
    for link in (1, 2):
        desk.dialler.link_down(link, "no answer", refused=False)
    desk.phone.are_missing = True
    desk.phone.loop.run(SILENCE_MAX)
    (silence,) = desk.silences
    assert "(b: Too many open files)" in silence
    desk.phone.are_missing = False
    desk.phone.loop.run(BACKOFF_MAX)
    assert [endpoint for _, endpoint in desk.phone.opened[2:]] == ["a", "b"]


def test_pauses_double_up_to_a_bound_and_start_over_after_success() -> None:
    desk = Desk("a")
    pauses = []
    for attempt in range(1, 9):
        desk.dialler.link_down(attempt, "no answer", refused=False)
        pauses.append(desk.phone.loop.delays()[0])
        desk.phone.loop.run(BACKOFF_MAX)
    assert pauses[:4] == pytest.approx([BACKOFF_FIRST * 2**n for n in range(4)])
    assert pauses[-1] == pytest.approx(BACKOFF_MAX)

    link = desk.phone.opened[-1][0]
    desk.dialler.link_ready(link, 77)
    desk.dialler.link_down(link, "connection lost", refused=False)
    assert desk.phone.loop.delays()[0] == pytest.approx(BACKOFF_FIRST)


def test_in_the_first_minute_after_a_loss_no_pause_is_longer_than_half_a_second() -> None:
    desk = Desk("a")
    desk.dialler.link_ready(1, 77)
    desk.dialler.link_down(1, "connection lost", refused=False)
    pauses = []
    while desk.phone.loop.now < SOON_S + 10.0:
        pauses.append((desk.phone.loop.now, desk.phone.loop.delays()[0]))
        desk.phone.loop.run(pauses[-1][1])
        desk.dialler.link_down(desk.phone.opened[-1][0], "nobody listens there", refused=False)
    assert max(pause for at, pause in pauses if at < SOON_S) * (1 + JITTER) < 0.5
    assert pauses[-1][1] == pytest.approx(BACKOFF_MAX)


def test_a_lost_link_is_told_and_dialled_again() -> None:
    desk = Desk("a")
    desk.dialler.link_ready(1, 77)
    desk.dialler.link_down(1, "connection lost", refused=False)
    assert desk.losses == ["connection lost"]
    assert desk.dialler.link == 0
    desk.phone.loop.run(1.0)
    assert desk.phone.opened[1:] == [(2, "a")]
    desk.dialler.link_ready(2, 78)
    assert (desk.dialler.link, desk.dialler.epoch) == (2, 78)


def test_a_lost_link_of_somebody_who_dialled_us_is_not_dialled_twice() -> None:
    desk = Desk("a")
    desk.dialler.link_ready(1, 77)
    desk.phone.linked.add(77)
    desk.dialler.link_down(1, "another link is better", refused=False)
    desk.phone.loop.run(10.0)
    assert len(desk.phone.opened) == 1
    desk.phone.linked.clear()
    desk.phone.loop.run(BACKOFF_MAX)
    assert len(desk.phone.opened) == 2


def test_without_keep_there_is_one_attempt() -> None:
    desk = Desk("a", keep=False)
    desk.dialler.link_down(1, "no answer", refused=False)
    desk.phone.loop.run(10.0)
    assert len(desk.phone.opened) == 1


def test_a_refusal_is_an_error_for_who_waits_and_is_not_tried_again() -> None:
    desk = Desk("a")
    desk.dialler.link_down(1, "wrong secret", refused=True)
    assert desk.dialler.refusal == "wrong secret"
    with pytest.raises(Refused, match="wrong secret"):
        desk.dialler.ready.result()
    desk.phone.loop.run(10.0)
    assert len(desk.phone.opened) == 1


def test_a_refusal_of_one_who_was_linked_before_is_tried_again() -> None:
    """It may have been ended in the middle of a handshake, and be back in a moment."""
    desk = Desk("a")
    desk.dialler.link_ready(1, 77)
    desk.dialler.link_down(1, "connection lost", refused=False)
    desk.phone.loop.run(BACKOFF_FIRST)
    desk.dialler.link_down(2, "connection reset in the handshake", refused=True)
    desk.phone.loop.run(BACKOFF_MAX)
    assert len(desk.phone.opened) == 3


def test_a_refusal_at_one_address_leaves_the_others_a_chance() -> None:
    """Another process may have taken the port behind one of the addresses."""
    desk = Desk("a", "b")
    desk.dialler.link_down(1, "wrong secret", refused=True)
    desk.dialler.link_ready(2, 77)
    assert desk.dialler.link == 2
    assert desk.dialler.ready.result() == 77


def test_another_process_at_one_of_the_addresses_is_not_taken() -> None:
    """docker0's address, announced by the peer, is our own as well."""
    desk = Desk("docker0", "lan", expected=77)
    desk.dialler.link_ready(1, 66)
    assert desk.phone.dropped == [1]
    assert not desk.dialler.ready.done()
    desk.dialler.link_ready(2, 77)
    assert (desk.dialler.link, desk.dialler.ready.result()) == (2, 77)


def test_when_only_another_process_answers_what_was_found_is_gone() -> None:
    desk = Desk("docker0", expected=77)
    gone: list[bool] = []
    desk.dialler.on_gone = lambda: gone.append(True)
    desk.dialler.link_ready(1, 66)
    desk.phone.loop.run(BACKOFF_FIRST)
    assert desk.phone.opened == [(1, "docker0")] and gone == [True]


def test_a_process_that_was_started_anew_at_its_place_is_kept() -> None:
    desk = Desk("docker0", expected=77)
    desk.dialler.link_ready(1, 77)
    desk.dialler.link_down(1, "connection lost", refused=False)
    desk.phone.loop.run(BACKOFF_FIRST * 2)
    desk.dialler.link_ready(2, 66)
    assert desk.dialler.link == 2 and desk.dialler.epoch == 66


@pytest.mark.parametrize(("keep", "going_on"), [(True, True), (False, False)])
def test_still_trying_is_said_by_who_still_tries(keep: bool, going_on: bool) -> None:
    desk = Desk("a", keep=keep)
    desk.phone.loop.run(SILENCE_MAX)
    assert desk.silences[0].endswith("; still trying") is going_on


def test_silence_is_told_once_with_what_was_tried() -> None:
    desk = Desk("a", "b")
    desk.dialler.link_down(1, "connection refused", refused=False)
    desk.phone.loop.run(SILENCE_MAX - 0.1)
    assert desk.silences == []
    desk.phone.loop.run(60.0)
    (text,) = desk.silences
    assert "a, b" in text and "connection refused" in text


def test_who_answers_in_time_is_not_called_silent() -> None:
    desk = Desk("a")
    desk.dialler.link_ready(1, 77)
    desk.phone.loop.run(60.0)
    assert desk.silences == []


def test_a_stopped_dialler_drops_everything_and_stays_quiet() -> None:
    desk = Desk("a", "b")
    desk.dialler.stop()
    assert sorted(desk.phone.dropped) == [1, 2]
    assert desk.dialler.ready.cancelled()
    assert desk.phone.stopped == [desk.dialler]
    for link in (1, 2):
        desk.dialler.link_down(link, "closed", refused=False)
    desk.phone.loop.run(60.0)
    assert len(desk.phone.opened) == 2
    assert desk.silences == [] and desk.phone.loop.delays() == []


def test_a_stopped_dialler_drops_the_link_in_use() -> None:
    desk = Desk("a")
    desk.dialler.link_ready(1, 77)
    desk.dialler.stop()
    desk.dialler.stop()
    assert desk.phone.dropped == [1]
    assert desk.dialler.ready.result() == 77


def test_a_dialler_stopped_in_its_pause_tries_no_more() -> None:
    desk = Desk("a")
    desk.dialler.link_down(1, "no answer", refused=False)
    desk.dialler.stop()
    desk.phone.loop.run(60.0)
    assert len(desk.phone.opened) == 1


def test_a_link_that_gets_ready_after_the_stop_is_dropped() -> None:
    desk = Desk("a")
    desk.dialler.stop()
    desk.phone.dropped.clear()
    desk.dialler.link_ready(1, 77)
    assert desk.phone.dropped == [1]
    assert desk.dialler.link == 0


# --- with real sockets ---


def play(scene: Callable[..., Awaitable[None]], *keys: Keys | None) -> None:
    async def main() -> None:
        runtimes = [Runtime("node", f"runtime-{number}", key) for number, key in enumerate(keys)]
        try:
            async with asyncio.timeout(15):
                await scene(*runtimes)
        finally:
            for runtime in runtimes:
                await runtime.close()

    asyncio.run(main())


def dead_port() -> tuple[socket.socket, str]:
    """A port where nobody listens, and nobody else can as long as the socket is open."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    return held, f"tcp://127.0.0.1:{held.getsockname()[1]}"


def test_the_address_that_answers_is_found_among_dead_ones() -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        held, dead = dead_port()
        with held:
            endpoint = there.listen("tcp://127.0.0.1:*")
            dialler = here.dial([dead, endpoint])
            assert await dialler.ready == there.epoch
            assert here.is_linked(there.epoch)

    play(scene, OURS, OURS)


def test_of_two_addresses_that_both_answer_one_link_remains() -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        lost: list[str] = []
        dialler = here.dial([there.listen("tcp://127.0.0.1:*"), there.listen("tcp://127.0.0.1:*")])
        dialler.on_lost = lost.append
        assert await dialler.ready == there.epoch
        link = dialler.link
        await asyncio.sleep(10 * BACKOFF_FIRST)
        assert (dialler.link, lost, here.is_linked(there.epoch)) == (link, [], True)

    play(scene, OURS, OURS)


def test_a_peer_that_starts_later_is_reached() -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        held, endpoint = dead_port()
        dialler = here.dial([endpoint])
        await asyncio.sleep(0.1)
        assert not dialler.ready.done()
        held.close()
        there.listen(endpoint)
        assert await dialler.ready == there.epoch

    play(scene, OURS, OURS)


def test_a_wrong_secret_is_refused_within_a_second() -> None:
    async def scene(here: Runtime, there: Runtime) -> None:
        there.on_refused = lambda text: None
        dialler = here.dial([there.listen("tcp://127.0.0.1:*")])
        with pytest.raises(Refused, match="secret"):
            await asyncio.wait_for(dialler.ready, 1.0)

    play(scene, THEIRS, OURS)


def test_the_end_of_the_lesser_of_two_links_is_no_loss_and_no_news(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    desk = Desk("a")
    desk.dialler.link_ready(1, 7)
    desk.phone.linked.add(7)
    desk.dialler.link_down(1, "the peer said: there is another link", refused=False)
    assert desk.losses == [] and not caplog.records
    desk.phone.linked.clear()
    desk.phone.loop.run(BACKOFF_FIRST)
    desk.dialler.link_ready(2, 7)
    desk.dialler.link_down(2, "connection lost", refused=False)
    assert desk.losses == ["connection lost"]

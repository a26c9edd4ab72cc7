"""How much goes together and how much is read ahead, by what was seen of run times; and whole maps in virtual time."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from dispycos.actors.tasks.pacing import (
    AHEAD_MAX,
    AHEAD_OF_CHUNKS_MAX,
    CHUNK_BYTES_MAX,
    CHUNK_MAX,
    CHUNK_S,
    FADE,
    FIRST,
    FIRST_S,
    LEAST_S,
    Pacing,
)


def seen(seconds: float, size: int = 30) -> Pacing:
    """Of a function that takes so long."""
    pacing = Pacing(None)
    for _ in range(FADE):
        pacing.saw(1, seconds, size)
    return pacing


def test_before_anything_is_known_each_item_is_a_task_and_few_go_out() -> None:
    pacing = Pacing(None)
    assert pacing.is_probing and pacing.chunk(None) == 1
    assert pacing.ahead(0.0) == FIRST
    assert pacing.ahead(2.5 * FIRST_S) == 4 * FIRST, "they are not short"
    assert pacing.ahead(1000.0) == AHEAD_MAX


def test_what_takes_long_is_a_task_each() -> None:
    for seconds in (CHUNK_S / 1.9, CHUNK_S, 60.0):
        assert seen(seconds).chunk(None) == 1
        assert seen(seconds).ahead(0.0) == AHEAD_MAX


def test_short_items_go_together_as_many_as_take_so_long() -> None:
    assert seen(CHUNK_S / 100).chunk(None) == 100
    assert seen(1e-9).chunk(None) == CHUNK_MAX
    assert seen(0.0).chunk(None) == CHUNK_MAX
    assert seen(1e-9).ahead(0.0) == AHEAD_OF_CHUNKS_MAX


def test_large_items_do_not_go_together_however_short_they_run() -> None:
    assert seen(1e-6, CHUNK_BYTES_MAX).chunk(None) == 1
    assert seen(1e-6, CHUNK_BYTES_MAX // 10).chunk(None) == 10


def test_towards_the_end_chunks_become_smaller_but_not_too_small() -> None:
    pacing = seen(CHUNK_S / 1024)
    sizes = [pacing.chunk(left) for left in (1_000_000, 100_000, 20_000, 1_000, 1)]
    assert sizes[:3] == [1024, 782, 157]
    assert sizes[3] == sizes[4] == int(1024 * LEAST_S / CHUNK_S)


def test_a_mean_follows_what_changes() -> None:
    pacing = seen(1e-6)
    for _ in range(4 * FADE):
        pacing.saw(1, 1.0, 30)
    assert pacing.chunk(None) == 1
    for _ in range(12 * FADE):
        pacing.saw(1, 1e-5, 30)
    assert pacing.chunk(None) > 10


def test_a_size_that_was_asked_for_holds_whatever_is_seen() -> None:
    pacing = Pacing(7)
    pacing.saw(7, 100.0, 1 << 30)
    assert pacing.chunk(None) == pacing.chunk(3) == 7
    assert not pacing.is_probing and pacing.ahead(0.0) == AHEAD_MAX
    assert Pacing(1000).ahead(0.0) >= 100 * 1000, "enough for many servers"


# --- whole maps

TASK_S = 0.0001  # what a task costs its server beside its items


class Story:
    """A map over items that take so long, on servers that take task after task from one queue; time is virtual.

    A chunk that has run for 2 x CHUNK_S gives back its rest, as chunks.py does.
    """

    def __init__(self, seconds: Sequence[float], servers: int, *, has_len: bool) -> None:
        self.seconds = seconds
        self.tasks = 0
        self.ran = [0] * len(seconds)
        self.end = 0.0
        self.idle_s = 0.0  # after a server's last task
        self.at_once = 0  # items ahead, at most
        self._has_len = has_len
        self._pacing = Pacing(None)
        self._queue: deque[list[int]] = deque()
        self._play(servers)

    def _play(self, servers: int) -> None:
        read, done, total = 0, 0, len(self.seconds)
        busy: list[tuple[float, list[int], float]] = []  # until when, with what, since when
        free = servers
        last_ends = [0.0] * servers
        now = 0.0
        while done < total:
            while read < total and read - done < self._pacing.ahead(now):
                left = total - read if self._has_len else None
                size = min(self._pacing.chunk(left), total - read)
                self._queue.append(list(range(read, read + size)))
                read += size
            self.at_once = max(self.at_once, read - done)
            while free and self._queue:
                items = self._queue.popleft()
                ran, rest = self._run(items)
                free -= 1
                heapq.heappush(busy, (now + TASK_S + ran, items[: len(items) - len(rest)], ran))
                self.tasks += 1
                if rest:
                    self._queue.append(rest)
            now, items, ran = heapq.heappop(busy)
            free += 1
            done += len(items)
            for item in items:
                self.ran[item] += 1
            self._pacing.saw(len(items), ran, 30 * len(items))
            last_ends = sorted([*last_ends[1:], now])
        self.end = now
        self.idle_s = now - last_ends[0]

    def _run(self, items: list[int]) -> tuple[float, list[int]]:
        ran = 0.0
        for place, item in enumerate(items, 1):
            ran += self.seconds[item]
            if len(items) > 1 and ran >= 2 * CHUNK_S:
                return ran, items[place:]
        return ran, []


item_s = st.sampled_from([1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1])


@given(
    runs=st.lists(st.tuples(item_s, st.integers(1, 3000)), min_size=1, max_size=6),
    servers=st.integers(1, 40),
    has_len=st.booleans(),
)
def test_whatever_items_take_each_runs_once_and_no_server_idles_long(
    runs: list[tuple[float, int]], servers: int, has_len: bool
) -> None:
    """Items of one length after another: what was learned is wrong again and again."""
    seconds = [length for length, count in runs for _ in range(count)]
    story = Story(seconds, servers, has_len=has_len)
    assert story.ran == [1] * len(seconds)
    assert story.at_once <= AHEAD_OF_CHUNKS_MAX + CHUNK_MAX
    work = sum(seconds) / servers
    late = 2 * CHUNK_S + max(seconds)  # a chunk that has begun, and its last item
    assert story.end <= work + late + story.tasks * TASK_S / servers + servers * TASK_S + 10 * FIRST_S


def test_a_million_trivial_items_are_few_tasks() -> None:
    story = Story([2e-7] * 200_000, 2, has_len=True)
    assert story.tasks < 400
    assert story.end < 2 * sum(story.seconds)


def test_at_the_end_servers_stop_together() -> None:
    with_len = Story([1e-5] * 20_000, 4, has_len=True)
    without = Story([1e-5] * 20_000, 4, has_len=False)
    assert with_len.idle_s <= LEAST_S + 3 * TASK_S
    assert without.idle_s <= CHUNK_S + 3 * TASK_S
    assert with_len.tasks < 300

"""Items that are read in a thread of their own: no further than is of use, and each once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import monotonic

import pytest

from dispycos.actors.tasks.items import FromThread

pytestmark = pytest.mark.timeout(20)

NEVER = float("inf")


class Source:
    """An iterator that gives a number when it may."""

    def __init__(self, *, may: int = 0) -> None:
        self.may = threading.Semaphore(may)
        self.asked = 0
        self.woken = threading.Event()
        self.items = FromThread(self.numbers(), self.woken.set)
        self.got: list[int] = []

    def numbers(self) -> Iterator[int]:
        while True:
            self.asked += 1
            assert self.may.acquire(timeout=10)
            yield self.asked

    def read(self, size: int, ahead: int) -> list[int]:
        self.woken.clear()
        self.items.read(self.got, size, NEVER, ahead)
        return self.got

    def read_until(self, size: int, ahead: int) -> list[int]:
        while len(self.read(size, ahead)) < size:
            assert self.items.is_empty and not self.items.is_exhausted
            assert self.woken.wait(10), "who found nothing is woken"
        return self.got


def test_it_wakes_who_found_nothing_and_reads_no_further_than_is_of_use() -> None:
    source = Source(may=100)
    assert source.asked == 0, "before anything is wanted"
    assert source.read_until(3, ahead=5) == [1, 2, 3]
    assert source.read_until(5, ahead=2) == [1, 2, 3, 4, 5]
    assert not source.items.is_empty
    assert source.asked <= 6


def test_who_has_enough_asks_for_no_more() -> None:
    source = Source()
    source.got = [1, 2]
    assert source.read(2, ahead=10) == [1, 2] and source.asked == 0


def test_it_is_late_when_nothing_came_for_a_while() -> None:
    source = Source(may=1)
    assert source.read_until(1, ahead=4) == [1]
    until = monotonic() + 10
    while not source.items.is_late:
        assert source.read(2, ahead=4) == [1] and monotonic() < until
    source.may.release()
    assert source.read_until(2, ahead=4) == [1, 2] and not source.items.is_late
    source.items.close()
    source.may.release()


def test_its_end_and_its_error_come_behind_its_items() -> None:
    def fails() -> Iterator[int]:
        yield 1
        raise LookupError("the second")

    for numbers, error in ((iter([1]), None), (fails(), LookupError)):
        woken, got = threading.Event(), list[int]()
        items = FromThread(numbers, woken.set)
        try:
            while not items.is_exhausted:
                items.read(got, 9, NEVER, 9)
                assert items.is_exhausted or woken.wait(10)
                woken.clear()
        except LookupError as raised:
            assert type(raised) is error
        else:
            assert error is None
        assert got == [1] and items.is_exhausted


def test_one_that_is_closed_lets_its_iterator_go() -> None:
    source = Source(may=10)
    source.read_until(1, ahead=1)
    source.items.close()
    assert source.items._thread is not None
    source.items._thread.join(10)
    assert not source.items._thread.is_alive()

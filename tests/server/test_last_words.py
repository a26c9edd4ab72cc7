"""When the outcome of a task is told whose messages wait for room."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from dispycos.actors.server.last_words import LastWords
from dispycos.actors.tasks.windows import WINDOW_MESSAGES, Windows
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope

TO, ME = Address(2, 20), Address(1, 16)


class Scene:
    """Five messages wait, and 3 s pass when a test says so."""

    def __init__(self) -> None:
        self.windows = Windows()
        self.ended = 0
        self.later: list[Callable[[], None]] = []
        for _ in range(WINDOW_MESSAGES + 5):
            self.windows.put(Envelope(TO, ME, messages.Tell()), 1)
        runtime: Any = SimpleNamespace(
            loop=SimpleNamespace(call_later=lambda _, call: self.later.append(call)),
            lock=nullcontext(),
            turn_soon=lambda: None,
        )
        last = self.windows.last_of(ME, TO.epoch)
        self.words = LastWords("produce", last, self.windows, self._end, runtime)

    def _end(self) -> None:
        self.ended += 1

    def take(self, count: int) -> None:
        for entry in self.windows.credit(TO, count, count):
            if entry.then is not None:
                entry.then()

    def pass_3_s(self) -> None:
        self.later.pop(0)()


def test_it_comes_behind_the_last_of_its_messages() -> None:
    scene = Scene()
    scene.windows.put(Envelope(TO, Address(1, 17), messages.Tell()), 1)  # somebody else's does not count
    scene.take(4)
    assert scene.ended == 0
    scene.take(1)
    assert scene.ended == 1
    scene.pass_3_s()
    assert scene.ended == 1 and not scene.later


def test_a_slow_receiver_is_waited_for_and_one_that_takes_nothing_is_not(
    caplog: pytest.LogCaptureFixture,
) -> None:
    scene = Scene()
    for _ in range(3):
        scene.take(1)
        scene.pass_3_s()
    assert scene.ended == 0 and not caplog.records
    with caplog.at_level(logging.WARNING, "dispycos"):
        scene.pass_3_s()
    assert scene.ended == 1 and not scene.later
    assert caplog.messages == [
        "produce has ended, and its outcome is told before 2 messages to a task of the client, which has taken none for 3 s"
    ]


def test_who_terminates_it_has_it_at_once() -> None:
    scene = Scene()
    scene.words.end()
    scene.take(5)
    assert scene.ended == 1

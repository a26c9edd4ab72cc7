"""Channels, told things one after the other: what goes where, and what is said of deliveries."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.actors.sharing.hub import Follow, Hubs, Pass, Transform
from dispycos.machine import Send
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import Delivered, Ended, Message, Publish, Subscribe, Tell, Watch

HUB, OTHER = Address(1, 30), Address(1, 31)
SENDER = Address(5, 40)
ANN, BEN = Address(2, 50), Address(3, 60)


class Desk:
    def __init__(self) -> None:
        self.hubs = Hubs()
        self.hubs.open(HUB)
        self.now = 0.0

    def did(self) -> list[Any]:
        """What was sent as (to, message, correlation, payload), and other effects."""
        self.hubs.check()
        done: list[Any] = []
        for effect in self.hubs.drain():
            if isinstance(effect, Send | Pass):
                sent = effect.envelope
                done.append((sent.to, sent.message, sent.correlation, sent.payload))
            else:
                done.append(effect)
        return done

    def tell(
        self,
        word: Message,
        correlation: int = 0,
        payload: bytes | None = None,
        sender: Address = SENDER,
        hub: Address = HUB,
    ) -> list[Any]:
        self.hubs.receive(Envelope(hub, sender, word, correlation, payload), self.now)
        return self.did()

    def subscribe(self, *who: Address, channel: bool = False) -> None:
        for each in who:
            done = self.tell(Subscribe(each, each, channel), 1)
            assert done == [Follow(HUB.actor, each, each), (SENDER, Delivered(1), 1, None)]

    def deliver(self, n: int = 0, timeout: float | None = None, correlation: int = 9) -> list[int]:
        """The correlations by which the subscribers are asked."""
        done = self.tell(Publish(0, n, timeout), correlation, b"news")
        asked = []
        for to, word, number, payload in done:
            if to != SENDER:
                assert (word, payload) == (Tell(), b"news")
                asked.append(number)
        return asked

    def confirm(self, correlation: int, code: int = 1) -> list[Any]:
        return self.tell(Delivered(code), correlation)

    def wake(self, now: float) -> list[Any]:
        self.now = now
        due = self.hubs.deadline()
        if due is not None and due <= now:
            self.hubs.wake(now)
        return self.did()


def reached(count: int, correlation: int = 9) -> list[Any]:
    return [(SENDER, Delivered(count), correlation, None)]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_what_is_sent_goes_to_all_who_subscribe_as_it_came(desk: Desk) -> None:
    assert desk.tell(Publish(), 0, b"nobody") == []
    desk.subscribe(ANN, BEN)
    assert desk.tell(Publish(3), 0, b"news") == [(ANN, Tell(3), 0, b"news"), (BEN, Tell(3), 0, b"news")]


def test_who_subscribes_twice_gets_it_once_and_who_unsubscribes_no_more(desk: Desk) -> None:
    desk.subscribe(ANN)
    assert desk.tell(Subscribe(ANN, ANN), 1) == [(SENDER, Delivered(1), 1, None)]
    assert desk.tell(Publish(), 0, b"news") == [(ANN, Tell(), 0, b"news")]
    assert desk.tell(Subscribe(ANN, ANN, over=True), 2) == [(SENDER, Delivered(1), 2, None)]
    assert desk.tell(Publish(), 0, b"news") == []


def test_who_subscribes_again_is_not_given_again_what_waits_for_more(desk: Desk) -> None:
    desk.subscribe(ANN)
    desk.confirm(*desk.deliver(n=2))
    assert desk.tell(Subscribe(ANN, ANN), 1) == [(SENDER, Delivered(1), 1, None)]


def test_who_ends_is_dropped(desk: Desk) -> None:
    desk.subscribe(ANN, BEN)
    desk.hubs.ended(HUB.actor, ANN)
    assert desk.tell(Publish(), 0, b"news") == [(BEN, Tell(), 0, b"news")]


# --- deliveries ---


def test_a_delivery_to_nobody_is_over_at_once(desk: Desk) -> None:
    assert desk.tell(Publish(), 9, b"news") == reached(0)


def test_a_delivery_counts_who_has_it_when_all_have_answered(desk: Desk) -> None:
    desk.subscribe(ANN, BEN)
    first, second = desk.deliver()
    assert desk.confirm(first) == []
    assert desk.confirm(second) == reached(2)
    assert desk.confirm(second) == []


def test_who_ends_before_it_has_it_does_not_count(desk: Desk) -> None:
    desk.subscribe(ANN, BEN)
    first, _ = desk.deliver()
    desk.confirm(first)
    desk.hubs.ended(HUB.actor, BEN)
    assert desk.did() == reached(1)


def test_n_is_enough_and_too_few_wait_for_those_who_subscribe_later(desk: Desk) -> None:
    desk.subscribe(ANN, BEN)
    first, _ = desk.deliver(n=1)
    assert desk.confirm(first) == reached(1)
    first, second = desk.deliver(n=3)
    desk.confirm(first)
    assert desk.confirm(second) == []
    carl = Address(4, 70)
    _, late, _ = desk.tell(Subscribe(carl, carl), 1)
    to, word, third, payload = late
    assert (to, word, payload) == (carl, Tell(), b"news")
    assert desk.confirm(third) == reached(3)
    assert desk.tell(Subscribe(Address(4, 71), Address(4, 71)), 1)[1:] == [(SENDER, Delivered(1), 1, None)]


def test_at_the_timeout_it_is_told_how_many_have_it(desk: Desk) -> None:
    desk.subscribe(ANN, BEN)
    first, _ = desk.deliver(n=2, timeout=5.0)
    desk.confirm(first)
    assert desk.wake(4.9) == []
    assert desk.wake(5.0) == reached(1)
    assert desk.hubs.deadline() is None


def test_who_waits_no_more_is_not_told_nor_does_it_go_to_those_who_come(desk: Desk) -> None:
    desk.deliver(n=1, timeout=5.0)
    desk.deliver(n=1, correlation=10)
    assert desk.tell(Publish(over=True), 9) == []
    desk.hubs.lose(SENDER.epoch)
    desk.subscribe(ANN)
    assert desk.wake(6.0) == []


# --- channels that subscribe ---


def test_a_channel_that_subscribes_passes_on_and_counts_its_own(desk: Desk) -> None:
    desk.subscribe(OTHER, channel=True)
    ((to, word, number, payload),) = desk.tell(Publish(2, 1, 5.0), 9, b"news")
    assert (to, word, payload) == (OTHER, Publish(2, 0, 5.0, [HUB]), b"news")
    assert desk.confirm(number, 3) == reached(3)


def test_channels_in_a_circle_pass_a_message_on_once(desk: Desk) -> None:
    desk.hubs.open(OTHER)
    desk.subscribe(OTHER, channel=True)
    desk.tell(Subscribe(HUB, HUB, True), 1, hub=OTHER)
    ((_, there, _, _),) = desk.tell(Publish(), 0, b"news")
    ((to, back, _, _),) = desk.tell(there, 0, b"news", HUB, OTHER)
    assert (to, back) == (HUB, Publish(0, 0, None, [HUB, OTHER]))
    assert desk.tell(back, 0, b"news", OTHER) == []
    assert desk.tell(back, 4, b"news", OTHER) == [(OTHER, Delivered(0), 4, None)]


# --- transforms ---


def test_what_is_to_be_transformed_holds_up_what_comes_behind_it(desk: Desk) -> None:
    desk.subscribe(ANN)
    desk.hubs.set_transforms(HUB.actor, transforms=True)
    first = Envelope(HUB, SENDER, Publish(1), 0, b"first")
    second = Envelope(HUB, SENDER, Publish(1), 9, b"second")
    desk.hubs.receive(first, 0.0)
    desk.hubs.set_transforms(HUB.actor, transforms=False)
    desk.hubs.receive(second, 0.0)
    assert desk.did() == [Transform(first), Transform(second)]
    desk.hubs.transformed(first, b"FIRST", 7, 0.0)
    assert desk.did() == [(ANN, Tell(7), 0, b"FIRST")]
    desk.hubs.transformed(second, None, 7, 0.0)  # it became nothing
    assert desk.did() == reached(0)
    assert desk.tell(Publish(), 0, b"third") == [(ANN, Tell(), 0, b"third")]


# --- the end ---


def test_a_channel_that_closes_tells_who_waits_and_who_follows_it(desk: Desk) -> None:
    desk.subscribe(ANN)
    (first,) = desk.deliver(n=2)
    desk.confirm(first)
    desk.tell(Watch(brief=True), 6, sender=Address(8, 5))
    desk.hubs.close(HUB.actor)
    assert desk.did() == [*reached(1), (Address(8, 5), Ended(0), 6, None)]
    assert desk.tell(Publish(), 0, b"news") == []
    desk.hubs.ended(HUB.actor, ANN)
    desk.hubs.close(HUB.actor)
    assert desk.did() == []

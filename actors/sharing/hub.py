"""The channels that were made in one process: who subscribes to each, and how many have a message that was delivered.

A message goes on as it came, as bytes, within a turn: so a channel serves while its process computes. Only one that
transforms is given to the loop first, with all that come behind.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import NamedTuple

import msgspec

from dispycos.machine import Send
from dispycos.protocol import messages
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Envelope, Payload
from dispycos.protocol.messages import Publish


class Follow(msgspec.Struct, frozen=True):
    """Ask the subscriber that is reached there to tell its end; then call `ended`."""

    channel: int  # actor
    who: Address
    to: Address


class Pass(msgspec.Struct, frozen=True):
    """Send this to the mailbox of a task, or to its home (not `direct`), when there is room for it."""

    envelope: Envelope
    direct: bool


class Transform(msgspec.Struct, frozen=True):
    """Transform this message, after those before it; then call `transformed`."""

    envelope: Envelope


class Subscriber(NamedTuple):
    to: Address
    channel: bool


@dataclass(slots=True, eq=False)
class Delivery:
    """A message whose sender waits to hear how many have it."""

    request: Envelope
    reached: int = 0
    # Subscribers that have not answered, by correlation.
    awaited: dict[int, Address] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        n: int = self.request.message.n
        return self.reached >= n if n else not self.awaited


@dataclass(slots=True, eq=False)
class Hub:
    """One channel."""

    address: Address
    transforms: bool = False
    behind: int = 0  # messages that are being transformed, or wait behind one
    subscribers: dict[Address, Subscriber] = field(default_factory=dict)  # by their homes
    followed: set[Address] = field(default_factory=set)
    followers: list[Envelope] = field(default_factory=list)  # who asked to be told of its end


class Hubs:
    """dispycos.machine.Machine: all channels of one process."""

    def __init__(self) -> None:
        self._hubs: dict[int, Hub] = {}  # by actor
        self._deliveries: dict[Delivery, Hub] = {}
        self._timed: dict[Delivery, float] = {}  # until when these are waited for
        self._awaited: dict[int, Delivery] = {}  # by correlation
        self._correlations = count(1 << 40)  # none that a call of this process has
        self._effects: list[object] = []

    # --- called by the body ---

    def open(self, address: Address) -> None:
        self._hubs[address.actor] = Hub(address)

    def set_transforms(self, actor: int, *, transforms: bool) -> None:
        if actor in self._hubs:
            self._hubs[actor].transforms = transforms

    def close(self, actor: int) -> None:
        """What was sent before has gone on; who waits hears how many have it, and who follows hears of the end."""
        hub = self._hubs.pop(actor, None)
        if hub is None:
            return
        for delivery in self._deliveries_of(hub):
            self._end(delivery)
        for request in hub.followers:
            self._answer(request, messages.Ended(0))

    def transformed(self, request: Envelope, payload: Payload, code: int, now: float) -> None:
        """`payload` is what it has become; None: nothing, it goes nowhere."""
        hub = self._hubs.get(request.to.actor)
        if hub is not None:
            hub.behind -= 1
        if hub is None or payload is None:
            self._reach_nobody(request)
            return
        word = msgspec.structs.replace(request.message, code=code)
        request = Envelope(request.to, request.sender, word, request.correlation, payload)
        self._publish(hub, request, now)

    def ended(self, actor: int, who: Address) -> None:
        """This subscriber has, or its process."""
        hub = self._hubs.get(actor)
        if hub is not None:
            hub.followed.discard(who)
            self._drop(hub, who)

    def lose(self, epoch: int) -> None:
        """That process has ended: nobody there waits any more."""
        for delivery in list(self._deliveries):
            if delivery.request.sender.epoch == epoch:
                self._forget(delivery)

    # --- Machine ---

    def receive(self, envelope: Envelope, now: float) -> None:
        hub, word = self._hubs.get(envelope.to.actor), envelope.message
        if hub is None:
            return
        if isinstance(word, Publish):
            self._on_publish(hub, envelope, now)
        elif isinstance(word, messages.Subscribe):
            self._on_subscribe(hub, word, envelope, now)
        elif isinstance(word, messages.Delivered):
            self._on_delivered(envelope.correlation, word.code)
        elif isinstance(word, messages.Watch):
            hub.followers.append(envelope)

    def deadline(self) -> float | None:
        return min(self._timed.values()) if self._timed else None

    def wake(self, now: float) -> None:
        for delivery, until in list(self._timed.items()):
            if until <= now:
                self._end(delivery)

    def drain(self) -> list[object]:
        effects, self._effects = self._effects, []
        return effects

    # --- subscribers ---

    def _on_subscribe(self, hub: Hub, word: messages.Subscribe, envelope: Envelope, now: float) -> None:
        if word.over:
            self._drop(hub, word.who)
        else:
            is_new = word.who not in hub.subscribers
            hub.subscribers[word.who] = subscriber = Subscriber(word.to, word.channel)
            if word.who not in hub.followed:
                hub.followed.add(word.who)
                self._effects.append(Follow(hub.address.actor, word.who, word.to))
            for delivery in self._deliveries_of(hub) if is_new else ():
                self._send(hub, word.who, subscriber, delivery.request, delivery, now)
        self._answer(envelope, messages.Delivered(1))

    def _drop(self, hub: Hub, who: Address) -> None:
        hub.subscribers.pop(who, None)
        for delivery in self._deliveries_of(hub):
            for correlation in [number for number, known in delivery.awaited.items() if known == who]:
                del delivery.awaited[correlation], self._awaited[correlation]
            self._look_at(delivery)

    # --- messages ---

    def _on_publish(self, hub: Hub, envelope: Envelope, now: float) -> None:
        word: Publish = envelope.message
        if hub.address in word.via:  # channels that subscribe to each other in a circle
            self._reach_nobody(envelope)
        elif hub.transforms or hub.behind:
            hub.behind += 1
            self._effects.append(Transform(envelope))
        else:
            self._publish(hub, envelope, now)

    def _publish(self, hub: Hub, request: Envelope, now: float) -> None:
        if request.message.over:
            for pending in self._deliveries_of(hub):
                if _key(pending.request) == _key(request):
                    self._forget(pending)
            return
        delivery = None
        if request.correlation:
            delivery = Delivery(request)
            self._deliveries[delivery] = hub
            if request.message.timeout is not None:
                self._timed[delivery] = now + request.message.timeout
        for who, subscriber in hub.subscribers.items():
            self._send(hub, who, subscriber, request, delivery, now)
        if delivery is not None:
            self._look_at(delivery)

    def _send(
        self,
        hub: Hub,
        who: Address,
        subscriber: Subscriber,
        request: Envelope,
        delivery: Delivery | None,
        now: float,
    ) -> None:
        asked: Publish = request.message
        correlation = 0
        if delivery is not None:
            correlation = next(self._correlations)
            delivery.awaited[correlation] = who
            self._awaited[correlation] = delivery
        if subscriber.channel:  # it has no mailbox: what it passes on is bounded there
            until = self._timed.get(delivery) if delivery is not None else None
            left = None if until is None else max(0.0, until - now)
            word = Publish(asked.code, 0, left, [*asked.via, hub.address])
            publish = Envelope(subscriber.to, hub.address, word, correlation, request.payload)
            self._effects.append(Send(publish))
            return
        tell = Envelope(subscriber.to, hub.address, messages.Tell(asked.code), correlation, request.payload)
        self._effects.append(Pass(tell, subscriber.to != who))

    def _on_delivered(self, correlation: int, reached: int) -> None:
        delivery = self._awaited.pop(correlation, None)
        if delivery is not None:
            del delivery.awaited[correlation]
            delivery.reached += reached
            self._look_at(delivery)

    def _look_at(self, delivery: Delivery) -> None:
        if delivery.is_done:
            self._end(delivery)

    def _end(self, delivery: Delivery) -> None:
        self._forget(delivery)
        self._answer(delivery.request, messages.Delivered(delivery.reached))

    def _forget(self, delivery: Delivery) -> None:
        del self._deliveries[delivery]
        self._timed.pop(delivery, None)
        for correlation in delivery.awaited:
            del self._awaited[correlation]

    def _deliveries_of(self, hub: Hub) -> list[Delivery]:
        return [delivery for delivery, known in self._deliveries.items() if known is hub]

    def _reach_nobody(self, request: Envelope) -> None:
        if request.correlation:
            self._answer(request, messages.Delivered(0))

    def _answer(self, request: Envelope, word: messages.Message) -> None:
        self._effects.append(Send(Envelope(request.sender, request.to, word, request.correlation)))

    # --- what must hold between two messages ---

    def check(self) -> None:
        awaited = {number for delivery in self._deliveries for number in delivery.awaited}
        assert awaited == self._awaited.keys(), "answers that nobody waits for"
        assert self._timed.keys() <= self._deliveries.keys(), "a time for what is over"
        assert not any(delivery.is_done for delivery in self._deliveries), "a delivery that is done"
        assert all(self._hubs.get(hub.address.actor) is hub for hub in self._deliveries.values())
        assert all(hub.subscribers.keys() <= hub.followed for hub in self._hubs.values())


def _key(request: Envelope) -> tuple[Address, int]:
    return request.sender, request.correlation

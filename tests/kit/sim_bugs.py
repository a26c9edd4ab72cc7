"""Faults planted into the session and the router, each plausible in review, to prove that the simulator finds them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from dispycos import session, transfers
from dispycos.packing import Packing
from dispycos.protocol.codec import Packet
from dispycos.protocol.control import Hello, Reset
from dispycos.relay import Relay
from dispycos.router import Router
from dispycos.session import PeerReset, Session
from dispycos.stream import Incoming, Parcel

Patch = pytest.MonkeyPatch


def nothing_is_sent_again(patch: Patch) -> None:
    def on_answer(self: Session, now: float) -> None:
        self._asked = False
        self._alarm = None
        self._arm(now)

    patch.setattr(Session, "_on_answer", on_answer)


def an_outdated_hello_is_ignored(patch: Patch) -> None:
    original = Session.on_hello

    def on_hello(self: Session, hello: Hello, now: float) -> None:
        if hello.known in (0, self._incarnation):
            original(self, hello, now)

    patch.setattr(Session, "on_hello", on_hello)


def an_unknown_session_is_not_reset(patch: Patch) -> None:
    patch.setattr(Session, "on_reset", lambda self, reset, now: None)
    patch.setattr(session, "RTO_MIN", 5.0)  # or the timer's HELLO would repair it in time


def a_reset_of_an_older_session_counts(patch: Patch) -> None:
    original = Session.on_reset

    def on_reset(self: Session, reset: Reset, now: float) -> None:
        original(self, Reset(self.sid), now)
        self._local.events[-1:] = [PeerReset(self.peer, [])]

    patch.setattr(Session, "on_reset", on_reset)


def copies_are_delivered_again(patch: Patch) -> None:
    original = Incoming.put

    def put(self: Incoming, packet: Packet) -> bool:
        if packet.block.seq == self.ack and self.ack:
            self.ack -= 1
        return original(self, packet)

    patch.setattr(Incoming, "put", put)


def what_comes_early_is_dropped(patch: Patch) -> None:
    original = Incoming.put

    def put(self: Incoming, packet: Packet) -> bool:
        return packet.block.seq == self.ack + 1 and original(self, packet)

    patch.setattr(Incoming, "put", put)
    patch.setattr(session, "RTO_MIN", 5.0)


def gaps_are_overlooked(patch: Patch) -> None:
    original = Incoming.put

    def put(self: Incoming, packet: Packet) -> bool:
        if not self._early:
            self.ack = max(self.ack, packet.block.seq - 1)
        return original(self, packet)

    patch.setattr(Incoming, "put", put)


def nobody_says_that_the_path_is_back(patch: Patch) -> None:
    patch.setattr(Relay, "tell_path_up", lambda self: None)


def a_broken_link_is_kept_to_oneself(patch: Patch) -> None:
    patch.setattr(Relay, "tell_flows", lambda self, link: None)


def a_new_route_is_taken_without_a_word(patch: Patch) -> None:
    def choose(self: Router, peer: Any, link: Any, now: float) -> None:
        peer.link, peer.moving_to, peer.is_reachable = link, None, True

    patch.setattr(Router, "_choose", choose)


def the_unconfirmed_is_forgotten(patch: Patch) -> None:
    def start_anew(self: Session) -> None:
        self._begin()
        self._local.events.append(PeerReset(self.peer, []))

    patch.setattr(Session, "_start_anew", start_anew)


def what_waits_for_a_payload_counts_as_delivered(patch: Patch) -> None:
    def retire(self: Packing, messages: list[Parcel], chunks: list[Parcel]) -> None:
        self._shipments.confirm(max((parcel.after for parcel in chunks), default=0))

    patch.setattr(Packing, "retire", retire)


def messages_overtake_a_large_payload(patch: Patch) -> None:
    patch.setattr(transfers.Arrivals, "holds", lambda self, pair: False)
    patch.setattr(transfers.Arrivals, "is_holding", lambda self: False)


class Bug(NamedTuple):
    """A fault, and a seed not long before one that shows it."""

    plant: Callable[[Patch], None]
    first_seed: int = 0


BUGS = [
    Bug(nothing_is_sent_again),
    Bug(an_outdated_hello_is_ignored),
    Bug(an_unknown_session_is_not_reset),
    Bug(a_reset_of_an_older_session_counts),
    Bug(copies_are_delivered_again),
    Bug(what_comes_early_is_dropped),
    Bug(gaps_are_overlooked),
    Bug(nobody_says_that_the_path_is_back),
    Bug(a_broken_link_is_kept_to_oneself),
    Bug(a_new_route_is_taken_without_a_word),
    Bug(the_unconfirmed_is_forgotten),
    Bug(what_waits_for_a_payload_counts_as_delivered, 3300),
    Bug(messages_overtake_a_large_payload),
]

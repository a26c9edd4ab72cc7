"""Faults planted into the session and the router, each plausible in review, to prove that the simulator finds them."""

from typing import Any, Protocol

import pytest

from dispycos.protocol.codec import Block, Packet
from dispycos.protocol.control import Hello, Reset
from dispycos.session import session, transfers
from dispycos.session.channel import Channel
from dispycos.session.packing import Packing
from dispycos.session.relay import Relay
from dispycos.session.router import Router
from dispycos.session.session import PeerReset, Session
from dispycos.session.stream import Incoming, Parcel, Stream

Patch = pytest.MonkeyPatch


class Plant(Protocol):
    """Plants a fault, which its name tells."""

    __name__: str

    def __call__(self, patch: Patch) -> None: ...


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


def a_control_word_waits_for_message_credit(patch: Patch) -> None:
    original = Session._pump_words

    def pump_words(self: Session, channel: Channel, now: float) -> None:
        if channel is self._messages or not self._messages.words.out.waiting:
            original(self, channel, now)

    patch.setattr(Session, "_pump_words", pump_words)


def a_control_word_waits_for_chunks(patch: Patch) -> None:
    original = Session._pump_words

    def pump_words(self: Session, channel: Channel, now: float) -> None:
        if channel is self._messages or not self._messages.shipments.ready:
            original(self, channel, now)

    patch.setattr(Session, "_pump_words", pump_words)


def the_last_word_overtakes_what_it_is_about(patch: Patch) -> None:
    patch.setattr(Channel, "_may_pass", lambda self, envelope, floor: True)


def the_last_word_overtakes_large_payloads(patch: Patch) -> None:
    patch.setattr(transfers.Arrivals, "holds_from", lambda self, sender: False)


def a_floor_counts_only_blocks_that_are_cut(patch: Patch) -> None:
    original = Packing.floor
    patch.setattr(Packing, "floor", lambda self, actor: min(original(self, actor), self._out.cut_last))


def nobody_looks_again_at_what_comes_behind(patch: Patch) -> None:
    patch.setattr(Channel, "release", lambda self: None)


def what_comes_behind_is_dropped_with_the_session(patch: Patch) -> None:
    patch.setattr(Channel, "end", lambda self: None)


def control_credit_is_not_given_back(patch: Patch) -> None:
    original = Session._give_credit

    def give_credit(self: Session, stream: Stream, messages: int, size: int, now: float) -> None:
        if stream is not self._control.words:
            original(self, stream, messages, size, now)

    patch.setattr(Session, "_give_credit", give_credit)


def a_control_block_is_cut_again_after_a_move(patch: Patch) -> None:
    original = Router._choose

    def choose(self: Router, peer: Any, link: Any, now: float) -> None:
        out = peer.session._control.words.out
        for parcel in list(out.flight):
            out.cut(parcel.count, parcel.body, parcel.frames)
        original(self, peer, link, now)

    patch.setattr(Router, "_choose", choose)


def acks_of_one_stream_are_taken_for_all(patch: Patch) -> None:
    original = Session._block

    def block(self: Session, stream: Stream, seq: int, count: int, body: bytes) -> Block:
        self._unsaid = dict.fromkeys([stream])
        return original(self, stream, seq, count, body)

    patch.setattr(Session, "_block", block)
    patch.setattr(session, "RTO_MIN", 5.0)  # as above


BUGS: list[Plant] = [
    nothing_is_sent_again,
    an_outdated_hello_is_ignored,
    an_unknown_session_is_not_reset,
    a_reset_of_an_older_session_counts,
    copies_are_delivered_again,
    what_comes_early_is_dropped,
    gaps_are_overlooked,
    nobody_says_that_the_path_is_back,
    a_broken_link_is_kept_to_oneself,
    a_new_route_is_taken_without_a_word,
    the_unconfirmed_is_forgotten,
    what_waits_for_a_payload_counts_as_delivered,
    messages_overtake_a_large_payload,
    a_control_word_waits_for_message_credit,
    a_control_word_waits_for_chunks,
    the_last_word_overtakes_what_it_is_about,
    the_last_word_overtakes_large_payloads,
    a_floor_counts_only_blocks_that_are_cut,
    nobody_looks_again_at_what_comes_behind,
    what_comes_behind_is_dropped_with_the_session,
    control_credit_is_not_given_back,
    a_control_block_is_cut_again_after_a_move,
    acks_of_one_stream_are_taken_for_all,
]

"""The router: links, routes, relays, and what it does with those who break the rules."""

import contextlib
from typing import Any, ClassVar

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dispycos.protocol.addresses import Address
from dispycos.protocol.codec import (
    Codec,
    Packet,
    control_packet,
    decode_control,
    decode_message,
    encode_control,
    encode_message,
)
from dispycos.protocol.control import Bye, LinkHello, Unreachable
from dispycos.protocol.envelope import MESSAGES, About, Envelope
from dispycos.session.links import CloseLink, LinkLost, LinkReady
from dispycos.session.neighbours import GREETING_PATIENCE
from dispycos.session.router import Event, Router, Unsent
from dispycos.session.session import PeerReset


class Note(msgspec.Struct, array_like=True, tag=1, frozen=True):
    way: ClassVar[int] = MESSAGES
    n: int


CODEC: Codec[Any] = Codec(Note)


def about(name: str = "", protocol: tuple[int, int] = (1, 1)) -> About:
    return About(protocol, "0.1", name)


def reaches(router: Router, epoch: int) -> bool:
    """Whether there is a live route, as far as is known there."""
    peer = router._peers.get(epoch)
    return router._topology.route(epoch) is not None and (peer is None or peer.is_reachable)


def refusals(events: list[Event]) -> list[bool]:
    """Of the links that are to be closed: whether they were refused."""
    return [event.refused for event in events if isinstance(event, CloseLink)]


class Net:
    """Routers by name, joined by links that carry everything at once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.routers: dict[str, Router] = {}
        self.ends: dict[tuple[str, int], tuple[str, int]] = {}
        self.events: dict[str, list[Event]] = {}
        self.got: dict[str, list[Envelope]] = {}
        self.passed: list[tuple[str, str, Packet]] = []
        self._count = 0

    def add(self, name: str, role: str, epoch: int, protocol: tuple[int, int] = (1, 1)) -> Router:
        self.routers[name] = Router(CODEC, epoch, about(name, protocol), role)
        self.events[name] = []
        self.got[name] = []
        return self.routers[name]

    def join(self, dialler: str, listener: str, *, uplink: bool = False, claims: bool = False) -> int:
        self._count += 1
        link = self._count
        one, other = self.routers[dialler], self.routers[listener]
        self.ends[dialler, link] = (listener, link)
        self.ends[listener, link] = (dialler, link)
        one.link_up(link, self.now, dialled=True, uplink=uplink, role=other.role)
        other.link_up(link, self.now, dialled=False, role=None if claims else one.role)
        self.run()
        return link

    def cut(self, link: int) -> None:
        for name, number in list(self.ends):
            if number == link:
                del self.ends[name, number]
                self.routers[name].link_down(number, self.now)
        self.run()

    def run(self) -> None:
        for _ in range(300):
            busy = False
            for name, router in self.routers.items():
                self.got[name] += router.take_deliveries()
                router.flush(self.now)
                for link, frames in router.take_outgoing():
                    busy = True
                    self._carry(name, link, [bytes(frame) for frame in frames])
                self.events[name] += router.take_events()
            if not busy:
                return
        raise AssertionError("they never stop talking")

    def tick(self, seconds: float) -> None:
        """Time passes, and everybody whose deadline has come is woken."""
        self.now += seconds
        for router in self.routers.values():
            due = router.deadline()
            if due is not None and due <= self.now:
                router.wake(self.now)
        self.run()

    def _carry(self, name: str, link: int, frames: list[bytes]) -> None:
        if (name, link) in self.ends:
            other, number = self.ends[name, link]
            self.passed += [(name, other, packet) for packet in decode_message(frames)]
            self.routers[other].receive(number, frames, self.now)

    def send(self, source: str, target: str, n: int, payload: Any = None) -> None:
        one, other = self.routers[source], self.routers[target]
        to, sender = Address(other.epoch, 16), Address(one.epoch, 16)
        one.send(Envelope(to, sender, Note(n), 0, payload), self.now)

    def numbers(self, name: str) -> list[int]:
        return [envelope.message.n for envelope in self.got[name]]

    def kinds(self, name: str) -> list[type]:
        return [type(event) for event in self.events[name]]


@pytest.fixture
def tree() -> Net:
    """client and two nodes at a scheduler, a server at each node."""
    net = Net()
    net.add("client", "client", 50)
    net.add("scheduler", "scheduler", 40)
    net.add("node", "node", 30)
    net.add("other node", "node", 31)
    net.add("server", "server", 20)
    net.add("other server", "server", 21)
    net.join("client", "scheduler", uplink=True)
    net.join("node", "scheduler", uplink=True)
    net.join("other node", "scheduler", uplink=True)
    net.join("server", "node", uplink=True)
    net.join("other server", "other node", uplink=True)
    return net


def test_what_has_come_is_acknowledged_before_the_farewell(tree: Net) -> None:
    """Else those who sent it hand it back as lost with a process that ended in order."""
    client, server = tree.routers["client"], tree.routers["server"]
    tree.send("client", "server", 1)
    tree.run()
    assert tree.numbers("server") == [1] and client.is_busy(20), "acks wait for company"
    server.say_farewell("it has ended")
    tree.run()
    assert client.forget(20, tree.now) == []


def test_a_message_to_oneself_is_delivered_as_it_is() -> None:
    router = Net().add("client", "client", 5)
    envelope = Envelope(Address(5, 16), Address(5, 17), object())
    router.send(envelope, 0.0)
    assert router.take_deliveries() == [envelope]


def test_both_ends_of_a_link_hear_who_is_there(tree: Net) -> None:
    assert LinkReady(1, 40, "scheduler") in tree.events["client"]
    assert LinkReady(1, 50, "client") in tree.events["scheduler"]


@pytest.mark.parametrize(
    ("source", "target"),
    [("client", "server"), ("server", "client"), ("server", "other server"), ("node", "other server")],
)
def test_messages_find_their_way_through_the_tree(tree: Net, source: str, target: str) -> None:
    for n in range(100):
        tree.send(source, target, n)
    tree.send(source, target, 100, [b"x" * 20_000, b"y"])
    tree.send(source, target, 101, b"z" * 3_000_000)
    tree.run()
    assert tree.numbers(target) == list(range(102))
    assert tree.got[target][100].payload == [b"x" * 20_000, b"y"]
    assert tree.got[target][101].payload == b"z" * 3_000_000


def test_one_that_only_looks_reaches_a_client_by_the_scheduler_that_told_of_it(tree: Net) -> None:
    viewer = tree.add("viewer", "viewer", 60)
    tree.join("viewer", "scheduler")
    tree.run()
    tree.send("viewer", "client", 1)
    tree.run()
    assert tree.numbers("client") == []  # nobody announced it
    viewer.learn_way(50, 40, tree.now)
    tree.send("viewer", "client", 2)
    tree.send("client", "viewer", 3)
    tree.run()
    assert tree.numbers("client") == [1, 2] and tree.numbers("viewer") == [3]


def test_a_way_by_one_who_is_not_linked_is_not_learned(tree: Net) -> None:
    viewer = tree.add("viewer", "viewer", 60)
    viewer.learn_way(50, 40, tree.now)
    assert not reaches(viewer, 50)


def test_a_relay_leaves_bodies_and_frames_as_they_are(tree: Net) -> None:
    tree.send("client", "server", 1, b"x" * 20_000)
    tree.run()
    ways = [(a, b, p) for a, b, p in tree.passed if p.block.seq and p.block.to_epoch == 20]
    assert [(a, b) for a, b, _ in ways] == [
        ("client", "scheduler"),
        ("scheduler", "node"),
        ("node", "server"),
    ]
    assert {bytes(p.block.body) for _, _, p in ways} == {bytes(ways[0][2].block.body)}
    assert [p.block.hops for _, _, p in ways] == [0, 1, 2]


def test_a_shortcut_carries_the_messages_while_it_is_there(tree: Net) -> None:
    tree.send("client", "server", 1)
    tree.run()
    link = tree.join("client", "server")
    tree.passed.clear()
    tree.send("client", "server", 2)
    tree.run()
    assert {(a, b) for a, b, p in tree.passed if p.block.seq} == {("client", "server")}
    tree.send("client", "server", 3)
    tree.routers["client"].flush(tree.now)
    tree.routers["client"].take_outgoing()  # lost with the link
    tree.cut(link)
    tree.send("client", "server", 4)
    tree.run()
    assert tree.numbers("server") == [1, 2, 3, 4]


def test_the_source_hears_that_there_is_no_way_and_when_there_is_one(tree: Net) -> None:
    tree.send("client", "server", 1)
    tree.run()
    tree.cut(4)
    assert not reaches(tree.routers["client"], 20)
    tree.send("client", "server", 2)
    tree.run()
    tree.join("server", "node", uplink=True)
    assert reaches(tree.routers["client"], 20)
    assert tree.numbers("server") == [1, 2]


def test_a_server_behind_a_new_node_becomes_reachable_without_a_timer(tree: Net) -> None:
    tree.add("late", "server", 22)
    tree.send("client", "late", 1)
    tree.run()
    assert not reaches(tree.routers["client"], 22) and not tree.routers["client"].can_reach(22)
    tree.join("late", "node", uplink=True)
    assert tree.numbers("late") == [1]
    assert tree.routers["client"].can_reach(22)


def test_a_lost_link_is_told_once(tree: Net) -> None:
    tree.cut(1)
    assert tree.events["client"].count(LinkLost(1, 40)) == 1
    assert tree.events["scheduler"].count(LinkLost(1, 50)) == 1


def test_versions_that_do_not_overlap_are_refused_in_words_at_both_ends() -> None:
    net = Net()
    net.add("alice", "client", 5)
    net.add("bob", "scheduler", 7, protocol=(2, 3))
    net.join("alice", "bob")
    for name in ("alice", "bob"):
        (refused,) = net.events[name]
        assert isinstance(refused, CloseLink) and refused.refused
        assert "speaks protocol 2 to 3" in refused.reason
        assert "alice" in refused.reason


def test_a_role_other_than_the_proven_one_is_refused() -> None:
    net = Net()
    net.add("alice", "client", 5)
    scheduler = net.add("bob", "scheduler", 7)
    scheduler.link_up(1, 0.0, dialled=False, role="server")
    scheduler.receive(1, hello(5, "client"), 0.0)
    scheduler.take_outgoing()
    assert refusals(scheduler.take_events()) == [True]


def hello(epoch: int, role: str, routes: list[int] | None = None) -> list[Any]:
    record = LinkHello(about(), epoch, role, routes or [])
    return encode_message([control_packet(epoch, 0, encode_control(record))])


def stranger(router: Router, epoch: int, role: str, link: int = 99) -> None:
    """A peer that is played by hand."""
    router.link_up(link, 0.0, dialled=False, role=role)
    router.receive(link, hello(epoch, role), 0.0)
    router.take_outgoing()
    router.take_events()


def closing(router: Router) -> list[Event]:
    router.take_outgoing()
    return router.take_events()


def test_a_block_in_anothers_name_closes_the_link(tree: Net) -> None:
    scheduler = tree.routers["scheduler"]
    stranger(scheduler, 60, "client")
    forged = control_packet(50, 20, b"x")
    scheduler.receive(99, encode_message([forged]), 0.0)
    events = closing(scheduler)
    assert [type(event) for event in events] == [LinkLost, CloseLink]
    tree.send("client", "server", 1)
    tree.run()
    assert tree.numbers("server") == [1]


def test_only_nodes_and_schedulers_may_announce_routes() -> None:
    scheduler = Net().add("scheduler", "scheduler", 40)
    scheduler.link_up(1, 0.0, dialled=False, role="client")
    scheduler.receive(1, hello(50, "client", [51]), 0.0)
    assert refusals(closing(scheduler)) == [True]


def test_a_peer_cannot_take_the_name_of_one_of_another_role(tree: Net) -> None:
    scheduler = tree.routers["scheduler"]
    scheduler.link_up(99, 0.0, dialled=False, role="client")
    scheduler.receive(99, hello(30, "client"), 0.0)
    assert True in refusals(closing(scheduler))
    assert 30 in scheduler.neighbours()


def test_a_second_link_of_a_pair_replaces_the_one_that_the_larger_epoch_dialled() -> None:
    net = Net()
    net.add("small", "node", 5)
    net.add("large", "node", 7)
    first = net.join("large", "small")
    second = net.join("small", "large")
    for name in ("small", "large"):
        assert LinkReady in net.kinds(name)
        assert [event.link for event in net.events[name] if isinstance(event, CloseLink)] == [first]
        assert LinkLost not in net.kinds(name)
    net.cut(first)
    net.send("small", "large", 1)
    net.run()
    assert net.numbers("large") == [1]
    third = net.join("large", "small")
    assert [event.link for event in net.events["small"] if isinstance(event, CloseLink)] == [first, third]
    assert second != third


def test_a_block_does_not_travel_in_circles() -> None:
    scheduler = Net().add("scheduler", "scheduler", 40)
    stranger(scheduler, 30, "node")
    lost = control_packet(30, 77, b"x")
    scheduler.receive(99, encode_message([lost]), 0.0)
    ((_, frames),) = scheduler.take_outgoing()
    (notice,) = decode_message(frames)
    assert decode_control(notice.block.body) == Unreachable(77)
    assert notice.block.to_epoch == 30


def test_a_link_that_never_greets_is_closed() -> None:
    router = Net().add("scheduler", "scheduler", 40)
    router.link_up(1, 0.0, dialled=False, role=None)
    router.take_outgoing()
    assert router.deadline() == GREETING_PATIENCE
    router.wake(GREETING_PATIENCE)
    assert refusals(closing(router)) == [True]


def test_a_neighbour_that_breaks_the_rules_loses_its_link_and_its_session(tree: Net) -> None:
    tree.send("client", "scheduler", 1)
    tree.run()
    client, scheduler = tree.routers["client"], tree.routers["scheduler"]
    tree.send("client", "scheduler", 2)
    client.flush(0.0)
    ((_, frames),) = client.take_outgoing()
    (packet,) = decode_message([bytes(frame) for frame in frames])
    packet.block.count = 9
    scheduler.receive(1, encode_message([packet]), 0.0)
    kinds = [type(event) for event in closing(scheduler)]
    assert kinds == [PeerReset, LinkLost, CloseLink]


def test_a_far_peer_that_breaks_the_rules_costs_nobody_else_a_link(tree: Net) -> None:
    tree.send("server", "client", 1)
    tree.run()
    tree.tick(0.02)
    server, client = tree.routers["server"], tree.routers["client"]
    tree.send("server", "client", 2)
    server.flush(0.0)
    ((_, frames),) = server.take_outgoing()
    (packet,) = decode_message([bytes(frame) for frame in frames])
    packet.block.count = 9
    tree._carry("server", 4, [bytes(frame) for frame in encode_message([packet])])
    tree.run()
    assert [event.fault for event in tree.events["client"] if isinstance(event, PeerReset)] == [
        "9 entries declared, 1 found"
    ]
    assert CloseLink not in tree.kinds("client")
    reset = [event for event in tree.events["server"] if isinstance(event, PeerReset)]
    assert [envelope.message.n for envelope in reset[0].unconfirmed] == [2]
    tree.send("server", "client", 3)
    tree.run()
    assert tree.numbers("client") == [1, 3]
    assert reaches(client, 20)


def test_forget_hands_back_what_was_not_confirmed(tree: Net) -> None:
    client = tree.routers["client"]
    tree.cut(4)
    tree.send("client", "server", 1)
    tree.send("client", "server", 2, b"x" * 400_000)
    tree.run()
    assert [(e.message.n, e.payload) for e in client.forget(20, 0.0)] == [(1, None), (2, b"x" * 400_000)]
    assert client.forget(20, 0.0) == []


def test_bye_is_the_last_word(tree: Net) -> None:
    scheduler = tree.routers["scheduler"]
    stranger(scheduler, 60, "client")
    scheduler.receive(99, encode_message([control_packet(60, 0, encode_control(Bye("done")))]), 0.0)
    assert CloseLink(99, "the peer said: done") in closing(scheduler)
    scheduler.receive(99, [b"anything"], 0.0)
    assert closing(scheduler) == []


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_messages_close_their_link_and_raise_nothing(data: st.DataObject) -> None:
    net = Net()
    net.add("alice", "client", 5)
    bob = net.add("bob", "scheduler", 7)
    net.join("alice", "bob", uplink=True)
    net.send("alice", "bob", 1, b"x" * 20_000)
    net.send("alice", "bob", 2, b"y")
    net.routers["alice"].flush(0.0)
    with contextlib.suppress(ValueError):
        ((_, frames),) = net.routers["alice"].take_outgoing()
        head = bytearray(frames[0])
        for _ in range(data.draw(st.integers(1, 4))):
            head[data.draw(st.integers(0, len(head) - 1))] = data.draw(st.integers(0, 255))
        bob.receive(1, [bytes(head), *map(bytes, frames[1 : data.draw(st.integers(1, 3))])], 0.0)
    bob.flush(0.0)
    bob.wake(5.0)
    bob.take_outgoing()
    assert {type(event) for event in bob.take_events()} <= {
        LinkReady,
        LinkLost,
        CloseLink,
        PeerReset,
    }


def test_a_message_that_cannot_be_sent_is_told_to_its_owner_and_the_others_arrive() -> None:
    net = Net()
    here, there = net.add("here", "client", 5), net.add("there", "scheduler", 7)
    net.join("here", "there", uplink=True)
    bad = Envelope(Address(7, 16), Address(5, 16), Note(object()))  # type: ignore[arg-type]
    for envelope in (Envelope(bad.to, bad.sender, Note(1)), bad, Envelope(bad.to, bad.sender, Note(2))):
        here.send(envelope, net.now)
    net.run()
    assert [envelope.message for envelope in net.got["there"]] == [Note(1), Note(2)]
    (unsent,) = [event for event in net.events["here"] if isinstance(event, Unsent)]
    assert unsent.envelope is bad and unsent.reason.startswith("Note cannot be sent: ")
    there.check()

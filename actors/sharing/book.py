"""A client's book: who has which name among its tasks and channels, who waits for one, and who wants to hear of peers.

Each process of the lease tells it the names that are given there; within one process a name is given once (names.py), and
several processes may give the same, which their locations tell apart. What is not in the book is asked of the scheduler, who
passes the question to all other clients that it knows, and their books answer this one. The question is said again each second
for as long as somebody waits, so scheduler and clients may come, go and start anew, and none has to remember it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from dispycos.machine import Send
from dispycos.notices import NAMED_MAX, PATIENCE_S, counted, next_pause
from dispycos.protocol import messages
from dispycos.protocol.addresses import BOOK, Address, Location
from dispycos.protocol.envelope import Envelope, Payload, buffers_of
from dispycos.protocol.messages import Locate, NodeInfo, Spot

from .peers import PeerStatus

AGAIN_S: Final = 1.0  # between one time that a question is said and the next
FORGOTTEN_S: Final = 5.0  # somebody else's question that was not said again for so long

Key = tuple[str, bool]  # a name, and whether it is a channel's
Asked = tuple[Address, int]  # who asks, and with what correlation


class Cluster(Protocol):
    """What a client has, and its scheduler (its ledger)."""

    @property
    def scheduler(self) -> Address | None: ...
    @property
    def nodes(self) -> Mapping[int, NodeInfo]: ...
    @property
    def servers(self) -> Mapping[int, tuple[Spot, int]]: ...


class Say(msgspec.Struct, frozen=True):
    """A warning for the person at the terminal."""

    text: str


class Lose(msgspec.Struct, frozen=True):
    """Other clients or servers of theirs, says the scheduler: nobody here waits for them any longer."""

    gone: messages.Gone


class TellPeer(msgspec.Struct, frozen=True):
    """This belongs into the mailbox of a task."""

    task: Address
    status: PeerStatus


@dataclass(slots=True)
class Question:
    """Somebody waits for a name."""

    word: Locate
    number: int  # as other books know it; 0: it is somebody else's client that asks ...
    until: float | None  # ... and that is not remembered for longer
    say_at: float | None  # that it waits, if nobody was told how long it will
    pause: float = PATIENCE_S


class Book:
    """dispycos.machine.Machine. `address`: its own. `name`: of the client, for people."""

    def __init__(self, address: Address, name: str = "") -> None:
        self.address = address
        self.cluster: Cluster | None = None  # while there is a lease
        self._named: dict[Key, dict[int, bytes]] = {}  # handles by process, in the order in which they came
        self._questions: dict[Asked, Question] = {}
        self._numbers: dict[int, Asked] = {}  # of our own questions, as other books know them
        self._count = 0
        self._again_at: float | None = None  # while somebody waits
        self._watchers: dict[Address, None] = {}  # tasks that want to hear of peers
        self._peers: dict[int, PeerStatus] = {address.epoch: PeerStatus(None, name, 1, "client")}
        self._effects: list[object] = []
        self.programs: dict[int, PeerStatus] = {}  # other ones with a link of their own, by epoch
        self.here: tuple[frozenset[str], int] = (frozenset(), 0)  # where this one listens for such

    # --- Machine ---

    def receive(self, envelope: Envelope, now: float) -> None:
        word = envelope.message
        if isinstance(word, messages.Named):
            self._on_named(word, envelope.sender.epoch, envelope.payload)
        elif isinstance(word, Locate):
            self._on_locate(word, envelope, now)
        elif isinstance(word, messages.Located):
            asked = self._numbers.get(envelope.correlation)
            if asked is not None:
                self._answer(asked, envelope.payload)
        elif isinstance(word, messages.Gone):
            self._effects.append(Lose(word))
        elif isinstance(word, messages.WatchPeers):
            self._watch_peers(envelope.sender, over=word.over)

    def deadline(self) -> float | None:
        return self._again_at

    def wake(self, now: float) -> None:
        if self._again_at is None or self._again_at > now:
            return
        for asked, question in list(self._questions.items()):
            if question.until is not None and question.until <= now:
                del self._questions[asked]
        for question in self._questions.values():
            self._ask_others(question)
        self._tell_people(now)
        self._again_at = now + AGAIN_S if self._questions else None

    def drain(self) -> list[object]:
        if self._watchers:
            self._compare_peers()
        if not self._effects:
            return self._effects
        effects, self._effects = self._effects, []
        return effects

    def lose(self, epoch: int) -> None:
        """That process has ended."""
        for key in [key for key, named in self._named.items() if epoch in named]:
            self._strike(key, epoch)
        for asked in [asked for asked in self._questions if asked[0].epoch == epoch]:
            self._forget(asked)
        for task in [task for task in self._watchers if task.epoch == epoch]:
            del self._watchers[task]

    def meet(self, epoch: int, program: PeerStatus) -> None:
        """There is a link to that program: its book is asked, too."""
        self.programs[epoch] = program
        for question in self._questions.values():
            self._ask_program(question, epoch)

    def part(self, epoch: int) -> None:
        """There is none any more."""
        self.programs.pop(epoch, None)

    # --- names ---

    def _on_named(self, word: messages.Named, epoch: int, payload: Payload) -> None:
        key = (word.name, word.channel)
        if word.over:
            self._strike(key, epoch)
            return
        self._named.setdefault(key, {})[epoch] = bytes(buffers_of(payload)[0])
        for asked, question in list(self._questions.items()):
            if (question.word.name, question.word.channel) == key:
                found = self._find(question.word)
                if found is not None:
                    self._answer(asked, found)

    def _strike(self, key: Key, epoch: int) -> None:
        named = self._named.get(key, {})
        named.pop(epoch, None)
        if not named:
            self._named.pop(key, None)

    def _find(self, word: Locate) -> bytes | None:
        """Of several who have the name where it is wanted: the one who had it first."""
        for epoch, handle in self._named.get((word.name, word.channel), {}).items():
            if not word.addr or self._is_at(epoch, word):
                return handle
        return None

    def _is_at(self, epoch: int, word: Locate) -> bool:
        if epoch == self.address.epoch:
            return word.addr in self.here[0] and word.port in (0, self.here[1])
        if self.cluster is None or epoch not in self.cluster.servers:
            return False
        spot, node_epoch = self.cluster.servers[epoch]
        node = self.cluster.nodes.get(node_epoch)
        if word.port and (spot.addr, spot.port) == (word.addr, word.port):
            return True
        where = str(Location(word.addr, word.port)) if word.port else word.addr
        return node is not None and where in (node.name, node.addr, str(Location(node.addr, node.port)))

    # --- questions ---

    def _on_locate(self, word: Locate, envelope: Envelope, now: float) -> None:
        asked = (word.asker or envelope.sender, envelope.correlation)
        if word.over:
            self._forget(asked)
            return
        found = self._find(word)
        if found is not None:
            self._answer(asked, found)
        elif word.asker is not None:
            self._questions[asked] = Question(word, 0, now + FORGOTTEN_S, None)
        else:
            self._count += 1
            self._numbers[self._count] = asked
            say_at = now + PATIENCE_S if word.is_patient else None
            self._questions[asked] = question = Question(word, self._count, None, say_at)
            self._ask_others(question)
        if self._questions and self._again_at is None:
            self._again_at = now + AGAIN_S

    def _answer(self, asked: Asked, handle: Payload) -> None:
        to, correlation = asked
        self._effects.append(Send(Envelope(to, self.address, messages.Located(), correlation, handle)))
        self._forget(asked)

    def _forget(self, asked: Asked) -> None:
        question = self._questions.pop(asked, None)
        if question is not None:
            self._numbers.pop(question.number, None)

    def _ask_others(self, question: Question) -> None:
        for epoch in self.programs:
            self._ask_program(question, epoch)
        scheduler = self.cluster.scheduler if self.cluster is not None else None
        if scheduler is not None and question.number:
            self._effects.append(Send(Envelope(scheduler, self.address, question.word, question.number)))

    def _ask_program(self, question: Question, epoch: int) -> None:
        """As a scheduler passes it on: that one asks nobody else."""
        if question.number:
            word = msgspec.structs.replace(question.word, asker=self.address)
            self._effects.append(Send(Envelope(Address(epoch, BOOK), self.address, word, question.number)))

    # --- nobody waits in silence ---

    def _tell_people(self, now: float) -> None:
        waiting: dict[tuple[str, bool, str, int], int] = {}
        for question in self._questions.values():
            if question.say_at is not None and question.say_at <= now:
                question.pause = next_pause(question.pause)
                question.say_at = now + question.pause
                word = question.word
                what = (word.name, word.channel, word.addr, word.port)
                waiting[what] = waiting.get(what, 0) + 1
        for (name, channel, addr, port), count in waiting.items():
            kind = "channel" if channel else "task"
            where = f" at {Location(addr, port) if port else addr}" if addr else ""
            who = f"{counted(count, 'caller')} of locate() wait{'s' if count == 1 else ''}"
            text = f"{who} for a {kind} named {name!r}{where}, which nobody has registered; {self._known(name, channel)}"
            self._effects.append(Say(text))

    def _known(self, name: str, channel: bool) -> str:
        elsewhere = self._named.get((name, channel))
        if elsewhere and self.cluster is not None:
            spots = [self.cluster.servers[epoch][0] for epoch in elsewhere if epoch in self.cluster.servers]
            places = ", ".join(f"{spot.addr}:{spot.port}" for spot in spots[:NAMED_MAX])
            return f"it is at {places or 'the client'}"
        kind = "channels" if channel else "tasks"
        names = sorted(known for known, is_channel in self._named if is_channel == channel)
        more = ", ..." if len(names) > NAMED_MAX else ""
        return f"registered {kind}: {', '.join(map(repr, names[:NAMED_MAX])) or 'none'}{more}"

    # --- peers ---

    def _watch_peers(self, task: Address, *, over: bool) -> None:
        if over:
            self._watchers.pop(task, None)
            return
        self._compare_peers()
        self._watchers[task] = None
        self._effects.extend(
            TellPeer(task, peer) for epoch, peer in self._peers.items() if epoch != task.epoch
        )

    def _compare_peers(self) -> None:
        """With what they were told; after each turn, while somebody wants to hear."""
        cluster: Any = self.cluster
        here = (
            {self.address.epoch}
            if cluster is None
            else {self.address.epoch, *cluster.nodes, *cluster.servers}
        ) | self.programs.keys()
        if here == self._peers.keys():
            return
        for epoch in [epoch for epoch in self._peers if epoch not in here]:
            self._tell_watchers(epoch, self._peers.pop(epoch)._replace(status=PeerStatus.Offline))
        found = self._peers_of(cluster) if cluster is not None else ()
        for epoch, peer in [*found, *self.programs.items()]:
            if epoch not in self._peers:
                self._peers[epoch] = peer
                self._tell_watchers(epoch, peer)

    def here_are(self) -> list[PeerStatus]:
        """All that this client has, and the programs that are linked."""
        found = self._peers_of(self.cluster) if self.cluster is not None else ()
        return [*(peer for _, peer in found), *self.programs.values()]

    def _peers_of(self, cluster: Cluster) -> Iterator[tuple[int, PeerStatus]]:
        for epoch, node in cluster.nodes.items():
            yield epoch, PeerStatus(Location(node.addr, node.port), node.name, PeerStatus.Online, "node")
        for epoch, (spot, _) in cluster.servers.items():
            yield epoch, PeerStatus(Location(spot.addr, spot.port), spot.name, PeerStatus.Online, "server")

    def _tell_watchers(self, epoch: int, peer: PeerStatus) -> None:
        """Nobody is a peer of itself."""
        self._effects.extend(TellPeer(task, peer) for task in self._watchers if task.epoch != epoch)

    # --- what must hold between two messages ---

    def check(self) -> None:
        own = {question.number: asked for asked, question in self._questions.items() if question.number}
        assert own == self._numbers, "a question without its number"
        assert not self._questions or self._again_at is not None, "questions that are not asked again"
        assert all(self._named.values()), "a name that nobody has"

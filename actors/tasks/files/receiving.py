"""Which files a node or a client takes, and in which order what is to be done for each; its body has threads and a disk.

A transfer is known by its sender's runtime and a number. One thing at a time is done for it: open, perhaps compare, then write
one chunk after the other; what comes meanwhile waits here, and its sender's window bounds that. So many are taken at a time,
the others wait with nothing but their offer.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from dispycos.machine import Outbox
from dispycos.protocol.addresses import Address
from dispycos.protocol.envelope import Buffer, Envelope, buffers_of, bytes_of, size_of
from dispycos.protocol.messages import FileAnswer, FileChunk, FileDelete, FileDigest, FileDrop, FileOffer
from dispycos.protocol.status import FileState

from .sending import CHUNK, WINDOW, Crooked, display, straight

ACTIVE_MAX: Final = 32  # files that are taken at a time

Key = tuple[int, int]  # epoch of the sender, and its number for the transfer


class Verdict(NamedTuple):
    """What came of something that was done; all but GO and COMPARE end the transfer."""

    state: int
    text: str = ""

    @property
    def ends(self) -> bool:
        return self.state not in (FileState.GO, FileState.COMPARE)


def refused(text: str) -> Verdict:
    return Verdict(FileState.REFUSED, text)


class Ground(NamedTuple):
    """Where a file belongs: a folder that is trusted, and folders below, which are there."""

    root: str
    below: tuple[str, ...] = ()


class Delivery(NamedTuple):
    """What a file is to become; `path` has its folders and its name."""

    root: str
    below: tuple[str, ...]
    path: list[bytes]
    size: int
    mode: int
    overwrite: bool


# --- effects


class OpenFile(NamedTuple):
    key: Key
    delivery: Delivery


class CompareFile(NamedTuple):
    key: Key
    digest: bytes


class WriteFile(NamedTuple):
    key: Key
    data: Buffer
    last: bool


class DiscardFile(NamedTuple):
    """Its end is not told."""

    key: Key


class DeleteFile(NamedTuple):
    """Its end is told by `answer`."""

    ground: Ground
    path: list[bytes]
    request: Envelope


@dataclass(slots=True, eq=False)
class Incoming:
    """A file that is taken."""

    offer: FileOffer
    asked: Envelope | None  # what is being done is to answer this
    taken: int = 0  # bytes of it that have come
    state: int = FileState.GO
    waiting: deque[Envelope] = field(default_factory=deque)
    is_dropped: bool = False  # discarded when what is being done is done


class Receiving:
    """dispycos.machine.Machine of a receiver of files.

    Parameters
    ----------
    title: of the receiver, for people. find: where files of this client, and of this server's port (0: of none), belong; or why
        they do not. size_max: bytes; 0: no limit. remedy: what to do about the limit; `{}` is a size.
    """

    def __init__(
        self,
        address: Address,
        title: str,
        find: Callable[[int, int], Ground | str],
        size_max: int = 0,
        remedy: str = "",
    ) -> None:
        self._out = Outbox(address)
        self._title = title
        self._find = find
        self._size_max = size_max
        self._remedy = remedy
        self._active: dict[Key, Incoming] = {}
        self._waiting: dict[Key, Envelope] = {}  # offers
        self._handlers: dict[type, Callable[[Envelope, Any], None]] = {
            FileOffer: self._on_offer,
            FileDigest: self._on_digest,
            FileChunk: self._on_chunk,
            FileDrop: self._on_drop,
            FileDelete: self._on_delete,
        }

    # --- machine

    def receive(self, envelope: Envelope, now: float) -> None:
        handler = self._handlers.get(type(envelope.message))
        if handler is not None:
            handler(envelope, envelope.message)

    def wake(self, now: float) -> None:
        """Nothing is ever due."""

    def deadline(self) -> float | None:
        return None

    def drain(self) -> list[object]:
        return self._out.drain() if self._out.effects else []

    # --- what senders say

    def _on_offer(self, envelope: Envelope, offer: FileOffer) -> None:
        key = (envelope.sender.epoch, offer.number)
        why_not = self._reason_to_refuse(offer)
        if key in self._active or key in self._waiting:
            why_not = "its sender names two transfers alike"
        if why_not:
            self.answer(envelope, refused(why_not))
        elif len(self._active) < ACTIVE_MAX:
            self._begin(key, envelope)
        else:
            self._waiting[key] = envelope

    def _reason_to_refuse(self, offer: FileOffer) -> str:
        if 0 < self._size_max < offer.size:
            remedy = self._remedy.format(offer.size)
            return f"it has {offer.size:,} bytes, more than the {self._size_max:,} taken here; {remedy}"
        ground = self._find(offer.client, offer.port)
        if isinstance(ground, str):
            return ground
        try:
            straight(offer.path)
        except Crooked as error:
            return str(error)
        return "" if offer.size >= 0 else "its size is negative"

    def _begin(self, key: Key, envelope: Envelope) -> None:
        offer: FileOffer = envelope.message
        ground = self._find(offer.client, offer.port)
        if isinstance(ground, str):  # that changed while it waited
            self.answer(envelope, refused(ground))
            return
        self._active[key] = Incoming(offer, envelope)
        delivery = Delivery(*ground, straight(offer.path), offer.size, offer.mode, offer.overwrite)
        self._out.effects.append(OpenFile(key, delivery))

    def _on_digest(self, envelope: Envelope, word: FileDigest) -> None:
        key = (envelope.sender.epoch, word.number)
        incoming = self._known(key, envelope)
        if incoming is None:
            return
        if incoming.state != FileState.COMPARE or incoming.asked is not None:
            self._break_off(key, envelope, "nobody asked for its digest")
            return
        incoming.asked = envelope
        self._out.effects.append(CompareFile(key, word.digest))

    def _on_chunk(self, envelope: Envelope, chunk: FileChunk) -> None:
        key = (envelope.sender.epoch, chunk.number)
        incoming = self._known(key, envelope)
        if incoming is None:
            return
        size = bytes_of(envelope.payload)
        in_order = chunk.offset == incoming.taken and 0 < size <= min(
            CHUNK, incoming.offer.size - chunk.offset
        )
        if incoming.state != FileState.GO or not in_order or len(incoming.waiting) >= WINDOW:
            self._break_off(key, envelope, f"{size} bytes for {chunk.offset}, where {incoming.taken} is next")
            return
        incoming.taken += size
        incoming.waiting.append(envelope)
        self._go_on(key, incoming)

    def _on_drop(self, envelope: Envelope, word: FileDrop) -> None:
        self._drop((envelope.sender.epoch, word.number))

    def _on_delete(self, envelope: Envelope, word: FileDelete) -> None:
        ground = self._find(word.client, word.port)
        try:
            if isinstance(ground, str):
                self.answer(envelope, refused(ground))
            else:
                self._out.effects.append(DeleteFile(ground, straight(word.path), envelope))
        except Crooked as error:
            self.answer(envelope, refused(str(error)))

    def _known(self, key: Key, envelope: Envelope) -> Incoming | None:
        incoming = self._active.get(key)
        if incoming is None or incoming.is_dropped:
            self.answer(envelope, refused("it was given up here"))
            return None
        return incoming

    # --- what was done

    def done(self, key: Key, verdict: Verdict) -> None:
        """The body's word: what was to be done for this transfer."""
        incoming = self._active[key]
        asked, incoming.asked = incoming.asked, None
        incoming.state = verdict.state
        if incoming.is_dropped:
            if not verdict.ends:
                self._out.effects.append(DiscardFile(key))
            self._leave(key)
            return
        if asked is not None:
            self.answer(asked, verdict, incoming.offer.path)
        if verdict.ends:
            for late in incoming.waiting:
                self.answer(late, verdict, incoming.offer.path)
            self._leave(key)
        else:
            self._go_on(key, incoming)

    def answer(self, request: Envelope, verdict: Verdict, path: bytes = b"") -> None:
        text = verdict.text
        if verdict.state == FileState.REFUSED:
            what = display(path or getattr(request.message, "path", b"")) or "the file"
            text = f"{self._title} does not take {what}: {text}"
        word = FileAnswer(verdict.state, text)
        self._out.send(request.sender, word, request.correlation)

    def _go_on(self, key: Key, incoming: Incoming) -> None:
        if incoming.asked is None and incoming.waiting:
            incoming.asked = envelope = incoming.waiting.popleft()
            [data] = buffers_of(envelope.payload)
            last = envelope.message.offset + size_of(data) == incoming.offer.size
            self._out.effects.append(WriteFile(key, data, last))

    # --- ends

    def _break_off(self, key: Key, envelope: Envelope, text: str) -> None:
        self.answer(envelope, refused(text))
        self._drop(key)

    def _drop(self, key: Key) -> None:
        self._waiting.pop(key, None)
        incoming = self._active.get(key)
        if incoming is None or incoming.is_dropped:
            return
        incoming.waiting.clear()
        if incoming.asked is not None:
            incoming.is_dropped = True
        else:
            self._out.effects.append(DiscardFile(key))
            self._leave(key)

    def _leave(self, key: Key) -> None:
        """There is room for another one."""
        del self._active[key]
        while self._waiting and len(self._active) < ACTIVE_MAX:
            other = next(iter(self._waiting))
            self._begin(other, self._waiting.pop(other))

    def peer_gone(self, epoch: int) -> None:
        """This process sends nothing more."""
        for key in [key for key in (*self._active, *self._waiting) if key[0] == epoch]:
            self._drop(key)

    def clear(self, reason: str) -> None:
        """No file is for anybody here any more."""
        for envelope in self._waiting.values():
            self.answer(envelope, refused(reason))
        self._waiting.clear()
        for key, incoming in list(self._active.items()):
            for envelope in (*([incoming.asked] if incoming.asked else ()), *incoming.waiting):
                self.answer(envelope, refused(reason), incoming.offer.path)
            self._drop(key)

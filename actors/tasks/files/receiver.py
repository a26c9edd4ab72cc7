"""The body of a receiver of files: threads that write to the disk, so that neither turns nor user code wait for it."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, wait
from functools import partial
from typing import TYPE_CHECKING, Final

from dispycos.protocol.addresses import FILES
from dispycos.runtime import Runtime
from dispycos.session.router import Event
from dispycos.session.session import PeerReset

from .landing import Landing, Stamp, delete, words_for
from .receiving import (
    CompareFile,
    DeleteFile,
    DiscardFile,
    Ground,
    Key,
    OpenFile,
    Receiving,
    Verdict,
    WriteFile,
    refused,
)

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

WRITERS: Final = 4  # files that are written at the same moment


class Receiver:
    """turns.Role of a node agent, client or other program that takes files; see Receiving."""

    def __init__(
        self,
        runtime: Runtime,
        title: str,
        find: Callable[[int, int], Ground | str],
        size_max: int = 0,
        remedy: str = "",
        actor: int = FILES,
    ) -> None:
        self._runtime = runtime
        self._actor = actor
        self.machine = Receiving(runtime.address(actor), title, find, size_max, remedy)
        self._landings: dict[Key, Landing] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._under_way: set[Future[None]] = set()
        self.written: set[Stamp] = set()  # of the files that have come
        runtime.attach(actor, self)

    # --- turns.Role

    def on_event(self, event: Event, now: float) -> None:
        if isinstance(event, PeerReset):
            self.machine.peer_gone(event.epoch)

    def carry_out(self, effect: object, now: float) -> None:
        if isinstance(effect, OpenFile):
            landing = self._landings[effect.key] = Landing(effect.delivery, _name_of_part(effect.key))
            self._act(effect.key, landing.open)
        elif isinstance(effect, CompareFile):
            self._act(effect.key, partial(self._landings[effect.key].compare, effect.digest))
        elif isinstance(effect, WriteFile):
            self._act(effect.key, partial(self._landings[effect.key].write, effect.data, last=effect.last))
        elif isinstance(effect, DiscardFile):
            self._start(self._landings.pop(effect.key).discard)
        elif isinstance(effect, DeleteFile):
            self._start(partial(self._delete, effect))
        else:
            raise TypeError(f"no such effect: {effect!r}")

    def _act(self, key: Key, act: Callable[[], Verdict]) -> None:
        def run() -> None:
            try:
                verdict = act()
            except Exception as error:  # of whatever kind: its sender waits for an answer
                verdict = refused(f"{type(error).__name__}: {error}")
            with self._runtime.lock:
                landing = self._landings.pop(key, None) if verdict.ends else None
                if landing is not None and landing.written is not None:
                    self.written.add(landing.written)
                self.machine.done(key, verdict)
            self._runtime.turn_soon()

        self._start(run)

    def _delete(self, effect: DeleteFile) -> None:
        try:
            verdict = delete(effect.ground.root, effect.ground.below, effect.path)
        except OSError as error:
            verdict = refused(words_for(error))
        with self._runtime.lock:
            self.machine.answer(effect.request, verdict)
        self._runtime.turn_soon()

    def _start(self, run: Callable[[], None]) -> None:
        """Within a turn."""
        if self._threads is None:
            # Late: a thread that outlives the main one cannot import it.
            from concurrent.futures import ThreadPoolExecutor

            self._threads = ThreadPoolExecutor(WRITERS, "dispycos-files")
        future = self._threads.submit(run)
        self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)

    # --- ends

    def wait_until_still(self) -> None:
        """Blocks until nothing is written any more; for another thread, when the machine was cleared."""
        while under_way := list(self._under_way):
            wait(under_way)

    def close(self, reason: str) -> None:
        """It takes nothing any more, and leaves no part behind."""
        with self._runtime.lock:
            self.machine.clear(reason)
        self._runtime.push()
        self._runtime.remove(self._actor, self)
        if self._threads is None:
            return
        self.wait_until_still()
        for effect in self.machine.drain():  # of those that were being written: no turn asks for it any more
            if isinstance(effect, DiscardFile):
                self._landings.pop(effect.key).discard()
        self._threads.shutdown(wait=False)


def _name_of_part(key: Key) -> str:
    return f".{os.getpid():x}-{key[0]:016x}-{key[1]:x}.part"

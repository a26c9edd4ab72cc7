"""The client's own links to the nodes of its lease: what it, they and their servers say to each other need not pass the scheduler.

A link is dialled when a node is the client's, dialled again after a cut, and dropped when the node is the client's no more. Where
there is none the router goes by the scheduler.
"""

from __future__ import annotations

import logging
import os
from functools import partial
from typing import Final

from dispycos.protocol.messages import NodeInfo
from dispycos.runtime import Runtime
from dispycos.transport.dialler import Dialler
from dispycos.transport.discovery import Presence, endpoints_of
from dispycos.transport.door import descriptors_max
from dispycos.transport.mailbox import LINK_DESCRIPTORS
from dispycos.turns import FORGET_NODE_S

log = logging.getLogger("dispycos")

LINKS_MAX: Final = 256  # nodes beyond them are reached by the scheduler ...
LINKS_PART: Final = 2  # ... as are those whose links would take more than this part of our descriptors


def endpoints_to(node: NodeInfo) -> list[str]:
    """Its socket goes first, if it is one of this host's."""
    ipc = node.ipc if os.path.exists(node.ipc) else ""
    return endpoints_of(Presence("node", node.name, node.addresses, node.port, "", node.epoch, ipc=ipc))


class NodeLinks:
    """`dial` and `hang_up` are called within a turn, on either thread; diallers live on the loop."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._diallers: dict[int, Dialler] = {}
        self._leased: set[int] = set()
        self._is_told = False  # that some cannot be reached
        self._max = min(LINKS_MAX, descriptors_max() // LINKS_PART // LINK_DESCRIPTORS)

    def dial(self, node: NodeInfo, endpoints: list[str]) -> None:
        """This node is the client's now, or still. Its session lasts as long, by whatever way."""
        self._leased.add(node.epoch)
        self._runtime.keep(node.epoch)
        if endpoints:
            self._runtime.defer(partial(self._dial, node, endpoints))

    def hang_up(self, epoch: int) -> None:
        if epoch in self._leased:
            self._leased.discard(epoch)
            self._runtime.forget_later(epoch, FORGET_NODE_S)
            self._runtime.defer(partial(self._stop, epoch))

    def hang_up_all(self) -> None:
        for epoch in list(self._leased):
            self.hang_up(epoch)

    def _dial(self, node: NodeInfo, endpoints: list[str]) -> None:
        epoch = node.epoch
        if epoch in self._diallers or len(self._diallers) >= self._max or self._runtime.is_linked(epoch):
            return  # a private scheduler is its own node
        self._diallers[epoch] = dialler = self._runtime.dial(endpoints, wanted=epoch)
        dialler.on_silence = partial(self._on_silence, node)
        dialler.on_lost = partial(log.debug, "the link to node %s is lost: %s", node.name)

    def _on_silence(self, node: NodeInfo, text: str) -> None:
        """One notice is enough: behind a firewall it is mostly the same with all."""
        where = f"node {node.name} is reached by way of the scheduler: {text}"
        log.log(logging.DEBUG if self._is_told else logging.WARNING, where)
        self._is_told = True

    def _stop(self, epoch: int) -> None:
        dialler = self._diallers.pop(epoch, None)
        if dialler is not None:
            dialler.stop()

"""Passes on the blocks of others, reading headers only, and tells their sources when that fails and when it works.

Where it cannot forward, it says UNREACHABLE, remembers whom it told, and says PATH_UP when it can. When a link
breaks, those whose blocks went by it hear both as well. So the two ends of a session resync at once instead of
waiting for their timers. Everything remembered is bounded; beyond the bound the timers have to do.
"""

from typing import Final

from ..protocol.codec import NOTICE, RECORD, Packet, control_packet, encode_control
from ..protocol.control import Control, PathUp, Unreachable
from .links import NODE_ROLE, RELAYS, SERVER_ROLE, Link, Topology

HOPS_MAX: Final = 4
TOLD_MAX: Final = 4096


class Relay:
    def __init__(self, topology: Topology, epoch: int, role: str) -> None:
        self._topology = topology
        self._epoch = epoch
        self._role = role
        self._advertised = topology.advertised
        self._told: dict[int, dict[int, None]] = {}
        self._told_count = 0

    def forward(self, link: Link, packet: Packet) -> None:
        block = packet.block
        out = self._topology.route(block.to_epoch) if self._role in RELAYS else None
        if (
            out is None
            or out is link
            or block.hops >= HOPS_MAX
            or not self._may_forward(out, block.from_epoch)
        ):
            self._refuse(link, packet)
            return
        block.hops += 1
        out.put(packet)
        out.note_flow(block.from_epoch, block.to_epoch)

    def _may_forward(self, out: Link, source: int) -> bool:
        """An agent speaks upwards only for those whom it announced: for others the link would be closed."""
        return self._role != NODE_ROLE or out.role == SERVER_ROLE or source in self._advertised

    def _refuse(self, link: Link, packet: Packet) -> None:
        block = packet.block
        if not block.flags & NOTICE:
            self._note_told(block.to_epoch, block.from_epoch)
            link.put(self._notice(block.from_epoch, Unreachable(block.to_epoch)))

    def _notice(self, to: int, record: Control) -> Packet:
        return control_packet(self._epoch, to, encode_control(record), RECORD | NOTICE)

    def _note_told(self, target: int, source: int) -> None:
        sources = self._told.setdefault(target, {})
        if source in sources:
            return
        sources[source] = None
        self._told_count += 1
        while self._told_count > TOLD_MAX:
            self._told_count -= len(self._told.pop(next(iter(self._told))))

    def tell_flows(self, link: Link) -> None:
        """The link broke: those whose blocks went by it learn of it before their timers."""
        for source, target in link.flows:
            back = self._topology.route(source)
            if back is not None:
                self._note_told(target, source)
                back.put(self._notice(source, Unreachable(target)))
        link.flows.clear()

    def tell_path_up(self) -> None:
        """Links or routes changed: those who were told that there is no way may hear that there is one."""
        for target in list(self._told):
            out = self._topology.route(target)
            if out is None:
                continue
            sources = self._told.pop(target)
            self._told_count -= len(sources)
            for source in sources:
                back = self._topology.route(source)
                if back is not None:
                    back.put(self._notice(source, PathUp(target)))

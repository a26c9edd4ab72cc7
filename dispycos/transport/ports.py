"""Decides which ports a process takes: n + 1 for n servers, those listed, then beyond the highest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..config import NODE_PORT, Failure, Misuse
from ..values import PORT_MAX, PortRange

SEARCH_MAX = 200  # starts looked at when the default ports are taken


class PortTaken(Failure):
    """A port that was asked for belongs to another process."""


@dataclass(frozen=True, slots=True)
class PortPlan:
    """ports[0] is the node's, the others are the servers'. Port 0 is whatever the system gives."""

    ports: tuple[int, ...]
    is_given: bool

    def moved_to(self, first: int) -> PortPlan:
        return PortPlan(tuple(range(first, first + len(self.ports))), self.is_given)


def plan_ports(ranges: Sequence[PortRange], servers: int, default: int = NODE_PORT) -> PortPlan:
    """Spec 6.2: the listed ports in ascending order, at most servers + 1, filled up beyond the highest."""
    wanted = servers + 1
    if not ranges:
        return PortPlan(tuple(range(default, default + wanted)), is_given=False)
    if any(r.first == 0 for r in ranges):
        return _plan_any(ranges, wanted)
    listed = sorted({port for r in ranges for port in range(r.first, r.last + 1)})
    beyond = range(listed[-1] + 1, listed[-1] + 1 + wanted - len(listed))
    ports = (*listed, *beyond)[:wanted]
    if ports[-1] > PORT_MAX:
        raise Misuse(
            f"--tcp_ports {', '.join(map(str, ranges))}: {servers} servers need {wanted} ports,"
            f" and beyond {listed[-1]} there are too few",
            "list more ports or lower ones",
        )
    return PortPlan(ports, is_given=True)


def _plan_any(ranges: Sequence[PortRange], wanted: int) -> PortPlan:
    if len(ranges) > 1:
        raise Misuse("--tcp_ports 0 (any free port) stands beside other ports", "give 0 alone or real ports")
    return PortPlan((0,) * wanted, is_given=True)


def choose_ports(plan: PortPlan, is_free: Callable[[int], bool]) -> PortPlan:
    """The plan as it stands, or, for default ports of which some are taken, the next block that is free.

    Ports that were given are never replaced by others: a firewall may be open for just these.
    """
    if plan.ports[0] == 0:
        return plan
    taken = [port for port in plan.ports if not is_free(port)]
    if not taken:
        return plan
    if plan.is_given:
        raise PortTaken(
            f"port {taken[0]} is in use by another process",
            "end that process, or give other ports (0 takes any free one)",
        )
    return _next_free_block(plan, taken[-1] + 1, is_free)


def _next_free_block(plan: PortPlan, first: int, is_free: Callable[[int], bool]) -> PortPlan:
    for _ in range(SEARCH_MAX):
        moved = plan.moved_to(first)
        if moved.ports[-1] > PORT_MAX:
            break
        taken = [port for port in moved.ports if not is_free(port)]
        if not taken:
            return moved
        first = taken[-1] + 1
    raise PortTaken(
        f"no {len(plan.ports)} free ports in a row were found beyond {plan.ports[0]}",
        "give some with --tcp_ports, or 0 for any free one",
    )

"""How tasks are to run: what client.options() and a call may say, and the look at whether it is of use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from dispycos.protocol.addresses import Location
from dispycos.values import RESOURCE, natural_number, positive_seconds, whole_number

PRIORITY_MAX: Final = 1_000_000
# What options() takes, and a call does not.
OF_OPTIONS: Final = frozenset(("timeout", "priority", "gpus", "resources"))


class Options(NamedTuple):
    """Of one task."""

    retries: int = 0
    timeout: float = 0.0  # seconds that it may run; 0: any
    priority: int = 0  # who waits with more is given to a server first
    resources: tuple[tuple[str, int], ...] = ()  # so many of each name, of its node, while it runs
    io: bool = False  # it mostly waits
    alone: bool = False  # by rtask: its start is waited for
    where: str | Location | None = None  # a node or a server; None: any

    def of_call(self, retries: int = 0, **how: Any) -> Options:
        """Those of a call, whose `retries` go before ours; `how` is io, alone and where."""
        retries, where = count(retries) or self.retries, how.get("where")
        if where is not None and not isinstance(where, str | Location):
            raise TypeError(f"where must be a str (a node) or a Location, not {type(where).__name__}")
        return self._replace(retries=retries, **how) if how or retries != self.retries else self


PLAIN: Final = Options()


def count(retries: object) -> int:
    return natural_number(retries, "retries")


def merged(old: Options, given: dict[str, Any]) -> Options:
    """What is None stays as it was. Raises TypeError, ValueError."""
    gpus, resources = given.pop("gpus"), given.pop("resources")
    if gpus is not None or resources is not None:
        old = old._replace(resources=_with(dict(old.resources), gpus, resources))
    new = {name: _looked_at(name, value) for name, value in given.items() if value is not None}
    return old._replace(**new)


def _with(needs: dict[str, int], gpus: Any, resources: Any) -> tuple[tuple[str, int], ...]:
    if resources is not None and not isinstance(resources, Mapping):
        raise TypeError(f"resources must be a dict, as {{'licence': 1}}, not {type(resources).__name__}")
    for name, amount in (resources or {}).items():
        if not isinstance(name, str) or not RESOURCE.fullmatch(name):
            raise ValueError(f"resources: {name!r} is no name of a resource: letters, digits, _ . -")
        needs[name] = natural_number(amount, f"resources: {name}")
    if gpus is not None:
        if "gpu" in (resources or {}):
            raise ValueError("gpus and resources={'gpu': ...} mean the same: leave one of them out")
        needs["gpu"] = natural_number(gpus, "gpus")
    return tuple(sorted((name, amount) for name, amount in needs.items() if amount))


def _looked_at(name: str, value: Any) -> Any:
    if name == "retries":
        return count(value)
    if name == "priority":
        priority = whole_number(value, "priority")
        if abs(priority) > PRIORITY_MAX:
            raise ValueError(f"priority must be from -{PRIORITY_MAX:,} to {PRIORITY_MAX:,}, not {value}")
        return priority
    return positive_seconds(value, "timeout")

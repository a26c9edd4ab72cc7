"""How tasks are to run: what client.options() may say, and the look at whether it is of use."""

from __future__ import annotations

import math
from typing import Any, Final, NamedTuple

PRIORITY_MAX: Final = 1_000_000


class Options(NamedTuple):
    """Of one task."""

    retries: int = 0
    timeout: float = 0.0  # seconds that it may run; 0: any
    priority: int = 0  # who waits with more is given to a server first


PLAIN: Final = Options()


def count(retries: object) -> int:
    if not isinstance(retries, int) or isinstance(retries, bool):
        raise TypeError(f"retries must be an int, not {type(retries).__name__}")
    if retries < 0:
        raise ValueError(f"retries must not be negative: {retries}")
    return retries


def merged(old: Options, given: dict[str, Any]) -> Options:
    """What is None stays as it was. Raises TypeError, ValueError."""
    new = {name: _looked_at(name, value) for name, value in given.items() if value is not None}
    return old._replace(**new)


def _looked_at(name: str, value: Any) -> Any:
    if name == "retries":
        return count(value)
    if name == "priority":
        if not isinstance(value, int) or isinstance(value, bool):
            raise TypeError(f"priority must be an int, not {type(value).__name__}")
        if abs(value) > PRIORITY_MAX:
            raise ValueError(f"priority must be from -{PRIORITY_MAX:,} to {PRIORITY_MAX:,}, not {value}")
        return value
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"timeout must be seconds (a number), not {type(value).__name__}")
    if not 0 < value < math.inf:
        raise ValueError(f"timeout must be a time to run, in seconds, not {value}")
    return float(value)

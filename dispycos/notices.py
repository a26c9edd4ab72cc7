"""Nobody waits in silence: after what time it is said what is missing, and how tasks are named then."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

PATIENCE_S: Final = 3.0  # of waiting, until it is said what for
AGAIN_S: Final = 30.0  # what is still missing is said again after this time, then after twice as long ...
AGAIN_MAX_S: Final = 600.0  # ... up to this
NAMED_MAX: Final = 5  # functions in one text


def next_pause(pause: float) -> float:
    """Seconds until it is said again, after this pause."""
    return min(max(AGAIN_S, 2 * pause), AGAIN_MAX_S)


def listing(functions: Iterable[str]) -> str:
    """Tasks by the names of their functions, such as: 3 tasks (compute 2, wait 1)."""
    by_name = Counter(functions)
    names = ", ".join(f"{name} {number}" for name, number in by_name.most_common(NAMED_MAX))
    return f"{counted(by_name.total(), 'task')} ({names}{', ...' if len(by_name) > NAMED_MAX else ''})"


def named(names: Sequence[str]) -> str:
    """Such as: a, b, c and 4 more."""
    more = len(names) - NAMED_MAX
    return f"{', '.join(names[:NAMED_MAX])}{f' and {more} more' if more > 0 else ''}"


def counted(number: int, what: str) -> str:
    """Such as: 1 task, 2 tasks."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"

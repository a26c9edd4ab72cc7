"""CategorizeMessages: a task takes its messages by kind."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Callable
from typing import Any

Categorizer = Callable[[Any], Any]


class CategorizeMessages:
    """Sorts the messages of a task: each function that was added is asked, the last one first, until one gives a category.

    ``receive(category)`` gives the oldest message of it; None are those that no function knows.
    """

    def __init__(self, task: Any) -> None:
        self._task = task
        self._functions: list[Categorizer] = []
        self._sorted: dict[Any, deque[Any]] = defaultdict(deque)

    def add(self, categorize: Categorizer) -> None:
        """``categorize(message)`` gives a category, or None."""
        if not callable(categorize):
            raise TypeError(f"add() needs a function of one message, not {type(categorize).__name__}")
        self._functions.insert(0, categorize)

    def remove(self, categorize: Categorizer) -> None:
        """It is asked no more."""
        if categorize in self._functions:
            self._functions.remove(categorize)

    async def receive(
        self, category: Any = None, timeout: float | None = None, alarm_value: Any = None
    ) -> Any:
        """The oldest message of this category; alarm_value at the timeout, in seconds."""
        waiting = self._sorted[category]
        loop = asyncio.get_running_loop()
        until = None if timeout is None else loop.time() + timeout
        while not waiting:
            left = None if until is None else max(0.0, until - loop.time())
            message = await self._task.receive(left, _NOTHING)
            if message is _NOTHING:
                return alarm_value
            self._sorted[self._category_of(message)].append(message)
        return waiting.popleft()

    recv = receive

    def _category_of(self, message: Any) -> Any:
        for categorize in self._functions:
            category = categorize(message)
            if category is not None:
                return category
        return None


_NOTHING = object()

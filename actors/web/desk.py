"""Who watches, as the web server sees it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Final, NamedTuple, Protocol

from .tables import Tables

TABLES: Final = (
    *("meta", "nodes", "servers", "tasks", "functions", "failures", "deaths", "waiting", "actors"),
    *("links", "log", "events", "samples", "clients", "leases"),
)


FILTER: Final = ("function", "state", "node", "text")  # of tasks that are to be terminated


class Done(NamedTuple):
    """What became of an action."""

    done: int
    refused: list[tuple[str, str]]  # id, and why
    text: str = ""


class Desk(Protocol):
    """All is called on the loop of the web server."""

    tables: Tables

    def reading(self, names: frozenset[str]) -> AbstractContextManager[None]:
        """While a reader has these tables open."""

    async def fresh(self, names: frozenset[str]) -> None:
        """Return after one look at these tables, or 2 s."""

    async def ticked(self) -> None:
        """Return after the next change of the tables."""

    async def act(self, action: str, ids: list[str], args: dict[str, Any]) -> Done:
        """Carry it out, or say why not."""

    async def stack(self, task: str) -> dict[str, Any]:
        """Where this task is now. Raises LookupError, in words."""

    async def close(self) -> None:
        """The server ends: nobody watches any more."""

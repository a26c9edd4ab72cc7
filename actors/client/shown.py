"""What a prompt or a notebook shows of a client: one line of text, or a small table."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import NamedTuple

from dispycos.notices import counted
from dispycos.protocol.status import ENDED, OutcomeKind

from .holdings import Holdings

NODES_MAX = 20  # rows


class Shown(NamedTuple):
    """A client as it is now."""

    name: str
    state: str  # why it has no cluster; empty: it has
    nodes: list[tuple[str, int]] = []  # title, and how many servers
    tasks: dict[str, int] = {}  # how many are in which state; those without any are left out

    def as_line(self) -> str:
        """For repr()."""
        return f"<Client {self.name}: {self.state or self._cluster()}{self._counts('; ')}>"

    def as_html(self) -> str:
        """For a notebook."""
        rows = [f"<tr><td>{escape(title)}</td><td>{servers}</td></tr>" for title, servers in self.nodes]
        if len(rows) > NODES_MAX:
            rows[NODES_MAX:] = [f"<tr><td>and {len(rows) - NODES_MAX} more</td><td></td></tr>"]
        table = f"<table><thead><tr><th>node</th><th>servers</th></tr></thead><tbody>{''.join(rows)}</tbody></table>"
        head = f"<strong>Client {escape(self.name)}</strong>: {escape(self.state or self._cluster())}"
        tasks = escape(self._counts("")) or "no tasks yet"
        return f"<div>{head}<br>{tasks}{table if rows else ''}</div>"

    def _cluster(self) -> str:
        servers = sum(count for _, count in self.nodes)
        return f"{counted(servers, 'server')} on {counted(len(self.nodes), 'node')}"

    def _counts(self, start: str) -> str:
        words = [f"{count:,} {state}" for state, count in self.tasks.items()]
        return f"{start}tasks: {', '.join(words)}" if words else ""


def shown(name: str, state: str, holdings: Holdings) -> Shown:
    """Of a client that has, or had, a lease."""
    nodes = [(node.title, len(node.servers)) for node in holdings.dispatcher.fleet.nodes.values()]
    given = sum(record.at is not None for record in holdings.records.values())
    tasks = Counter({"queued": len(holdings.records) - given, "at servers": given})
    for kind, count in enumerate(holdings.tally.outcomes()):
        if count:
            tasks[ENDED[OutcomeKind(kind)]] += count
    return Shown(name, state, sorted(nodes), {word: count for word, count in tasks.items() if count})

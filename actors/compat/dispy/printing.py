"""The table that print_status() of a dispy cluster prints."""

from __future__ import annotations

from collections.abc import Sequence

from .jobs import DispyNode

HEADING = "            Node |  CPUs |    Jobs |  Sec/Job | Node Time Sec |    Sent |    Rcvd"


def table(nodes: Sequence[DispyNode], pending: int, total_s: float, wall_s: float) -> str:
    """With an empty line before and behind it; times in seconds."""
    lines = ["", HEADING, "-" * len(HEADING)]
    for node in nodes:
        each = node.cpu_time / node.jobs_done if node.jobs_done else 0.0
        name = (node.name or node.ip_addr)[:15]
        lines.append(
            f" {name:>15} | {node.cpus:5} | {node.jobs_done:7} | {each:8.1f} | {node.cpu_time:13.1f}"
            f" | {size(node.tx):>7} | {size(node.rx):>7}"
        )
    lines.append("")
    if pending:
        lines.append(f"Jobs pending: {pending}")
    speedup = total_s / wall_s if wall_s > 0 else 0.0
    lines.append(f"Total job time: {total_s:.3f} sec, wall time: {wall_s:.3f} sec, speedup: {speedup:.3f}")
    return "\n".join([*lines, ""])


def size(count: float) -> str:
    """Bytes, short: 788 B, 1.3 K."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in "KMG":
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} T"

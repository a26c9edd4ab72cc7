"""How numbers and times are written for people at a terminal."""

from __future__ import annotations

import time
from typing import Final

UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


def clock(at: float | None, now: float) -> str:
    """The time of day; with the date if that is not today's."""
    if at is None:
        return ""
    there = time.localtime(at)
    is_today = time.localtime(now)[:3] == there[:3]
    return time.strftime("%H:%M:%S" if is_today else "%m-%d %H:%M", there)


def span(seconds: float | None) -> str:
    """As short as it can be read."""
    if seconds is None:
        return ""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 99.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    return f"{hours // 24} d {hours % 24} h"


def size(count: float | None) -> str:
    if count is None:
        return ""
    for unit in UNITS[:-1]:
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.0f} {UNITS[-1]}"


def number(count: float | None) -> str:
    return "" if count is None else f"{count:,.0f}"

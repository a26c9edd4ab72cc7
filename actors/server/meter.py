"""What a CPU task uses of its server, which has no other one meanwhile: CPU time, and by how much the peak of memory rises.

To ask the kernel takes half as long as a short task does, so of short ones nothing is said; io tasks share their server.
"""

from __future__ import annotations

import sys
from resource import RUSAGE_SELF, getrusage, struct_rusage
from typing import Final

PEAK_S: Final = 0.01  # of shorter ones the peak tells nothing
UNIT: Final = 1 if sys.platform == "darwin" else 1024  # bytes of ru_maxrss


class Meter:
    def __init__(self) -> None:
        self._before: struct_rusage | None = None

    def begin(self, *, measured: bool) -> None:
        """A CPU task begins; `measured`: it is not known to be short."""
        self._before = getrusage(RUSAGE_SELF) if measured else None

    def forget(self) -> None:
        """Others run beside it from now on."""
        self._before = None

    def so_far(self) -> tuple[float | None, int | None]:
        """As `end`, of the CPU task that runs; from any thread."""
        before = self._before
        return _since(before) if before is not None else (None, None)

    def end(self, seconds: float) -> tuple[float | None, int | None]:
        """(seconds of CPU, bytes), None where not known, of the CPU task that began last and took so long."""
        before, self._before = self._before, None
        if before is None:
            return None, None
        cpu_s, peak_bytes = _since(before)
        return cpu_s, peak_bytes if seconds >= PEAK_S else None


def _since(before: struct_rusage) -> tuple[float, int]:
    now = getrusage(RUSAGE_SELF)
    cpu_s = now.ru_utime + now.ru_stime - before.ru_utime - before.ru_stime
    return cpu_s, (now.ru_maxrss - before.ru_maxrss) * UNIT

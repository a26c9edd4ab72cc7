"""How a process ended, in words for people."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path


def was_killed(status: int | None) -> bool:
    """By SIGKILL, by whomever."""
    return status is not None and status & 0x7F == signal.SIGKILL


def say_end(status: int | None, *, by_its_node: bool = False, oom: bool = False) -> str:
    """Complete the sentence "the server ...": `exited with code 3`, `killed by SIGKILL (9)`.

    `status` is what wait() gave, None if nobody is left who could tell.
    """
    if status is None:
        return "ended in a way that could not be learnt"
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exited with code {code}"
    said = f"killed by {name_signal(-code)} ({-code})"
    if was_killed(status) and by_its_node:
        return f"{said}, sent by its node"
    if was_killed(status) and oom:
        return f"{said}, probably out of memory (the kernel's OOM counter of its cgroup rose)"
    return said


def name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name of their own
        first = getattr(signal, "SIGRTMIN", None)
        return "an unknown signal" if first is None or number < first else f"SIGRTMIN+{number - first}"


class OomCounter:
    """Tells whether the kernel's count of out-of-memory kills in a cgroup has risen."""

    FRESH_S = 1.0  # one rise may stand for several processes that end together

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._known = self._read()
        self._fresh_until = 0.0

    @classmethod
    def of_this_process(cls) -> OomCounter:
        root = Path("/sys/fs/cgroup")
        candidates = []
        with suppress(OSError):
            for line in Path("/proc/self/cgroup").read_text().splitlines():
                _, controllers, path = line.split(":", 2)
                if "memory" in controllers.split(","):  # cgroup v1
                    candidates += [
                        root / "memory" / path.strip("/") / "memory.oom_control",
                        root / "memory/memory.oom_control",
                    ]
                elif not controllers:
                    candidates += [root / path.strip("/") / "memory.events", root / "memory.events"]
        return cls(next((path for path in candidates if path.is_file()), None))

    def has_risen(self, now: float) -> bool:
        count = self._read()
        if count > self._known:
            self._known, self._fresh_until = count, now + self.FRESH_S
        return now < self._fresh_until

    def _read(self) -> int:
        if self._path is not None:
            with suppress(OSError, ValueError):
                for line in self._path.read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

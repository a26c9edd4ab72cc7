"""Says how a process ended: as data for programs, and in words for people."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Exited:
    """It ended by itself, with this exit code."""

    code: int


@dataclass(frozen=True, slots=True)
class Killed:
    """A signal ended it. `oom` is None where the kernel's count of such kills cannot be read."""

    signal: int
    oom: bool | None = None
    by_its_node: bool = False


@dataclass(frozen=True, slots=True)
class Vanished:
    """It is gone, and nobody is left who could have been told how."""


Ending = Exited | Killed | Vanished


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and the children it waited for used, as the kernel counted it."""

    peak_rss_bytes: int
    user_s: float
    system_s: float


@dataclass(frozen=True, slots=True)
class ServerExit:
    """The death certificate of one server process."""

    pid: int
    name: str
    ending: Ending
    usage: Usage | None
    last_output: bytes
    zygote_ended: bool = False

    @property
    def code(self) -> int | None:
        return self.ending.code if isinstance(self.ending, Exited) else None

    @property
    def signal(self) -> int | None:
        return self.ending.signal if isinstance(self.ending, Killed) else None

    @property
    def signal_name(self) -> str | None:
        return name_signal(self.ending.signal) if isinstance(self.ending, Killed) else None

    @property
    def oom(self) -> bool | None:
        return self.ending.oom if isinstance(self.ending, Killed) else False

    def __str__(self) -> str:
        why = ", because the process that forked it had ended" if self.zygote_ended else ""
        return f"server {self.name} (pid {self.pid}) {say(self.ending)}{why}"

    def last_lines(self, count: int) -> list[str]:
        """The last lines of what it wrote to its stderr, for the end of an error message."""
        return self.last_output.decode("utf-8", "replace").splitlines()[-count:] if count > 0 else []


@dataclass(frozen=True, slots=True)
class ZygoteExit:
    """The death certificate of a zygote; `left` are processes of its lease that could not be ended."""

    pid: int | None
    tag: str
    ending: Ending
    left: tuple[int, ...] = ()

    def __str__(self) -> str:
        left = f"; still running: {', '.join(map(str, self.left))}" if self.left else ""
        return f"the zygote of lease {self.tag} (pid {self.pid}) {say(self.ending)}{left}"


def read_status(status: int, *, oom: bool | None = None, by_its_node: bool = False) -> Ending:
    """A wait status as the kernel gives it, in our words."""
    code = os.waitstatus_to_exitcode(status)
    return Killed(-code, oom, by_its_node) if code < 0 else Exited(code)


def name_signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # most real-time signals have no name of their own
        first = getattr(signal, "SIGRTMIN", None)
        return "an unknown signal" if first is None or number < first else f"SIGRTMIN+{number - first}"


def say(ending: Ending) -> str:
    """Complete the sentence "the server ...": `exited with code 3`, `killed by SIGKILL (9)`."""
    match ending:
        case Exited(code):
            return f"exited with code {code}"
        case Killed(number, oom, by_its_node):
            said = f"killed by {name_signal(number)} ({number})"
            if by_its_node:
                return f"{said}, sent by its node"
            if oom:
                return f"{said}, probably out of memory (the kernel's OOM counter of its cgroup rose)"
            return said
        case Vanished():
            return "ended in a way that could not be learnt"

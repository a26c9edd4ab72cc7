"""Covers actors/host/exits.py: how a process ended, in data and in words."""

from __future__ import annotations

import signal

import pytest

from dispycos.actors.host.exits import (
    Exited,
    Killed,
    ServerExit,
    Usage,
    Vanished,
    name_signal,
    read_status,
    say,
)

USAGE = Usage(peak_rss_bytes=1 << 20, user_s=0.1, system_s=0.2)


@pytest.mark.parametrize(
    ("ending", "said"),
    [
        (Exited(0), "exited with code 0"),
        (Exited(3), "exited with code 3"),
        (Killed(9), "killed by SIGKILL (9)"),
        (Killed(11, oom=False), "killed by SIGSEGV (11)"),
        (Killed(9, by_its_node=True), "killed by SIGKILL (9), sent by its node"),
        (
            Killed(9, oom=True),
            "killed by SIGKILL (9), probably out of memory (the kernel's OOM counter of its cgroup rose)",
        ),
        (Vanished(), "ended in a way that could not be learnt"),
    ],
)
def test_an_ending_is_said_in_words(ending: Exited | Killed | Vanished, said: str) -> None:
    assert say(ending) == said


def test_a_wait_status_is_read_as_code_or_signal() -> None:
    assert read_status(3 << 8) == Exited(3)
    assert read_status(9, oom=True) == Killed(9, oom=True)
    assert read_status(11 | 0x80) == Killed(11)  # 0x80: a core was dumped


def test_signals_without_a_name_are_still_named() -> None:
    assert name_signal(signal.SIGTERM) == "SIGTERM"
    assert name_signal(signal.SIGRTMIN + 3) == "SIGRTMIN+3"
    assert name_signal(33) == "an unknown signal"  # used by the C library itself


def test_a_certificate_tells_code_or_signal_never_both() -> None:
    exited = ServerExit(7, "s1", Exited(2), USAGE, b"")
    killed = ServerExit(7, "s1", Killed(9, oom=None), USAGE, b"")
    assert (exited.code, exited.signal, exited.signal_name, exited.oom) == (2, None, None, False)
    assert (killed.code, killed.signal, killed.signal_name, killed.oom) == (None, 9, "SIGKILL", None)


def test_a_certificate_reads_as_a_sentence() -> None:
    assert str(ServerExit(7, "s1", Exited(2), USAGE, b"")) == "server s1 (pid 7) exited with code 2"
    lost = ServerExit(7, "s1", Killed(9), None, b"", zygote_ended=True)
    assert str(lost) == (
        "server s1 (pid 7) killed by SIGKILL (9), because the process that forked it had ended"
    )


def test_the_last_lines_survive_bytes_that_are_no_text() -> None:
    ended = ServerExit(7, "s1", Exited(1), USAGE, b"one\ntwo \xff\nthree\n")
    assert ended.last_lines(2) == ["two \ufffd", "three"]
    assert ended.last_lines(0) == []

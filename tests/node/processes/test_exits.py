"""Covers actors/node/processes/exits.py: how a process ended, in words."""

from __future__ import annotations

import signal

import pytest

from dispycos.actors.node.processes.exits import name_signal, say_end, was_killed


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (0, "exited with code 0"),
        (3 << 8, "exited with code 3"),
        (9, "killed by SIGKILL (9)"),
        (11, "killed by SIGSEGV (11)"),
        (11 | 0x80, "killed by SIGSEGV (11)"),  # 0x80: a core was dumped
        (None, "ended in a way that could not be learnt"),
    ],
)
def test_an_ending_is_said_in_words(status: int | None, said: str) -> None:
    assert say_end(status) == said
    assert was_killed(status) == (status == 9)


def test_who_killed_is_said_where_that_is_known() -> None:
    assert say_end(9, by_its_node=True) == "killed by SIGKILL (9), sent by its node"
    oom = "killed by SIGKILL (9), probably out of memory (the kernel's OOM counter of its cgroup rose)"
    assert say_end(9, oom=True) == oom
    for words in ({"by_its_node": True}, {"oom": True}):
        assert say_end(11, **words) == "killed by SIGSEGV (11)"
        assert say_end(0, **words) == "exited with code 0"


def test_signals_without_a_name_are_still_named() -> None:
    assert name_signal(signal.SIGTERM) == "SIGTERM"
    assert name_signal(signal.SIGRTMIN + 3) == "SIGRTMIN+3"
    assert name_signal(33) == "an unknown signal"  # used by the C library itself

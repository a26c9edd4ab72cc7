"""The node's body in its small parts: output cut into lines, and what others are told of the node."""

from __future__ import annotations

import platform
import sys

import pytest

from dispycos.actors.host.run_node import Lines, describe
from dispycos.protocol.messages import NodeInfo

LINE_MAX = 1 << 20


def test_whole_lines_pass_and_the_rest_waits() -> None:
    lines = Lines()
    assert lines.take(b"one\ntwo\nthr") == "one\ntwo\n"
    assert lines.take(b"ee") == ""
    assert lines.take(b"\n") == "three\n"
    assert lines.rest() == ""


def test_the_rest_comes_at_the_end_once() -> None:
    lines = Lines()
    assert lines.take(b"last words") == ""
    assert lines.rest() == "last words"
    assert lines.rest() == ""


def test_a_character_cut_in_two_is_put_together() -> None:
    lines = Lines()
    data = "Zoë ✓\n".encode()
    assert "".join(lines.take(data[at : at + 1]) for at in range(len(data))) == "Zoë ✓\n"


def test_bytes_that_are_no_text_are_marked_not_dropped() -> None:
    assert Lines().take(b"a\xffb\n") == "a\ufffdb\n"


def test_half_a_character_at_the_end_is_marked_not_dropped() -> None:
    """A server that dies in the middle of a write: what came is shown."""
    lines = Lines()
    assert lines.take(b"dying \xe2\x9c") == ""
    assert lines.rest() == "dying \ufffd"


def test_empty_lines_stay() -> None:
    assert Lines().take(b"\n\na\n") == "\n\na\n"


def test_a_line_without_end_is_passed_on_before_it_fills_the_memory() -> None:
    """A progress bar writes carriage returns for hours."""
    lines = Lines()
    passed = 0
    for _ in range(64):
        passed += len(lines.take(b"\r" + b"x" * 65535))
    assert passed + LINE_MAX >= 64 * 65536
    assert passed + len(lines.rest()) == 64 * 65536


@pytest.mark.timeout(20)
def test_many_small_writes_without_newline_stay_cheap() -> None:
    lines = Lines()
    passed = sum(len(lines.take(b"x" * 16)) for _ in range(100_000))
    assert passed + len(lines.rest()) == 1_600_000


def test_a_node_is_described_by_what_clients_compare() -> None:
    info = describe("box", "10.0.0.5", 9700, 4, 900)
    assert info == NodeInfo(
        "box", "10.0.0.5", 9700, 4, platform.platform(), (sys.version_info[0], sys.version_info[1]), 900
    )
    assert info.available is None

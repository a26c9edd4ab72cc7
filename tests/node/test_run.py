"""The node's body in its small parts: output cut into lines, and what others are told of the node."""

from __future__ import annotations

import platform
import sys

import pytest

from dispycos.actors.node.processes.output import Lines
from dispycos.actors.node.run import describe
from dispycos.protocol.messages import NodeInfo

LINE_MAX = 1 << 20


def test_whole_lines_pass_and_the_rest_waits() -> None:
    lines = Lines()
    assert lines.take(b"one\ntwo\nthr") == b"one\ntwo\n"
    assert lines.take(b"ee") == b""
    assert lines.take(b"\n") == b"three\n"
    assert lines.rest() == b""


def test_the_rest_comes_at_the_end_once() -> None:
    lines = Lines()
    assert lines.take(b"last words") == b""
    assert lines.rest() == b"last words"
    assert lines.rest() == b""


def test_what_is_read_byte_by_byte_is_put_together() -> None:
    lines = Lines()
    data = "Zoë ✓\r\n".encode()
    assert [lines.take(data[at : at + 1]) for at in range(len(data))] == [b""] * (len(data) - 1) + [data]


def test_empty_lines_stay() -> None:
    assert Lines().take(b"\n\na\n") == b"\n\na\n"


def test_a_line_of_hundreds_of_kilobytes_is_one_line() -> None:
    lines = Lines()
    assert all(lines.take(b"x" * 65536) == b"" for _ in range(8))
    assert lines.take(b"\nnext\n") == b"x" * 8 * 65536 + b"\nnext\n"


def test_a_line_without_end_is_passed_on_before_it_fills_the_memory() -> None:
    lines = Lines()
    passed = b"".join(lines.take(b"x" * 65536) for _ in range(64))
    assert passed.count(b"x") >= 64 * 65536 - LINE_MAX
    assert passed.count(b"(cut: a line of more than 1048576 bytes goes on)\n") == 3


def test_a_bar_that_is_drawn_over_itself_is_seen_while_it_grows() -> None:
    lines = Lines()
    drawn = [b"\r 10%", b"\r 20%", b"\r 30%"]
    assert b"".join(map(lines.take, drawn)) == b"\r 10%\r 20%\r"
    assert lines.rest() == b" 30%"


@pytest.mark.timeout(20)
def test_many_small_writes_without_newline_stay_cheap() -> None:
    lines = Lines()
    passed = sum(lines.take(b"x" * 16).count(b"x") for _ in range(100_000))
    assert passed + len(lines.rest()) == 1_600_000


def test_a_node_is_described_by_what_clients_compare() -> None:
    info = describe("box", "10.0.0.5", 9700, 4, 900)
    assert info == NodeInfo(
        "box", "10.0.0.5", 9700, 4, platform.platform(), (sys.version_info[0], sys.version_info[1]), 900
    )
    assert info.available is None

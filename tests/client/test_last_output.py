"""That the last output is kept within its bounds, in bytes and lines, and that the numbers of lines are true."""

from __future__ import annotations

import json

import pytest

from dispycos.actors.client.last_output import LINES_MAX, SIZE_MAX, TEXT_MAX, LastOutput
from dispycos.actors.tasks.logs import MARK
from dispycos.protocol.messages import Output

ONE, TWO = Output("box/server-1", 1), Output("box/server-2", 2)


def printed(*texts: str) -> LastOutput:
    output = LastOutput()
    for number, text in enumerate(texts):
        output.add(ONE, text.encode(), float(number))
    return output


def test_lines_have_numbers_ages_and_their_server_and_are_told_once() -> None:
    output = printed("one\ntwo\n")
    output.add(TWO, [b"th", b"ree\n"], 2.0)
    told = [(line.n, line.ago_s, line.server, line.stream, line.text) for line in output.after(0, 100, 3.0)]
    assert told == [
        (1, 3.0, "box/server-1", 1, "one"),
        (2, 3.0, "box/server-1", 1, "two"),
        (3, 1.0, "box/server-2", 2, "three"),
    ]
    assert [line.n for line in output.after(2, 100, 3.0)] == [3]
    assert [line.n for line in output.after(0, 2, 3.0)] == [2, 3], "of too many the newest"
    assert output.after(3, 100, 3.0) == output.after(9, 100, 3.0) == output.after(0, -1, 3.0) == []


def test_half_a_line_and_empty_ones_count_as_lines() -> None:
    output = printed("a\n\nb\n", "half", "\n")
    assert [line.text for line in output.after(0, 100, 3.0)] == ["a", "", "b", "half", ""]
    assert output.count == 5


@pytest.mark.parametrize(
    ("chunks", "lines", "size"),
    [
        (3 * LINES_MAX, 1, 1),  # many short ones
        (300, 1, SIZE_MAX // 100),  # long ones
        (7, LINES_MAX // 3, 2),  # of which three fit
        (2, 3 * LINES_MAX, 1),  # more at once than is kept
        (2, 4, SIZE_MAX // 2),
        (2, 1, 3 * SIZE_MAX),  # a line that is longer than all that is kept
    ],
)
def test_what_is_kept_is_bounded_and_all_that_came_is_counted(chunks: int, lines: int, size: int) -> None:
    text = ("x" * size + "\n") * lines
    output = printed(*[text] * chunks)
    assert output.count == chunks * lines
    assert output._lines <= LINES_MAX and output._size <= SIZE_MAX
    assert output._lines == sum(chunk.data.count(b"\n") + 1 for chunk in output._chunks)
    assert output._size == sum(len(chunk.data) for chunk in output._chunks)
    told = output.after(0, 10 * LINES_MAX, 0.0)
    numbers = [line.n for line in told]
    assert numbers == sorted(set(numbers)) and numbers[-1] == output.count
    assert len(told) == output._lines >= min(LINES_MAX, SIZE_MAX // size) // 2
    assert [line.n for line in output.after(output.count - 1, LINES_MAX, 0.0)] == [output.count]
    assert {line.text for line in told} == {"x" * min(size, TEXT_MAX)}


def test_records_of_logs_are_read() -> None:
    record = {"name": "app", "levelno": 30, "levelname": "WARNING", "msg": "low on <b>fuel</b>"}
    output = printed(f"{MARK}{json.dumps(record)}\n{MARK}broken\n")
    told = [(line.stream, line.level, line.logger, line.text) for line in output.after(0, 100, 3.0)]
    assert told == [(0, "warning", "app", "low on <b>fuel</b>"), (1, "", "", f"{MARK}broken")]


def test_the_last_lines_of_a_server_until_then() -> None:
    output = printed("first\nsecond\n")
    output.add(TWO, b"not mine\n", 0.5)
    output.add(ONE, b"last\n", 1.0)
    output.add(ONE, b"of the next one\n", 9.0)
    assert output.of("box/server-1", 2.0, 2) == ["second", "last"]

"""What a client says to people, on whatever its standard output and error are."""

from __future__ import annotations

import io
import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, TextIO

import pytest

from dispycos.actors.client.code import ClientPayloads
from dispycos.actors.client.output import UNREAD_TOLD, print_errors, print_output, tell_unread
from dispycos.actors.dispatching.facts import Entry
from dispycos.actors.tasks.ends import Raised
from dispycos.actors.tasks.logs import encode_record
from dispycos.actors.tasks.results import pack_outcome
from dispycos.actors.tasks.streams import Stream, say
from dispycos.protocol.addresses import Location
from dispycos.protocol.messages import TaskId

PARCELS = ClientPayloads()
OUT, ERR = Stream("stdout"), Stream("stderr")


def raised(number: int, error: Exception) -> Entry:
    """A task that ended by this error."""
    record = Entry("compute", task=TaskId(7, number), call=None)
    record.location = Location("10.0.0.5", 9701)
    kind, record.payload = pack_outcome(PARCELS, Raised(error), "compute", False)
    record.outcome = int(kind)
    return record


def test_each_line_of_output_names_its_server(capsys: pytest.CaptureFixture[str]) -> None:
    print_output(OUT, "box/server-1", "one\ntwo\n")
    print_output(ERR, "box/server-1", "oops")
    assert capsys.readouterr() == (
        "[box/server-1] one\n[box/server-1] two\n",
        "[box/server-1] oops\n",
    )


def test_an_empty_line_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_output(OUT, "box/server-1", "\n")
    assert capsys.readouterr().out == "[box/server-1] \n"


def test_only_ends_of_lines_end_lines(capsys: pytest.CaptureFixture[str]) -> None:
    print_output(OUT, "s", "10%\r20%\r\na\u2028b\x1cc\n")
    assert capsys.readouterr().out == "[s] 10%\n[s] 20%\n[s] a\u2028b\x1cc\n"


def test_an_error_that_nobody_awaited_is_told_with_its_traceback(capsys: Any) -> None:
    tell_unread(ERR, PARCELS, [raised(16, ValueError("no such value"))])
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "[compute at 10.0.0.5:9701] nobody awaited this error:"
    assert told[-1] == "[compute at 10.0.0.5:9701] ValueError: no such value"


def test_of_many_errors_a_few_are_told_and_the_rest_counted(capsys: Any, caplog: Any) -> None:
    tell_unread(ERR, PARCELS, [raised(16 + n, ValueError(f"number {n}")) for n in range(UNREAD_TOLD + 3)])
    assert capsys.readouterr().err.count("nobody awaited") == UNREAD_TOLD
    assert "3 more tasks raised" in caplog.text


def test_warnings_are_warnings(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "dispycos"):
        say("a warning", "warning")
        say("a remark")
    assert [(entry.levelname, entry.message) for entry in caplog.records] == [
        ("WARNING", "a warning"),
        ("INFO", "a remark"),
    ]


def test_a_handler_that_raises_costs_its_line_only() -> None:
    heard: list[str] = []

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record.getMessage())
            raise OSError("no more space")

    handler = Broken()
    logging.getLogger("dispycos").addHandler(handler)
    try:
        say("a warning", "warning")
        say("another one", "warning")
    finally:
        logging.getLogger("dispycos").removeHandler(handler)
    assert heard == ["a warning", "another one"]


# --- streams that do not take it ---


class OnlyWrite:
    """What a program with a window puts in the place of sys.stdout."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, text: str) -> None:
        self.text += text


class Refusing:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def write(self, text: str) -> None:
        raise self.error


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize(
    "stream",
    [
        closed(),
        Refusing(OSError(28, "No space left")),
        Refusing(RuntimeError("the window is gone")),
        object(),
    ],
)
def test_a_stream_that_takes_nothing_costs_one_word(stream: Any, monkeypatch: Any, caplog: Any) -> None:
    out = Stream("stdout")
    monkeypatch.setattr("sys.stdout", stream)
    for number in range(200):
        print_output(out, "s", f"line {number}\n")
    assert len(caplog.records) == 1 and "sys.stdout does not take what tasks print" in caplog.text


def test_a_program_without_a_console_prints_nothing(monkeypatch: Any, caplog: Any) -> None:
    monkeypatch.setattr("sys.stdout", None)
    print_output(Stream("stdout"), "s", "line\n")
    assert not caplog.records and not Stream("stdout").is_terminal()


def test_an_object_with_write_alone_is_enough(monkeypatch: Any) -> None:
    stream = OnlyWrite()
    monkeypatch.setattr("sys.stdout", stream)
    print_output(Stream("stdout"), "s", "line\n")
    assert stream.text == "[s] line\n"


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", r"\u2603 \xfc"), ("latin-1", "\\u2603 \xfc")])
def test_what_an_encoding_has_not_is_written_out(encoding: str, shown: str, monkeypatch: Any) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(raw, encoding=encoding))
    print_output(Stream("stdout"), "s", "\u2603 \xfc\n")
    assert raw.getvalue() == f"[s] {shown}\n".encode(encoding)


@pytest.fixture
def pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe that does not block: its reading end, and a stream."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    stream = open(writing, "w")  # noqa: SIM115
    yield reading, stream
    os.close(reading)
    with suppress(OSError):
        stream.close()


def test_a_pipe_that_does_not_block_gets_everything_when_its_reader_is_slow(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, stream = pipe
    text = "".join(f"{number:06} \u2603\n" for number in range(20_000))
    expected = "".join(f"[s] {line}\n" for line in text.splitlines())
    got = bytearray()

    def read() -> None:
        while len(got) < len(expected.encode()) and (data := os.read(reading, 4096)):
            got.extend(data)
            time.sleep(0.0005)

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    monkeypatch.setattr("sys.stdout", stream)
    print_output(Stream("stdout"), "s", text)
    reader.join(20)
    assert got.decode() == expected


def test_a_pipe_that_nobody_reads_is_waited_for_once(
    pipe: tuple[int, TextIO], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("sys.stdout", pipe[1])
    out = Stream("stdout")
    began = time.monotonic()
    for _ in range(50):
        print_output(out, "s", "x" * 100_000)
    assert time.monotonic() - began < 5
    assert len(caplog.records) == 1


# --- log records ---


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


def line_of(message: str, level: int = logging.WARNING) -> str:
    record = logging.LogRecord("etl.load", level, "/job.py", 7, message, None, None)
    return encode_record(record, "load").decode()


def test_records_between_lines_go_to_the_programs_handlers(capsys: Any) -> None:
    kept = Kept()
    logger = logging.getLogger("etl")
    logger.addHandler(kept)
    try:
        print_errors(ERR, "box/server-2", f"before\n10%{line_of('one')}{line_of('two')}after\n")
    finally:
        logger.removeHandler(kept)
    assert [record.getMessage() for record in kept.records] == ["one", "two"]
    assert capsys.readouterr().err == "[box/server-2] before\n[box/server-2] 10%\n[box/server-2] after\n"


def test_what_looks_like_a_record_and_is_none_is_a_line(capsys: Any) -> None:
    for text in ("\x1e{torn\n", '\x1e{"name": 3}\n', "\x1e[]\n", "\x1e\n"):
        print_errors(ERR, "s", text)
    assert capsys.readouterr().err == '[s] {torn\n[s] {"name": 3}\n[s] []\n[s] \n'


def test_a_record_whose_handler_raises_is_a_line(capsys: Any) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise ValueError("closed")

    logger = logging.getLogger("etl")
    handler = Broken()
    logger.addHandler(handler)
    try:
        print_errors(ERR, "s", line_of("one"))
    finally:
        logger.removeHandler(handler)
    assert capsys.readouterr().err == "[s] WARNING etl.load: one\n"

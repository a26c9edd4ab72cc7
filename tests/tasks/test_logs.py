"""Log records from a task to its client's handlers, and the levels the other way."""

from __future__ import annotations

import json
import logging
import os
import tempfile
from collections.abc import Iterator
from typing import Any

import pytest

from dispycos.actors.tasks.logs import (
    LOOK_S,
    MARK,
    LevelSetter,
    LevelWatch,
    RecordWriter,
    decode_record,
    encode_record,
    handle_record,
    levels_here,
    readable,
)


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    level = root.level
    yield root
    root.setLevel(level)


@pytest.fixture
def etl() -> Iterator[logging.Logger]:
    """A logger that pytest's own handlers do not hear."""
    etl = logging.getLogger("etl")
    etl.propagate = False
    yield etl
    etl.propagate = True
    etl.setLevel(logging.NOTSET)
    etl.handlers.clear()


def there_and_back(message: object, *args: object, **more: Any) -> logging.LogRecord:
    """What a client makes of what a task logs."""
    logger = logging.Logger("etl")
    with tempfile.TemporaryFile() as file:
        logger.addHandler(RecordWriter(file.write, lambda: "load"))
        logger.error(message, *args, **more)
        file.seek(0)
        line = file.read().decode()
    assert line.startswith(MARK) and line.endswith("\n") and line.count("\n") == 1
    record = decode_record(line[1:], "box/server-1")
    assert record is not None
    return record


def test_a_record_says_all_that_formats_ask_for() -> None:
    record: Any = there_and_back(
        "row %d of %s", 3, "a\nb", extra={"job": 17, "odd": {1, 2}, "long": "x" * 5000}
    )
    assert (record.name, record.levelno, record.levelname) == ("etl", logging.ERROR, "ERROR")
    assert record.getMessage() == "row 3 of a\nb"
    assert (record.filename, record.funcName) == ("test_logs.py", "there_and_back")
    assert (record.server, record.processName, record.task) == ("box/server-1", "box/server-1", "load")
    assert (record.process, record.job, record.odd) == (os.getpid(), 17, "{1, 2}")
    assert record.long.endswith("(cut: 5,000 characters)")
    assert logging.Formatter("%(asctime)s %(job)s %(message)s").format(record).endswith(" 17 row 3 of a\nb")


def test_a_traceback_comes_with_its_record() -> None:
    try:
        raise ValueError("bad row")
    except ValueError:
        record = there_and_back("failed", exc_info=True)
    assert logging.Formatter().format(record).splitlines()[-1] == "ValueError: bad row"


def test_a_long_message_is_cut_with_a_word() -> None:
    assert there_and_back("x" * 2_000_000).getMessage().endswith("... (cut: 2,000,000 characters)")


def test_what_is_no_unicode_and_no_string_arrives_in_words() -> None:
    assert there_and_back("caf\udce9").getMessage() == r"caf\udce9"
    assert there_and_back(["a", 1]).getMessage() == "['a', 1]"


def test_arguments_that_do_not_fit_cost_no_traceback(capsys: Any) -> None:
    record = there_and_back("%d rows", "many")
    assert record.getMessage().startswith("%d rows (with arguments that do not fit: TypeError:")
    assert capsys.readouterr().err == ""


def test_a_forked_process_is_named_beside_its_server() -> None:
    fields = json.loads(encode_record(logging.LogRecord("a", 20, "", 1, "m", (), None), "")[1:])
    fields["processName"] = "ForkProcess-1"
    record = decode_record(json.dumps(fields), "box/server-1")
    assert record is not None and record.processName == "box/server-1 ForkProcess-1"


def test_without_a_handler_it_is_text_for_the_terminal(etl: logging.Logger) -> None:
    record = there_and_back("gone")
    etl.handlers.clear()
    assert handle_record(record) == "ERROR etl: gone"
    record.exc_text = "Traceback ..."
    assert handle_record(record) == "ERROR etl: gone\nTraceback ..."


def test_what_the_program_does_not_want_is_dropped(etl: logging.Logger) -> None:
    record = there_and_back("gone")
    etl.setLevel(logging.CRITICAL)
    assert handle_record(record) is None


def test_its_filters_and_handlers_are_asked(etl: logging.Logger) -> None:
    seen: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: seen.append(record.getMessage())  # type: ignore[method-assign]
    handler.addFilter(lambda record: record.getMessage() != "no")
    etl.addHandler(handler)
    for message in ("yes", "no"):
        assert handle_record(there_and_back(message)) is None
    assert seen == ["yes"]


def test_kept_lines_are_readable() -> None:
    line = encode_record(logging.LogRecord("etl", logging.INFO, "", 1, "done", (), None), "").decode()
    assert readable(line.rstrip("\n")) == "INFO etl: done"
    assert readable("plain") == "plain" and readable(MARK + "torn") == "torn"


# --- levels ---


@pytest.fixture
def loggers(root: logging.Logger) -> Iterator[None]:
    yield
    for name in ("levels_a", "levels_b", "dispycos.x"):
        logging.getLogger(name).setLevel(logging.NOTSET)
    logging.disable(logging.NOTSET)


def test_servers_log_what_their_client_logs(root: logging.Logger, loggers: None) -> None:
    root.setLevel(logging.INFO)
    logging.getLogger("levels_a").setLevel(logging.DEBUG)
    logging.getLogger("dispycos.x").setLevel(logging.DEBUG)
    here = levels_here()
    for name in ("", "levels_a", "dispycos.x"):
        logging.getLogger(name).setLevel(logging.ERROR)
    setter = LevelSetter()
    setter.take(here)
    assert root.level == logging.INFO and logging.getLogger("levels_a").level == logging.DEBUG
    assert logging.getLogger("dispycos.x").level == logging.ERROR, "our own loggers are no business of theirs"
    logging.getLogger("levels_a").setLevel(logging.NOTSET)
    again = levels_here()
    logging.getLogger("levels_a").setLevel(logging.DEBUG)
    setter.take(again)
    assert logging.getLogger("levels_a").level == logging.NOTSET


def test_logging_that_is_disabled_is_disabled_there(root: logging.Logger, loggers: None) -> None:
    root.setLevel(logging.DEBUG)
    logging.disable(logging.WARNING)
    here = levels_here()
    logging.disable(logging.NOTSET)
    LevelSetter().take(here)
    assert not root.isEnabledFor(logging.WARNING) and root.isEnabledFor(logging.ERROR)


def test_a_change_is_seen_at_once_at_the_root_and_soon_elsewhere(root: logging.Logger, loggers: None) -> None:
    watch = LevelWatch()
    assert watch.news(10.0) is None
    root.setLevel(logging.DEBUG)
    assert watch.news(10.0) == levels_here()
    logging.getLogger("levels_b").setLevel(logging.DEBUG)
    assert watch.news(10.0) is None
    assert watch.news(10.0 + LOOK_S) == levels_here()
    assert watch.news(11.0) is None


def test_a_message_of_the_wrong_kind_is_no_record() -> None:
    assert decode_record("3", "s") is None and decode_record('{"name": "a", "levelno": "x"}', "s") is None
    assert decode_record("[" * 100_000, "s") is None

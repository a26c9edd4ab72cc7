"""Log records of tasks: a server writes each as a line of JSON, and the client's own logging handles it.

They go by the pipe of the server's standard error and not by its mailbox: there a record comes out though the process crashes
right behind it, forked children can log, and one bound holds for all output. A line begins with the record separator of
JSON text sequences (RFC 7464). What the client does not want is not sent: its levels are copied to the servers.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import msgspec

from dispycos.protocol.envelope import Buffer
from dispycos.protocol.texts import NAME_MAX, cut

MARK = "\x1e"
TEXT_MAX = 64 * 1024  # characters of a message, and of its traceback
VALUE_MAX = 1000  # characters of what a program adds to its records
LOGGERS_MAX = 1000  # with a level of their own
LOOK_S = 0.1  # how often the levels of all loggers are compared

_TEXTS = ("msg", "args", "exc_info", "exc_text", "stack_info")
_OWN = ("dispycos", "zeroconf")
_PLAIN = frozenset((str, int, float, bool, type(None)))
_tracebacks = logging.Formatter()
_levels = msgspec.msgpack.Decoder(dict[str, int])


# --- at the server ---


class RecordWriter(logging.Handler):
    """Has records written; `task_name` tells whose task logs."""

    def __init__(self, write: Callable[[bytes], object], task_name: Callable[[], str]) -> None:
        super().__init__()
        self._write = write
        self._task_name = task_name

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._write(encode_record(record, self._task_name()))
        except Exception:
            self.handleError(record)


def encode_record(record: logging.LogRecord, task: str) -> bytes:
    """The line of this record."""
    texts = {"exc_text": record.exc_text, "stack_info": record.stack_info}
    if record.exc_info and not record.exc_text:
        texts["exc_text"] = _tracebacks.formatException(record.exc_info)
    fields = {name: _plain(value) for name, value in vars(record).items() if name not in _TEXTS}
    fields |= {name: text and cut(text, TEXT_MAX, TEXT_MAX // 2) for name, text in texts.items()}
    fields |= {"msg": cut(_message_of(record), TEXT_MAX), "task": task}
    return f"{MARK}{json.dumps(fields)}\n".encode()


def _message_of(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # logging itself prints a traceback for each of these
        return f"{record.msg} (with arguments that do not fit: {type(error).__name__}: {error})"


def _plain(value: Any) -> Any:
    return value if type(value) in _PLAIN and type(value) is not str else cut(str(value), VALUE_MAX)


class LevelSetter:
    """Makes the loggers of this process as choosy as the client's."""

    def __init__(self) -> None:
        self._set: set[str] = set()

    def take(self, encoded: Buffer) -> None:
        levels = _levels.decode(encoded)
        for name in self._set - set(levels):
            logging.getLogger(name).setLevel(logging.NOTSET)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        self._set = set(levels)


# --- at the client ---


def levels_here() -> bytes:
    """The levels of this program's loggers, encoded; "" is the root."""
    manager = logging.root.manager
    levels = {"": logging.root.level}
    for name, logger in list(manager.loggerDict.items()):
        own_level = isinstance(logger, logging.Logger) and logger.level
        if (
            own_level
            and len(name) <= NAME_MAX
            and name.split(".")[0] not in _OWN
            and len(levels) < LOGGERS_MAX
        ):
            levels[name] = own_level
    return msgspec.msgpack.encode({name: max(level, manager.disable + 1) for name, level in levels.items()})


class LevelWatch:
    """Sees that this program changed what it logs: at once for the root, else within LOOK_S."""

    def __init__(self) -> None:
        self._told = levels_here()
        self.root = logging.root.level
        self._look_at = 0.0

    def news(self, now: float) -> bytes | None:
        """The levels, if they are others than before."""
        if now < self._look_at and logging.root.level == self.root:
            return None
        self._look_at, self.root = now + LOOK_S, logging.root.level
        levels = levels_here()
        if levels == self._told:
            return None
        self._told = levels
        return levels


def decode_record(line: str, server: str) -> logging.LogRecord | None:
    """The record in what followed MARK; None if it is none: anybody can write to that pipe."""
    try:
        fields = json.loads(line)
        record = logging.makeLogRecord(fields)
    except (ValueError, TypeError, RecursionError):
        return None
    if type(record.name) is not str or type(record.levelno) is not int or type(record.msg) is not str:
        return None
    record.server = server
    process = record.processName
    record.processName = server if process == "MainProcess" else f"{server} {process}"
    return record


def handle_record(record: logging.LogRecord) -> str | None:
    """Give it to this program's logging. The text for a terminal, if it has no handler for it."""
    logger = logging.getLogger(record.name)
    if not logger.isEnabledFor(record.levelno):
        return None
    if logger.hasHandlers():
        logger.handle(record)
        return None
    trace = f"\n{record.exc_text}" if record.exc_text else ""
    return f"{record.levelname} {record.name}: {record.msg}{trace}"


def readable(line: str) -> str:
    """A line of a server's standard error as people read it."""
    if not line.startswith(MARK):
        return line
    record = decode_record(line[1:], "")
    return line[1:] if record is None else f"{record.levelname} {record.name}: {record.msg}"

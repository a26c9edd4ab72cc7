"""The names of pycos.logger: lines with a time on standard output, by a logger of Python's own."""

from __future__ import annotations

import logging
import sys
from typing import Any

from .small import Closing


class _Output(logging.StreamHandler[Any]):
    """Standard output as it is at the moment."""

    def __init__(self) -> None:
        super().__init__()

    @property
    def stream(self) -> Any:
        return sys.stdout

    @stream.setter
    def stream(self, stream: Any) -> None: ...


class Logger(Closing):
    """``Logger(name)``: debug(), info() ... as a logger of Python's logging, which it is; `stream` takes a file."""

    DEBUG, INFO, WARNING, WARN = logging.DEBUG, logging.INFO, logging.WARNING, logging.WARNING
    ERROR, CRITICAL, FATAL = logging.ERROR, logging.CRITICAL, logging.CRITICAL

    def __init__(
        self, name: str = "pycos", stream: Any = None, level: int | None = None, log_ms: bool = False
    ) -> None:
        self._logger = logging.getLogger(name)
        self._handler: logging.Handler = logging.StreamHandler(stream) if stream is not None else _Output()
        if not self._logger.handlers:
            self._logger.addHandler(self._handler)
            self._logger.propagate = False
            self._logger.setLevel(logging.INFO if level is None else level)
        elif level is not None:
            self._logger.setLevel(level)
        self.show_ms(log_ms)

    def show_ms(self, flag: bool) -> None:
        """Whether times have milliseconds."""
        ms = ".%(msecs)03d" if flag else ""
        formatter = logging.Formatter(f"%(asctime)s{ms} %(name)s - %(message)s", "%Y-%m-%d %H:%M:%S")
        for handler in self._logger.handlers:
            handler.setFormatter(formatter)

    def close(self) -> None:
        """What is pending is written."""
        self._handler.flush()

    flush = shutdown = close

    def log(self, message: Any, *args: Any) -> None:
        """Whatever the level is."""
        self._logger.log(self._logger.level or logging.INFO, message, *args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._logger, name)


logger = Logger("pycos")

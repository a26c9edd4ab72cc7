"""Simulations that run beside the other tests: begun when the tests are known, asked for their findings at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from .programs import ROOT, is_running, wait_until

END = {"of": "all"}  # its last line
PLAYED_S = 1500.0  # seconds; a very busy machine plays them in less


class Playing:
    """A process that plays what `python -m tests.sim --suite` plays; ended by `end`, whatever became of the tests."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dc-beside-")
        findings = Path(self._folder.name) / "findings"
        with findings.open("w") as said:
            command = [sys.executable, "-m", "tests.sim", "--suite"]
            self._process = subprocess.Popen(command, cwd=ROOT, stdout=said)
        self.place = (self._process.pid, str(findings))  # for a Beside, in whichever process

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._folder.cleanup()


class Beside:
    """What that process has found: waited for until it has ended."""

    def __init__(self, pid: int, findings: str) -> None:
        self._pid = pid
        self._file = Path(findings)
        self._findings: list[dict[str, Any]] | None = None

    def failures(self, simulator: str, at_least: int) -> list[str]:
        """Of the schedules that it played."""
        (played,) = [found for found in self._heard() if found["of"] == simulator and "schedules" in found]
        assert played["schedules"] >= at_least
        return list(played["failures"])

    def shows(self, simulator: str, bug: str) -> bool:
        """Whether it found this planted fault."""
        (searched,) = [
            found for found in self._heard() if found["of"] == simulator and found.get("bug") == bug
        ]
        assert "error" not in searched, searched["error"]
        return bool(searched["shows"])

    def _heard(self) -> list[dict[str, Any]]:
        """What it said, a dict a line. Fails when it ended before the last."""
        if self._findings is None:
            wait_until(self._has_ended, PLAYED_S, "the simulations are played")
            self._findings = [json.loads(line) for line in self._file.read_text().splitlines()]
        assert self._findings[-1:] == [END], "python -m tests.sim --suite failed: see what it said"
        return self._findings[:-1]

    def _has_ended(self) -> bool:
        try:
            return not is_running(psutil.Process(self._pid))
        except psutil.NoSuchProcess:
            return True

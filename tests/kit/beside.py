"""Simulations that run beside the other tests: begun when the tests are known, asked for their findings at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from .programs import ROOT

PLAYED_S = 1500.0  # seconds; a very busy machine plays them in less


class Beside:
    """A process that plays what `python -m tests.sim --suite` plays; ended by `end`, whatever became of the tests."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "tests.sim", "--suite"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        self._findings: list[dict[str, Any]] | None = None

    def failures(self, simulator: str) -> list[str]:
        """Of the schedules that it played."""
        (played,) = [found for found in self._heard() if found["of"] == simulator and "schedules" in found]
        assert played["schedules"] >= 2000
        return list(played["failures"])

    def shows(self, simulator: str, bug: str) -> bool:
        """Whether it found this planted fault."""
        (searched,) = [
            found for found in self._heard() if found["of"] == simulator and found.get("bug") == bug
        ]
        assert "error" not in searched, searched["error"]
        return bool(searched["shows"])

    def _heard(self) -> list[dict[str, Any]]:
        """What it said, a dict a line. Fails when it failed."""
        if self._findings is None:
            said, _ = self._process.communicate(timeout=PLAYED_S)
            code = self._process.returncode
            assert code == 0, f"python -m tests.sim --suite ended with exit code {code}"
            self._findings = [json.loads(line) for line in said.splitlines()]
        return self._findings

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

"""Simulations that run beside the other tests: begun when the tests are known, asked for their findings at the end."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from typing import Any

from .programs import ROOT

PLAYED_S = 600.0  # a busy machine plays them in less


class Beside:
    """A process that plays what `python -m tests.sim --suite` plays; ended by `end`, whatever became of the tests."""

    def __init__(self) -> None:
        self._said = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.sim", "--suite"], cwd=ROOT, stdout=self._said
        )
        self._findings: list[dict[str, Any]] | None = None

    def findings(self) -> list[dict[str, Any]]:
        """What it said, a dict a line. Fails when it failed."""
        if self._findings is None:
            code = self._process.wait(PLAYED_S)
            assert code == 0, f"python -m tests.sim --suite ended with exit code {code}"
            self._said.seek(0)
            self._findings = [json.loads(line) for line in self._said]
        return self._findings

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        self._said.close()

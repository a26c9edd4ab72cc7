"""What a program is called: its script, or its notebook."""

from __future__ import annotations

import sys

import pytest

from dispycos.actors.client.program_name import KERNEL, program_name


@pytest.mark.parametrize(
    ("argv", "session", "name"),
    [
        (["/home/me/jobs.py", "3"], "", "jobs.py"),
        (["/home/me/jobs.py"], "/home/me/other.ipynb", "jobs.py"),  # started by a notebook's kernel
        ([f"/lib/{KERNEL}", "-f", "kernel.json"], "/home/me/fit.ipynb", "fit.ipynb"),
        ([f"/lib/{KERNEL}"], "", "notebook"),
        (["/lib/pytest/__main__.py", "-q"], "", "pytest"),  # python -m pytest
        ([""], "", "python"),
        ([], "", "python"),
    ],
)
def test_a_program_is_called_as_its_file(
    monkeypatch: pytest.MonkeyPatch, argv: list[str], session: str, name: str
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setenv("JPY_SESSION_NAME", session)
    assert program_name() == name

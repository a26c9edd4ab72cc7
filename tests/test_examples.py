"""Each file in examples/ is run as a user would run it: alone, and with `dispycos node` started by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kit.programs import ROOT, Program, User

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXAMPLE_S = 40.0

pytestmark = pytest.mark.timeout(60)


def check(example: Path, program: Program, locations: int | None) -> None:
    out = program.succeed(EXAMPLE_S)
    assert out.strip(), "an example shows what it did"
    assert "Traceback" not in program.err, program.told()
    if example.name == "hello.py":
        assert out.startswith("17984 primes below 200,000, counted by "), out
    if example.name == "dispycos_client2.py":
        lines = [
            re.fullmatch(r"result for (\d+) from ([\d.]+:\d+): ([\d.]+)", line) for line in out.splitlines()
        ]
        assert all(lines) and len(lines) == len(arguments_of(example)) * 4, out
        found = {line[2] for line in lines if line}
        assert locations is None or len(found) == locations, found


def arguments_of(example: Path) -> list[str]:
    return ["4"] if example.name == "dispycos_client2.py" else []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_alone(example: Path, user: User) -> None:
    check(example, user.python(str(example), *arguments_of(example)), None)
    assert user.processes() == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_uses_nodes_that_were_started_by_hand(example: Path, cluster: User) -> None:
    """Four tasks of half a second and more, one after the other: each of the four servers gets one."""
    check(example, cluster.python(str(example), *arguments_of(example)), 4)

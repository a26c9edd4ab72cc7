"""Each file in examples/ is run as a user would run it: alone, and with `dispycos node` started by hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.kit.programs import ROOT, Program, User

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXAMPLE_S = 40.0
ARGUMENTS = {
    "dispycos_client1.py": ["--jobs", "8", "--port", "0"],
    "dispycos_client2.py": ["4"],
    "dispycos_httpd1.py": ["0.5", "1", "1.5", "--port", "0"],
    "dispycos_httpd2.py": ["--tasks", "3", "--port", "0"],
}
URL = r"^http://127\.0\.0\.1:\d+/\?token=\S+$"  # alone on its line

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
        assert all(lines) and len(lines) == 4, out
        found = {line[2] for line in lines if line}
        assert locations is None or len(found) == locations, found

    if example.name == "dispycos_client1.py":
        places = re.findall(r"^job \d processed by ([\d.]+:\d+): [\d,]+ rounds$", out, re.M)
        assert len(places) == 8 and re.search(URL, out, re.M), out
        assert locations is None or len(set(places)) == locations, places
    if example.name == "dispycos_httpd1.py":
        assert (
            re.search(URL, out, re.M) and len(re.findall(r"^Job\(\d, [\d.]+ s\) ended at", out, re.M)) == 3
        ), out
    if example.name == "dispycos_httpd2.py":
        assert re.search(URL, out, re.M) and len(re.findall(r"^rtask wait at \S+: done", out, re.M)) == 3, out
        assert len(re.findall(r"^server at \S+ is ready", out, re.M)) >= 1, out


def arguments_of(example: Path) -> list[str]:
    return ARGUMENTS.get(example.name, [])


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs_alone(example: Path, user: User) -> None:
    check(example, user.python(str(example), *arguments_of(example)), None)
    assert user.processes() == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_uses_nodes_that_were_started_by_hand(example: Path, cluster: User) -> None:
    """Four tasks of half a second and more, one after the other: each of the four servers gets one."""
    check(example, cluster.python(str(example), *arguments_of(example)), 4)

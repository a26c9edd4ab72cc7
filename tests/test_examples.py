"""Each file in examples/ is run as a user would run it: alone, and some with `dispycos node` started by hand."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.kit.programs import ROOT, Program, User

EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
EXAMPLE_S = 60.0
AT_ONCE = 4  # alone most of their time is waiting
PLACE = r"[\d.]+:\d+"
URL = r"^http://127\.0\.0\.1:\d+/\?token=\S+$"  # alone on its line


class Shows(NamedTuple):
    """What an example prints: each pattern on so many lines. `places` is found once for each task, with the server's location."""

    arguments: list[str]
    lines: dict[str, int]
    places: str = ""
    typed: str = ""


SHOWS = {
    "hello": Shows([], {r"^17984 primes below 200,000, counted by [12] server processes$": 1}),
    "channels": Shows(
        ["--ticks", "300"],
        {rf"^(ACME|BOLT|CORE): \d+ prices, from [\d.]+ to [\d.]+, seen at {PLACE}$": 3},
    ),
    "grid_search": Shows(
        ["--samples", "200"],
        {
            r"^36 fits in [\d.]+ s$": 1,
            r"^best: \{'C': [\d.]+, 'gamma': [\d.]+\}, right in [\d.]+% of the cases$": 1,
        },
    ),
    "log_watch": Shows(["--seconds", "1"], {r"^\S+: [\d:]{8} (info|warning|error): request took \d+ ms$": 3}),
    "monte_carlo_pi": Shows(
        ["--rounds", "20", "--darts", "20000"],
        {r"^400,000 darts: pi is about 3\.1[34]\d\d, off by 0\.0\d+$": 1},
    ),
    "named_actors": Shows(
        ["--transfers", "20"],
        {
            r"^\d+ transfers were made, \d+ refused$": 1,
            r"^alice has \d+, bob has \d+, carol has \d+$": 1,
            r"^together 300, as at the start: 300$": 1,
        },
    ),
    "pipeline": Shows(
        ["--lines", "5000"],
        {
            r"^5000 lines in [\d.]+ s, \d+ of them with an error$": 1,
            r"^[\d,]+ bytes were sent; most of /page/\d+: [\d,]+$": 1,
        },
    ),
    "retry_downloads": Shows(
        ["--jobs", "20", "--tries", "4"],
        {
            r"^\d+ of 20 downloads came, \d+ of them not at the first try$": 1,
            r"^failed: http://127.0.0.1:\d+/[19]9?: HTTPError: HTTP Error 503: not now$": 2,
        },
    ),
    "supervisor": Shows(
        [],
        {
            r"^worker-\d is done, at attempt \d$": 3,
            r"^worker-\d ended by (RuntimeError|TaskLost), and is started again$": 3,
            r"^\d of 6 workers came to a good end$": 1,
        },
    ),
    "word_count": Shows(
        ["README.md", "--top", "1"],
        {
            r"^[\d,]+ words, [\d,]+ different ones, in 1 files$": 1,
            r"^ +[\d,]+ [a-z]+$": 1,
        },
    ),
    "dispycos_client1": Shows(
        ["--jobs", "4", "--port", "0"],
        {URL: 1, rf"^job \d processed by {PLACE}: [\d,]+ rounds$": 4},
        rf"processed by ({PLACE})",
    ),
    "dispycos_client2": Shows(["4"], {rf"^result for \d from {PLACE}: [\d.]+$": 4}, rf"from ({PLACE})"),
    "dispycos_client3": Shows(["--jobs", "4"], {r"^result for job \d: (0|1|1\.414|1\.732)": 4}),
    "dispycos_client4": Shows(
        [], {rf"^dispycos_client\d+\.py was counted at {PLACE}: mostly '\w+'; all words are in \S+words$": 4}
    ),
    "dispycos_client5": Shows(
        ["--programs", "2"],
        {
            r"^program [01]: line [123] has [234] words$": 6,
            rf"^program [01] ended with 0 at {PLACE}$": 2,
        },
    ),
    "dispycos_client7": Shows(
        ["--jobs", "4"],
        {rf"^compute started at {PLACE}$": 4, rf"^compute at {PLACE} finished: \([0-3], [\d.]+\)$": 4},
        rf"started at ({PLACE})",
    ),
    "dispycos_client8": Shows(
        ["--steps", "4"],
        {
            r"task [01] heard [123] in step \d$": 6,
            rf"^task [01] at {PLACE} heard messages that sum up to 6$": 2,
        },
    ),
    "dispycos_client9_node": Shows(
        [],
        {r"^node \S+ has dispycos_\w+\.py$": 1, r"^(md5|sha1|sha256) of dispycos_\w+\.py: [0-9a-f]{32}$": 6},
    ),
    "dispycos_client9_server": Shows(
        [],
        {
            rf"^server {PLACE} has dispycos_\w+\.py$": 1,  # tasks may end before another is found
            r"^(md5|sha1|sha256) of dispycos_\w+\.py: [0-9a-f]{32}$": 6,
        },
    ),
    "dispycos_client10": Shows(
        ["--jobs", "4"],
        {
            r"^computation (\d) in process \d+ saw \[\1\]$": 4,
            r"^4 computations ran in 4 processes; 4 servers were closed$": 1,
        },
    ),
    "dispycos_cloud_computing": Shows(
        ["--jobs", "4"], {rf"^result for (\d): \d, computed by \S+ at {PLACE}$": 4}, rf" at ({PLACE})$"
    ),
    "dispycos_httpd1": Shows(
        ["0.5", "1", "1.5", "--port", "0"], {URL: 1, r"^Job\(\d, [\d.]+ s\) ended at": 3}
    ),
    "dispycos_httpd2": Shows(
        ["--tasks", "3", "--port", "0"],
        {
            URL: 1,
            r"^rtask wait at \S+: done": 3,
            rf"^server at {PLACE} is ready$": 1,  # tasks may end before another is found
        },
    ),
    "dispycos_kbd_int": Shows(
        ["--seconds", "0.5"],
        {
            rf"^update from {PLACE}: f\(-?[\d.]+\) = -?[\d.]+$": 2,
            r"^best of 2 tasks: f\(-?[\d.]+\) = 0\.\d+$": 1,
        },
    ),
    "dispycos_live_analytics": Shows(
        ["--count", "1000"],
        {
            r"^trend is (high|low) at \d+: the average is -?0\.\d+$": 1,
            r"^1000 numbers were analysed$": 1,
            r"^1000 numbers are in \S+numbers\.bin$": 1,
        },
    ),
    "dispycos_mas": Shows(
        ["--seconds", "1"], {rf"^the agent at {PLACE} says \d+$": 3}, rf"agent at ({PLACE})"
    ),
    "dispycos_mem_servers": Shows(
        [],
        {
            rf"^server at {PLACE} has dispycos_\w+\.py: \d+ lines, sha1 [0-9a-f]{{16}}$": 2,
            r"^asked for the weather it says: 'weather' is no question of mine$": 2,
        },
        rf"^server at ({PLACE})",
    ),
    "dispycos_remote_scheduler": Shows(
        [],
        {
            r"^node \S+ \([\d.]+\) has \d+ CPUs and [\d.]+ GiB: \d+ used$": 1,
            rf"^(\d) squared is \d+, by {PLACE}$": 5,
        },
    ),
    "dispycos_ssh_ec2": Shows(["--jobs", "4"], {rf"^result from {PLACE}: (\d) squared is \d$": 4}),
}
PARTS = {"dispycos_client5_proc"}  # of another one
BY_HAND = ("dispycos_client1", "dispycos_client2", "dispycos_client7", "dispycos_mas", "dispycos_mem_servers")

pytestmark = pytest.mark.timeout(90)


def check(shows: Shows, program: Program, locations: int | None = None) -> None:
    out = program.succeed(EXAMPLE_S)
    assert "Traceback" not in program.err, program.told()
    for pattern, count in shows.lines.items():
        found = re.findall(pattern, out, re.M)
        assert len(found) >= count, f"{pattern!r} {len(found)} times; {program.told()}"
    if locations is not None:
        assert len(set(re.findall(shows.places, out, re.M))) == locations, program.told()


def run_alone(example: Path) -> tuple[Program, list[str]]:
    with User() as user:
        shutil.copy(ROOT / "README.md", user.folder)
        program = user.python(str(example), *SHOWS[example.stem].arguments)
        program.wait(EXAMPLE_S)
        return program, user.processes()


@pytest.fixture(scope="module")
def alone() -> Iterator[dict[str, Future[tuple[Program, list[str]]]]]:
    """They run some at once: each has a home of its own."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        yield {each.stem: pool.submit(run_alone, each) for each in EXAMPLES if each.stem in SHOWS}


@pytest.mark.parametrize("name", SHOWS)
def test_example_runs_alone(name: str, alone: dict[str, Future[tuple[Program, list[str]]]]) -> None:
    program, left = alone[name].result()
    if program.err.startswith("skipped: "):
        pytest.skip(program.err.strip())
    check(SHOWS[name], program)
    assert left == []


@pytest.mark.parametrize("name", BY_HAND)
def test_example_uses_nodes_that_were_started_by_hand(name: str, cluster: User) -> None:
    """Each of the four servers gets a task."""
    check(SHOWS[name], cluster.python(f"{ROOT}/examples/{name}.py", *SHOWS[name].arguments), 4)


def test_each_example_is_run() -> None:
    assert {each.stem for each in EXAMPLES} == {*SHOWS, *PARTS}

"""Fixtures for tests that start programs: a person with a home of their own, and a cluster of two nodes that tests share."""

from __future__ import annotations

import ast
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from dispycos.brokers.private import Waiting
from tests.kit.beside import Beside
from tests.kit.programs import Program, User

settings.register_profile("dispycos", deadline=None)  # a busy machine is no fault
settings.load_profile("dispycos")

SCRIPTS = Path(__file__).parent / "scripts"
PROGRAMS = (
    "test_examples.py",
    "test_browser.py",
    "test_standard_library.py",
)  # start programs, outside of tests/integration
SCRIPT_S = 60.0  # a script of scenarios may take so long


def pytest_configure() -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and children inherit that; tests of Ctrl-C need ears."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start programs come late: the threads that read these would be in the way of tests that fork.

    Last come those that ask what was played beside.
    """

    def place(item: pytest.Item) -> int:
        starts_programs = "integration" in str(item.path) or item.path.name in PROGRAMS
        return 2 if asks_beside(item) else int(starts_programs)

    items.sort(key=place)


def asks_beside(item: pytest.Item) -> bool:
    return "beside" in getattr(item, "fixturenames", ())


BESIDE = pytest.StashKey[Beside]()


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is played beside begins now, if it will be asked for."""
    if any(map(asks_beside, session.items)) and not session.config.option.collectonly:
        session.config.stash[BESIDE] = Beside()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if BESIDE in session.config.stash:
        session.config.stash[BESIDE].end()


@pytest.fixture
def beside(request: pytest.FixtureRequest) -> Beside:
    """The simulations that were begun with the tests."""
    return request.config.stash[BESIDE]


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the user's is touched, and nothing outside of this machine."""
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("DISPYCOS_IP_ADDR", "127.0.0.1")
    monkeypatch.delenv("DISPYCOS_SECRET", raising=False)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    return tmp_path


@pytest.fixture
def user() -> Iterator[User]:
    """A person at this machine, with nothing started."""
    with User() as person:
        yield person


@pytest.fixture(scope="session")
def cluster() -> Iterator[User]:
    """A person who started `dispycos node` in two terminals: a and b, of two CPUs each."""
    with User() as person:
        person.nodes = [person.node("a"), person.node("b")]
        yield person


class Report:
    """What a script of scenarios said of each of them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.outcomes: dict[str, str] = {}
        self.details: dict[str, list[str]] = {}
        try:
            self.code: int | None = program.wait(SCRIPT_S)
        except AssertionError:
            self.code = None
        name = ""
        for line in program.out.splitlines():
            word, _, rest = line.partition(" ")
            if word in ("passed", "FAILED"):
                name = rest.split()[0]
                self.outcomes[name] = word
                self.details[name] = []
            elif word == "|" and name:
                self.details[name].append(rest)

    def check(self, scenario: str) -> None:
        outcome = self.outcomes.get(scenario)
        if outcome is None:
            pytest.fail(
                f"{scenario} was not reached, exit code {self.code}; {self.program.told()}", pytrace=False
            )
        if outcome != "passed":
            pytest.fail("\n".join(self.details[scenario]), pytrace=False)


def scenarios_of(script: str) -> list[str]:
    """The names of its `test_...` functions, without running it."""
    tree = ast.parse((SCRIPTS / script).read_text())
    found = [node.name for node in tree.body if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)]
    return [name for name in found if name.startswith("test_")]


@pytest.fixture(scope="session")
def reports(cluster: User) -> dict[str, Report]:
    """By script; see report_of."""
    return {}


def report_of(script: str, cluster: User, reports: dict[str, Report]) -> Report:
    """Plays the script when the first of its scenarios is asked for."""
    if script not in reports:
        reports[script] = Report(cluster.python(str(SCRIPTS / script)))
    return reports[script]


@pytest.fixture(autouse=True)
def nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that make a Client in this process want no process of its own for each."""
    monkeypatch.setattr(Waiting, "start_ahead", lambda: None)

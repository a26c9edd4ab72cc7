"""Fixtures for tests that start programs: a person with a home of their own, and a cluster of two nodes that tests share."""

from __future__ import annotations

import ast
import importlib
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from dispycos.actors.client import loop_thread
from dispycos.brokers.private import Waiting
from tests.kit.beside import Beside, Playing
from tests.kit.netns import can_have_own_network, enter_own_network
from tests.kit.programs import Program, User

settings.register_profile("dispycos", deadline=None)  # a busy machine is no fault
settings.load_profile("dispycos")
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # else nohup's is inherited by all that is started

TESTS = Path(__file__).parent
SCRIPTS = TESTS / "scripts"
SCENARIOS = TESTS / "scenarios"
FORKING = TESTS / "node" / "processes"
PROGRAMS = (
    "test_examples.py",
    "test_browser.py",
    "test_standard_library.py",
)  # start programs, outside of tests/integration
SCRIPT_S = 60.0  # a script of scenarios may take so long


# Files that take long, the longest first: in parallel they begin first, so that none of them is waited for at the end.
LONG = (
    "test_reliability.py",
    "test_browser.py",
    "test_commands.py",
    "test_bad_input.py",
)
WORKERS_MAX = 8  # more would have no file to play


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """With -n each process plays whole files, so that it makes what they share once, in the order that is given here."""
    option = config.option
    if getattr(option, "numprocesses", None) and option.dist == "no":
        option.dist = "loadfile"
        option.loadscopereorder = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto`: one for each CPU and one more, since tests mostly wait for processes. None where these would share a network."""
    return min(WORKERS_MAX, (os.cpu_count() or 1) + 1) if can_have_own_network() else 0


def pytest_configure(config: pytest.Config) -> None:
    """A shell starts what runs in its background deaf to Ctrl-C, and children inherit that; tests of Ctrl-C need ears.

    The clusters of one worker are not found by those of another one.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if is_worker(config):
        enter_own_network()


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Workers compile the tests together: that pytest rewrites their asserts takes most of the time until the first one runs.

    Each begins with files of its own, and finds those of the others compiled.
    """
    config = session.config
    if is_worker(config) and plays_all(config):
        here: dict[str, Any] = getattr(config, "workerinput", {})
        number, count = int(here["workerid"][2:]), here["workercount"]  # "gw0" is the first
        files = sorted(TESTS.rglob("test_*.py"))
        for file in files[number::count]:
            name = ".".join(file.relative_to(TESTS.parent).with_suffix("").parts)
            with suppress(Exception, pytest.skip.Exception):  # it is tried again when it is collected
                importlib.import_module(name)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that start programs come late, in parallel early, for they take long. Those that fork a template of servers come
    before them, since the threads that read what programs say would be in the way. Last: who asks what was played beside.
    """

    def place(item: pytest.Item) -> tuple[int, int]:
        name = item.path.name
        if item.path.parent == FORKING:
            return -1, 0
        starts_programs = "integration" in str(item.path) or name in PROGRAMS
        if asks_beside(item):
            return 2, 0
        if not is_worker(item.config):
            return int(starts_programs), 0
        return int(not (starts_programs or name in LONG)), LONG.index(name) if name in LONG else len(LONG)

    items.sort(key=place)


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def plays_all(config: pytest.Config) -> bool:
    return config.args_source is pytest.Config.ArgsSource.TESTPATHS


def asks_beside(item: pytest.Item) -> bool:
    return item.path.parent == SCENARIOS and item.path.name.endswith("_sim.py")


PLAYING = pytest.StashKey[Playing]()
BESIDE = pytest.StashKey[Beside]()


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """What is played beside begins before the workers, once for all of them, if they are to play all."""
    config = node.config
    if plays_all(config) and not config.hook.pytest_ignore_collect(collection_path=SCENARIOS, config=config):
        if PLAYING not in config.stash:
            config.stash[PLAYING] = Playing()
        node.workerinput["beside"] = config.stash[PLAYING].place


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is played beside begins now, if it will be asked for and was not begun for all workers."""
    config = session.config
    if not any(map(asks_beside, session.items)) or config.option.collectonly:
        return
    place = getattr(config, "workerinput", {}).get("beside")
    if place is None:
        config.stash[PLAYING] = Playing()
        place = config.stash[PLAYING].place
    config.stash[BESIDE] = Beside(*place)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if PLAYING in session.config.stash:
        session.config.stash[PLAYING].end()


@pytest.fixture(scope="session")
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
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, and nothing in it."""
    monkeypatch.chdir(tmp_path)
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
        person.nodes = [person.node("a"), person.node("b", "--resource", "gpu=2")]
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


@pytest.fixture(autouse=True, scope="module")
def no_loop_left() -> Iterator[None]:
    """The loop thread of a program lasts as long as that; tests that fork come after those that have used it."""
    yield
    if loop_thread._shared is not None:
        loop_thread._shared.end()
        loop_thread._shared = None


@pytest.fixture(autouse=True)
def nothing_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that make a Client in this process want no process of its own for each, nor that which their imports started."""
    monkeypatch.setattr(Waiting, "start_ahead", lambda: None)
    monkeypatch.setattr(Waiting, "child", None)

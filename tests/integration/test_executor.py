"""dispycos.Executor: what tests/scripts/executor.py plays, and programs that leave one open or are interrupted."""

from __future__ import annotations

import pytest

from tests.conftest import Report, report_of, scenarios_of
from tests.kit.programs import User

PLAYED = "executor.py"


@pytest.mark.parametrize("scenario", scenarios_of(PLAYED))
def test_scenario(scenario: str, cluster: User, reports: dict[str, Report]) -> None:
    report_of(PLAYED, cluster, reports).check(scenario)


def test_the_program_ends_well(cluster: User, reports: dict[str, Report]) -> None:
    report = report_of(PLAYED, cluster, reports)
    assert report.code == 0, report.program.told()


LEFT_OPEN = """
    import atexit, time, dispycos

    def work(seconds):
        time.sleep(seconds)
        print("worked", flush=True)

    pool = dispycos.Executor()
    pool.submit(work, 0.2)

    @atexit.register
    def last():
        try:
            pool.submit(int)
        except RuntimeError as error:
            print(error)
"""


def test_a_program_that_leaves_one_open_ends_when_its_calls_have(user: User) -> None:
    said = user.script("left_open.py", LEFT_OPEN).succeed().splitlines()
    assert said[0].endswith("worked")
    assert said[1:] == ["cannot schedule new futures after interpreter shutdown"]


INTERRUPTED = """
    import sys, time, dispycos

    def work(n):
        if n == 0:
            print("ready", flush=True)
        time.sleep(60)

    def in_map():
        with dispycos.Executor() as pool:
            list(pool.map(work, range(10)))

    def in_result():
        pool = dispycos.Executor()
        pool.submit(work, 0).result()

    def at_exit():
        global pool
        pool = dispycos.Executor()
        pool.submit(work, 0)

    globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize(("where", "code"), [("in_map", -2), ("in_result", -2), ("at_exit", 0)])
def test_ctrl_c_ends_what_runs_and_the_program(user: User, where: str, code: int) -> None:
    program = user.script("interrupted.py", INTERRUPTED, where)
    program.wait_line("ready")
    program.interrupt()
    assert program.wait(5) == code, program.told()
    assert ("KeyboardInterrupt" in program.err) is (code != 0)

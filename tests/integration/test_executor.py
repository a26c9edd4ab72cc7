"""dispycos.Executor: what tests/scripts/executor.py plays, and programs that leave one open or are interrupted."""

from __future__ import annotations

import re
import signal

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

    with dispycos.Executor() as first:
        early = first.submit(abs, -1)  # no server is there yet, and the next Client waits for this one's
        with dispycos.Client() as client:
            print(early.result(), client.submit(abs, -2).result(), first.submit(abs, -3).result())

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
    assert said[0] == "1 2 3"
    assert said[1].endswith("worked")
    assert said[2:] == ["cannot schedule new futures after interpreter shutdown"]


INTERRUPTED = """
    import atexit, sys, time, dispycos

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

    def by_sys_exit():
        with dispycos.Executor() as pool:
            pool.submit(work, 0), pool.submit(work, 1)
            sys.exit("enough")

    atexit.register(print, "atexit")
    globals()[sys.argv[1]]()
"""


@pytest.mark.parametrize("where", ["in_map", "in_result", "at_exit"])
def test_ctrl_c_ends_what_runs_and_the_program(user: User, where: str) -> None:
    program = user.script("interrupted.py", INTERRUPTED, where)
    program.wait_line("ready")
    program.interrupt()
    assert program.wait() == -signal.SIGINT, program.told()
    assert program.out.splitlines()[1:] == ["atexit"], "Python ends it, in good order"
    if where == "at_exit":
        assert re.fullmatch(r"(the Executor made in .*\n)?interrupted\n", program.err), (
            "it may have waited for 3 s"
        )
    else:
        assert program.err.endswith("KeyboardInterrupt\n") and "dispycos" not in program.err


def test_who_leaves_by_sys_exit_hears_what_is_waited_for_and_how_to_end_it(user: User) -> None:
    program = user.script("interrupted.py", INTERRUPTED, "by_sys_exit")
    line = program.wait_line("waits for")
    assert re.search(
        r"the Executor made in interrupted.py, line \d+ waits for 2 tasks \(work 2\); Ctrl-C", line.text
    )
    program.interrupt()
    assert program.wait() == -signal.SIGINT, program.told()

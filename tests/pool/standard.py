"""The standard library's own tests of executors, with ours in the place of theirs: `python -m tests.pool.standard [WORD ...]`.

They are those of the running interpreter (test.test_concurrent_futures), if it was installed with its tests; of these, those whose
names have one of the words. What passed is printed, and each that is left out with the reason.
"""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
import re
import sys
import time
import unittest
from concurrent.futures import BrokenExecutor
from functools import cache
from pathlib import Path
from pickle import PickleError, PicklingError
from typing import Any

import dispycos

PACKAGE = "test.test_concurrent_futures"
ROOT = Path(__file__).parents[2]

PROCESSES = "it looks into ProcessPoolExecutor's own processes"
MULTIPROCESSING = "it passes a semaphore of multiprocessing, which only its own children can take"
CAUSE = "the __cause__ is dispycos' RemoteTraceback, not ProcessPoolExecutor's own class"
STAY = "max_tasks_per_child is refused by name: servers stay"

# By names; what they are about and holds for ours is in tests/pool/test_executor.py.
LEFT_OUT = {
    "test_killed_child": "a server that dies takes only its call along: the pool is not broken then",
    "test_traceback": CAUSE,
    "test_traceback_when_child_process_terminates_abruptly": "a server that dies leaves no traceback",
    "test_saturation": MULTIPROCESSING,
    "test_processes_terminate": MULTIPROCESSING,
    "test_idle_process_reuse_one": PROCESSES,
    "test_idle_process_reuse_multiple": PROCESSES,
    "test_context_manager_shutdown": PROCESSES,
    "test_del_shutdown": PROCESSES,
    "test_shutdown_no_wait": PROCESSES,
    "test_python_finalization_error": "it makes the thread fail that ProcessPoolExecutor starts",
    "test_gh105829_should_not_deadlock_if_wakeup_pipe_full": "it fills the pipe that ProcessPoolExecutor has",
    "test_shutdown_deadlock_pickle": "it waits for the thread that ProcessPoolExecutor has",
    "test_max_tasks_per_child": STAY,
    "test_max_tasks_per_child_defaults_to_spawn_context": STAY,
    "test_max_tasks_early_shutdown": STAY,
    "test_max_tasks_per_child_pending_tasks_gh115634": STAY,
    "test_shutdown_no_wait_max_tasks_gh119592": STAY,
    "test_gc_during_max_tasks_worker_exit_gh152967": STAY,
    "test_force_shutdown_during_max_tasks_worker_exit": STAY,
    "test_failed_worker_replacement_breaks_pool": STAY,
    "test_shutdown_gh_132969_case_1": STAY,
    "test_shutdown_gh_132969_case_2": STAY,
    "test_broken_process_pool_traceback": PROCESSES,
    "test_terminate_workers": PROCESSES,
    "test_kill_workers": PROCESSES,
    "test_force_shutdown_workers_invalid_op": PROCESSES,
    "test_force_shutdown_workers": PROCESSES,
    "test_force_shutdown_workers_not_started_yet": PROCESSES,
    "test_force_shutdown_workers_stops_pool": PROCESSES,
}

# What ours raises where ProcessPoolExecutor's pool is broken, or the program would be ended: only a dead server is told as such.
OURS: dict[type[BaseException], tuple[type[BaseException], ...]] = {
    dispycos.TaskLost: (dispycos.DispycosError, PickleError),
    SystemExit: (dispycos.DispycosError,),
    PicklingError: (dispycos.NotPicklable, PickleError),
}

QUICK = [
    "Executor.",
    "AsCompleted.test_no",
    "Wait.test_all",
    "Wait.test_timeout",
    "Initializer.",
    "Deadlock.",
]
QUICK += [f"Shutdown.test_{name}" for name in ("cancel", "hang_gh94440", "run_after", "submit_after")]


class Executor(dispycos.Executor):
    """Under the names that the tests know."""

    def __init__(self, *args: Any, mp_context: object = None, **options: Any) -> None:
        super().__init__(*args, **options)

    @property
    def _broken(self) -> bool:
        try:
            self.submit(int)
        except BrokenExecutor:
            return True
        return False


def why_there_are_none() -> str:
    """Empty if there are tests."""
    try:
        found = importlib.util.find_spec(PACKAGE) is not None
    except ModuleNotFoundError:
        found = False
    return "" if found else f"Python {sys.version.split()[0]} was installed here without its own {PACKAGE}"


def module(name: str) -> Any:
    """A part of them; one module had all of them until Python 3.11."""
    try:
        return importlib.import_module(f"{PACKAGE}.{name}")
    except ModuleNotFoundError:
        return importlib.import_module(PACKAGE)


def cases() -> list[type[unittest.TestCase]]:
    """Their classes, as they make those of ProcessPoolExecutor themselves."""
    pool, shutdown, init, deadlock = map(
        module, ("test_process_pool", "test_shutdown", "test_init", "test_deadlock")
    )
    util = module("util")
    context = multiprocessing.get_context("spawn")
    manager = cache(context.Manager)
    ours = {
        "executor_type": Executor,
        "get_context": lambda _: context,
        "create_event": lambda _: manager().Event(),
    }

    def bound(name: str, *bases: type) -> type[unittest.TestCase]:
        return type(name, (*bases, util.BaseTestCase), dict(ours))

    def check_crash(
        self: Any, error: type[BaseException], function: Any, *args: Any, ignore_stderr: bool = False
    ) -> None:
        """As theirs, for our errors."""
        with self.assertRaises(OURS.get(error, error)):
            self.executor.submit(function, *args).result(timeout=self.TIMEOUT)
        self.assertEqual(self.executor.submit(pow, 2, 3).result(timeout=self.TIMEOUT), 8)

    deadlocks = bound("Deadlock", deadlock.ExecutorDeadlockTest, util.ExecutorMixin)
    for name in ("_check_crash", "_check_error"):  # until Python 3.13, and since then
        setattr(deadlocks, name, check_crash)
    deadlock.BrokenProcessPool = pool.BrokenProcessPool = dispycos.TaskLost
    shutdown.assert_python_ok = assert_python_ok
    return [
        bound("Executor", pool.ProcessPoolExecutorTest, util.ExecutorMixin),
        bound("Wait", module("test_wait").WaitTests, util.ExecutorMixin),
        bound("AsCompleted", module("test_as_completed").AsCompletedTests, util.ExecutorMixin),
        bound("Shutdown", shutdown.ProcessPoolShutdownTest, util.ExecutorMixin),
        bound("ShutdownOfThreads", Cancelled, util.ExecutorMixin),
        bound("Initializer", init.InitializerMixin),
        bound("FailingInitializer", init.FailingInitializerMixin),
        deadlocks,
    ]


class Cancelled:
    """A test that they have for threads only, since with processes it hangs."""

    def test_cancel_futures_wait_false(self) -> None:
        module("test_shutdown").ThreadPoolShutdownTest.test_cancel_futures_wait_false(self)


def assert_python_ok(option: str, program: str) -> tuple[int, bytes, bytes]:
    """As theirs, with our Executor in the program."""
    theirs = importlib.import_module("test.support.script_helper").assert_python_ok
    for name in ("ThreadPoolExecutor", "{executor_type}", "Executor"):
        program = program.replace(
            f"from concurrent.futures import {name}\n", "from dispycos import Executor\n"
        )
    program = program.replace("ThreadPoolExecutor", "Executor")
    done = theirs(option, program, __isolated=False, PYTHONPATH=str(ROOT))
    return (
        done.rc,
        re.sub(rb"\[[^]]+\] ", b"", done.out),
        done.err,
    )  # without the server's name before what it printed


class Result(unittest.TestResult):
    """What passed, and why what did not."""

    def __init__(self) -> None:
        super().__init__()
        self.passed: list[str] = []

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._began = time.monotonic()

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self.passed.append(name_of(test))
        print(f"passed  {name_of(test)} ({time.monotonic() - self._began:.1f} s)", flush=True)

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        print(f"skipped {name_of(test)}: {reason}", flush=True)

    @property
    def wrong(self) -> list[str]:
        return [f"{name_of(test)}\n{trace}" for test, trace in (*self.failures, *self.errors)]


def name_of(test: Any) -> str:
    return (
        f"{type(test).__name__}.{test._testMethodName}" if isinstance(test, unittest.TestCase) else str(test)
    )


def play(words: list[str]) -> Result:
    """All of them, or those whose names have one of these words. One cluster for all, by an Executor that stays open."""
    module("util").support.verbose = False
    suite, result = unittest.TestSuite(), Result()
    for case in cases():
        for name in unittest.defaultTestLoader.getTestCaseNames(case):
            test = case(name)
            if words and not any(word in name_of(test) for word in words):
                continue
            if name in LEFT_OUT:
                result.addSkip(test, LEFT_OUT[name])
            else:
                suite.addTest(test)
    with dispycos.Executor() as holder:
        holder.submit(int).result()
        suite.run(result)
    return result


def main() -> int:
    if reason := why_there_are_none():
        print(f"skipped: {reason}")
        return 0
    result = play(sys.argv[1:])
    for wrong in result.wrong:
        print(f"FAILED  {wrong}")
    print(f"{len(result.passed)} passed, {len(result.skipped)} skipped, {len(result.wrong)} failed")
    return 1 if result.wrong else 0


if __name__ == "__main__":
    sys.exit(main())

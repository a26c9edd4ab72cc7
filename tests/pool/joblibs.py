"""joblib's own tests of Parallel, with the backend "dispycos": `python -m tests.pool.joblibs [WORD ...]`.

They are those of joblib.test.test_parallel that take the name of a backend, with each of their other parameters; of these, those
whose names have one of the words. What passed is printed, and each that is left out with the reason.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import Any

import dispycos

PROGRAM = "it writes a program that has no register_joblib()"
THREADS = "it is about what threads of this process see of each other"

LEFT_OUT: dict[str, str] = {
    "test_backend_context_manager": "it registers a backend of its own under the name",
    "test_dispatch_one_job": THREADS,
    "test_error_capture": "KeyboardInterrupt of a task is TaskTerminated here: the program is not ended by the way",
    "test_lambda_expression": PROGRAM,
    "test_memmapping_leaks": "it looks for the files of loky",
    "test_multiple_generator_call_separated_gc": "it expects the error that loky has where two calls share its processes",
    "test_nested_backend_in_sequential": "without n_jobs all servers are used, as with joblib's backend of dask",
    "test_nested_exception_dispatch": "joblib expects it to fail",
    "test_parallel_thread_limit": "it calls what joblib compiles for its own tests",
    "test_parallel_with_interactively_defined_functions": PROGRAM,
    "test_parallel_with_unpicklable_functions_in_args": PROGRAM,
}
"""Beside those that need a fixture of pytest."""

QUICK = [
    "simple",
    "pretty",
    "timeout",
    "task_iterator",
    "context_manager",
    "background",
    "called",
    "separated",
]


def calls(words: list[str]) -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Name, function and arguments but for the backend."""
    tests = importlib.import_module("joblib.test.test_parallel")
    for name, function in vars(tests).items():
        if not name.startswith("test_") or (words and not any(word in name for word in words)):
            continue
        wanted = set(inspect.signature(function).parameters) - {"backend"}
        if wanted == set(inspect.signature(function).parameters):
            continue
        choices: list[list[dict[str, Any]]] = []
        for mark in getattr(function, "pytestmark", ()):
            if mark.name == "parametrize":
                names = [each.strip() for each in mark.args[0].split(",")]
                values = [value if len(names) > 1 else (value,) for value in mark.args[1]]
                choices.append([dict(zip(names, value, strict=True)) for value in values])
        for chosen in itertools.product(*(some for some in choices if list(some[0]) != ["backend"])):
            given = {key: value for part in chosen for key, value in part.items() if key != "backend"}
            yield name, function, given if set(given) == wanted else {"": wanted - set(given)}


def main() -> int:
    dispycos.register_joblib()
    passed, left, failed = 0, dict[str, str](), 0
    for name, function, given in calls(sys.argv[1:]):
        words = ", ".join(f"{key}={value!r}" for key, value in given.items())
        if name in LEFT_OUT or "" in given:
            left[name] = LEFT_OUT.get(name) or f"it needs {', '.join(sorted(given['']))} of pytest"
            continue
        start, said = time.monotonic(), StringIO()
        try:
            with redirect_stdout(said), redirect_stderr(said):
                function(backend="dispycos", **given)
        except BaseException as error:
            if type(error).__name__ == "Skipped":
                left[name] = str(error)
                continue
            failed += 1
            print(f"FAILED  {name}({words})\n{traceback.format_exc()}", flush=True)
        else:
            passed += 1
            print(f"passed  {name}({words}) {time.monotonic() - start:.1f}", flush=True)
    for name, why in left.items():
        print(f"skipped {name}: {why}")
    print(f"{passed} passed, {len(left)} skipped, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

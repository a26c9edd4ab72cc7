"""The user's program is found as `__main__` where a launcher runs it in a namespace of its own."""

import sys
from pathlib import Path

import pytest

from dispycos.actors.shipping.program import NamespaceModule, program_main
from tests.kit.shipping_scripts import run_python

PROGRAM = """
    import pickle, sys
    from dispycos.actors.shipping.program import program_main

    class Point:
        pass

    def check():
        main = program_main()
        assert main is program_main() is sys.modules["__main__"] and vars(main) is globals()
        assert type(pickle.loads(pickle.dumps(Point()))) is Point
        print("it is the program's", __file__.rpartition("/")[2])

    check()
"""
RUN_MODULE = "import runpy; runpy.run_module('program', run_name='__main__')"


@pytest.mark.parametrize(
    "launcher",
    [
        ["-m", "cProfile", "-o", "out", "program.py"],
        ["-m", "cProfile", "-o", "out", "-m", "program"],
        ["-m", "profile", "-o", "out", "program.py"],
        ["-m", "trace", "--count", "-C", "counts", "program.py"],
        ["-c", "import runpy; runpy.run_path('program.py', run_name='__main__')"],
        ["-c", RUN_MODULE],
        ["launch.py"],
        ["program.py"],
        ["-m", "program"],
    ],
    ids=" ".join,
)
def test_the_program_is_main_whoever_launches_it(launcher: list[str], tmp_path: Path) -> None:
    said = run_python(tmp_path, *launcher, files={"program.py": PROGRAM, "launch.py": RUN_MODULE})
    assert "it is the program's program.py" in said


def test_a_main_that_runs_nowhere_is_left_as_it_is() -> None:
    """So in servers: what is at the bottom of the stack is not what they run."""
    main = sys.modules["__main__"]
    scope = {"__name__": "__main__", "f": program_main}
    sys.modules["__main__"] = other = NamespaceModule({"__name__": "__main__"})
    try:
        exec("found = f()", scope)
    finally:
        sys.modules["__main__"] = main
    assert scope["found"] is other


def test_a_namespace_is_like_any_module() -> None:
    scope = {"__name__": "__main__", "__file__": "x.py", "a": 1}
    module = NamespaceModule(scope)
    module.b = 2
    del module.a
    assert vars(module) is scope and module.b == scope["b"] and module.__name__ == "__main__"
    with pytest.raises(AttributeError, match="has no attribute 'a'"):
        _ = module.a
    assert module.__file__ == "x.py" and "x.py" in repr(module)


AGAIN = """
    import functools, multiprocessing, pickle, sys, typing
    from dispycos.actors.shipping.program import program_main

    T = typing.TypeVar("T")
    count = 0

    class Point:
        class Part:
            pass

    point = Point()

    @functools.cache
    def cached():
        return 1

    def check():
        global count
        count += 1
        main = program_main()
        assert main is program_main() is sys.modules["__main__"] and vars(main) is globals() and main.count == 1
        for thing in (Point, Point.Part, check, cached, T):
            assert pickle.loads(pickle.dumps(thing)) is thing and b"__mp_main__" not in pickle.dumps(thing)
        assert type(pickle.loads(pickle.dumps(point))) is Point and "__module__" not in vars(point)
        print("it is the program's", __name__)

    if __name__ == "__main__":
        program = multiprocessing.get_context(sys.argv[1]).Process(target=check)
        program.start()
        program.join()
        sys.exit(program.exitcode)
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_process_that_multiprocessing_starts_has_the_program_as_main(method: str, tmp_path: Path) -> None:
    said = run_python(tmp_path, "again.py", method, files={"again.py": AGAIN})
    assert said == "it is the program's __main__\n"


def test_a_script_that_is_executed_again_for_another_process_is_not_a_program(tmp_path: Path) -> None:
    script = """
        import multiprocessing
        from dispycos.actors.shipping.program import program_main

        try:
            program_main()
            print("began")
            program = multiprocessing.get_context("spawn").Process(target=print, args=("target",))
            program.start()
            program.join()
        except Exception as error:
            print(type(error).__name__, "__name__ ==" in str(error))
    """
    said = run_python(tmp_path, "again.py", files={"again.py": script})
    assert said == "began\nScheduleError True\ntarget\n"

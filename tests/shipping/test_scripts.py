"""Code shipping as a user meets it: scripts, modules, notebooks, against a real second process."""

import os
import zipfile
from pathlib import Path

import pytest

from tests.kit.shipping_scripts import run_python, write_files

SCRIPTS = Path(__file__).parents[1] / "scripts" / "shipping"


@pytest.mark.parametrize("script", sorted(SCRIPTS.glob("*.py")), ids=lambda path: path.stem)
def test_each_script_runs_and_says_so(script: Path, tmp_path: Path) -> None:
    assert "travels" in run_python(tmp_path, str(script))


def test_a_constant_and_a_function_rebound_between_two_calls_are_seen(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "script.py": """
            from shipping_client import Remote

            FACTOR = 1

            def helper():
                return "old"

            def compute(n):
                return n * FACTOR, helper()

            remote = Remote()
            print(remote.call(compute, 2))
            first = remote.snapshot.version()
            FACTOR = 100
            print(remote.call(compute, 2))

            def helper():
                return "new"

            print(remote.call(compute, 2))
            FACTOR = 1
            print(remote.call(compute, 2), remote.snapshot.version() - first, len(remote.pulls))

            def compute(n):
                return "other", FACTOR

            print(remote.call(compute, 2))
            remote.__exit__()
            """
        },
    )
    assert out.splitlines() == [
        "(2, 'old')",
        "(200, 'old')",
        "(200, 'new')",
        "(2, 'new') 3 4",
        "('other', 1)",
    ]


def test_a_script_edited_while_it_runs_still_ships_what_runs(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "script.py": """
            from pathlib import Path
            from shipping_client import Remote

            class Point:
                def norm(self):
                    return "old"

            def compute():
                return Point().norm()

            def edit():
                here = Path(__file__)
                here.write_text("# another line" + here.read_text().replace('"old"', '"new"'))

            if __name__ == "__main__":
                with Remote() as remote:
                    edit()
                    print(remote.call(compute))
                with Remote() as remote:  # its snapshot reads the edited file
                    print(remote.call(compute))
                    print(type(remote.call(Point)) is Point)
            """
        },
    )
    assert out.split() == ["old", "old", "True"]


HELPER = """
    from other import offset
    from package.deep.leaf import leaf

    class Thing:
        pass

    def help(n):
        return n + offset + leaf
"""
PACKAGE = {
    "helper.py": HELPER,
    "other.py": "offset = 10\n",
    "package/__init__.py": "ready = True\n",
    "package/deep/__init__.py": "from . import leaf as _\n",
    "package/deep/leaf.py": "leaf = 100\n",
}


def test_local_modules_beside_the_script_travel_with_their_packages(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            **PACKAGE,
            "late.py": "value = 'late'\n",
            "script.py": """
            import helper
            from shipping_client import Remote

            def compute(n):
                import importlib
                return helper.help(n), helper.__file__, importlib.import_module("la" + "te").value

            def thing():
                return helper.Thing()

            if __name__ == "__main__":
                with Remote() as remote:
                    print(type(remote.call(thing)) is helper.Thing, len(remote.pulls))
                    print(*remote.call(compute, 1))
                    print(remote.call(helper.help, 2))
                    print(len(remote.pulls), remote.pulls[-1].modules)
            """,
        },
    )
    assert out.splitlines() == [
        "True 1",
        f"111 {tmp_path}/helper.py late",
        "112",
        "3 ['late']",
    ]


def test_a_reloaded_module_is_seen(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "-B",  # the reload within a second must not find bytecode of the same size
        "script.py",
        files={
            "helper.py": "def value():\n    return 'old'\n",
            "script.py": """
            import importlib
            from pathlib import Path
            import helper
            from shipping_client import Remote

            def compute():
                return helper.value()

            if __name__ == "__main__":
                with Remote() as remote:
                    print(remote.call(compute))
                    Path(helper.__file__).write_text(Path(helper.__file__).read_text().replace("old", "new"))
                    print(remote.call(compute), helper.value())
                    importlib.reload(helper)
                    print(remote.call(compute), helper.value())
            """,
        },
    )
    assert out.split() == ["old", "old", "old", "new", "new"]


def test_a_module_that_is_nowhere_is_named_with_the_node(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "site-packages/fancy.py": "__version__ = '1.2.3'",
            "script.py": """
            import sys
            from pathlib import Path
            from shipping_client import Remote, RemoteFailure

            sys.path.append(str(Path(__file__).with_name("site-packages")))
            import fancy

            def compute():
                return fancy

            def later():
                import fancy.deep
                import json.nothing

            def optional():
                try:
                    import no_such_module_at_all
                except ImportError as error:
                    return str(error)

            if __name__ == "__main__":
                with Remote(node="host7") as remote:
                    for function in (compute, later):
                        try:
                            remote.call(function)
                        except RemoteFailure as error:
                            print(error)
                    print(remote.call(optional))
                    print(remote.call(len, [1, 2]))
            """,
        },
    )
    first, second, third, last = out.splitlines()
    assert "No module named 'fancy' on host7" in first and "1.2.3" in first and "script.py" in first
    assert "No module named 'fancy' on host7" in second and "1.2.3" in second
    assert "'no_such_module_at_all' on host7" in third and "not found at the client either" in third
    assert last == "2"


def test_python_m_package_with_relative_imports(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "-m",
        "app",
        files={
            "app/__init__.py": "",
            "app/__main__.py": """
            from . import helper
            from .helper import triple as three
            from shipping_client import Remote

            def compute(n):
                from .lazy import lazy
                return helper.double(n), three(n), lazy, __package__, __spec__.name, __file__

            if __name__ == "__main__":
                with Remote() as remote:
                    print(*remote.call(compute, 2), len(remote.pulls))
            """,
            "app/helper.py": "def double(n):\n    return 2 * n\n\ndef triple(n):\n    return 3 * n\n",
            "app/lazy.py": "lazy = 'lazy'\n",
        },
    )
    assert out.split() == ["4", "6", "lazy", "app", "app.__main__", f"{tmp_path}/app/__main__.py", "1"]


def test_a_script_given_by_symlink(tmp_path: Path) -> None:
    write_files(tmp_path, {"empty/x": ""})
    os.symlink("../real/script.py", tmp_path / "empty" / "link.py")
    out = run_python(
        tmp_path / "empty",
        "link.py",
        files={
            "../real/helper.py": "value = 42\n",
            "../real/script.py": """
            import helper
            from shipping_client import Remote

            def compute():
                return helper.value, __file__

            if __name__ == "__main__":
                with Remote() as remote:
                    print(*remote.call(compute))
            """,
        },
    )
    assert out.split() == ["42", f"{tmp_path}/empty/link.py"]


def test_a_program_in_a_zip_runs_with_its_modules(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "app.pyz", "w") as archive:
        archive.writestr("helper.py", "def twice(n): return 2 * n\n")
        archive.writestr(
            "__main__.py",
            "from shipping_client import Remote\nimport helper\nLIMIT = 5\ndef compute(n): return helper.twice(n) + LIMIT\n"
            "with Remote() as remote: print(remote.call(compute, 4), remote.call(lambda: LIMIT))\n",
        )
    assert run_python(tmp_path, "app.pyz").split() == ["13", "5"]


BARE = """
from shipping_client import Remote
import math, threading
FACTOR = 3
class Point:
    def __init__(self, n): self.n = n
    def up(self): return Point(self.n + 1)
def even(n): return n == 0 or odd(n - 1)
def odd(n): return n != 0 and even(n - 1)
def compute(p): return math.floor(p.up().n * FACTOR), even(4), type(p) is Point
with Remote() as remote: print(remote.call(compute, Point(1)), type(remote.call(Point, 1)) is Point)
"""


def test_python_c_and_standard_input_have_no_file(tmp_path: Path) -> None:
    assert run_python(tmp_path, "-c", BARE) == "(6, True, True) True\n"
    assert run_python(tmp_path, "-", text=BARE) == "(6, True, True) True\n"


def test_notebook_cells_and_a_redefinition_in_a_later_one(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "-c",
        """
import linecache, sys, traceback, types
class Notebook:
    count = 0
    def run(self, text):
        self.count += 1
        file = f"<ipython-input-{self.count}-abcdef>"
        linecache.cache[file] = (len(text), None, text.splitlines(True), file)
        exec(compile(text, file, "exec"), self.main.__dict__)
notebook = Notebook()
notebook.main = types.ModuleType("__main__")
sys.modules["__main__"] = notebook.main
sys.argv = ["kernel"]
run = notebook.run
run("from shipping_client import Remote, RemoteFailure")
run("import math, threading\\nremote = Remote()")
run("LOCK = threading.Lock()\\nclass Point:\\n    kind = 'first'\\n    def of(self): return helper()")
run("def helper():\\n    with LOCK: return math.floor(1.5)")
run("def compute(): return Point().of(), Point.kind")
run("print(remote.call(compute))")
run("def helper():\\n    with LOCK: return later()")
run("try: print(remote.call(compute))\\nexcept RemoteFailure as error: print(error)")
run("def later(): return 7")
run("print(remote.call(compute))")
run("class Point:\\n    kind = 'second'\\n    def of(self): return helper()")
run("print(remote.call(compute), type(remote.call(Point)) is Point)")
run("def fails():\\n    return 1 / 0")
run("try: remote.call(fails)\\nexcept RemoteFailure as error: print('return 1 / 0' in error.trace)")
run("import decimal\\ndef seventh(): return str(decimal.Decimal(1) / 7)")
run("print(remote.call(seventh))")
run("decimal.getcontext().prec = 5")
run("print(remote.call(seventh))")
run("params = {'n': 1}\\nclass Box: n = 1\\nbox = Box()")
run("def read():\\n    params['calls'] = params.get('calls', 0) + 1\\n    return params, box.n + 0 * Box.n")
run("print(remote.call(read))")
run("print(remote.call(read))")
run("params['n'], box.n = 2, 3\\nBox.n = 4")
run("print(remote.call(read), remote.call(lambda: Box.n))")
run("remote.__exit__()")
""",
    )
    assert out.splitlines() == [
        "(1, 'first')",
        "NameError: name 'later' is not defined",
        "(7, 'first')",
        "(7, 'second') True",
        "True",
        "0.1428571428571428571428571429",
        "0.14286",
        "({'n': 1, 'calls': 1}, 1)",
        "({'n': 1, 'calls': 2}, 1)",
        "({'n': 2, 'calls': 1}, 3) 4",
    ]


def test_an_assert_that_pytest_rewrote_fails_in_its_own_words(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        files={
            "test_of_the_user.py": """
            from shipping_client import Remote, RemoteFailure

            def test_values():
                def compare(value):
                    assert value == [1, 2]
                    return "equal"

                with Remote() as remote:
                    print(remote.call(compare, [1, 2]))
                    try:
                        remote.call(compare, [1, 3])
                    except RemoteFailure as failure:
                        print(failure)
            """
        },
    )
    assert "equal" in out and "AssertionError: assert [1, 3] == [1, 2]" in out


def test_the_guard_is_never_run_but_what_it_defines_travels(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "script.py": """
            from shipping_client import Remote
            import threading

            def compute():
                return inside(FACTOR)

            if __name__ == "__main__":
                print("once"); FACTOR = 4; LOCK = threading.Lock()

                class Square:
                    def of(self, n):
                        with LOCK:
                            return n * n

                def inside(n):
                    return Square().of(n)

                with Remote() as remote:
                    def within():
                        return inside(3), type(Square()) is Square
                    print(remote.call(compute))
                    print(remote.call(within))
            """
        },
    )
    assert out.splitlines() == ["once", "16", "(9, True)"]


def test_a_traceback_shows_the_clients_file_line_and_text(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "helper.py": "def divide(n):\n    return n / 0  # helper's line\n",
            "script.py": """
            import helper
            from pathlib import Path
            from shipping_client import Remote, RemoteFailure

            def compute(n):
                # a comment above
                return helper.divide(n)  # compute's line

            if __name__ == "__main__":
                with Remote() as remote:
                    Path(helper.__file__).unlink()
                    Path(__file__).unlink()
                    try:
                        remote.call(compute, 1)
                    except RemoteFailure as error:
                        print(error.trace)
            """,
        },
    )
    assert f"{tmp_path}/script.py\", line 8, in compute\n    return helper.divide(n)  # compute's line" in out
    assert f"{tmp_path}/helper.py\", line 2, in divide\n    return n / 0  # helper's line" in out


def test_what_cannot_travel_is_an_error_that_names_it_and_the_server_lives_on(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "script.py": """
            from shipping_client import Remote, RemoteFailure
            import os, shutil, sys, threading

            exec("LOCK = threading.Lock()")
            DATA = open("data.txt")

            def uses_lock():
                return LOCK

            def reads():
                return DATA.read()

            def fine():
                return 5

            if __name__ == "__main__":
                with Remote() as remote:
                    for function in (uses_lock, reads, fine, uses_lock):
                        try:
                            print(remote.call(function))
                        except RemoteFailure as error:
                            print(error)
            """,
            "data.txt": "data",
        },
    )
    lock, file, fine, again = out.splitlines()
    assert (
        lock.startswith("CodeUnavailable: it needs LOCK: LOCK: cannot pickle '_thread.lock' object")
        and lock == again
    )
    assert (
        "InstallFailed: the client's code failed on node1 at" in file
        and "script.py:6: FileNotFoundError" in file
    )
    assert fine == "5"


def test_what_refers_weakly_is_made_by_its_statement_and_does_not_refer_to_a_copy(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "script.py": """
            import weakref
            from shipping_client import Remote

            class Node:
                pass

            NODE = Node()
            REFERENCE = weakref.ref(NODE)
            KNOWN = weakref.WeakKeyDictionary()

            def look():
                KNOWN[NODE] = 1
                return REFERENCE() is NODE, list(KNOWN.values())

            with Remote() as remote:
                print(remote.call(look))
            """
        },
    )
    assert out == "(True, [1])\n"


def test_nothing_is_pulled_from_the_network_for_what_is_installed(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "json_tool.py": "",
            "script.py": """
            from shipping_client import Remote

            def compute():
                import csv, sqlite3, msgspec, wsgiref.util
                return csv.__name__

            if __name__ == "__main__":
                with Remote() as remote:
                    print(remote.call(compute), [pull.modules for pull in remote.pulls])
            """,
        },
    )
    assert out == "csv [[]]\n"


def test_a_local_module_wins_over_an_installed_one_in_the_server_only(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "psutil.py": "kind = 'local'\n",
            "script.py": """
            import psutil
            from shipping_client import Remote

            def compute():
                return psutil.kind, psutil.__file__

            if __name__ == "__main__":
                with Remote() as remote:
                    print(*remote.call(compute))
            """,
        },
    )
    assert out.split() == ["local", f"{tmp_path}/psutil.py"]

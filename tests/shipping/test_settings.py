"""That what a program sets at its top is set at servers too, and that nothing else at its top happens there."""

import ast
import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dispycos.actors.shipping.settings import NEVER, SETTING_CALLS, Settings
from dispycos.actors.shipping.statements import Unit, cut
from tests.kit.shipping_scripts import run_python


def settings_in(text: str) -> list[str]:
    return [ast.unparse(setting.node) for setting in settings_of(text)]


def settings_of(text: str) -> list[Unit]:
    """The statements that are carried out, of a text that was executed but for what these tests do not want to happen."""
    main: Any = ModuleType("program")
    units = cut(text, "program.py")
    for unit in units:
        if isinstance(unit.node, ast.Import | ast.ImportFrom) or unit.is_definition:
            assert unit.code is not None
            exec(unit.code, vars(main))
    found = Settings(main, lambda name: [unit for unit in units if name in unit.names])
    return [setting for unit in units if (setting := found.of(unit)) is not None]


IMPORTS = """import os, sys, io, logging, subprocess, decimal, warnings, atexit, signal, random, colorsys as cs
import xml.etree.ElementTree as ET
import numpy as np
from decimal import getcontext, setcontext, Context
from os import environ
import dispycos
def digits(): return 5
def asks(): return input()
class Own: pass
"""

CARRIED_OUT = [
    "decimal.getcontext().prec = 50",
    "getcontext().prec = digits()",
    "os.environ['X'] = str(1 + 1)",
    "environ['X'] = os.path.join('a', os.environ.get('HOME', 'b'))",
    "cs.table = [digits() for _ in range(3)]",
    "cs.a, cs.b = 1, 2",
    "cs.count += 1",
    "cs.typed: int = 1",
    "del os.environ['X']",
    "cs.hook = lambda: open('x')",
    "x = cs.flag = True",
    "sys.tracebacklimit = 3",
    "ET.flag = '{:.2f}'.format",
    "setcontext(Context(prec=3))",
    "decimal.setcontext(Context(prec=3))",
    "np.seterr(all='raise')",
    "np.set_printoptions(precision=2)",
    "warnings.simplefilter('error')",
    "warnings.filterwarnings('ignore', category=UserWarning)",
    "sys.setrecursionlimit(5000)",
    "ET.register(1)",
    "ET.register_namespace('x', 'http://x')",
]

LEFT = [
    "logging.getLogger('a').propagate = False",
    "sys.stdout = io.StringIO()",
    "sys.path += ['x']",
    "os.environ['DISPYCOS_SECRET'] = 'x'",
    "os.environ.update(DISPYCOS_X='1', X='DISPYCOS_X')",
    "os.environ.setdefault('DISPYCOS_SECRET_FILE', 'x')",
    "os.environ['X'] = subprocess.check_output(['true'])",
    "cs.text = open('x').read()",
    "cs.word = asks()",
    "cs.word = (lambda: 1)()",
    "cs.table = np.load('x.npy')",
    "cs.pid = os.fork()",
    "print('once')",
    "digits()",
    "random.seed(1)",
    "np.random.seed(1)",
    "atexit.register(digits)",
    "signal.signal(2, asks)",
    "os.chdir('/')",
    "warnings.simplefilter(asks())",
    "dispycos.run(digits)",
    "Own.scale = 3",
    "x = 3",
    "'a text'",
]


@pytest.mark.parametrize("statement", CARRIED_OUT)
def test_what_sets_something_is_carried_out(statement: str) -> None:
    assert settings_in(IMPORTS + statement) == [ast.unparse(ast.parse(statement))]


@pytest.mark.parametrize("statement", LEFT)
def test_what_reaches_out_or_may_do_anything_is_not(statement: str) -> None:
    assert settings_in(IMPORTS + statement) == []


@pytest.mark.parametrize(
    ("named", "setting", "meant"),
    [
        ("context = getcontext()", "context.prec = 50", "getcontext().prec = 50"),
        (
            "a = b = decimal.getcontext()",
            "a.traps[1], b.prec = 2, 3",
            "decimal.getcontext().traps[1], decimal.getcontext().prec = 2, 3",
        ),
        ("é: dict = cs.table['x']", "é['y'] = (\n    é)", "cs.table['x']['y'] = (\n    é)"),
        ("e = environ", "del e['X']", "del environ['X']"),
    ],
)
def test_what_is_set_by_another_name_of_it_is_set_there(named: str, setting: str, meant: str) -> None:
    assert settings_in(f"{IMPORTS}{named}\n{setting}\n") == [ast.unparse(ast.parse(meant))]


@pytest.mark.parametrize(
    "text",
    [
        "table = np.zeros(3)\ntable[0] = 1\n",
        "own = {}\nown['x'] = 1\n",
        "context = getcontext()\ncontext = Context()\ncontext.prec = 2\n",
        "file = io.get_file()\nfile.mode = 2\n",
    ],
)
def test_what_a_script_has_made_itself_is_no_setting(text: str) -> None:
    assert settings_in(IMPORTS + text) == []


def test_of_a_compound_statement_what_sets_something_is_kept_on_its_lines() -> None:
    text = """if digits() > 2:
    print("é",
          "more"); cs.a = 1
    import json
    try:
        cs.b = 2
        with open("x") as f:
            cs.c = 3
    finally:
        @np.vectorize
        def f(): pass
else:
    for n in (1, 2): cs.d = n
"""
    kept = """if digits() > 2:
    pass
    cs.a = 1
    import json
    try:
        cs.b = 2
        pass
    finally:
        pass
else:
    for n in (1, 2):
        cs.d = n"""
    (setting,) = settings_of(IMPORTS + text)
    assert ast.unparse(setting.node) == kept
    assert setting.code is not None
    first = len(IMPORTS.splitlines()) + 1
    lines = {line - first for _, _, line in setting.code.co_lines() if line}
    assert lines >= {0, 2, 3, 5, 12}


@pytest.mark.parametrize(
    "text",
    [
        'if __name__ == "__main__":\n    cs.a = 1\n',
        "if asks():\n    cs.a = 1\n",
        "for line in open('x'):\n    cs.a = 1\n",
        "while True:\n    cs.a = 1\n",
        "if True:\n    print(1)\n",
    ],
)
def test_a_guard_and_what_may_wait_are_left_out_whole(text: str) -> None:
    assert settings_in(IMPORTS + text) == []


def test_the_list_of_calls_is_made_of_names() -> None:
    assert not [p for p in SETTING_CALLS | NEVER if p.split(".")[-1] == ""]
    assert not any(
        fnmatch.fnmatchcase(name, p) for name in ("random.seed", "numpy.random.seed") for p in SETTING_CALLS
    )


SCRIPT = """
import colorsys, csv, decimal, functools, os, sys, warnings
import late
from helper import flagged
import helper
from shipping_client import Remote

DIGITS = 7

@functools.singledispatch
def kind(value): return "any"
def kind_of_int(value): return "int"
kind.register(int, kind_of_int)

decimal.getcontext().prec = DIGITS
helper.FLAG = True
colorsys.counted = [1]
colorsys.counted += [2]
csv.register_dialect("mine", delimiter=";")
if sys.platform != "nowhere":
    print("printed")
    colorsys.inside = "yes"

def look():
    return (
        str(decimal.Decimal(1) / 7), flagged(), colorsys.counted, colorsys.inside, "mine" in csv.list_dialects(), kind(3)
    )
"""
FILES = {"helper.py": "FLAG = False\ndef flagged(): return FLAG\n", "late.py": ""}


def test_what_a_module_sets_in_the_context_is_set_for_every_later_call(tmp_path: Path) -> None:
    script = """
        from settings_of_ours import seventh
        from shipping_client import Remote

        def look():
            return seventh()

        with Remote() as remote:
            print([remote.call(look) for _ in range(2)])
    """
    module = """
        import decimal
        decimal.getcontext().prec = 5
        def seventh(): return str(decimal.Decimal(1) / 7)
    """
    out = run_python(tmp_path, "script.py", files={"script.py": script, "settings_of_ours.py": module})
    assert out == "['0.14286', '0.14286']\n"


def test_settings_are_there_when_a_function_runs(tmp_path: Path) -> None:
    end = """
with Remote() as remote:
    print(remote.call(look) == look(), look())
"""
    out = run_python(tmp_path, "script.py", files=FILES | {"script.py": SCRIPT + end})
    assert out.splitlines() == [
        "printed",
        "True ('0.1428571', True, [1, 2], 'yes', True, 'int')",
    ]


def test_a_setting_that_fails_is_an_error_with_its_line_for_every_call(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "script.py": """
            import colorsys, decimal
            from shipping_client import Remote, RemoteFailure

            if __name__ == "__main__":
                colorsys.table = {"key": 5}
            colorsys.value = colorsys.table["key"]
            decimal.getcontext().prec = 5

            def look():
                return 1

            for _ in range(2):
                with Remote() as remote:
                    for _ in range(2):
                        try:
                            print(remote.call(look))
                        except RemoteFailure as failure:
                            print(failure)
            """
        },
    )
    assert len(out.splitlines()) == 4
    assert all(
        line.startswith("InstallFailed") and "script.py:7: AttributeError" in line
        for line in out.splitlines()
    )


def test_a_module_that_only_the_client_has_is_missed_by_code_that_uses_it_only(tmp_path: Path) -> None:
    site = tmp_path / "site-packages"  # installed, as far as one can see
    site.mkdir()
    (site / "only_here.py").write_text("FLAG = 1\n")
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "script.py": f"""
            import sys
            sys.path.append({str(site)!r})
            import colorsys
            import only_here
            from shipping_client import Remote, RemoteFailure

            only_here.FLAG = 2
            colorsys.FLAG = 3

            def look():
                return colorsys.FLAG

            def misses():
                return only_here.FLAG

            with Remote() as remote:
                print(remote.call(look))
                try:
                    remote.call(misses)
                except RemoteFailure as failure:
                    print(failure)
            """
        },
    )
    first, second = out.splitlines()
    assert first == "3"
    assert "No module named 'only_here'" in second


def test_what_cannot_be_done_again_over_there_is_said(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "script.py": """
            import colorsys, logging, sys
            logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(message)s", level="DEBUG")
            from shipping_client import Remote

            number = 3
            colorsys.first = number
            number = 4
            gone = 5
            colorsys.second = gone
            del gone
            colorsys.third = len(open(__file__).read())
            print("here")

            def look():
                return [hasattr(colorsys, name) for name in ("first", "second", "third")]

            with Remote() as remote:
                print(remote.call(look), remote.call(look))
            """
        },
    )
    lines = [line for line in out.splitlines() if "asyncio" not in line]
    assert lines[0] == "here" and lines[-1] == "[False, False, False] [False, False, False]"
    said = [
        (line.split(" ")[0], line.split("script.py:")[1].split(":")[0].split(" ")[0]) for line in lines[1:-1]
    ]
    assert sorted(said) == [
        ("DEBUG", "13"),
        ("DEBUG", "3"),
        ("WARNING", "10"),
        ("WARNING", "12"),
        ("WARNING", "7"),
    ]

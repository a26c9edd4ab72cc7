"""Names of `__main__` that a function of the program binds to something else between two calls."""

from pathlib import Path
from textwrap import indent

import pytest

from tests.kit.shipping_scripts import run_python

# Each case: the script's statements, what function() tells there, what main() does to them, what it tells then.
FUNCTION = "def it(): return 'old'\ndef other(): return 'new'\ndef function(): return it()\n"
CLASS = "class it: pass\nclass other: pass\ndef function(): return it.__name__, it is other\n"
WHOLE_CLASS = (
    "class it:\n    def word(self): return 'old'\ndef function(): return it().word(), type(it()) is it\n"
)
CLOSURE = "def makes(n): return lambda: n\nit = makes('old')\ndef function(): return it()\n"
CACHED = "from functools import cache\n@cache\ndef it(): return 'old'\ndef function(): return it()\n"
DECORATED = """
def twice(f):
    def inner(): return f() * 2
    return inner
@twice
def it(): return 'old'
def other(): return 'new'
def function(): return it()
"""
ENUM = "from enum import Enum\nclass it(Enum):\n    RED = 'old'\ndef function(): return it.RED.value\n"
HELD = "def it(): return 'old'\nTABLE = [it]\nalias = it\ndef function(): return it(), TABLE[0](), alias()\n"
CASES = {
    "another function": (FUNCTION, "old", "it = other", "new"),
    "a lambda": (FUNCTION, "old", "it = lambda: 'new'", "new"),
    "a nested function": (FUNCTION, "old", "def it(): return other()", "new"),
    "a nested closure": (FUNCTION, "old", "n = 'new'\ndef it(): return n", "new"),
    "setattr": (FUNCTION, "old", "setattr(sys.modules['__main__'], 'it', other)", "new"),
    "swapped": (FUNCTION, "old", "it, other = other, it", "new"),
    "what it makes": (
        "def it():\n    def it(): return 'new'\n    return it\ndef function(): return it()\n",
        None,
        "it = it()",
        "new",
    ),
    "a builtin": (FUNCTION, "old", "it = str", ""),
    "a cached function": (FUNCTION, "old", "it = functools.cache(other)", "new"),
    "from a cached function": (CACHED, "old", "@functools.cache\ndef it(): return 'new'", "new"),
    "from a decorated function": (DECORATED, "oldold", "it = other", "new"),
    "another wrapper": (DECORATED, "oldold", "it = twice(other)", "newnew"),
    "another closure": (CLOSURE, "old", "it = makes('new')", "new"),
    "another closure by setattr": (CLOSURE, "old", "globals()['it'] = makes('new')", "new"),
    "another class": (CLASS, ("it", False), "it = other", ("other", True)),
    "a nested class": (
        WHOLE_CLASS,
        ("old", True),
        "class it:\n    def word(self): return 'new'",
        ("new", True),
    ),
    "a nested class without code": (
        "class it: word = 'old'\ndef function(): return it.word\n",
        "old",
        "class it: word = 'new'",
        "new",
    ),
    "a nested enum": (ENUM, "old", "class it(Enum):\n    RED = 'new'", "new"),
    "a function instead of a class": (CLASS, ("it", False), "it = other.mro", ("mro", False)),
    "another module": (
        "import json as it\ndef function(): return it.__name__\n",
        "json",
        "it = pickle",
        "pickle",
    ),
    "an import in a function": (
        "import json as it\ndef function(): return it.__name__\n",
        "json",
        "import pickle as it",
        "pickle",
    ),
    "an imported function": (
        "from os.path import basename as it\ndef function(): return it('/a/b')\n",
        "b",
        "it = os.path.dirname",
        "/a",
    ),
    "one's own for an imported function": (
        "from os.path import basename as it\ndef function(): return it('/a/b')\n",
        "b",
        "def it(path): return 'new'",
        "new",
    ),
    "what others hold": (HELD, ("old", "old", "old"), "def it(): return 'new'", ("new", "old", "old")),
}


@pytest.mark.parametrize("case", CASES)
def test_a_name_bound_to_another_by_a_function_is_seen_by_old_and_new_servers(
    case: str, tmp_path: Path
) -> None:
    statements, old, rebinding, new = CASES[case]
    script = f"""
import functools, os, pickle, sys
from shipping_client import Remote
{statements}
def rebind():
    {"" if "sys." in rebinding or "globals" in rebinding else "global it" + ", other" * ("other =" in rebinding)}
{indent(rebinding, "    ")}

def main():
    with Remote() as early:
        before = globals()["it"]
        if {old is not None}:
            print(early.call(function))
        else:
            early.install(function)
        rebind()
        with Remote(early.snapshot) as late:
            print(early.call(function), late.call(function), sep="; ")
        globals()["it"] = before
        print(early.call(function) if {old is not None} else None)

if __name__ == "__main__":
    main()
"""
    out = run_python(tmp_path, "script.py", files={"script.py": script})
    assert out.splitlines() == [*([str(old)] if old is not None else []), f"{new}; {new}", str(old)]


def test_a_name_bound_to_another_before_the_first_call_is_seen(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "script.py": """
            from shipping_client import Remote

            def helper(): return "old"
            def newer(): return "new"
            class Kind: word = "old"
            def compute(): return helper(), Kind.word

            def main():
                global helper, Kind
                helper = newer
                class Kind: word = "new"
                with Remote() as remote:
                    print(*remote.call(compute))

            main()
            """
        },
    )
    assert out == "new new\n"


def test_a_name_bound_to_what_cannot_travel_is_an_error_until_it_is_bound_to_what_can(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "script.py": """
            import threading
            from shipping_client import Remote, RemoteFailure

            def helper(): return "old"
            def between(): return helper()
            def compute(): return between()
            def fine(): return "fine"

            def main():
                global helper
                lock = threading.Lock()
                first, second = helper, lambda: lock
                with Remote() as remote:
                    for helper in (first, second, second, first, second, lambda: "new"):
                        try:
                            print(remote.call(fine), remote.call(compute))
                        except RemoteFailure as error:
                            print(error)

            main()
            """
        },
    )
    first, *failed, again, failed_again, last = out.splitlines()
    assert (first, again, last) == ("fine old", "fine old", "fine new")
    for error in [*failed, failed_again]:
        assert error.startswith(
            "CodeUnavailable: it needs helper: helper: cannot pickle '_thread.lock' object"
        )
    assert len(failed) == 2


def test_a_name_that_could_not_travel_at_first_is_sent_when_it_can(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "script.py": """
            import threading
            from shipping_client import Remote, RemoteFailure

            exec("LOCK = threading.Lock()")
            def compute(): return LOCK

            def main():
                global LOCK
                with Remote() as remote:
                    try:
                        remote.call(compute)
                    except RemoteFailure as error:
                        print(error)
                    LOCK = "open"
                    print(remote.call(compute))

            main()
            """
        },
    )
    failed, sent = out.splitlines()
    assert "it needs LOCK" in failed and sent == "open"


def test_a_statement_of_two_names_does_not_bring_back_what_one_of_them_was(tmp_path: Path) -> None:
    out = run_python(
        tmp_path,
        "script.py",
        files={
            "script.py": """
            from os.path import basename, dirname
            from shipping_client import Remote

            if True:
                def first(): return "old"
                def second(): return "second"

            def ask(): return first(), basename("/a/b")
            def ask_others(): return second(), dirname("/a/b")

            def main():
                global first, basename
                before = first, basename
                with Remote() as remote:
                    print(*remote.call(ask))
                    first = basename = lambda *_: "new"
                    print(*remote.call(ask))
                    print(*remote.call(ask_others), *remote.call(ask))
                    first, basename = before
                    print(*remote.call(ask), *remote.call(ask_others))

            main()
            """
        },
    )
    assert out.splitlines() == ["old b", "new new", "second /a new new", "old b second /a"]


def test_a_name_bound_to_what_is_made_of_it_comes_with_both_statements(tmp_path: Path) -> None:
    script = """
import functools
from shipping_client import Remote

def word(): return "made"
word = functools.cache(word)
def function(): return word(), word.cache_info().misses

if __name__ == "__main__":
    with Remote() as server:
        print(server.call(function))
"""
    assert run_python(tmp_path, "script.py", files={"script.py": script}) == "('made', 1)\n"

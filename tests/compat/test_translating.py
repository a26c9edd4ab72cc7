"""Old text becomes today's, line by line."""

from __future__ import annotations

import ast
from textwrap import dedent

import pytest

from dispycos.actors.compat.translating import translated


def run(text: str) -> dict[str, object]:
    names: dict[str, object] = {}
    exec(compile(translated(dedent(text)), "old.py", "exec"), names)
    return names


def value_of(generator: object) -> object:
    try:
        while True:
            next(generator)  # type: ignore[call-overload]
    except StopIteration as stop:
        return stop.value


@pytest.mark.parametrize(
    ("raised", "value"),
    [
        ("StopIteration", None),
        ("StopIteration()", None),
        ("StopIteration(5)", 5),
        ("StopIteration((5))", 5),
        ("StopIteration((5, 6))", (5, 6)),
        ("StopIteration(5, 6)", (5, 6)),
        ("StopIteration (\n      'ä',\n   )", "ä"),
        ("\\\n      StopIteration(\n   'x' + str(len('ü')))", "x1"),
    ],
)
def test_a_raised_stop_iteration_is_a_return_and_lines_stay(raised: str, value: object) -> None:
    text = f"def f():\n    yield 'ö'; raise {raised}; print()\ndef g():\n    return line()\n"
    new = translated(text)
    assert "StopIteration" not in new
    assert new.count("\n") == text.count("\n")
    names: dict[str, object] = {}
    exec(compile(new, "old.py", "exec"), names)
    assert value_of(names["f"]()) == value  # type: ignore[operator]
    tree = ast.parse(new)
    assert tree.body[1].lineno == ast.parse(text).body[1].lineno


def test_only_generator_functions_are_changed_and_those_within_them_are_not() -> None:
    text = """
        class Items:
            def __next__(self):
                raise StopIteration(1)

        def outer():
            def inner():
                raise StopIteration(2)
            for x in [1]:
                if x:
                    while True:
                        with open("/dev/null"):
                            try:
                                yield inner
                            finally:
                                raise StopIteration(x)

        def plain():
            for x in (y for y in [1]):
                raise StopIteration(3)
    """
    new = translated(dedent(text))
    assert [new.count(f"raise StopIteration({x})") for x in (1, 2, 3, "x")] == [1, 1, 1, 0]
    assert value_of(run(text)["outer"]()) == 1  # type: ignore[operator]


def test_what_a_try_of_its_own_catches_is_left_to_it() -> None:
    names = run("""
        def f():
            try:
                yield 1
                raise StopIteration(1)
            except Exception:
                raise StopIteration('caught')

        def g():
            try:
                yield 1
                raise StopIteration(1)
            except ValueError:
                pass
    """)
    assert value_of(names["f"]()) == "caught"  # type: ignore[operator]
    assert value_of(names["g"]()) == 1  # type: ignore[operator]


def test_assertions_about_the_version_of_python_are_gone_and_others_are_not() -> None:
    text = """
        import sys
        assert sys.version_info.major == 2, (
            'this is for Python 2')
        assert sys.version_info < (3,); x = 1
        if sys.version_info[0] < 3:
            y = 1
        try:
            assert x == 2
        except AssertionError:
            z = 1
        line = 11
    """
    names = run(text)
    assert "y" not in names
    assert names["z"] == names["x"] == 1
    new = translated(dedent(text))
    assert new.splitlines().index("line = 11") == dedent(text).splitlines().index("line = 11")


def test_text_without_such_words_is_not_even_read() -> None:
    assert translated("print 'this is Python 2'\n") == "print 'this is Python 2'\n"

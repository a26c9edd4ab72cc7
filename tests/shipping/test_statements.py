"""Cutting a source: units, what they bind and need, and that they compile at their true places."""

from textwrap import dedent
from types import CodeType

import pytest

from dispycos.actors.shipping.statements import Unit, codes_in, codes_of_text, cut


def only(text: str) -> Unit:
    (unit,) = cut(dedent(text), "x.py")
    return unit


def inner_codes(unit: Unit) -> list[CodeType]:
    assert unit.code is not None
    return list(codes_in(unit.code))[1:]


@pytest.mark.parametrize(
    ("text", "names", "needs", "now"),
    [
        ("import a.b, c as d", "a d", "", ""),
        ("from a import b as c, d", "c d", "", ""),
        ("x, (y, *z) = f(w)", "x y z", "f w", "f w"),
        ("total += step", "total", "total step", "total step"),
        ("square = lambda n: n * FACTOR", "square", "FACTOR", ""),
        ("rows = [g(i) for i in source]", "rows", "g source", "g source"),
        ("rows = {i: [j for j in i] for i in source}", "rows", "source", "source"),
        ("match a:\n    case {'k': b, **c}: d = [*e]", "b c d", "a e", "a e"),
        ("@deco(size)\ndef f(a=default):\n    return g(a)", "f", "deco size default g", "deco size default"),
        ("async def f():\n    global n\n    n = await g()", "f", "n g", ""),
        ("class A(B, metaclass=M):\n    c = D\n    def f(self): return e", "A", "B M D e", "B M D"),
        ("def f(a: 'Later') -> 'list[Other]': pass", "f", "Later Other list", ""),
        ("if flag:\n    def f(): return g()\nelse:\n    f = h", "f", "flag g h", "flag h"),
        ("try:\n    import m\nexcept E:\n    m = n", "m", "E n", "E n"),
        ("with o() as p:\n    q = p", "p q", "o p", "o p"),
        ("for i in j:\n    k = i", "i k", "i j", "i j"),
        ("def outer():\n    v = 1\n    def inner(): return v + w\n    return inner", "outer", "w", ""),
        ("f.attribute = g", "", "f g", "f g"),
    ],
)
def test_what_a_statement_binds_and_needs(text: str, names: str, needs: str, now: str) -> None:
    unit = only(text)
    assert unit.names == set(names.split())
    assert unit.needs == set(needs.split())
    assert unit.needs_now == set(now.split())


def test_a_walrus_in_a_comprehension_binds_around_it() -> None:
    assert only("rows = [last := i for i in source]").names == {"rows", "last"}


def test_a_comprehensions_variable_may_also_be_a_global_that_is_needed() -> None:
    assert only("rows = [i for i in a], [b + i for b in c]").needs >= {"i", "a", "c"}


def test_unevaluated_annotations_are_needed_later_only() -> None:
    units = cut("from __future__ import annotations\nclass A:\n    def f(self) -> B: ...\n", "x.py")
    assert units[1].needs == {"B"} and units[1].needs_now == set()
    assert units[1].flags


def test_the_guard_is_no_unit_but_what_is_inside_is() -> None:
    text = 'x = 1\nif __name__ == "__main__":\n    y = 2\n    def f():\n        return y\n    main()\n'
    assert [sorted(unit.names) for unit in cut(text, "x.py")] == [["x"], ["y"], ["f"], []]
    assert [unit.in_guard for unit in cut(text, "x.py")] == [False, True, True, True]


def test_every_unit_compiles_alone_at_its_true_lines_and_columns() -> None:
    text = dedent(
        '''
        é = "ü"; f = lambda a: a  # comment
        @deco
        def g(
            a,
        ):
            """Doc."""
            return [a for a in "é"], lambda: 0
        if __name__ == "__main__":
            x = 1; h = lambda b: [b
                , 1]
            class C:
                def m(self): return super().m()
        with y: k = lambda: 1
        '''
    )
    whole = codes_of_text(text, "x.py")[1:]
    alone = [code for unit in cut(text, "x.py") for code in inner_codes(unit)]
    assert len(alone) == len(whole) and all(code in whole for code in alone)
    opened = cut(text, "x.py")[-1].inside
    assert [sorted(unit.names) for unit in opened] == [["k"]] and inner_codes(opened[0])[0] in whole


def test_what_fills_another_global_is_known() -> None:
    assert only("@f.register(int)\ndef _(x): ...").extends == {"f"}
    assert only("TABLE['a'].b = 1").extends == {"TABLE"}
    assert only("@plain\ndef f(): ...").extends == set()


def test_an_invalid_source_has_no_units_and_a_lone_await_no_code() -> None:
    assert cut("def f(:\n", "x.py") == []
    assert only("x = await y").code is None

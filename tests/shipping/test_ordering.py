"""The order in which a server makes what it gets: dependencies first, otherwise the script's lines."""

from graphlib import CycleError

import pytest

from dispycos.actors.shipping.items import Item
from dispycos.actors.shipping.snapshot import in_order
from dispycos.actors.shipping.statements import cut


def statement_items(text: str) -> list[Item]:
    return [Item(sorted(unit.names)[0], None, (unit,)) for unit in cut(text, "x.py")]


def labels(items: list[Item], lines: dict[str, int] | None = None) -> list[str]:
    return [str(step) for step in in_order(items, lambda name: (lines or {}).get(name, 0) << 12)]


def test_statements_keep_their_lines_also_when_functions_call_each_other() -> None:
    text = "def even(n): return odd(n)\ndef odd(n): return even(n)\n@even\ndef use(): return odd(1)\n"
    assert labels(list(reversed(statement_items(text)))) == ["even", "odd", "use"]


def test_a_value_waits_for_the_classes_it_holds_and_is_there_for_what_is_executed() -> None:
    statements = statement_items("class A: ...\ndef call(): return point\n@call\ndef use(): ...\n")
    point = Item("point", None, (), b"", frozenset({"A"}))
    assert labels([point, *statements], {"point": 9}) == ["A", "call", "point", "use"]


def test_the_contents_of_a_container_come_last() -> None:
    statements = statement_items("def add(f): table.append(f)\n@add\ndef a(): ...\n@add\ndef b(): ...\n")
    (made,) = statement_items("table = []\n")
    table = Item("table", None, made.units, b"", frozenset({"a"}))
    assert labels([table, *statements]) == ["table", "add", "a", "b", "table"]


def test_values_that_need_each_other_are_a_cycle_and_it_is_named() -> None:
    values = [Item("a", None, (), b"", frozenset({"b"})), Item("b", None, (), b"", frozenset({"a"}))]
    with pytest.raises(CycleError) as caught:
        in_order(values, lambda name: 0)
    assert "".join(map(str, caught.value.args[1])) in ("aba", "bab")

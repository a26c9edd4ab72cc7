"""The item that came last to the lowest level is first, whatever came and went."""

from __future__ import annotations

import random

from dispycos.actors.dispatching.shelves import Shelves


def test_shelves_agree_with_a_list() -> None:
    dice = random.Random(1)
    shelves: Shelves[int] = Shelves()
    levels: dict[int, int] = {}  # in the order in which they came to their level
    for _ in range(3000):
        item, level = dice.randrange(12), dice.choice((0, 1, 2, 700))
        if dice.random() < 0.3:
            shelves.remove(item)
            levels.pop(item, None)
        elif levels.get(item) != level:
            levels.pop(item, None)
            levels[item] = level
            shelves.put(item, level)
        else:
            shelves.put(item, level)
        lowest = min(levels.values(), default=None)
        on_lowest = [item for item, level in levels.items() if level == lowest]
        assert shelves.first() == (on_lowest[-1] if on_lowest else None)
        assert shelves.level_of == levels and len(shelves) == len(levels)

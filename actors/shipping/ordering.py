"""Puts what is sent in the order in which it can be made: by dependency, then by line; pure."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from .items import Item
from .statements import Unit


class Cycle(Exception):
    """Each of these names is needed to make the next; the text is the cycle."""


@dataclass(eq=False)
class Step:
    """Making one statement or one value."""

    order: int
    made: Unit | Item
    after: set["Step"] = field(default_factory=set)  # must be made first
    rather_after: set["Step"] = field(default_factory=set)  # better first: may be called while this is made

    @property
    def names(self) -> frozenset[str]:
        return self.made.names if isinstance(self.made, Unit) else frozenset({self.made.name})

    @property
    def label(self) -> str:
        return ", ".join(sorted(self.names))

    @property
    def is_contents(self) -> bool:
        """Of a container that statements make."""
        return isinstance(self.made, Item) and bool(self.made.units)


def in_order(items: list[Item], last_line: Callable[[str], int], settings: Iterable[Unit] = ()) -> list[Step]:
    """`last_line` gives the order of the last statement that defines a name; `settings` define none."""
    units = dict.fromkeys([*(unit for item in items for unit in item.units), *settings])
    statements = [Step(unit.order, unit) for unit in units]
    values = [Step(last_line(item.name), item) for item in items if item.value is not None]
    makers: dict[str, set[Step]] = defaultdict(set)
    for step in [*statements, *values]:
        for name in step.names:
            makers[name].add(step)
    needs = {item.name: frozenset(name for unit in item.units for name in unit.needs) for item in items}
    for step in [*statements, *values]:
        if isinstance(step.made, Unit):
            _place_statement(step, step.made, makers, needs)
        else:
            step.after.update(*(makers[name] for name in step.made.refers), makers[step.made.name])
            step.after.update(statements if step.is_contents else ())  # when all that add to it have run
        step.after.discard(step)
    return _sorted([*statements, *values])


def _place_statement(
    step: Step, unit: Unit, makers: dict[str, set[Step]], needs: dict[str, frozenset[str]]
) -> None:
    """Nothing waits for the contents of containers."""
    for name in unit.needs_now:
        found = {maker for maker in makers[name] if maker is not step and not maker.is_contents}
        above = {maker for maker in found if isinstance(maker.made, Unit) and maker.order < step.order}
        step.after |= above or found
    called = set(unit.needs_now)
    todo = list(called)
    while todo:
        for name in needs.get(todo.pop(), frozenset()) - called:
            called.add(name)
            todo.append(name)
            # Statements above come first anyway, and those below were not needed when the script ran.
            found = {m for m in makers[name] if isinstance(m.made, Item) or m.order < step.order}
            step.rather_after |= {maker for maker in found if not maker.is_contents}
    step.rather_after -= step.after


def _sorted(steps: list[Step]) -> list[Step]:
    """Always the first line that can be made: what depends on side effects finds the script's order."""
    waiting = sorted(steps, key=lambda step: step.order)
    made: dict[Step, None] = {}
    while waiting:
        step = next((s for s in waiting if s.after <= made.keys() and s.rather_after <= made.keys()), None)
        step = step or next((s for s in waiting if s.after <= made.keys()), None)
        if step is None:
            raise Cycle(_cycle_in(waiting))
        waiting.remove(step)
        made[step] = None
    return list(made)


def _cycle_in(waiting: list[Step]) -> str:
    path: list[Step] = []
    step = waiting[0]
    while step not in path:
        path.append(step)
        step = min(step.after & set(waiting), key=lambda before: before.order)
    return " -> ".join(part.label for part in [*path[path.index(step) :], step])

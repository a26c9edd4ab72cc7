"""Puts what is sent in the order in which it can be made: by dependency, then by line; pure."""

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
    unit: Unit | None = None
    item: Item | None = None  # of a value
    after: set["Step"] = field(default_factory=set)  # must be made first
    rather_after: set["Step"] = field(default_factory=set)  # better first: may be called while this is made

    @property
    def label(self) -> str:
        return self.item.name if self.item else ", ".join(sorted(self.unit.names)) if self.unit else ""


def in_order(items: list[Item], last_line: Callable[[str], int], settings: Iterable[Unit] = ()) -> list[Step]:
    """`last_line` gives the order of the last statement that defines a name; `settings` define none."""
    units = dict.fromkeys([*(unit for item in items for unit in item.units), *settings])
    steps = [Step(unit.order, unit) for unit in units]
    steps += [Step(last_line(item.name), item=item) for item in items if item.value is not None]
    makers: dict[str, list[Step]] = {}
    for step in steps:
        for name in step.unit.names if step.unit else [step.item.name] if step.item else []:
            makers.setdefault(name, []).append(step)
    needs = {item.name: frozenset(name for unit in item.units for name in unit.needs) for item in items}
    statements = {step for step in steps if step.unit is not None}
    for step in steps:
        if step.unit is not None:
            _place_statement(step, step.unit, makers, needs)
        elif step.item is not None:
            _place_value(step, step.item, makers, statements)
    return _sorted(steps)


def _place_statement(
    step: Step, unit: Unit, makers: dict[str, list[Step]], needs: dict[str, frozenset[str]]
) -> None:
    for name in unit.needs_now:
        found = _makers_for(step, makers.get(name, []))
        above = [maker for maker in found if maker.unit is not None and maker.order < step.order]
        step.after |= set(above or found)
    called = set(unit.needs_now)
    todo = list(called)
    while todo:
        for name in needs.get(todo.pop(), frozenset()) - called:
            called.add(name)
            todo.append(name)
            found = _makers_for(step, makers.get(name, []))
            # Statements above come first anyway, and those below were not needed when the script ran.
            step.rather_after |= {maker for maker in found if maker.unit is None or maker.order < step.order}
    step.rather_after -= step.after


def _place_value(step: Step, item: Item, makers: dict[str, list[Step]], statements: set[Step]) -> None:
    if item.units:  # contents: when all statements that add to the container have run
        step.after |= statements
    for name in item.refers:
        step.after |= set(makers.get(name, []))
    step.after |= {maker for maker in makers.get(item.name, []) if maker.unit is not None}
    step.after.discard(step)


def _makers_for(step: Step, makers: list[Step]) -> list[Step]:
    """Without the contents of containers, which nothing waits for."""
    return [m for m in makers if m is not step and not (m.item is not None and m.item.units)]


def _sorted(steps: list[Step]) -> list[Step]:
    """Always the first line that can be made: what depends on side effects finds the script's order."""
    waiting = sorted(steps, key=lambda step: step.order)
    done: list[Step] = []
    made: set[Step] = set()
    while waiting:
        step = next((s for s in waiting if s.after <= made and s.rather_after <= made), None)
        step = step or next((s for s in waiting if s.after <= made), None)
        if step is None:
            raise Cycle(_cycle_in(set(waiting)))
        waiting.remove(step)
        made.add(step)
        done.append(step)
    return done


def _cycle_in(waiting: set[Step]) -> str:
    step = min(waiting, key=lambda step: step.order)
    path: list[Step] = []
    while step not in path:
        path.append(step)
        step = min(step.after & waiting, key=lambda before: before.order)
    return " -> ".join(part.label for part in [*path[path.index(step) :], step])

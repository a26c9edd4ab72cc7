"""What waits is taken by priority, then in the order of submission, whatever ends meanwhile or comes back."""

from __future__ import annotations

import random

from dispycos.actors.dispatching.dispatch import TURN_BITS
from dispycos.actors.dispatching.facts import Entry, Queue


def entry(turn: int, priority: int = 0) -> Entry:
    return Entry("f", priority=priority, turn=turn - (priority << TURN_BITS))


def take(queue: Queue) -> Entry | None:
    head = queue.head()
    if head is not None:
        assert queue.entries.popleft() is head
    return head


def test_more_priority_is_first_and_among_equals_who_came_first() -> None:
    queue = Queue()
    entries = [entry(turn, priority) for turn, priority in enumerate((0, 2, -1, 2, 0))]
    for each in entries:
        queue.put(each)
    assert queue.count() == 5
    assert [take(queue) for _ in range(6)] == [entries[n] for n in (1, 3, 0, 4, 2)] + [None]


def test_any_history_gives_the_first_by_turn() -> None:
    for seed in range(200):
        dice, queue = random.Random(seed), Queue()
        waiting: list[Entry] = []
        taken: list[Entry] = []
        for turn in range(60):
            what = dice.random()
            if what < 0.5:
                waiting.append(entry(turn, dice.choice((0, 0, 0, 1, -1, 7))))
                queue.put(waiting[-1])
            elif what < 0.8:
                first = min(waiting, key=lambda each: each.turn, default=None)
                assert take(queue) is first, seed
                if first is not None:
                    waiting.remove(first)
                    taken.append(first)
            elif what < 0.9 and taken:
                back = dice.sample(taken, dice.randrange(1, len(taken) + 1))
                taken = [each for each in taken if each not in back]
                waiting += back
                queue.put_back(back)
            elif waiting:
                ends = waiting.pop(dice.randrange(len(waiting)))
                ends.over = True
            assert list(queue) == sorted(waiting, key=lambda each: each.turn), seed
        assert queue.take_all() == sorted(waiting, key=lambda each: each.turn)
        assert queue.head() is None and queue.count() == 0

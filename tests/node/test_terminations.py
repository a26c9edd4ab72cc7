"""Who is killed for a task that does not end: a server whose step is that very task's, and nobody else."""

from __future__ import annotations

from dispycos.actors.node.processes.words import EndStep
from dispycos.actors.node.terminations import FORGET_AFTER, LOOK_AGAIN, Terminations
from dispycos.actors.tasks.step import KILL_AFTER, NO_STEP, Step

SERVER, TASK, OTHER = 1, 7, 8


class Watch:
    """The machine, and the step that runs on its one server."""

    def __init__(self) -> None:
        self.machine = Terminations()
        self.step = NO_STEP
        self.looks = 0

    def ask(self, now: float, task: int = TASK) -> bool:
        return self.machine.ask(SERVER, task, f"function {task}", now)

    def step_of(self, server: int) -> Step:
        self.looks += 1
        return self.step

    def until(self, now: float) -> list[tuple[float, EndStep]]:
        """All that it wants until then."""
        wanted = []
        while (due := self.machine.deadline()) is not None and due <= now:
            wanted += [(round(due, 3), effect) for effect in self.machine.wake(due, self.step_of)]
        return wanted


def at(seconds: float, position: int = TASK) -> Step:
    """A step that began then."""
    return Step(position, int(seconds * 1e9))


def test_a_step_that_runs_since_before_the_request_has_5_s_from_the_request() -> None:
    watch = Watch()
    watch.step = at(90.0)
    watch.ask(100.0)
    assert watch.until(105.5) == [(100.0 + KILL_AFTER, EndStep(SERVER, at(90.0)))]
    assert watch.until(106.5) == [(106.0, EndStep(SERVER, at(90.0)))], "again, should it outlive that"


def test_a_step_that_began_after_the_request_has_5_s_from_its_beginning() -> None:
    watch = Watch()
    watch.ask(100.0)
    assert watch.until(104.0) == []
    watch.step = at(104.5)
    assert watch.until(110.0) == [(109.5, EndStep(SERVER, at(104.5)))]


def test_a_step_that_begins_while_nobody_looks_is_found_a_second_later() -> None:
    watch = Watch()
    watch.ask(100.0)
    assert watch.until(120.2) == []
    watch.step = at(120.3)
    assert watch.until(200.0)[0] == (125.3, EndStep(SERVER, at(120.3)))


def test_for_a_task_that_waits_nobody_is_killed() -> None:
    watch = Watch()
    watch.ask(100.0)
    assert watch.until(100.0 + 2 * FORGET_AFTER) == []
    assert watch.machine.deadline() is None, "and a minute later nobody looks any more"


def test_for_a_task_behind_the_step_of_another_nobody_is_killed() -> None:
    watch = Watch()
    watch.step = at(50.0, OTHER)
    watch.ask(100.0)
    assert watch.until(100.0 + 2 * FORGET_AFTER) == []


def test_a_step_after_the_one_that_was_seen_has_its_own_time() -> None:
    watch = Watch()
    watch.step = at(90.0)
    watch.ask(100.0)
    watch.step = at(103.0)
    assert watch.until(105.5) == []
    watch.step = at(106.0)
    assert watch.until(200.0)[0] == (111.0, EndStep(SERVER, at(106.0)))


def test_a_step_that_was_over_in_the_last_moment_costs_nobody_anything_and_the_next_is_watched() -> None:
    watch = Watch()
    watch.step = at(90.0)
    watch.ask(100.0)
    assert watch.until(105.5)[-1] == (105.0, EndStep(SERVER, at(90.0)))
    watch.step = at(105.1)
    assert watch.until(200.0)[0] == (110.1, EndStep(SERVER, at(105.1)))


def test_of_a_server_that_was_killed_nothing_more_is_wanted() -> None:
    watch = Watch()
    watch.step = at(90.0)
    watch.ask(100.0)
    watch.until(105.5)
    assert watch.machine.forget(SERVER) == "function 7", "for the words about its death"
    assert watch.machine.deadline() is None
    watch.step = NO_STEP
    assert watch.ask(110.0) and watch.until(114.9) == [] and watch.machine.deadline() == 115.0


def test_a_server_that_dies_of_itself_was_killed_for_nobody() -> None:
    watch = Watch()
    watch.step = at(90.0)
    assert watch.machine.forget(SERVER) == "", "nothing was asked"
    watch.ask(100.0)
    assert watch.machine.forget(SERVER) == "", "within the 5 s"


def test_requests_are_forgotten_after_a_minute_also_where_a_task_that_is_to_end_runs_at_each_look() -> None:
    watch = Watch()
    for second in range(100):
        watch.step = at(100.0 + second, task := OTHER + second)
        watch.ask(100.0 + second, task)
        watch.ask(100.0 + second, -task)  # it waits
        assert watch.until(100.0 + second) == []
    assert not watch.ask(200.0, -OTHER - 41)
    assert watch.ask(200.0, -OTHER - 30), "it would have its KeyboardInterrupt again"


def test_one_look_is_for_all_tasks_of_a_server() -> None:
    watch = Watch()
    for task in range(1, 1001):
        assert watch.ask(100.0, task)
    assert watch.until(100.0 + KILL_AFTER) == [] and watch.looks == 1
    assert watch.machine.deadline() == 105.0 + LOOK_AGAIN


def test_the_first_request_counts() -> None:
    watch = Watch()
    watch.step = at(90.0)
    assert watch.ask(100.0)
    assert not watch.ask(104.0)
    assert watch.until(200.0)[0] == (105.0, EndStep(SERVER, at(90.0)))


def test_a_step_that_begins_in_the_last_second_of_the_minute_is_not_forgotten() -> None:
    watch = Watch()
    watch.ask(100.0)
    watch.until(100.0 + FORGET_AFTER - LOOK_AGAIN / 2)
    watch.step = at(100.0 + FORGET_AFTER - 0.2)
    assert watch.until(300.0)[0][0] == 100.0 + FORGET_AFTER - 0.2 + KILL_AFTER

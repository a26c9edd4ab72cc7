"""A node through a thousand lives of its servers: every task ends once, in one of the ways that there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dispycos.actors.feeding import Feeding, NodeTask, Server
from dispycos.actors.outcomes import Outcomes, verdict

from dispycos.actors import supervisor
from dispycos.actors.node import Node
from dispycos.actors.supervisor import Supervisor
from dispycos.protocol.messages import TaskId
from tests.kit.node_story import Judge, Story

SEEDS = 1000


def play(seeds: range) -> None:
    for seed in seeds:
        try:
            Story(seed).play()
        except Exception as error:
            raise AssertionError(f"seed {seed}: {type(error).__name__}: {error}") from error


def test_every_task_ends_once_however_servers_die() -> None:
    play(range(SEEDS))


def test_the_same_seed_tells_the_same_story() -> None:
    def told(seed: int) -> list[object]:
        story = Story(seed)
        story.play()
        return [story.now, story.judge.ended, story.forgotten]

    assert told(5) == told(5)


# --- the stories find what they are for ---------------------------------------------------------------------


def forget_to_speak(self: Outcomes, server: int) -> list[Any]:
    return []


def take_the_first_for_unstarted(task: NodeTask, started: bool, *rest: Any) -> Any:
    return verdict(task, started and task.began, *rest)


def never_confirm(self: Outcomes, task: Any) -> bool:
    return True


def never_kill(self: Node, *arguments: Any) -> None:
    tenancy = self.tenancy
    assert tenancy is not None and tenancy.closing is not None
    tenancy.closing.kill_at += 5


def feed_ahead_of_all(self: Feeding, server: Server) -> Any:
    if server.withdrawn:
        return None, None, None
    return len(server.io), None, None


def lose_what_comes_back(self: Feeding, server: Server, tasks: Any, now: float) -> list[NodeTask]:
    server.recalling = False
    for id in tasks:
        server.cpu.pop(id, None)
        self.tasks.pop(id, None)
    return []


def leave_the_queue_behind(self: Supervisor, *arguments: Any) -> None:
    return


def forget_what_is_unheard(judge: Judge) -> set[TaskId]:
    """The scheduler's part: it forgets a task as soon as it is done."""
    return judge.given


def drop_only_what_was_given(original: Callable[..., list[NodeTask]]) -> Callable[..., list[NodeTask]]:
    def drop(self: Feeding, server: Server) -> list[NodeTask]:
        return [task for task in original(self, server) if task.server is not None]

    return drop


BUGS: list[tuple[object, str, object]] = [
    (Outcomes, "take", forget_to_speak),
    (Outcomes, "ack", never_confirm),
    (supervisor, "verdict", take_the_first_for_unstarted),
    (Node, "_kill_all", never_kill),
    (Supervisor, "_hand_back_queue", leave_the_queue_behind),
    (Feeding, "_wanted", feed_ahead_of_all),
    (Feeding, "given_back", lose_what_comes_back),
    (Judge, "unheard", forget_what_is_unheard),
    (Feeding, "drop", drop_only_what_was_given(Feeding.drop)),
]


@pytest.mark.parametrize(("owner", "name", "bug"), BUGS, ids=[bug[1] for bug in BUGS])
def test_a_planted_bug_is_found(
    owner: object, name: str, bug: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, bug)
    with pytest.raises(AssertionError, match="seed"):
        play(range(300))

"""What a task's own client says of the tasks that it submits."""

from __future__ import annotations

from typing import Any

from dispycos.actors.server.nested import TaskClient
from dispycos.actors.tasks.options import PLAIN
from dispycos.protocol import messages
from dispycos.protocol.addresses import Location


class Nested:
    """Keeps the words."""

    def submit(self, word: messages.Nested, *call: Any) -> messages.Nested:
        return word


async def hands_its_task_on(task: Any = None) -> None:
    await task


def double(x: int) -> int:
    return 2 * x


def test_options_and_what_may_be_an_actor_go_along() -> None:
    client: Any = TaskClient(Nested())  # type: ignore[arg-type]
    careful = PLAIN.of_call(2, where=Location("10.0.0.1", 5))._replace(
        timeout=3.0, priority=4, resources=(("gpu", 1),)
    )
    word = client._run(double, (1,), {}, careful)
    assert (word.function, word.retries, word.addr, word.port) == ("double", 2, "10.0.0.1", 5)
    assert (word.timeout, word.priority, word.needs, word.may_receive) == (3.0, 4, (("gpu", 1),), False)
    assert client._run(hands_its_task_on, (), {}, PLAIN).may_receive

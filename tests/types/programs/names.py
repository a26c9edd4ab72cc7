"""Names that dispycos has and has not, what a status_task hears, and the small parts: locks, channels, a scheduler."""

from __future__ import annotations

from typing import Any, assert_type

import dispycos
from dispycos import (
    Channel,
    Client,
    Condition,
    DispycosNodeAllocate,
    DispycosStatus,
    Location,
    Lock,
    MailboxState,
    Scheduler,
    Task,
)

dispycos.Scheduler(cpus=2, ip_addr=["127.0.0.1"], zombie_period=60)


async def watching(*, task: Task) -> int:
    while True:
        word = await task.receive()
        if isinstance(word, DispycosStatus) and word.status == Scheduler.ServerInitialized:
            assert_type(task.mailbox("newest"), MailboxState)
        elif isinstance(word, dispycos.DispycosNodeAvailInfo):
            assert_type(word.cpu, float | None)
        else:
            return 0


async def parts(lock: Lock, condition: Condition, client: Client) -> None:
    async with lock as held:
        assert_type(held, Lock)
    assert_type(await condition.wait_for(lambda: "x"), str)
    assert_type(await Channel.locate("news"), Channel)
    assert_type(await client.tasks(), list[Task[Any]])


def of_nodes(mine: list[Half]) -> list[Client]:
    there: list[str | Location] = ["host", Location("10.0.0.5", 9701)]
    return [Client(nodes=mine), Client(nodes="host*"), Client(nodes=["a", "b"]), Client(nodes=there)]


class Half(DispycosNodeAllocate):
    def allocate(
        self, ip_addr: str, name: str, platform: str, cpus: int, memory: int | None, disk: int | None
    ) -> int:
        return max(1, cpus // 2)


async def wrong(task: Task, client: Client) -> None:
    dispycos.Exectuor()  # error
    print(Scheduler.NodeBorn)  # error
    Scheduler(cpu=2)  # error
    Scheduler(cpus=[2])  # error
    task.mailbox("oldest")  # error
    task.sned(1)  # error
    Client(componets=[wrong])  # error
    Client(nodes=5)  # error
    Channel("news", transform=3)  # error
    client.enable_server("host")  # error
    print((await client.servers())[0].host)  # error

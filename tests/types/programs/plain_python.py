"""The sync style: values come by result()."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, assert_type

from dispycos import Client, SyncClient, SyncMap, SyncTask, Task


def count(text: str) -> int:
    return len(text)


async def total(numbers: list[int], scale: float = 1.0) -> float:
    return sum(numbers) * scale


def load(path: str) -> list[int]:
    return [len(path)]


async def agent(n: int, text: str = "", *, task: Task) -> str:
    return text * n


def stepping(n: int, *, task: Task) -> Generator[Any, Any, bytes]:
    yield task.sleep(0.1)
    return bytes(n)


def joined(a: int, b: float, c: str) -> str:
    return f"{a}{b}{c}"


def right() -> None:
    with Client() as client:
        assert_type(client, SyncClient)
        counted = client.submit(count, "text")
        assert_type(counted, SyncTask[int])
        assert_type(counted.result(5), int)
        assert_type(counted.done(), bool)
        assert_type(client.submit(total, [1, 2]).result(), float)
        assert_type(client.submit(total, client.submit(load, "a.txt")), SyncTask[float])
        assert_type(client.submit(total, client.submit(load, "a.txt"), scale=0.5), SyncTask[float])
        assert_type(client.rtask(count, "text"), SyncTask[int])
        assert_type(client.io_submit(total, [1], 0.5), SyncTask[float])
        assert_type(client.options(timeout=60, retries=2).submit(count, "text"), SyncTask[int])
        assert_type(client.gather(counted, counted), list[int])
        for ended in client.as_completed([counted]):
            assert_type(ended, SyncTask[int])
        done, _ = client.wait([counted])
        assert_type(done, set[SyncTask[int]])


def with_task(client: SyncClient) -> None:
    assert_type(client.submit(agent, 1), SyncTask[str])
    assert_type(client.submit(agent, 1, text="x"), SyncTask[str])
    assert_type(client.submit(stepping, 1), SyncTask[bytes])
    assert_type(client.rtask_at("host", agent, 1, "x"), SyncTask[str])
    assert_type(client.io_submit(worker, client.me), SyncTask[str])


def with_retries(client: SyncClient) -> None:
    assert_type(client.submit(total, [1], retries=2), SyncTask[float])
    assert_type(client.submit(total, [1], scale=0.5, retries=2), SyncTask[float])
    assert_type(client.submit(stepping, 1, retries=2), SyncTask[bytes])
    assert_type(client.rtask_at("host", count, "text", retries=2), SyncTask[int])


async def worker(program: Task) -> str:
    return str(await program.ask("go on?"))


def mapped(client: SyncClient, words: list[str]) -> None:
    for word, size in client.map(count, words, progress=True):
        assert_type(word, str)
        assert_type(size, int)
    for numbers, value in client.map(total, [[1, 2]], ordered=True):
        assert_type(numbers, list[int])
        assert_type(value, float)
    for pair, value in client.options(retries=1).map(total, [[1]], [0.5]):
        assert_type(pair, tuple[list[int], float])
        assert_type(value, float)
    for _, either in client.map(count, words, return_exceptions=True):
        assert_type(either, int | Exception)
    for _, data in client.map(stepping, [1], return_exceptions=bool(words)):
        assert_type(data, bytes | Exception)
    for row, text in client.map(joined, [1], [2.0], ["x"], return_exceptions=True):
        assert_type(row, tuple[int, float, str])
        assert_type(text, str | Exception)
    assert_type(dict(client.map(count, words)), dict[str, int])
    values = client.map(count, words, chunksize=100)
    assert_type(values, SyncMap[str, int])
    assert_type(len(values), int)
    for _, error in values.failures:
        assert_type(error, Exception)


def kept() -> SyncClient:
    return Client().open()


def wrong(client: SyncClient) -> None:
    client.submit(count, 5)  # error
    client.submit(count)  # error
    client.submit(total, client.submit(count, "text"))  # error
    client.options(timeout="long")  # error
    client.options(retries=2).submit(count, 5)  # error
    client.submit(count, "text").result().upper()  # error
    client.sumbit(count, "text")  # error
    client.map(count, [5])  # error
    client.map(count, 5)  # error
    client.map(count, ["a"], ordred=True)  # error
    client.submit(agent, "x")  # error
    client.submit(stepping, "x", retries=2)  # error
    client.submit(count, 5, retries=2)  # error
    client.rtask_at("host", agent, "x")  # error
    client.rtask_at(3, count, "text")  # error
    print(client.submit(agent, 1).result().real)  # error
    client.options(priority=1).map(count, [5])  # error
    client.schedule()  # error
    client.me.receive()  # error
    client.submit(count, "text").sleep(1)  # error
    client.submit(count, "text").send_after(1, "message")  # error

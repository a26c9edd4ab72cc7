"""The sync style: values come by result()."""

from __future__ import annotations

from typing import assert_type

from dispycos import Client
from dispycos.actors.client.sync_client import SyncClient
from dispycos.actors.client.sync_task import SyncTask


def count(text: str) -> int:
    return len(text)


async def total(numbers: list[int], scale: float = 1.0) -> float:
    return sum(numbers) * scale


def load(path: str) -> list[int]:
    return [len(path)]


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
    values = client.map(count, words, chunksize=100)
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

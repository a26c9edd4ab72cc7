"""client.options(): timeouts, retries and priorities, for the client of a program and that of a task."""

import asyncio
import os
import signal
import time

from scenarios import play, raises

import dispycos
from dispycos import TaskTerminated, TaskTimeout


def nap(seconds):
    time.sleep(seconds)
    return seconds


async def wait(seconds, *, task):
    await task.sleep(seconds)
    return seconds


def dies_once(*, task):
    if task.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task.attempt


async def wait_for_word(*, task):
    return await task.receive()


def slow_at_first(*, task):
    if task.attempt == 1:
        time.sleep(0.7)
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.7)
    return "second"


async def test_who_runs_too_long_is_ended_and_told_so(client, task):
    brief = client.options(timeout=0.3)
    for handle in (brief.submit(nap, 9), brief.io_submit(wait, 9), await brief.rtask(wait, 9)):
        with raises(TaskTimeout, "ran for longer than its timeout, 0.3 s") as caught:
            await handle
        assert isinstance(caught.error, TaskTerminated) and isinstance(caught.error, TimeoutError)
    for _ in range(8):  # known to be short, so their starts are told only for the timeout
        assert await client.options(timeout=60).submit(nap, 0) == 0
    with raises(TaskTimeout):
        await brief.submit(nap, 9)


async def test_what_waits_for_a_server_does_not_run(client, task):
    before = [await client.rtask(wait_for_word) for _ in range(4)]
    waits = client.options(timeout=1.0).submit(nap, 0)
    await asyncio.sleep(1.1)
    for handle in before:
        handle.send("end")
    assert await waits == 0


async def test_each_start_has_its_time(client, task):
    assert await client.options(timeout=1.3, retries=1).submit(slow_at_first) == "second"


async def test_retries_are_those_of_the_options_or_of_the_call(client, task):
    assert await client.options(retries=1).submit(dies_once) == 2
    assert await client.options().submit(dies_once, retries=1) == 2
    assert await client.options(retries=1).options(priority=2).submit(dies_once) == 2


async def within(*, task):
    brief = dispycos.current_client().options(timeout=0.2, priority=1)
    try:
        await brief.submit(nap, 9)
    except TaskTimeout as error:
        return str(error)


async def test_the_client_of_a_task_has_options_too(client, task):
    assert await client.submit(within) == "nap ran for longer than its timeout, 0.2 s"


async def test_map_takes_them(client, task):
    assert sorted([pair async for pair in client.options(priority=3).map(nap, [0, 0.01])]) == [
        (0, 0),
        (0.01, 0.01),
    ]
    with raises(TaskTimeout):
        async for _ in client.options(timeout=0.2).map(nap, [9]):
            pass


def has(*, task):
    began = time.monotonic()
    time.sleep(0.1)
    return task.resources, os.environ.get("CUDA_VISIBLE_DEVICES"), (began, time.monotonic()), os.getpid()


async def asks(*, task):
    return await task.client.options(gpus=2).submit(has)


async def test_each_has_gpus_of_its_own_and_sees_only_these(client, task):
    handles = [client.options(gpus=1).submit(has) for _ in range(6)] + [client.submit(asks)]
    found = await asyncio.gather(*handles)
    for resources, seen, _, _ in found:
        assert seen == ",".join(map(str, resources["gpu"])), found
    for k, (resources, _, (began, ended), _) in enumerate(found):
        for other, _, (since, until), _ in found[:k]:
            apart = ended <= since or until <= began
            assert apart or not set(resources["gpu"]) & set(other["gpu"]), found
    assert found[-1][0] == {"gpu": [0, 1]} and len({pid for *_, pid in found}) == 2
    after = await asyncio.gather(*[client.submit(os.environ.get, "CUDA_VISIBLE_DEVICES") for _ in range(8)])
    assert set(after) == {os.environ.get("CUDA_VISIBLE_DEVICES")}
    resources, seen, *_ = await client.options(resources={"gpu": 1}).io_submit(has)
    assert resources == {"gpu": [0]} and seen == os.environ.get("CUDA_VISIBLE_DEVICES")


async def test_bad_options_are_named(client, task):
    for kind, word, given in (
        (TypeError, "priority must be a whole number", {"priority": "high"}),
        (TypeError, "priority must be a whole number", {"priority": 1.5}),
        (ValueError, "priority must be from", {"priority": 10**9}),
        (TypeError, "timeout must be a number of seconds", {"timeout": "1"}),
        (ValueError, "timeout must be a number of seconds above 0", {"timeout": 0}),
        (ValueError, "timeout must be a number of seconds above 0", {"timeout": float("nan")}),
        (ValueError, "retries must not be negative", {"retries": -1}),
        (TypeError, "gpus must be a whole number", {"gpus": 0.5}),
        (TypeError, "unexpected keyword argument 'patience'", {"patience": 1}),
    ):
        with raises(kind, word):
            client.options(**given)
    assert repr(client.options(priority=2)).endswith(".options(priority=2)")


if __name__ == "__main__":
    play(globals())

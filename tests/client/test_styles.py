"""What is of one style and used as one of the other says what to write, in both: maps, as_completed, handles, mailboxes."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Future
from typing import Any

import pytest

from dispycos import Client, NotScheduled
from dispycos.errors import NotPicklable


def double(x: int) -> int:
    return 2 * x


def fail(x: object) -> None:
    raise KeyError(x)


async def numbers() -> AsyncIterator[int]:
    yield 1


async def awaited(values: Any) -> None:
    await values


async def looped(values: Any) -> None:
    async for _ in values:
        break


OF_ASYNC: list[Callable[[Any], object]] = [
    list,
    dict,
    iter,
    next,
    lambda values: values[0],
]


def in_async(scene: Callable[[Any], Awaitable[None]]) -> None:
    async def main() -> None:
        async with Client(local=True) as client:
            await scene(client)

    asyncio.run(main())


def test_what_the_async_style_gives_one_by_one_refuses_the_ways_of_the_sync_one() -> None:
    async def scene(client: Any) -> None:
        handle = client.submit(double, 1)
        for use in (*OF_ASYNC, awaited):
            for values, called in (
                (client.map(double, [1]), "client.map"),
                (client.as_completed([handle]), "client.as_completed"),
            ):
                with pytest.raises(
                    TypeError, match=rf"{called}\(...\) is of the async style.*`async for .* in {called}"
                ):
                    used: Any = use(values)
                    if inspect.iscoroutine(used):
                        await used
        assert [one async for one in client.as_completed([handle])] == [handle]
        assert await handle == 2

    in_async(scene)


def test_what_the_sync_style_gives_one_by_one_refuses_the_ways_of_the_async_one(client: Any) -> None:
    handle = client.submit(double, 1)
    for values, called in (
        (client.map(double, [1]), "client.map"),
        (client.as_completed([handle]), "client.as_completed"),
    ):
        for use in (
            lambda values: values[0],
            lambda values: asyncio.run(awaited(values)),
            lambda values: asyncio.run(looped(values)),
        ):
            with pytest.raises(
                TypeError, match=rf"{called}\(...\) is of the sync style.*`for .* in {called}.*or list"
            ):
                use(values)
        with pytest.raises(AttributeError, match=rf"no attribute 'result': {called}\(...\) is .*or list"):
            values.result()
        assert len(list(values)) == 1, "it is as it was"


def test_a_map_of_the_sync_style_says_its_length_its_failures_and_how_far_it_is(client: Any) -> None:
    values = client.map(fail, [1, 2], return_exceptions=True)
    assert (len(values), repr(values)) == (2, "<Map of fail: not begun>")
    assert sorted(item for item, _ in values) == sorted(item for item, _ in values.failures) == [1, 2]
    assert "2 failed" in repr(values) and "2 failed" in values._repr_html_()
    assert repr(values).endswith(", ended>"), "before who took the last value goes on"
    endless = client.map(double, iter([1]))
    with pytest.raises(TypeError, match=r"has no len"):
        len(endless)
    assert next(endless) == (1, 2)
    endless.close()
    assert bool(endless) and list(endless) == []


@pytest.mark.parametrize("given", [numbers(), 5])
def test_map_says_which_iterables_it_reads(client: Any, given: Any) -> None:
    match = "async_generator is an async one" if inspect.isasyncgen(given) else "needs iterables .*, not int"
    with pytest.raises(TypeError, match=match):
        client.map(double, given)
    with pytest.raises(TypeError, match=r"not SyncTask \(wait for its value first\)"):
        client.map(double, client.submit(double, 1))


def test_one_that_is_open_is_entered_no_more_and_one_that_was_closed_says_so_in_each_call(
    client: Any,
) -> None:
    with pytest.raises(RuntimeError, match=r"open already: use it as it is"):
        client.__enter__()
    kept = Client(local=True).open()
    kept.close()
    for call in (lambda: kept.submit(double, 1), kept.servers, kept.ready, lambda: kept.map(double, [1])):
        with pytest.raises(NotScheduled, match=r"has no cluster any more: its `with"):
            call()


def test_calls_that_take_a_list_refuse_one_handle_and_what_is_none(client: Any) -> None:
    handle = client.submit(double, 1)
    for call in (client.as_completed, client.wait, client.cancel, client.gather):
        with pytest.raises(TypeError, match=r"a handle .* is needed, not SyncMap; what client.map gives are"):
            call(client.map(double, [1]))
    for call in (client.as_completed, client.wait, client.cancel):
        with pytest.raises(
            TypeError, match=r"a list of handles is needed, as \[handle\], not the handle of double"
        ):
            call(handle)
        with pytest.raises(TypeError, match=r"a handle of a task is needed, not Future; concurrent.futures"):
            call([Future()])
    assert handle.result() == 2, "it was not cancelled"


def test_calls_that_wait_are_refused_in_a_loop_also_when_there_is_nothing_to_wait_for(
    client: Any,
) -> None:
    handle = client.submit(double, 1)
    handle.result()

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"gather\(\) would stop the event loop"):
            client.gather(handle)
        with pytest.raises(RuntimeError, match=r"wait\(\) would stop the event loop"):
            client.wait([handle])

    asyncio.run(main())


def test_a_handle_of_the_async_style_does_not_wait_and_says_so() -> None:
    async def scene(client: Any) -> None:
        handle = client.submit(double, 1)
        for method in (handle.result, handle.exception):
            with pytest.raises(asyncio.InvalidStateError, match=r"double has not ended: `await` its handle"):
                method()
            with pytest.raises(TypeError, match=r"does not wait in .*`await handle.finish"):
                method(5)
        assert await handle == handle.result() == 2
        with pytest.raises(AttributeError, match=r"no 'receive': that is of the sync style.*dispycos.Task"):
            client.receive()
        with pytest.raises(AttributeError, match=r"^a Client has no 'sumbit'$"):
            client.sumbit  # noqa: B018

    in_async(scene)


def test_the_mailbox_of_the_program_has_no_value(client: Any) -> None:
    for method in (client.me.result, client.me.exception):
        with pytest.raises(RuntimeError, match=r"mailbox.*would wait for ever.*client.receive"):
            method()


def test_what_was_never_awaited_is_called_as_its_users_know_it() -> None:
    async def scene(client: Any) -> None:
        handle = client.submit(double, 1)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            unawaited = [client.gather(handle), client.rtask(double, 1), handle.ask(1)]
            names = [coroutine.__qualname__ for coroutine in unawaited]
            unawaited.clear()
        assert names == ["Client.gather", "Client.rtask", "Task.ask"]
        assert {str(warning.message).split()[1].strip("'") for warning in told} == set(names)

    in_async(scene)


def test_arguments_that_stay_here_say_what_to_do(client: Any) -> None:
    coroutine, several = awaited(1), numbers()
    loop = asyncio.new_event_loop()
    for argument, instead in (
        (coroutine, "await it first, and give its value"),
        (Future(), r"wait for it first, and give its value; only the handle of a task is waited for"),
        (loop.create_future(), "wait for it first, and give its value"),
        (several, "a list of its values can be sent: \\[value async for"),
        ((x for x in [1]), r"a list of its values can be sent: list\("),
        (client, "cannot pickle a Client.*task.client"),
        (client.map(double, [1]), "cannot pickle SyncMap: its values are taken here"),
    ):
        with pytest.raises(NotPicklable, match=rf"argument 1 \('x'\) of double: .*{instead}"):
            client.submit(double, argument)
        with pytest.raises(NotPicklable, match=instead):
            client.submit(double, [argument])
    coroutine.close()
    loop.close()
    with pytest.raises(TypeError, match=r"not int: give it uncalled, and its arguments behind it"):
        client.submit(double(1))

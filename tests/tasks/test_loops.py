"""That a plain function of a server finds a current event loop that can be used, whatever those before it did."""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from collections.abc import Iterator

import pytest

from dispycos.actors.tasks.loops import use_fresh_loops

pytestmark = pytest.mark.skipif(
    sys.version_info >= (3, 14), reason="from 3.14 on Python makes no current loop for anybody"
)


@pytest.fixture(autouse=True)
def fresh_loops() -> Iterator[None]:
    before = asyncio.get_event_loop_policy()
    use_fresh_loops()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, of asking
        yield
    asyncio.get_event_loop().close()
    asyncio.set_event_loop_policy(before)


async def value() -> int:
    await asyncio.sleep(0)
    return 5


def test_there_is_one_after_asyncio_run_and_after_one_was_closed() -> None:
    first = asyncio.get_event_loop()
    assert asyncio.get_event_loop() is first
    assert asyncio.run(value()) == 5
    first.close()
    second = asyncio.get_event_loop()
    assert second.run_until_complete(value()) == 5
    second.close()
    assert asyncio.get_event_loop().run_until_complete(value()) == 5


def test_one_that_is_set_is_the_one_that_is_found() -> None:
    asyncio.get_event_loop().close()
    mine = asyncio.new_event_loop()
    asyncio.set_event_loop(mine)
    assert asyncio.get_event_loop() is mine


def test_other_threads_are_as_everywhere() -> None:
    errors: list[str] = []

    def ask() -> None:
        try:
            asyncio.get_event_loop()
        except RuntimeError as error:
            errors.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert len(errors) == 1

"""Plays the scenarios of a script, its `test_...` functions, one after the other with one client, and says how each went.

A scenario is `async def test_...(client, task)`: `task` is the script's local task, for messages to it. Each has ten seconds.
"""

import asyncio
import contextlib
import sys
import time
import traceback

import dispycos

SCENARIO_S = 10


def play(script, components=(), **options):
    """`python SCRIPT [SCENARIO ...]`; script: its globals()."""
    dispycos.run(_main, chosen(script), components, options)


def chosen(script):
    """Those that the command line names, or all: (name, function)."""
    names = sys.argv[1:] or [name for name in script if name.startswith("test_")]
    return [(name, script[name]) for name in names]


@contextlib.contextmanager
def told(name):
    """Says how it went."""
    start = time.monotonic()
    try:
        yield
    except Exception:
        print(f"FAILED {name}", flush=True)
        for line in traceback.format_exc().splitlines():
            print(f"| {line}", flush=True)
    else:
        print(f"passed {name} {time.monotonic() - start:.2f}", flush=True)


async def _main(scenarios, components, options, *, task):
    async with dispycos.Client(components, **options) as client:
        servers = len(await client.servers())
        for name, scenario in scenarios:
            await until(lambda: _are_there(client, servers), SCENARIO_S, "the servers are there again")
            with told(name):
                async with asyncio.timeout(SCENARIO_S):
                    await scenario(client, task)
            await _tidy_up(client, task)


async def _are_there(client, servers):
    """Those that the last scenario has closed are on their way again."""
    return len(await client.servers()) == servers


async def _tidy_up(client, task):
    """What a scenario left running or did not take must not harm the next one."""
    left = await client.tasks()
    for handle in left:
        handle.terminate()
    if left:
        await asyncio.wait(left, timeout=7)
    while await task.receive(timeout=0, alarm_value=NOTHING) is not NOTHING:
        pass


NOTHING = object()


class raises:
    """`with raises(ValueError, "words") as caught:`; caught.error is the exception."""

    def __init__(self, kind, *words):
        self.kind, self.words, self.error = kind, words, None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        assert error is not None, f"no {self.kind.__name__} was raised"
        if not isinstance(error, self.kind):
            return False
        self.error = error
        for word in self.words:
            assert word in str(error), f"{word!r} is not in: {error}"
        return True


async def until(condition, timeout=5.0, what=""):
    """Wait until condition() is true; it may be async."""
    end = time.monotonic() + timeout
    while True:
        found = condition()
        if asyncio.iscoroutine(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.01)

"""How programs leave their cluster: in good order, cancelled, forgotten, with lost tasks; and that nothing is left behind."""

from __future__ import annotations

import re

import pytest

from tests.kit.programs import LINE_S, User

pytestmark = pytest.mark.timeout(60)

HEAD = """
import asyncio, gc, os, time
import dispycos, psutil
def nap(seconds): time.sleep(seconds); return seconds
def now(): return time.time()
def children(): return [child for child in psutil.Process().children(recursive=True) if child.status() != "zombie"]
async def counter(*, task):
    while True: task.reply(await task.receive())
"""
RUNS = {"asyncio": "asyncio.run(main())\n", "dispycos": "dispycos.run(main)\n"}


def test_a_close_that_is_cancelled_leaves_the_cluster_to_the_next(user: User) -> None:
    script = user.script(
        "cancelled.py",
        HEAD
        + """
async def main():
    for delay in (0.001, 0.03, 0.06, 0.1, 0.2):
        client = dispycos.Client(); await client.schedule(timeout=8)
        handle = client.submit(nap, 30)
        try: await asyncio.wait_for(client.close(), delay)
        except TimeoutError: print("cancelled", flush=True)
    async def fail(): await asyncio.sleep(0.1); raise KeyError
    try:
        async with asyncio.TaskGroup() as group:
            client = dispycos.Client(); await client.schedule(timeout=8)
            client.submit(nap, 30); group.create_task(client.close()); group.create_task(fail())
    except* KeyError: print("cancelled", flush=True)
    task = asyncio.create_task(leave())
    await entered.wait()
    await asyncio.sleep(0.1); task.cancel(); await asyncio.wait([task]); print("cancelled", flush=True)
    async with dispycos.Client() as client: print(await client.submit(nap, 0), flush=True)
    print(len(children()), flush=True)
entered = asyncio.Event()
async def leave():
    async with dispycos.Client() as client: client.submit(nap, 30); entered.set()
asyncio.run(main())
""",
    )
    assert script.succeed(50).split() == ["cancelled"] * 7 + ["0", "0"]
    assert script.err == ""


def test_a_schedule_that_is_cancelled_leaves_nothing(user: User) -> None:
    script = user.script(
        "schedules.py",
        HEAD
        + """
async def main():
    client = dispycos.Client()
    for delay in (0, 0.02, 0.1, 0.3, 0.5):
        try: await asyncio.wait_for(client.schedule(), delay)
        except TimeoutError: pass
        await client.close()
    print(len(children()), await client.schedule(timeout=8), await client.submit(nap, 0), flush=True)
    try: await asyncio.wait_for(dispycos.Client().schedule(), 0.1)
    except TimeoutError: print("in line", flush=True)
asyncio.run(main())
print(len(children()))
""",
    )
    assert script.succeed(40).split("\n") == ["0 0 0", "in line", "0", ""]


def test_what_a_loop_leaves_open_is_given_back_with_it(user: User) -> None:
    script = user.script(
        "open.py",
        HEAD
        + """
kept = []
async def main():
    client = dispycos.Client(); await client.schedule(timeout=8)
    kept.append((client, client.submit(nap, 60), await client.submit(nap, 0)))
for _ in range(2):
    began = time.time(); asyncio.run(main()); print(len(children()), time.time() - began < 15, flush=True)
async def again():
    for call in (kept[0][0].submit, kept[0][0].rtask):
        try: await call(nap, 1)
        except dispycos.NotScheduled as error: print(error, flush=True)
    async with kept[0][0] as client: print(await client.submit(nap, 0), flush=True)
asyncio.run(again())
""",
    )
    lines = script.succeed(40).splitlines()
    assert lines[:2] == ["0 True"] * 2
    assert all("belongs to an event loop that has ended" in line for line in lines[2:4])
    assert lines[4:] == ["0"]
    told = script.err.splitlines()
    assert len(told) == 2 and all(
        "open.py, line 12) is open at the end of its event loop, which ends 1 task (nap 1)" in line
        for line in told
    )


@pytest.mark.parametrize("run", RUNS)
def test_lost_tasks_are_an_exit_code(user: User, run: str) -> None:
    script = user.script(
        "lost.py",
        HEAD
        + """
async def main():
    async with dispycos.Client() as client:
        await client.rtask(nap, 60)
        for n in range(2): client.submit(nap, 1 + n / 1000)
        psutil.Process().children()[0].kill()
"""
        + RUNS[run],
    )
    assert script.wait() == 1
    last = script.err.splitlines()[-1]
    assert re.search(
        r"TaskLost: .*nap.* that nobody awaited .* lost: node .* is gone while it ran nap", last
    ), last


def test_close_says_for_whom_it_waits(user: User) -> None:
    script = user.script(
        "actors.py",
        HEAD
        + """
async def main():
    async with dispycos.Client([counter]) as client:
        client.submit(nap, 5)
        actor = await client.rtask(counter)
        print(await actor.ask(5), flush=True)
        asyncio.get_running_loop().call_later(4, actor.terminate)
    print("left", flush=True)
asyncio.run(main())
""",
    )
    script.wait_line("^5$")
    line = script.wait_line(
        "close\\(\\) waits for counter at .*/server-[0-9]+, waiting in receive\\(\\)", 8
    ).text
    assert "nap" not in line
    assert script.succeed().splitlines() == ["5", "left"]


@pytest.mark.parametrize("run", RUNS)
def test_tasks_start_and_are_served_while_the_program_computes(user: User, run: str) -> None:
    """In the first round the function's module is asked for meanwhile, and in the second nothing is queued any more."""
    user.write({"helper.py": "def leave(path): open(path, 'w').close()\n"})
    script = user.script(
        "busy.py",
        HEAD
        + """
import helper
async def main():
    async with dispycos.Client() as client:
        for pause in (None, 0.001):
            path = os.path.abspath(f"left {pause}"); handle = client.submit(helper.leave, path)
            if pause: await asyncio.sleep(pause)
            until = time.time() + 10
            while not os.path.exists(path) and time.time() < until: pass
            print(os.path.exists(path), flush=True); await handle
"""
        + RUNS[run],
    )
    assert script.succeed(LINE_S).split() == ["True", "True"]


def test_a_client_that_is_dropped_frees_the_cluster_for_other_programs(user: User) -> None:
    user.scheduler()
    user.node("n", cpus=1)
    script = user.script(
        "dropping.py",
        HEAD
        + """
async def main():
    client = dispycos.Client(); await client.schedule(); handle = client.submit(nap, 1)
    del client; gc.collect()
    print(await handle, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
""",
    )
    script.wait_line("^1$")
    other = user.script(
        "other.py",
        HEAD
        + "async def main():\n async with dispycos.Client() as client: print('mine')\n"
        + RUNS["asyncio"],
    )
    assert other.succeed() == "mine\n"


def test_programs_with_several_loops_are_told_that_they_wait_for_themselves(user: User) -> None:
    user.scheduler()
    user.node("n", cpus=1)
    script = user.script(
        "threads.py",
        HEAD
        + """
import logging, threading
told = threading.Event()  # who has the cluster first keeps it until the other one is
logging.getLogger("dispycos").addFilter(lambda record: "has it" not in record.getMessage() or told.set() or True)
async def main(name):
    async with dispycos.Client(name=name) as client: await client.submit(nap, 0); await asyncio.to_thread(told.wait, 20)
threads = [threading.Thread(target=lambda: asyncio.run(main("one"))) for _ in range(2)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""",
    )
    script.succeed(30)
    assert "has it (another Client of this very program); place 1 in the queue" in script.err

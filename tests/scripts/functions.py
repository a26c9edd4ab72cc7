"""What plain functions may do that elsewhere they do: loops of their own, forks, a parameter called task; and what none may."""

import asyncio
import functools
import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ProcessPoolExecutor

from scenarios import play, raises, until

import dispycos

# --- loops of their own


async def inner(value=5):
    await asyncio.sleep(0.01)
    return value


def by_run():
    return asyncio.run(inner())


def by_runner():
    with asyncio.Runner() as runner:
        return runner.run(inner())


def by_a_new_loop():
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(inner())
    finally:
        loop.close()


def by_the_current_loop():
    if sys.version_info >= (3, 14):
        return 5  # it makes none
    loop = asyncio.get_event_loop()
    try:
        return loop.run_until_complete(inner())
    finally:
        loop.close()


def as_playwright_does():
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return 5 if threading.current_thread() is threading.main_thread() else "another thread"
    return "a loop runs"


def listening_to_signals():
    async def until_told():
        told = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGUSR1):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(told.wait(), 5)
        return 5

    return asyncio.run(until_told())


async def test_plain_functions_run_loops_of_their_own(client, task):
    ways = [by_run, by_runner, by_a_new_loop, by_the_current_loop, as_playwright_does, listening_to_signals]
    server = (await client.servers())[0]
    for function in [*ways, *ways, functools.partial(by_run), lambda: asyncio.run(inner())]:
        assert await (await client.rtask_at(server, function)) == 5, function
    handler = signal.getsignal(signal.SIGINT)
    for function in (by_run, by_a_new_loop, as_playwright_does, listening_to_signals):
        assert await dispycos.Task(function) == 5, function
    assert signal.getsignal(signal.SIGINT) is handler


async def test_what_suspends_has_its_loop(client, task):
    async def coroutine():
        return asyncio.get_running_loop().is_running()

    assert await client.submit(coroutine) is True
    assert await client.submit(lambda: inner(7)) == 7


def sends_from_its_loop(other, *, task):
    async def send():
        other.send("from a loop of its own")
        await asyncio.sleep(0)
        return task.name

    return asyncio.run(send())


async def test_a_loop_of_a_function_may_send(client, task):
    assert await client.submit(sends_from_its_loop, task) == "sends_from_its_loop"
    assert await task.receive(timeout=5) == "from a loop of its own"


def waits_for_messages(*, task):
    return asyncio.run(task.receive())


def asks(other):
    return asyncio.run(other.ask("anything"))


async def test_a_loop_of_a_function_does_not_wait_for_tasks(client, task):
    other = await client.io_rtask(keep_alive)
    for start in (client.submit, dispycos.Task):
        for function, arguments in ((waits_for_messages, ()), (asks, (other,))):
            with raises(RuntimeError, "in another event loop than the task's own", "`async def`"):
                await start(function, *arguments)
    other.send("end")
    assert await other == "end"


def waits_in(way, told):
    async def wait():
        told.send("waits")
        try:
            if way == "computing":
                while True:
                    pass
            if way == "blocked":
                time.sleep(30)
            await asyncio.sleep(30)
        finally:
            told.send(f"{type(sys.exception()).__name__} in it")

    try:
        if way == "new_event_loop":
            asyncio.new_event_loop().run_until_complete(wait())
        asyncio.run(wait())
    finally:
        told.send(f"{type(sys.exception()).__name__} around it")


async def test_a_loop_of_a_function_is_interrupted(client, task):
    for way, first in (
        ("asyncio.run", "CancelledError"),
        ("computing", "KeyboardInterrupt"),
        ("blocked", "KeyboardInterrupt"),
    ):
        handle = client.submit(waits_in, way, task)
        assert await task.receive(timeout=5) == "waits"
        handle.terminate()
        with raises(dispycos.TaskTerminated) as caught:
            await handle
        assert "did not end within 5 s" not in str(caught.error), way
        assert await task.receive(timeout=5) == f"{first} in it"
        assert await task.receive(timeout=5) == "KeyboardInterrupt around it"
    handle = client.submit(waits_in, "new_event_loop", task)
    assert await task.receive(timeout=5) == "waits"
    handle.terminate()
    with raises(dispycos.TaskTerminated):
        await handle
    await until(lambda: task.receive(timeout=0, alarm_value=True))


async def test_a_signal_handler_that_a_function_leaves_does_not_outlast_it(client, task):
    server = (await client.servers())[0]
    other = await client.io_rtask_at(server, keep_alive)
    assert await (await client.rtask_at(server, leave_a_handler)) == "left"
    busy = await client.rtask_at(server, time.sleep, 30)
    await asyncio.sleep(0.1)
    busy.terminate()
    with raises(dispycos.TaskTerminated):
        await busy
    other.send("alive")
    assert await other == "alive"


def leave_a_handler():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return "left"


async def keep_alive(*, task):
    return await task.receive()


# --- arguments and values


def process(task, factor=2):
    return task * factor


def needs_more(task, x):
    return task, x


class Job:
    def run(self, task):
        return task

    def own(self, x, *, task):
        return x, task.name


async def test_a_task_that_the_caller_gives_is_the_callers(client, task):
    assert await client.submit(process, 3) == 6
    assert await client.submit(process, task=4) == 8
    assert await client.submit(Job().run, 1) == 1
    assert await client.submit(Job().own, 1) == (1, "own")
    assert await client.submit(functools.partial(process, factor=5), 3) == 15
    for start in (client.submit, dispycos.Task):
        with raises(TypeError, "needs_more() misses x", "dispycos"):
            await start(needs_more, 5)


def squares():
    return (n * n for n in range(3))


def body():
    yield
    return "run"


@functools.wraps(body)
def decorated_body():
    return body()


def undecorated_body():
    return body()


async def stream():
    yield 1


async def test_an_iterator_is_no_value(client, task):
    for function, kind in (
        (squares, "a generator"),
        (undecorated_body, "a generator"),
        (stream, "an async_generator"),
    ):
        for start in (client.submit, dispycos.Task):
            with raises(TypeError, f"{function.__name__} returned {kind}"):
                await start(function)
    with raises(TypeError, "<lambda> returned a map", "a list"):
        await client.submit(lambda: map(str, range(3)))
    assert await client.submit(decorated_body) == "run"


# --- forks


def status_of(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def forks(end):
    pid = os.fork()
    return end() if pid == 0 else status_of(pid)


async def forks_late(end):
    await asyncio.sleep(0.01)
    return forks(end)


async def forks_in_a_subtask(end):
    return await asyncio.create_task(forks_late(end))


def forks_in_a_generator(end):
    yield
    return forks(end)


async def forks_and_waits():
    never = asyncio.get_running_loop().create_future()
    pid = os.fork()
    if pid == 0:
        await never
    return status_of(pid)


def forks_a_terminal():
    try:
        pid, _ = pty.fork()
    except OSError:
        return "no terminals here"
    if pid == 0:
        sys.exit(4)
    return status_of(pid)


def fail():
    raise ValueError("in the child")


async def test_a_forked_child_ends_as_its_function_says(client, task):
    for function in (forks, forks_late, forks_in_a_subtask, forks_in_a_generator):
        for end, status in (
            (lambda: "its value", 0),
            (fail, 1),
            (lambda: sys.exit(4), 4),
            (lambda: sys.exit("words"), 1),
        ):
            assert await client.submit(function, end) == status, function
    assert await client.submit(forks_and_waits) == 1
    assert await client.submit(forks_a_terminal) in (4, "no terminals here")
    assert await dispycos.Task(forks, lambda: sys.exit(4)) == 4


def calls_in_a_child(task):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        for call in (lambda: task.send(1), lambda: task.terminate(), lambda: dispycos.Task(fail)):
            try:
                call()
                os.write(writer, b"it went through\n")
            except RuntimeError as error:
                os.write(writer, f"{error}\n".encode())
        return None
    os.close(writer)
    with open(reader) as said:
        return said.read().splitlines(), status_of(pid)


async def test_a_forked_child_is_told_that_the_runtime_is_its_parents(client, task):
    said, status = await client.submit(calls_in_a_child)
    assert len(said) == 3, said
    assert all("was forked" in line for line in said), said
    assert status == 0


def square(x):
    return x * x


def by_a_pool():
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return pool.map(square, range(3))


def by_an_executor():
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("fork")) as executor:
        return list(executor.map(square, range(3)))


def by_subprocess():
    return [
        n * subprocess.run(["true"], preexec_fn=os.setsid, check=True).returncode + n * n for n in range(3)
    ]


async def test_processes_of_a_task_work(client, task):
    for function in (by_a_pool, by_an_executor, by_subprocess):
        assert await client.submit(function) == [0, 1, 4], function


# --- no second client


async def opens_a_client():
    async with dispycos.Client():
        return "opened"


def runs():
    return dispycos.run(inner)


def runs_in_a_thread():
    errors = []

    def run():
        try:
            dispycos.run(inner())
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise errors[0]


async def test_a_client_in_a_task_is_refused_in_one_sentence_each_time(client, task):
    calls = (
        (opens_a_client, "a Client"),
        (runs, "run()"),
        (runs_in_a_thread, "run()"),
        (dispycos.Scheduler, "a Scheduler"),
    )
    for _ in range(2):
        for function, what in calls:
            with raises(dispycos.ScheduleError, what, "cannot be used inside a remote task"):
                await client.submit(function)
    assert await client.submit(by_run) == 5


if __name__ == "__main__":
    play(globals())

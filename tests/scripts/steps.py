"""What a task may do with asyncio, from its first step on; and that one whose library fails harms no other."""

import asyncio
import os
import tempfile
import threading
import time
from pathlib import Path

from scenarios import play, raises


async def first_step_timeout(*, task):
    try:
        async with asyncio.timeout(0.05):
            await asyncio.sleep(10)
    except TimeoutError:
        return "timed out"


async def first_step_task_group():
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(asyncio.sleep(0.01, n)) for n in range(3)]
    return [part.result() for part in parts]


async def failing_group():
    async def fail():
        raise ValueError("in the group")

    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(asyncio.sleep(10))
    except ExceptionGroup as errors:
        return [str(error) for error in errors.exceptions]


async def first_step_wait_for():
    try:
        await asyncio.wait_for(asyncio.sleep(10), 0.05)
    except TimeoutError:
        return await asyncio.wait_for(asyncio.sleep(0, "fine"), 5)


async def first_step_to_thread():
    return await asyncio.to_thread(threading.current_thread) is not threading.main_thread()


async def first_step_gather():
    return await asyncio.gather(*[asyncio.sleep(0, n) for n in range(3)])


async def first_step_current_task():
    first = asyncio.current_task()
    await asyncio.sleep(0)
    return first is not None and first is asyncio.current_task()


async def where_it_runs():
    return threading.current_thread() is threading.main_thread()


async def stream_there_and_back():
    async def on_connect(reader, writer):
        writer.write(await reader.readline())
        writer.close()

    server = await asyncio.start_server(on_connect, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"line\n")
        line = await reader.readline()
        writer.close()
    return line


async def child_process():
    process = await asyncio.create_subprocess_exec("echo", "child", stdout=asyncio.subprocess.PIPE)
    return (await process.communicate())[0]


async def locks_and_queues():
    queue, lock, event = asyncio.Queue(), asyncio.Lock(), asyncio.Event()

    async def put():
        async with lock:
            await queue.put(1)
            event.set()

    putting = asyncio.create_task(put())
    await event.wait()
    await putting
    return await queue.get()


async def receive_under_timeout(teller, *, task):
    try:
        async with asyncio.timeout(0.05):
            await task.receive()
    except TimeoutError:
        teller.send("timed out")
        return await task.receive()


async def receive_beside_work(*, task):
    """The mailbox is waited for in one child task while another works."""
    work = asyncio.create_task(asyncio.sleep(0.05, "worked"))
    message = await task.receive()
    return message, await work


async def leave_a_failing_task_behind():
    async def fail():
        raise RuntimeError("nobody awaits this")

    asyncio.get_running_loop().create_task(fail())
    await asyncio.sleep(0.01)
    return "left"


async def leave_a_failing_callback_behind():
    def fail():
        raise RuntimeError("in a callback")

    asyncio.get_running_loop().call_soon(fail)
    await asyncio.sleep(0.01)
    return "left"


async def cancel_oneself():
    asyncio.current_task().cancel()
    await asyncio.sleep(10)


async def raise_keyboard_interrupt():
    raise KeyboardInterrupt


async def exit_in_a_subtask(way, raised):
    async def leave():
        await asyncio.sleep(0.01)
        raise raised("in a subtask")

    if way == "TaskGroup":
        async with asyncio.TaskGroup() as group:
            group.create_task(asyncio.sleep(10))
            group.create_task(leave())
    elif way == "gather":
        await asyncio.gather(asyncio.sleep(10), leave())
    else:
        leaving = asyncio.create_task(leave())
        await asyncio.sleep(10)
        await leaving


async def keep_alive(*, task):
    return await task.receive()


def generator_of_awaitables(*, task):
    values = yield asyncio.gather(asyncio.sleep(0, 1), asyncio.sleep(0, 2))
    inner = yield sub_generator(values)
    try:
        yield failing_awaitable()
    except ValueError as error:
        return inner, str(error)


def sub_generator(values):
    total = 0
    for value in values:
        total += yield asyncio.sleep(0, value)
    return total


async def failing_awaitable():
    raise ValueError("thrown in")


def deep_generator(depth):
    if depth == 0:
        return 0
    below = yield deep_generator(depth - 1)
    return below + 1


EXPECTED = {
    first_step_timeout: "timed out",
    first_step_task_group: [0, 1, 2],
    failing_group: ["in the group"],
    first_step_wait_for: "fine",
    first_step_to_thread: True,
    first_step_gather: [0, 1, 2],
    first_step_current_task: True,
    where_it_runs: True,
    stream_there_and_back: b"line\n",
    child_process: b"child\n",
    locks_and_queues: 1,
    generator_of_awaitables: (3, "thrown in"),
}


async def test_asyncio_works_from_the_first_step_on(client, task):
    for function, expected in EXPECTED.items():
        assert await client.submit(function) == expected, function.__name__


async def test_asyncio_works_in_io_rtasks_that_share_a_server(client, task):
    server = (await client.servers())[0]
    handles = [(await client.io_rtask_at(server, f), expected) for f, expected in EXPECTED.items()]
    for handle, expected in handles:
        assert await handle == expected, handle


async def test_a_receive_that_is_cancelled_loses_no_message(client, task):
    rtask = await client.rtask(receive_under_timeout, task)
    assert await task.receive() == "timed out"
    rtask.send("kept")
    assert await rtask == "kept"


async def test_child_tasks_run_while_the_task_receives(client, task):
    rtask = await client.rtask(receive_beside_work)
    rtask.send("word")
    assert await rtask == ("word", "worked")


async def test_what_a_task_leaves_behind_harms_no_other(client, task):
    server = (await client.servers())[0]
    other = await client.io_rtask_at(server, keep_alive)
    for function in (leave_a_failing_task_behind, leave_a_failing_callback_behind):
        assert await (await client.io_rtask_at(server, function)) == "left"
    other.send("alive")
    assert await other == "alive"


async def test_a_task_that_cancels_itself_or_raises_keyboard_interrupt_harms_no_other(client, task):
    server = (await client.servers())[0]
    other = await client.io_rtask_at(server, keep_alive)
    for function in (cancel_oneself, raise_keyboard_interrupt):
        rtask = await client.io_rtask_at(server, function)
        with raises(Exception):
            await rtask
    other.send("alive")
    assert await other == "alive"


async def test_sys_exit_in_an_asyncio_task_ends_its_task_and_no_other(client, task):
    server = (await client.servers())[0]
    other = await client.io_rtask_at(server, keep_alive)
    for way in ("TaskGroup", "gather", "beside"):
        for raised in (SystemExit, KeyboardInterrupt):
            rtask = await client.io_rtask_at(server, exit_in_a_subtask, way, raised)
            await rtask.monitor(task)
            status = await task.receive(timeout=5)
            assert f"{raised.__name__}: in a subtask" in str(status.value), status
    other.send("alive")
    assert await other == "alive"


async def test_a_generator_calls_generators_as_deep_as_it_likes(client, task):
    assert await client.submit(deep_generator, 300) == 300


def sleep_hard(seconds):
    time.sleep(seconds)


def leave(path):
    Path(path).touch()


async def count_turns(teller, *, task):
    turns = 0
    while await task.receive(timeout=0, alarm_value="go on") != "end":
        await task.sleep(0.01)
        turns += 1
        if turns == 4:
            teller.send("took turns")
    return turns


async def test_messages_to_a_server_that_computes_are_taken_in(client, task):
    busy = await client.rtask(sleep_hard, 60)
    assert await busy.deliver("in the mailbox", timeout=5) == 1
    assert not busy.done()
    busy.terminate()


def send_and_compute(other, path, *, task):
    other.send((task, path))
    compute_until(path)  # the other has it, or this step ends never
    return task.receive()


def compute_until(*paths):
    end = time.monotonic() + 8
    while not all(map(os.path.exists, paths)):
        assert time.monotonic() < end, "nobody makes them while this computes"
        time.sleep(0.01)


async def answer(*, task):
    sender, path = await task.receive()
    sender.send("answered")
    leave(path)


async def test_what_a_step_sends_leaves_while_it_computes(client, task):
    with tempfile.TemporaryDirectory() as folder:
        answering = await client.rtask(answer)
        assert await client.submit(send_and_compute, answering, f"{folder}/answered") == "answered"


async def test_a_client_that_computes_does_not_hold_up_its_tasks(client, task):
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{n}" for n in range(9)]
        handles = [client.submit(leave, path) for path in paths]
        compute_until(*paths)  # this blocks the client's loop
        await asyncio.gather(*handles)


async def test_two_loops_of_turns_share_a_server(client, task):
    server = (await client.servers())[0]
    both = [await client.io_rtask_at(server, count_turns, task) for _ in range(2)]
    for _ in both:
        assert await task.receive() == "took turns"
    for handle in both:
        handle.send("end")
        assert await handle >= 4


written = []
writers = set()
prepared = None


async def write_in_steps(name, steps):
    writers.add(name)
    while len(writers) < 2:  # they begin together
        await asyncio.sleep(0.001)
    for _ in range(steps):
        for _ in range(3):
            written.append(name)
            time.sleep(0.001)  # other threads might run
        await asyncio.sleep(0)


async def what_was_written():
    return written


async def test_a_step_goes_on_until_it_yields(client, task):
    server = (await client.servers())[0]
    await asyncio.gather(*[await client.io_rtask_at(server, write_in_steps, name, 10) for name in "ab"])
    found = await (await client.io_rtask_at(server, what_was_written))
    steps = ["".join(found[n : n + 3]) for n in range(0, len(found), 3)]
    assert set(steps) == {"aaa", "bbb"} and len(steps) == 20, steps
    assert steps != sorted(steps), "they took turns"


def prepare(value):
    global prepared
    prepared = value
    return threading.get_ident()


async def look():
    return prepared, threading.get_ident()


async def test_later_tasks_of_a_server_find_what_earlier_ones_left(client, task):
    servers = await client.servers()
    threads = [await (await client.rtask_at(server, prepare, str(server))) for server in servers]
    for server, thread in zip(servers, threads, strict=True):
        assert await (await client.rtask_at(server, look)) == (str(server), thread)
        assert await (await client.io_rtask_at(server, look)) == (str(server), thread)
    assert prepared is None, "here nothing was changed"


if __name__ == "__main__":
    play(globals())

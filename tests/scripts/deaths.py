"""Servers that die, tasks that fail, values that cannot travel: who hears what, and that all others go on."""

import asyncio
import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
import traceback

from scenarios import play, raises, until

import dispycos
from dispycos import NotPicklable, RemoteError, TaskLost


async def pid_then_wait(*, task):
    return os.getpid(), await task.receive()


async def tell_pid(teller, *, task):
    teller.send(os.getpid())
    return await task.receive()


def tell_pid_and_compute(teller):
    teller.send(os.getpid())
    time.sleep(30)


def exit_hard(code):
    os._exit(code)


def segfault():
    ctypes.string_at(0)


def abort():
    os.abort()


def leave(value):
    sys.exit(value)


def inner(n):
    return 1 // n


def outer():
    return inner(0)


def returns_a_lock():
    return threading.Lock()


def returns_a_lock_inside():
    return {"deep": [1, threading.Lock()]}


def rebuild_only_there(pid):
    if os.getpid() != pid:
        raise RuntimeError("this process will not have it")
    return OnlyThere()


class OnlyThere:
    def __reduce__(self):
        return rebuild_only_there, (os.getpid(),)


def returns_what_cannot_be_rebuilt():
    return OnlyThere()


class RebuiltOnlyThere(Exception):
    def __reduce__(self):
        return rebuild_only_there, (os.getpid(),)


def raises_what_cannot_be_rebuilt():
    raise RebuiltOnlyThere("this and that")


class HoldsALock(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


def raises_what_cannot_be_pickled():
    raise HoldsALock("with a lock")


class OddWords(Exception):
    def __str__(self):
        raise TypeError("no words")


def raises_without_words():
    raise OddWords


def raises_base_exception():
    raise GeneratorExit("of all things")


def exhausts_the_stack():
    return exhausts_the_stack()


def raises_a_group():
    raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])


def with_a_note():
    error = ValueError("noted")
    error.add_note("the note")
    raise error


def own_pid():
    return os.getpid()


def notes_its_start(number, path, deadly):
    """Some remove all that is in their working folder, and the folder, and die before their words have left."""
    with open(path, "a") as file:
        file.write(f"{number}\n")
    if number in deadly:
        folder = os.getcwd()
        assert os.path.basename(folder).startswith("dispycosproc-"), folder
        for entry in list(os.scandir(folder)):
            if entry.is_file(follow_symlinks=False):
                os.unlink(entry.path)
        os.rmdir(folder)
        os.kill(os.getpid(), signal.SIGKILL)


async def test_nothing_starts_twice_though_tasks_remove_their_working_folder_and_die(client, task):
    """These are fed ahead, and many end without a word: what had begun is told by the page of their server."""
    with tempfile.NamedTemporaryFile("r") as file:
        await asyncio.gather(*[client.submit(notes_its_start, -1, file.name, ()) for _ in range(50)])
        deadly = set(range(90, 1000, 100))
        handles = [client.submit(notes_its_start, number, file.name, deadly) for number in range(1000)]
        outcomes = await asyncio.gather(*handles, return_exceptions=True)
        started = [int(line) for line in file if not line.startswith("-")]
    lost = {number for number, outcome in enumerate(outcomes) if isinstance(outcome, TaskLost)}
    assert sorted(started) == list(range(1000)), "each has started, and once"
    assert deadly <= lost and all(outcomes[number] is None for number in set(range(1000)) - lost)


async def test_a_killed_server_is_task_lost_naming_the_signal_and_others_go_on(client, task):
    victim = await client.rtask(tell_pid_and_compute, task)
    pid = await task.receive(timeout=5)
    others = [await client.rtask(tell_pid, task) for _ in range(3)]
    other_pids = {await task.receive(timeout=5) for _ in others}
    assert pid not in other_pids and len(other_pids) == 3
    os.kill(pid, signal.SIGKILL)
    with raises(TaskLost, "SIGKILL", "tell_pid_and_compute") as caught:
        await victim
    assert caught.error.started
    next_pid = await client.submit(own_pid)
    assert next_pid not in (pid, *other_pids)
    for other in others:
        other.send("untouched")
    assert [await other for other in others] == ["untouched"] * 3


async def test_all_tasks_of_a_killed_server_are_lost_and_its_monitors_hear(client, task):
    server = (await client.servers())[0]
    victims = [await client.io_rtask_at(server, tell_pid, task) for _ in range(3)]
    pids = {await task.receive(timeout=5) for _ in victims}
    assert len(pids) == 1
    await victims[0].monitor()
    os.kill(pids.pop(), signal.SIGKILL)
    outcomes = await asyncio.gather(*victims, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [TaskLost] * 3
    status = await task.receive(timeout=5)
    assert status.info == victims[0] and status.type is TaskLost and "SIGKILL" in str(status.value)


async def test_a_handle_of_a_lost_task_delivers_nothing(client, task):
    victim = await client.rtask(ignore_all, task)
    pid = await task.receive(timeout=5)
    asking = asyncio.ensure_future(victim.ask("?", timeout=5))
    await asyncio.sleep(0)
    os.kill(pid, signal.SIGKILL)
    with raises(TaskLost):
        await victim
    with raises(TaskLost):
        await asking
    assert await victim.deliver("late") == 0
    victim.send("late")


async def await_monitor(other, teller, *, task):
    await other.monitor()
    teller.send("watching")
    status = await task.receive(timeout=5)
    return status.info == other, status.type.__name__, str(status.value)


async def ask_for_ever(other, teller):
    teller.send("asking")
    try:
        await other.ask("?")
    except TaskLost as error:
        return str(error)


async def test_tasks_on_other_servers_hear_of_a_death(client, task):
    await until(lambda: whole(client), what="dead servers are replaced")
    victim = await client.rtask(tell_pid, task)
    pid = await task.receive(timeout=5)
    place = next(s for s in await client.servers() if s != victim.location)
    watcher = await client.io_rtask_at(place, await_monitor, victim, task)
    assert await task.receive(timeout=5) == "watching"
    os.kill(pid, signal.SIGKILL)
    same, kind, text = await watcher
    assert same and kind == "TaskLost" and text
    await until(lambda: whole(client), what="the dead server is replaced")
    victim = await client.rtask(ignore_all, task)
    pid = await task.receive(timeout=5)
    place = next(s for s in await client.servers() if s != victim.location)
    asker = await client.io_rtask_at(place, ask_for_ever, victim, task)
    assert await task.receive(timeout=5) == "asking"
    os.kill(pid, signal.SIGKILL)
    assert await asker
    with raises(TaskLost):
        await victim


async def ignore_all(teller, *, task):
    teller.send(os.getpid())
    while True:
        await task.receive()


async def test_exits_and_crashes_are_named(client, task):
    for function, words in (
        ((exit_hard, 3), "code 3"),
        ((exit_hard, 0), "code 0"),
        ((segfault,), "SIGSEGV"),
        ((abort,), "SIGABRT"),
    ):
        with raises(TaskLost, words, function[0].__name__):
            await client.submit(*function)
        assert await client.submit(int, 5) == 5


async def test_queued_tasks_survive_the_death_of_the_server_before_them(client, task):
    handles = [client.submit(own_pid if n % 10 else exit_hard, *(() if n % 10 else (1,))) for n in range(30)]
    outcomes = await asyncio.gather(*handles, return_exceptions=True)
    assert [n for n, outcome in enumerate(outcomes) if isinstance(outcome, TaskLost)] == [0, 10, 20], outcomes


def starts_threads():
    """One goes on for longer than this program, and one fails."""
    threading.Thread(target=time.sleep, args=(600,)).start()
    failing = threading.Thread(target=lambda: 1 / 0)
    failing.start()
    failing.join()


def forks_and_leaves():
    if os.fork() == 0:
        time.sleep(600)


def changes_the_folder():
    os.chdir("/")


def writes_a_file():
    with open("written.txt", "w") as file:
        file.write("words")


def empties_its_folder():
    for entry in list(os.scandir()):
        os.unlink(entry)


def own_folder():
    return os.getpid(), os.getcwd(), os.listdir()


async def test_tasks_that_thread_fork_move_or_empty_their_folder_harm_no_other(client, task):
    server = (await client.servers())[0]

    async def at(function):
        return await (await client.rtask_at(server, function))

    pid, folder, files = await at(own_folder)
    assert os.path.basename(folder).startswith("dispycosproc-") and not files
    for function in (starts_threads, forks_and_leaves, changes_the_folder, empties_its_folder):
        await at(function)
        assert await at(own_folder) == (pid, folder, []), function.__name__
    await at(writes_a_file)
    assert await at(own_folder) == (pid, folder, ["written.txt"])
    await at(empties_its_folder)
    assert await at(own_folder) == (pid, folder, [])


async def server_lives_on(client, function, *args, **expected):
    """Run it at one server and give its exception; the same process answers afterwards."""
    await until(lambda: whole(client), what="dead servers are replaced")
    server = (await client.servers())[0]
    before = await (await client.rtask_at(server, own_pid))
    try:
        await (await client.rtask_at(server, function, *args))
    except BaseException as error:
        caught = error
    else:
        raise AssertionError(f"{function.__name__} raised nothing")
    assert await (await client.rtask_at(server, own_pid)) == before
    return caught


async def test_an_exception_has_the_remote_traceback_as_its_cause(client, task):
    error = await server_lives_on(client, outer)
    assert type(error) is ZeroDivisionError
    text = str(error.__cause__)
    assert "in outer" in text and "in inner" in text and "return 1 // n" in text and "deaths.py" in text


async def take_all(values):
    return [value async for _, value in values]


async def test_an_error_shows_frames_of_the_user_only_and_says_where_it_was(client, task):
    async def result_of(handle):
        await asyncio.wait([handle])
        return handle.result()

    async def group_of(handle):
        async with asyncio.TaskGroup() as group:
            group.create_task(result_of(handle))

    async def in_a_task_here(handle):
        return await handle

    def as_a_generator(handle):
        yield handle

    waits = {
        "await": lambda: client.submit(outer),
        "result": lambda: result_of(client.submit(outer)),
        "finish": lambda: client.submit(outer).finish(8),
        "gather": lambda: asyncio.gather(client.submit(outer), client.submit(outer)),
        "group": lambda: group_of(client.submit(outer)),
        "map": lambda: take_all(client.map(lambda number: outer(), ["item " + "x" * 1000])),
        "here": lambda: dispycos.Task(in_a_task_here, client.submit(outer)),
        "generator": lambda: dispycos.Task(as_a_generator, client.submit(outer)),
        "subtask there": lambda: client.submit(outer_in_a_group),
    }
    for how, wait in waits.items():
        try:
            await wait()
        except ZeroDivisionError as caught:
            error = caught
        except ExceptionGroup as caught:
            error = caught.exceptions[0] if how == "group" else caught
        else:
            raise AssertionError(f"{how} raised nothing")
        shown = traceback.extract_tb(error.__traceback__)
        assert all("actors" not in frame.filename for frame in shown), f"{how}: {shown}"
        assert "in inner" in str(error.__cause__) and "actors" not in str(error.__cause__), error.__cause__
        places = [f"on the server {place}" for place in await client.servers()]
        assert any(place in error.__notes__[0] for place in places), f"{how}: {error.__notes__}"
        if how == "map":
            assert error.__notes__[1].startswith("for the item 'item xxx"), error.__notes__
            assert len(error.__notes__[1]) < 300
        else:
            assert "in the task outer" in error.__notes__[0], f"{how}: {error.__notes__}"
            assert len(error.__notes__) == 1


async def outer_in_a_group():
    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(outer))


async def test_sys_exit_is_an_exception_and_the_server_lives_on(client, task):
    for value in (3, "words", None):
        error = await server_lives_on(client, leave, value)
        assert isinstance(error, RemoteError) and "SystemExit" in str(error), repr(error)


async def test_a_value_that_cannot_be_pickled_names_the_culprit(client, task):
    for function in (returns_a_lock, returns_a_lock_inside):
        error = await server_lives_on(client, function)
        assert isinstance(error, NotPicklable | RemoteError), repr(error)
        assert "lock" in str(error) and function.__name__ in str(error), error


async def test_a_value_that_cannot_be_rebuilt_here_is_a_remote_error(client, task):
    error = await server_lives_on(client, returns_what_cannot_be_rebuilt)
    assert isinstance(error, RemoteError) and "this process will not have it" in str(error)


async def test_an_exception_that_cannot_be_rebuilt_keeps_name_text_and_traceback(client, task):
    error = await server_lives_on(client, raises_what_cannot_be_rebuilt)
    assert isinstance(error, RemoteError) and "RebuiltOnlyThere" in error.type_name
    assert "this and that" in str(error) and "raises_what_cannot_be_rebuilt" in str(error.__cause__)


async def test_an_exception_comes_without_what_cannot_be_pickled_and_says_so(client, task):
    error = await server_lives_on(client, raises_what_cannot_be_pickled)
    assert isinstance(error, HoldsALock) and not hasattr(error, "lock")
    assert "without lock, which cannot be pickled" in error.__notes__
    assert "with a lock" in str(error) and "raises_what_cannot_be_pickled" in str(error.__cause__)


async def test_odd_exceptions_arrive_somehow_and_harm_nobody(client, task):
    error = await server_lives_on(client, raises_without_words)
    assert "OddWords" in type(error).__name__ or "OddWords" in str(error)
    error = await server_lives_on(client, raises_base_exception)
    assert isinstance(error, RemoteError) and "GeneratorExit" in str(error)
    assert type(await server_lives_on(client, exhausts_the_stack)) is RecursionError
    group = await server_lives_on(client, raises_a_group)
    assert [type(e) for e in group.exceptions] == [ValueError, TypeError]
    assert (await server_lives_on(client, with_a_note)).__notes__[0] == "the note"


async def test_an_argument_that_cannot_be_pickled_is_named_here(client, task):
    with raises(NotPicklable, "lock"):
        client.submit(own_pid, threading.Lock())
    with raises(NotPicklable, "word", "lock"):
        client.submit(own_pid, word={"deep": threading.Lock()})
    rtask = await client.rtask(pid_then_wait)
    with raises(NotPicklable, "lock"):
        rtask.send(threading.Lock())
    rtask.send("fine")
    assert (await rtask)[1] == "fine"


async def test_a_function_that_cannot_be_pickled_is_named_here(client, task):
    lock = threading.Lock()

    def closes_over_a_lock():
        return lock.acquire()

    with raises(NotPicklable, "closes_over_a_lock", "lock"):
        client.submit(closes_over_a_lock)
    assert await client.submit(int, 5) == 5


class FailsToLoad:
    def __reduce__(self):
        return fails_on_a_server, (os.getpid(),)


def fails_on_a_server(pid):
    if os.getpid() != pid:
        raise ValueError("not on a server")


async def test_an_argument_that_cannot_be_rebuilt_there_fails_its_task_only(client, task):
    error = await server_lives_on(client, own_pid_of, FailsToLoad())
    assert "not on a server" in str(error), repr(error)


def own_pid_of(thing):
    return os.getpid()


async def test_a_message_that_cannot_be_rebuilt_there_is_raised_by_receive(client, task):
    rtask = await client.rtask(receive_twice)
    rtask.send(FailsToLoad())
    rtask.send("second")
    first, second = await rtask
    assert "not on a server" in first and second == "second"


async def receive_twice(*, task):
    try:
        first = await task.receive()
    except Exception as error:
        first = str(error)
    return first, await task.receive()


async def test_the_cluster_is_whole_after_all_this(client, task):
    await until(lambda: whole(client), what="all servers are replaced")
    assert len(set(await asyncio.gather(*[client.submit(slow_pid) for _ in range(8)]))) == 4
    assert await client.tasks() == []


async def whole(client):
    return len(await client.servers()) == 4


def slow_pid():
    time.sleep(0.1)
    return os.getpid()


if __name__ == "__main__":
    assert dispycos.RemoteError is RemoteError
    play(globals())

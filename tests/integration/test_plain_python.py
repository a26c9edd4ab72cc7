"""The sync style in whole programs: values, errors, messages and threads; what is refused; and how such a program ends."""

from __future__ import annotations

import pytest

from tests.kit.programs import User

pytestmark = pytest.mark.timeout(90)

ALL = """
    import asyncio, pickle, threading, traceback
    from concurrent.futures import CancelledError, ThreadPoolExecutor
    import dispycos, logging
    from dispycos.actors.client import repeats

    class Big:
        def __init__(self, n):
            self.n = n
        def __setstate__(self, state):
            self.__dict__ = state
            self.opened_in = threading.current_thread().name

    def double(x):
        return 2 * x
    def make(n):
        return Big(n)
    def size(big):
        return len(big.n)
    def fail(x):
        raise KeyError(x)
    def nap(s):
        import time
        time.sleep(s)
        return s
    async def word(task=None):
        return await task.receive()
    async def talk(program, task=None):
        program.send(("hello", task))
        answer = await program.ask("question")
        return answer, await task.receive(), type(program).__name__

    def raised(function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            return error

    async def refusals(client, handle):
        for call in (handle.result, lambda: client.gather(handle), client.nodes, lambda: dispycos.Client().__enter__()):
            error = raised(call)
            assert isinstance(error, RuntimeError) and "event loop that runs in this thread" in str(error), error
        try:
            await handle
        except RuntimeError as error:
            assert "call result()" in str(error), error
        try:
            async with client:
                pass
        except RuntimeError as error:
            assert "entered with `with`" in str(error), error

    with dispycos.Client() as client:
        assert client.submit(double, 3).result() == 6
        assert client.gather(*[client.submit(double, n) for n in range(5)]) == [0, 2, 4, 6, 8]
        assert client.submit(double, client.submit(double, 1)).result() == 4
        assert dict(client.map(double, range(300))) == {n: 2 * n for n in range(300)}
        big = client.submit(make, 4)
        assert big.result().opened_in == "MainThread" and big.result() is big.result()
        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(lambda n: client.submit(double, n).result(), range(200))) == [2 * n for n in range(200)]

        failed = client.submit(fail, "x")
        error = raised(failed.result)
        frames = traceback.extract_tb(error.__traceback__)
        assert isinstance(error, KeyError) and {frame.name for frame in frames} == {"raised"}, frames
        assert isinstance(failed.exception(), KeyError)
        assert isinstance(client.gather(failed, return_exceptions=True)[0], KeyError)
        assert isinstance(raised(client.gather, client.submit(double, 1), failed), KeyError)

        slow = client.submit(nap, 60)
        assert "nap has not ended within 0.05 s; it goes on" in str(raised(slow.result, 0.05)) and not slow.done()
        assert "1 of 2 tasks" in str(raised(list, client.as_completed([slow, client.submit(double, 1)], timeout=3)))
        done, left = client.wait([slow, big], return_when="FIRST_COMPLETED")
        assert done == {big} and left == {slow}
        assert client.cancel([slow, big]) == 1
        assert isinstance(raised(slow.result, 20), CancelledError) and slow.cancelled()
        late = client.io_submit(word)
        ended = client.as_completed([late, client.submit(double, 1)])
        assert next(ended).result() == 2
        late.send("late")
        assert next(ended) == late and late.result() == "late"

        talking = client.io_rtask(talk, client.me)
        word, sent = client.receive(20)
        assert word == "hello" and sent == talking and hash(sent) == hash(talking) and type(sent) is type(talking)
        assert client.receive() == "question"
        client.reply("answer")
        assert sent.send("more") == 0
        assert talking.result(20) == ("answer", "more", "Task")
        assert client.receive(0.01, "nothing") == "nothing"

        called = threading.Event()
        told = []
        talking.add_done_callback(lambda handle: (told.append(handle.result()), told.append(raised(client.nodes)), called.set()))
        assert called.wait(10) and told[0][0] == "answer" and "would wait for ever" in str(told[1]), told
        waiting = client.submit(nap, 60)
        asyncio.run(refusals(client, waiting))
        waiting.cancel()
        print(type(raised(client.submit, double, threading.Lock())).__name__)

        repeats.MUCH, told = 8 << 20, []
        logging.getLogger("dispycos").addFilter(lambda record: told.append(record.getMessage()))
        model = Big(bytes(2 << 20))
        assert client.gather(*[client.submit(size, model) for _ in range(6)]) == [2 << 20] * 6
        [words] = told
        assert words.startswith("size: the same argument of 2 MiB went with 5 calls so far"), words
        late = client.submit(nap, 0.2)
    assert late.result() == 0.2, "close() waits for tasks, and their values stay"
    assert isinstance(raised(client.submit, double, 1), dispycos.NotScheduled)

    def second():
        with dispycos.Client(name="second") as other:
            return other.submit(double, 5).result()

    with ThreadPoolExecutor(2) as pool:
        assert [future.result() for future in [pool.submit(second), pool.submit(second)]] == [10, 10]
    print("all held")
"""


def test_the_sync_style(cluster: User) -> None:
    assert cluster.script("plain.py", ALL).succeed(60).splitlines() == ["NotPicklable", "all held"]


ENDS = """
    import multiprocessing, os, signal, sys, threading, time
    import dispycos

    def nap(s):
        import time
        time.sleep(s)
        return s

    def child(client, handle):
        for call in (handle.result, client.nodes, lambda: client.submit(nap, 0)):
            try:
                call()
            except RuntimeError as error:
                assert "was forked" in str(error), error
            else:
                os._exit(3)

    client = dispycos.Client().__enter__()
    forked = multiprocessing.get_context("fork").Process(target=child, args=(client, client.submit(nap, 60)))
    forked.start()
    forked.join()
    print("child", forked.exitcode)
    other = client.submit(nap, 0.5)
    waited = client.submit(nap, 60)
    threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        waited.result()
    except KeyboardInterrupt:
        print("interrupted", other.result())
    try:
        waited.result(20)
    except dispycos.TaskTerminated:
        print("it has ended")
"""


def test_an_interrupt_ends_what_is_waited_for_and_a_client_left_open_is_told_of_at_the_end(
    cluster: User,
) -> None:
    program = cluster.script("ends.py", ENDS)
    assert program.succeed(60).splitlines() == ["child 0", "interrupted 0.5", "it has ended"]
    assert "ends.py, line" in program.err and "is open at the end of the program" in program.err
    assert "Traceback" not in program.err, program.told()

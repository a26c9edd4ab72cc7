"""A client's own forks: the child ends as in a program without dispycos, and the client goes on."""

from __future__ import annotations

import sys

import pytest

from tests.kit.programs import User

pytestmark = pytest.mark.timeout(60)

SCRIPT = """
    import asyncio, multiprocessing, os, sys, time
    import dispycos

    def square(x):
        return x * x

    def slow(x, path):
        while not os.path.exists(path):
            time.sleep(0.01)
        return x

    def status_of(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    async def goes_on(client):
        await asyncio.wait_for(asyncio.to_thread(time.sleep, 0.02), 5)  # another thread wakes the loop
        return await asyncio.wait_for(client.submit(square, 3), 5)

    def second_program():
        async def inner():
            async with dispycos.Client() as client:
                print("second", await client.submit(square, 9), flush=True)
        dispycos.run(inner)

    async def main():
        async with dispycos.Client() as client:
            if (pid := os.fork()) == 0:
                sys.exit(4)
            print("exit", status_of(pid), await goes_on(client), flush=True)
            if (pid := os.fork()) == 0:
                raise ValueError("in the child")
            print("raise", status_of(pid), await goes_on(client), flush=True)
            handle = client.submit(slow, 5, os.path.abspath("forked"))
            if (pid := os.fork()) == 0:
                for call in (lambda: client.submit(square, 1), handle.terminate, lambda: handle.send(1)):
                    try:
                        call()
                    except RuntimeError as error:
                        print("refused" if "was forked" in str(error) else error, flush=True)
                return
            status = status_of(pid)
            open("forked", "w").close()
            print("return", status, await handle, await goes_on(client), flush=True)
            with multiprocessing.get_context("fork").Pool(2) as pool:
                print("pool", await asyncio.to_thread(pool.map, square, range(3)), await goes_on(client), flush=True)
            other = multiprocessing.get_context("fork").Process(target=second_program)
            other.start()
            await asyncio.to_thread(other.join, 20)
            print("other", other.exitcode, await goes_on(client), flush=True)

    dispycos.run(main) if sys.argv[1] == "dispycos.run" else asyncio.run(main())
"""


LOST = "asyncio itself loses the exception of a child that was forked in one of its Tasks, which then waits for ever"


@pytest.mark.parametrize(
    "how",
    [
        "dispycos.run",
        pytest.param("asyncio.run", marks=pytest.mark.skipif(sys.version_info >= (3, 14), reason=LOST)),
    ],
)
def test_a_client_forks_and_goes_on(user: User, how: str) -> None:
    program = user.script("forks.py", SCRIPT, how)
    assert program.succeed(40).splitlines() == [
        "exit 4 9",
        "raise 1 9",
        "refused",
        "refused",
        "refused",
        "return 0 5 9",
        "pool [0, 1, 4] 9",
        "second 81",
        "other 0 9",
    ]
    assert program.err.count("ValueError: in the child") == 1
    assert "handle" not in program.err  # nothing that a loop complains about

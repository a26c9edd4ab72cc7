"""What a task writes is seen where its client runs, with the server's name before each line."""

from __future__ import annotations

import re

import pytest

from tests.kit.programs import User

pytestmark = pytest.mark.timeout(60)

SCRIPT = """
    import asyncio, logging, os, subprocess, sys
    import dispycos

    def noisy():
        print("to stdout")
        print("two", "lines", sep="\\n")
        print("to stderr", file=sys.stderr)
        print("without a newline", end="")
        sys.stdout.flush()
        logging.getLogger("mine").warning("a log line")
        os.system("echo from a shell")
        subprocess.run([sys.executable, "-c", "print('from a child')"])
        os.write(1, b"by file descriptor\\n")
        print("umlaut \\u00fc \\u2713")

    def fails():
        raise RuntimeError("it failed there")

    async def thread_fails():
        import threading
        thread = threading.Thread(target=fails)
        thread.start()
        thread.join()

    async def main(*, task):
        async with dispycos.Client([noisy]) as client:
            await client.submit(noisy)
            await client.submit(thread_fails)
            if len(sys.argv) > 1:
                await client.submit(fails)

    dispycos.run(main)
"""


def lines_of(text: str) -> list[str]:
    return [re.sub(r"^\[[ab]/server-[12]\] ", "", line) for line in text.splitlines() if line.startswith("[")]


def test_print_logging_and_subprocesses_are_seen_with_the_servers_name(cluster: User) -> None:
    program = cluster.script("noisy.py", SCRIPT)
    out, err = program.succeed(), program.err
    assert all(re.match(r"\[[ab]/server-[12]\] ", line) for line in out.splitlines()), out
    said = lines_of(out)
    for line in (
        "to stdout",
        "two",
        "lines",
        "without a newline",
        "from a shell",
        "from a child",
        "by file descriptor",
        "umlaut ü ✓",
    ):
        assert line in " ".join(said), (line, out)
    assert said.count("to stdout") == 1
    assert "to stderr" in lines_of(err) and any("a log line" in line for line in lines_of(err)), err
    assert any("it failed there" in line for line in lines_of(err)), "the traceback of a thread"


def test_an_uncaught_error_of_a_task_ends_the_program_with_both_tracebacks(cluster: User) -> None:
    program = cluster.script("noisy.py", SCRIPT, "fail")
    assert program.wait() == 1
    assert program.err.rstrip().endswith("RuntimeError: it failed there"), program.told()
    assert "in fails" in program.err and 'noisy.py", line' in program.err


def test_an_error_that_nobody_awaits_is_said_at_the_end(cluster: User) -> None:
    program = cluster.script(
        "unheard.py",
        """
        import dispycos

        def fails():
            raise RuntimeError("nobody asked")

        async def main():
            async with dispycos.Client([fails]) as client:
                client.submit(fails)

        dispycos.run(main)
        """,
    )
    program.succeed()
    assert "nobody asked" in program.err, "an error passes in silence; " + program.told()


def test_a_flood_of_output_neither_blocks_nor_fills_the_memory(cluster: User) -> None:
    program = cluster.script(
        "flood.py",
        """
        import dispycos

        def flood():
            for n in range(100_000):
                print("x" * 99)
            return "done"

        async def main():
            async with dispycos.Client([flood]) as client:
                print(await client.submit(flood))

        dispycos.run(main)
        """,
    )
    assert "done" in program.succeed(20).splitlines()

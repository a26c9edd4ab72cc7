"""What a task writes is seen where its client runs, with the server's name before each line."""

from __future__ import annotations

import json
import re
import sys

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
    *_, error, note = program.err.rstrip().splitlines()
    assert error == "RuntimeError: it failed there", program.told()
    assert note.startswith("in the task fails on the server "), program.told()
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


def test_a_line_of_hundreds_of_kilobytes_arrives_whole_and_so_does_what_follows(cluster: User) -> None:
    program = cluster.script(
        "long_line.py",
        """
        import dispycos, json

        def report():
            print(json.dumps(list(range(50_000))))
            print("the next line")

        async def main():
            async with dispycos.Client([report]) as client:
                await client.submit(report)

        dispycos.run(main)
        """,
    )
    line, following = lines_of(program.succeed())
    assert json.loads(line) == list(range(50_000)) and following == "the next line"
    assert not program.err, program.told()


def test_names_and_errors_of_any_length_cost_nobody_else_anything(cluster: User) -> None:
    program = cluster.script(
        "long_names.py",
        """
        import asyncio, sys
        import dispycos

        def square(n):
            return n * n

        def fails(n):
            raise RuntimeError("e" * 1_000_000)

        fails.__name__ = "f" * 300_000

        async def main():
            async with dispycos.Client([square], name="n" * 300_000) as client:
                handles = [client.submit(fails if n == 1 else square, n) for n in range(6)]
                ends = await asyncio.gather(*handles, return_exceptions=True)
                print([end if isinstance(end, int) else type(end).__name__ for end in ends], len(str(ends[1])))
                print(repr(handles[1])[:3], "(cut: 300,000 characters)" in repr(handles[1]))

        dispycos.run(main)
        """,
    )
    assert program.succeed().splitlines() == ["[0, 'RuntimeError', 4, 9, 16, 25] 1000000", "<Ta True"]


def test_what_a_client_wants_may_be_too_much_to_say(cluster: User) -> None:
    program = cluster.script(
        "many_names.py",
        """
        import dispycos

        async def main():
            client = dispycos.Client(nodes=[f"*-{n}" for n in range(20_000)])
            try:
                await client.schedule()
            except dispycos.ScheduleError as error:
                print(error)

        dispycos.run(main)
        """,
    )
    assert "Enlist cannot be sent: a message of" in program.succeed()


def test_more_buffers_than_a_message_takes_are_a_value_like_any_other(cluster: User) -> None:
    program = cluster.script(
        "buffers.py",
        """
        import dispycos, numpy

        def double(arrays):
            return [2 * array for array in arrays]

        async def main():
            async with dispycos.Client([double]) as client:
                arrays = await client.submit(double, [numpy.full(2048, n) for n in range(5000)])
                print(len(arrays), sum(int(array[0]) for array in arrays))

        dispycos.run(main)
        """,
    )
    assert program.succeed() == "5000 24995000\n"


TALKING = """
    import sys
    import dispycos

    def talk(n):
        print("from task", n)
        return n

    async def main():
        async with dispycos.Client([talk]) as client:
            total = sum([await client.submit(talk, n) for n in range(100)])
        print("sum", total, file=sys.stderr)

    dispycos.run(main)
"""


@pytest.mark.parametrize("redirection", ["| head -1", ">&-", "> /dev/full"])
def test_a_standard_output_that_takes_nothing_costs_a_few_lines(cluster: User, redirection: str) -> None:
    cluster.write({"talking.py": TALKING})
    program = cluster.shell(f"{sys.executable} talking.py {redirection}")
    program.wait()
    said = program.err.splitlines()
    assert "sum 4950" in said and len(said) < 10, program.told()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_what_the_terminal_cannot_show_is_written_out(cluster: User, encoding: str) -> None:
    program = cluster.script(
        "snow.py",
        """
        import os, subprocess, sys
        import dispycos

        def snow():
            print("\\u2603 \\udce9")
            os.write(1, b"\\xff\\n")
            subprocess.run([sys.executable, "-c", "import os; os.write(1, bytes([254, 10]))"])
            print("plain")

        async def main():
            async with dispycos.Client([snow]) as client:
                await client.submit(snow)

        dispycos.run(main)
        """,
        PYTHONIOENCODING=encoding,
    )
    assert lines_of(program.succeed()) == [r"\u2603 \udce9", r"\ufffd", r"\ufffd", "plain"]
    assert not program.err, program.told()


def test_a_task_that_closes_its_streams_closes_them_for_itself(cluster: User) -> None:
    program = cluster.script(
        "closing.py",
        """
        import os, sys
        import dispycos

        def close():
            sys.stdout.close()
            sys.stderr.close()
            os.chdir("/")

        def speak():
            print("still here, in", os.path.basename(os.getcwd()))

        async def main():
            async with dispycos.Client([close, speak], nodes=[dispycos.DispycosNodeAllocate("*", cpus=1)]) as client:
                for _ in range(3):
                    await client.submit(close)
                await client.submit(speak)

        dispycos.run(main)
        """,
    )
    assert any(line.startswith("still here, in dispycosproc-") for line in lines_of(program.succeed()))


LOGGING = """
    import asyncio, logging, os, sys, warnings
    import dispycos

    warnings.simplefilter("ignore", DeprecationWarning)  # Python's word on forks in a process with threads
    log = logging.getLogger("etl.load")

    def work(n):
        log.debug("debug %d", n)
        log.info("info %d", n)
        if n == 1:
            if not os.fork():
                log.warning("from a fork")
                os._exit(0)
            os.wait()
        if n == 2:
            try:
                {}["key"]
            except KeyError:
                log.exception("failed")

    async def main():
        if sys.argv[1] == "before":
            logging.basicConfig(filename="etl.log", filemode="w", level=logging.INFO, format=FORMAT)
        async with dispycos.Client([work]) as client:
            if sys.argv[1] == "after":
                logging.basicConfig(filename="etl.log", filemode="w", level=logging.DEBUG, format=FORMAT)
            for n in range(3):
                await client.submit(work, n)

    FORMAT = "%(levelname)s %(name)s %(processName)s %(message)s"
    dispycos.run(main)
"""


def test_what_tasks_log_reaches_the_programs_own_handlers_with_its_levels(cluster: User) -> None:
    program = cluster.script("logging_script.py", LOGGING, "before")
    program.succeed()
    said = re.sub(r" [ab]/server-[12]", " S", (cluster.folder / "etl.log").read_text())
    assert "debug" not in said
    for line in ("INFO etl.load S info 0", "INFO etl.load S info 2", "WARNING etl.load S from a fork",
                 "ERROR etl.load S failed", "KeyError: 'key'"):  # fmt: skip
        assert line in said.splitlines(), said
    assert not program.err, program.told()


def test_logging_that_is_set_up_later_counts_too(cluster: User) -> None:
    program = cluster.script("logging_script.py", LOGGING, "after")
    program.succeed()
    assert "debug 2" in (cluster.folder / "etl.log").read_text()
    assert not program.err, program.told()


def test_without_a_handler_warnings_are_seen_on_standard_error(cluster: User) -> None:
    program = cluster.script("logging_script.py", LOGGING, "never")
    program.succeed()
    said = lines_of(program.err)
    assert "WARNING etl.load: from a fork" in said and "KeyError: 'key'" in said, program.told()
    assert not any("info" in line for line in said)


FILES = """
    import os, sys
    import dispycos

    def save(path):
        with open(path, "w") as file:
            file.write("result")

    def load(path):
        with open(path) as file:
            return file.read()

    async def main():
        async with dispycos.Client([save, load, "given.csv"], cwd=sys.argv[1] if sys.argv[1:] else None) as client:
            await client.submit(save, "written.txt")
            for path in ("given.csv", "../given.csv"):
                try:
                    print(path, await client.submit(load, path))
                except OSError as error:
                    print(path, type(error).__name__, *error.__notes__)

    dispycos.run(main)
"""


def test_relative_paths_are_explained_and_files_that_go_are_named(cluster: User) -> None:
    cluster.write({"files.py": FILES, "files/given.csv": "a,b"})
    program = cluster.python("../files.py", folder="files")
    missing, found = program.succeed().splitlines()
    assert missing.startswith("given.csv FileNotFoundError 'given.csv' was looked for in /"), missing
    assert "components are in the folder above: '../given.csv'" in missing
    assert found == "../given.csv a,b"
    (said,) = program.err.splitlines()
    assert "1 file of tasks (6 bytes) went with their working folders: written.txt." in said
    assert not (cluster.folder / "files" / "written.txt").exists()


def test_tasks_run_in_the_folder_that_the_client_names(cluster: User) -> None:
    cluster.write({"files.py": FILES, "named/given.csv": "c,d"})
    program = cluster.python("../files.py", ".", folder="named")
    assert program.succeed().splitlines()[0] == "given.csv c,d"
    assert (cluster.folder / "named" / "written.txt").read_text() == "result"
    assert not program.err, program.told()


BEFORE = """
    import subprocess, sys, dispycos

    def by_print(n):
        print("about", n)
        print("its end", end="")
        return f"value {n}"

    def by_standard_error(n):
        print("about", n, file=sys.stderr)
        return f"value {n}"

    def by_a_child(n):
        subprocess.run(["echo", f"about {n}"])
        return f"value {n}"

    async def main():
        sys.stderr = sys.stdout
        async with dispycos.Client() as client:
            for function in (by_print, by_standard_error, by_a_child):
                for n in range(20):
                    print(await client.submit(function, n))

    dispycos.run(main)
"""


def test_what_a_task_wrote_comes_before_its_value(cluster: User) -> None:
    lines = cluster.script("before.py", BEFORE).succeed().splitlines()
    before = ""
    for line in lines:
        if line.startswith("value"):
            assert re.search(rf"about {line.removeprefix('value ')}\b", before), lines
            before = ""
        before += line

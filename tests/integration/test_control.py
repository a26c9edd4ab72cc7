"""A client's control of its nodes and servers, with a cluster that was started by hand; what is left of it after its end."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import Report, report_of, scenarios_of
from tests.kit.programs import User

pytestmark = pytest.mark.timeout(90)


@pytest.mark.parametrize(
    "scenario", [pytest.param(name, id=f"control-{name[5:]}") for name in scenarios_of("control.py")]
)
def test_scenario(scenario: str, cluster: User, reports: dict[str, Report]) -> None:
    report_of("control.py", cluster, reports).check(scenario)


def test_its_client_ends_well(cluster: User, reports: dict[str, Report]) -> None:
    report = report_of("control.py", cluster, reports)
    assert report.code == 0, report.program.told()


TWICE = """
    import builtins, dispycos, os

    def leave():
        builtins.left_by_a_task = True
        open("left", "w").close()
        return os.getcwd(), os.path.abspath("..")

    def find():
        return hasattr(builtins, "left_by_a_task"), os.path.exists("left")

    async def main():
        async with dispycos.Client([{components}]) as client:
            places = [await (await client.rtask_at(where, leave)) for where in await client.servers()]
        print([os.path.exists(place) for pair in places for place in pair])
        async with dispycos.Client() as client:
            print(await client.submit(find))

    dispycos.run(main)
"""


def test_files_and_globals_of_a_client_are_gone_after_it(cluster: User) -> None:
    cluster.write({"component.txt": "data"})
    said = cluster.script("twice.py", TWICE.format(components="'component.txt'")).succeed()
    assert said.splitlines() == [str([False] * 8), "(False, False)"]


KEEPS = """
    import dispycos, os

    def write():
        open("kept.txt", "w").write("results")
        return os.getcwd()

    async def main():
        async with dispycos.Client(["component.txt"], nodes=["a"], cleanup=False) as client:
            print(await client.submit(write))

    dispycos.run(main)
"""


def test_with_cleanup_false_they_stay_and_where_is_said_at_the_end(cluster: User) -> None:
    cluster.write({"component.txt": "data"})
    program = cluster.script("keeps.py", KEEPS)
    folder = Path(program.succeed().strip())
    found = re.search(r"the files of this client stay in a:(\S+): remove them", program.err)
    assert found is not None, program.told()
    kept = Path(found[1])
    assert (kept / folder.name / "kept.txt").read_text() == "results"
    assert (kept / "component.txt").read_text() == "data"
    assert not folder.exists() and "went with their working folders" not in program.err


EAGER = """
    import dispycos

    def square(n, task=None):
        yield task.sleep(0)
        return n * n

    def watch(client, task=None):
        while True:
            word = yield task.receive()
            if isinstance(word, dispycos.DispycosStatus) and word.status == dispycos.Scheduler.ServerInitialized:
                rtask = yield client.rtask_at(word.info, square, 3)
                return (yield rtask())

    def main(task=None):
        client = dispycos.Client([square])
        client.status_task = watching = dispycos.Task(watch, client)
        yield client.schedule()
        print((yield watching.finish()))
        yield client.close()

    dispycos.run(main)
"""


def test_a_status_task_runs_tasks_as_soon_as_it_hears_of_a_server(cluster: User) -> None:
    assert cluster.script("eager.py", EAGER).succeed().split() == ["9"]


EARLY = """
    import asyncio, dispycos

    def square(n):
        return n * n

    async def main():
        client = dispycos.Client([square])
        waiting = asyncio.ensure_future(client.schedule())
        await asyncio.sleep(0)
        assert not waiting.done()
        try:
            client.submit(square, 3)
        except dispycos.NotScheduled as error:
            print(error)
        await waiting
        print(await client.submit(square, 3))
        await client.close()

    dispycos.run(main)
"""


def test_who_submits_before_there_is_any_node_is_told(cluster: User) -> None:
    told, last = cluster.script("early.py", EARLY).succeed().splitlines()
    assert "`await schedule()` first" in told and last == "9"


FAILS = """
    import asyncio, dispycos

    def watch(task=None):
        yield task.receive()
        raise RuntimeError("no data for this node")

    async def main():
        client = dispycos.Client(disable_nodes=True)
        client.status_task = dispycos.Task(watch)
        waiting = asyncio.ensure_future(client.schedule())
        await asyncio.sleep(60)

    dispycos.run(main)
"""


def test_a_status_task_that_fails_is_told_at_once(cluster: User) -> None:
    program = cluster.script("fails.py", FAILS)
    program.wait_line("RuntimeError: no data for this node")
    assert "the status_task has failed" in program.err and program.is_alive(), program.told()
    program.interrupt()  # else it keeps the nodes
    program.wait(10)


def test_run_of_a_generator_says_what_to_write(cluster: User) -> None:
    program = cluster.script("called.py", "import dispycos\ndef main():\n    yield 1\ndispycos.run(main())\n")
    assert program.wait() == 1 and "pass the function itself, run(main)" in program.err, program.told()

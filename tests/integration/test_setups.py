"""What a program has done on nodes and servers before their first tasks, with nodes that were started by hand."""

from __future__ import annotations

import pytest

from tests.conftest import SCRIPTS
from tests.kit.programs import User

FAILS = """\
    import dispycos
    def fails(): raise ValueError("no such data set")
    def leaves():
        import threading, time
        threading.Thread(target=time.sleep, args=(60,), name="the loader", daemon=True).start()
    def compute(): return 5
    async def main():
        async with dispycos.Client(%s) as client:
            try: await client.submit(compute)
            except dispycos.TaskRefused as error: print("refused:", error)
            else: print("went on")
    dispycos.run(main)
"""

pytestmark = pytest.mark.timeout(90)


def test_what_is_set_up_once_a_node_and_once_a_server_is_found_by_all_tasks(cluster: User) -> None:
    said = cluster.python(str(SCRIPTS / "setups.py")).succeed()
    lines = [line for line in said.splitlines() if not line.startswith("[")]
    assert lines == [
        "statuses in their order",
        "what was loaded is there once a node",
        "a replaced server has it too",
        "the end",
    ]
    assert "[a/setup] loading for a" in said and "[b/setup] loading for b" in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("node_setup=fails", ["node a", "node b", "node_setup failed", "ValueError: no such data set"]),
        ("node_setup=lambda: 1", ["node_setup failed: it returned 1"]),
        ("node_setup=leaves", ["left threads running (the loader", "server_setup"]),
        ("server_setup=fails", ["server_setup failed", "ValueError: no such data set"]),
        ("server_setup=lambda: 'no'", ["server_setup failed: it returned 'no'"]),
    ],
)
def test_where_a_setup_fails_tasks_are_refused_and_the_person_hears_why(
    cluster: User, options: str, words: list[str]
) -> None:
    program = cluster.script("fails.py", FAILS % options)
    said = program.succeed()
    assert "refused:" in said and "went on" not in said
    for word in words:
        assert word in program.told(), program.told()

"""Rough company: other users of the host who look, strangers on the network, containers that share folders, other Pythons."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import psutil
import pytest

from tests.kit.programs import User

pytestmark = pytest.mark.timeout(60)

PASSPHRASE = "seventeen wet horses"

WAIT = """
    import dispycos

    async def wait(task=None):
        await task.sleep(30)

    async def main():
        async with dispycos.Client([wait]) as client:
            await client.rtask(wait)
            print("runs", flush=True)
            await dispycos.Task(wait).finish()

    dispycos.run(main)
"""


# --- who looks ----------------------------------------------------------------------------------------------


def shown_by(processes: Iterable[psutil.Process], text: str) -> list[str]:
    """The files of /proc in which it can be read."""
    found = []
    for process in processes:
        for name in ("cmdline", "environ"):
            path = Path(f"/proc/{process.pid}/{name}")
            if text.encode() in path.read_bytes():
                found.append(str(path))
    return found


def core_files_of(processes: Iterable[psutil.Process]) -> set[tuple[int, int]]:
    return {process.rlimit(psutil.RLIMIT_CORE) for process in processes}


def test_no_process_of_a_node_shows_its_passphrase_or_leaves_a_core_file(user: User) -> None:
    node = user.node("hidden", "-s", PASSPHRASE, cpus=1)
    scheduler = user.scheduler(f"--secret={PASSPHRASE}")
    client = user.script("wait.py", WAIT, DISPYCOS_SECRET=PASSPHRASE)
    client.wait_line("runs")
    family = [*node.family(), *scheduler.family()]
    assert len(family) >= 5
    assert shown_by(family, PASSPHRASE) == []
    assert core_files_of(family) == {(0, 0)}


def test_what_a_client_starts_does_not_show_the_passphrase_of_its_environment(user: User) -> None:
    client = user.script("wait.py", WAIT, DISPYCOS_SECRET=PASSPHRASE)
    client.wait_line("runs")
    _, *started = client.family()
    assert len(started) >= 3
    assert shown_by(started, PASSPHRASE) == shown_by(started, "DISPYCOS_SECRET") == []
    assert core_files_of(started) == {(0, 0)}

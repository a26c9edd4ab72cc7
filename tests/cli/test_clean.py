"""What a killed node left running: the next one does not start beside it, and --clean ends it and nothing else."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from dispycos.cli import clean as clean_module
from dispycos.cli.clean import leftovers, see_to_leftovers
from dispycos.config import Failure
from dispycos.transport.claims import dead_work_folders

# A node with a lease, in which a task has started a program.
NODE = """
import subprocess, sys
from pathlib import Path
from dispycos.transport.claims import WorkFolder
folder = WorkFolder(Path(sys.argv[1]), "box", 5)
below = folder.path / "lease" / "dispycosproc-1"
below.mkdir(parents=True)
child = subprocess.Popen(["sleep", "60"], cwd=below, start_new_session=True, stdin=-3, stdout=-3)
print(child.pid, flush=True)
input()
"""


class Node:
    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self._process = subprocess.Popen(
            [sys.executable, "-c", NODE, str(parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.child = psutil.Process(int(self._process.stdout.readline()))

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate(timeout=10)

    @property
    def has_left(self) -> bool:
        return bool(self.child.is_running()) and self.child.status() != psutil.STATUS_ZOMBIE


@pytest.fixture
def node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr(clean_module, "LAST_S", 10.0)  # a busy machine
    node = Node(tmp_path / "nodes")
    yield node
    node.kill()
    if node.has_left:
        node.child.kill()


def test_beside_a_node_that_lives_nothing_is_left_over(node: Node) -> None:
    for clean in (False, True):
        see_to_leftovers(node.parent, "box", clean=clean)
    assert node.has_left


def test_what_is_left_is_named_with_the_remedy_and_goes_on(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clean_module, "LAST_S", 0.1)
    node.kill()
    with pytest.raises(Failure, match=rf"has left process {node.child.pid} \(sleep\) running") as caught:
        see_to_leftovers(node.parent, "box", clean=False)
    assert "--clean kills" in caught.value.remedy
    assert node.has_left


def test_clean_ends_what_is_left_and_says_so(
    node: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stranger = subprocess.Popen(["sleep", "60"], cwd=tmp_path)
    try:
        node.kill()
        with caplog.at_level(logging.WARNING, "dispycos"):
            see_to_leftovers(node.parent, "box", clean=True)
        assert not node.has_left and stranger.poll() is None
        said = {record.getMessage() for record in caplog.records}
        assert said == {f"--clean: killing process {node.child.pid} (sleep), left by a node that has ended"}
        see_to_leftovers(node.parent, "box", clean=False)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_process_that_ends_by_itself_is_waited_for(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the servers of a node that was killed a moment ago."""
    monkeypatch.setattr("dispycos.cli.clean.time.sleep", lambda seconds: node.child.kill())
    node.kill()
    see_to_leftovers(node.parent, "box", clean=False)


def test_a_process_is_found_though_its_folder_is_removed(node: Node) -> None:
    node.kill()
    (node.parent / next(iter(node.parent.iterdir())).name / "lease" / "dispycosproc-1").rmdir()
    assert [process.pid for process in leftovers(dead_work_folders(node.parent))] == [node.child.pid]


def test_where_no_node_ever_was_nothing_is_left(tmp_path: Path) -> None:
    see_to_leftovers(tmp_path / "nowhere", "box", clean=True)

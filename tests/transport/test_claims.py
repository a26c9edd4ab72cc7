"""What a process has claimed, and what is left of one that was killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dispycos.transport.claims import (
    WorkFolder,
    claim,
    dead_work_folders,
    is_claimed,
    kernel_mark,
    sweep_work_folders,
)
from dispycos.transport.folders import FolderError

WORKER = """
import sys
from pathlib import Path
from dispycos.transport.claims import WorkFolder
folder = WorkFolder(Path(sys.argv[1]), "box", 5)
(folder.path / "file").touch()
print(folder.path, flush=True)
input()
"""


def work_elsewhere(parent: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_what_one_claims_nobody_else_gets_until_it_is_closed(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    claim(first)
    assert is_claimed(second)
    os.close(first)
    assert not is_claimed(second)
    os.close(second)


def test_two_who_look_at_once_see_the_same(tmp_path: Path) -> None:
    first, second = (os.open(tmp_path, os.O_RDONLY) for _ in range(2))
    assert not is_claimed(first) and not is_claimed(second)
    os.close(first)
    os.close(second)


def test_the_folder_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    process, path = work_elsewhere(tmp_path / "parent")
    try:
        sweep_work_folders(tmp_path / "parent")
        assert (path / "file").exists()
    finally:
        process.kill()
        process.communicate(timeout=10)
    sweep_work_folders(tmp_path / "parent")
    assert list((tmp_path / "parent").iterdir()) == []


def test_only_folders_named_as_ours_of_this_kernel_are_swept(tmp_path: Path) -> None:
    ours = f"box-{kernel_mark()}-{5:016x}"
    names = [f"box-{'0' * 8}-{5:016x}", f"{ours}.tar", "box-1234", "-".join(ours.split("-")[1:])]
    for name in names:
        (tmp_path / name).mkdir()
    (tmp_path / f"file-{kernel_mark()}-{5:016x}").touch()
    (tmp_path / f"link-{kernel_mark()}-{5:016x}").symlink_to(tmp_path / names[0])
    before = sorted(tmp_path.iterdir())
    (tmp_path / ours).mkdir()
    sweep_work_folders(tmp_path)
    assert sorted(tmp_path.iterdir()) == before


def test_a_work_folder_is_private_and_goes_when_it_is_removed(tmp_path: Path) -> None:
    folder = WorkFolder(tmp_path, "box", 7)
    assert folder.path.stat().st_mode & 0o777 == 0o700
    (folder.path / "lease").mkdir()
    folder.remove()
    assert list(tmp_path.iterdir()) == []


def test_where_none_can_be_made_it_is_said_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FolderError, match="cannot be made"):
        WorkFolder(tmp_path / "file", "box", 7)


def test_of_a_name_those_of_earlier_starts_of_the_host_are_swept_too(tmp_path: Path) -> None:
    mine, others = f"box-{'0' * 8}-{5:016x}", [f"box-2-{'0' * 8}-{5:016x}", f"other-{'0' * 8}-{5:016x}"]
    for name in (mine, *others):
        (tmp_path / name).mkdir()
    sweep_work_folders(tmp_path, "box")
    assert sorted(path.name for path in tmp_path.iterdir()) == others


def test_a_folder_whose_maker_was_killed_before_it_had_its_name_is_swept_once_it_is_old(
    tmp_path: Path,
) -> None:
    young, old = tmp_path / ".new-young", tmp_path / ".new-old"
    for path in (young, old):
        path.mkdir()
    os.utime(old, (0, 0))
    sweep_work_folders(tmp_path)
    assert list(tmp_path.iterdir()) == [young]


def test_a_parent_that_is_not_there_has_no_folders(tmp_path: Path) -> None:
    assert list(dead_work_folders(tmp_path / "nowhere")) == []

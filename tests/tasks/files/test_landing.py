"""Files on a disk: whole or not at all, and never outside of their folder."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from dispycos.actors.tasks.files.landing import Landing, delete
from dispycos.actors.tasks.files.receiving import Delivery
from dispycos.protocol.status import FileState

PART = ".1.part"


def landing(
    root: Path, path: str = "name", size: int = 3, *, overwrite: bool = False, part: str = PART
) -> Landing:
    names = [os.fsencode(name) for name in path.split("/")]
    return Landing(Delivery(str(root), (), names, size, 0o750, overwrite), part)


def test_a_file_appears_whole_with_its_folders_and_its_mode(tmp_path: Path) -> None:
    one = landing(tmp_path, "a/b/name")
    assert one.open().state == FileState.GO
    assert one.write(b"ab", last=False).state == FileState.GO
    assert not (tmp_path / "a/b/name").exists()
    assert one.write(b"c", last=True).state == FileState.DONE
    assert (tmp_path / "a/b/name").read_bytes() == b"abc"
    assert os.listdir(tmp_path / "a/b") == ["name"]
    assert (tmp_path / "a/b/name").stat().st_mode & 0o777 == 0o750


def test_what_is_given_up_leaves_neither_part_nor_folders(tmp_path: Path) -> None:
    one = landing(tmp_path, "a/b/name")
    one.open()
    one.write(b"ab", last=False)
    one.discard()
    assert os.listdir(tmp_path) == []


def test_a_full_disk_leaves_nothing_and_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = landing(tmp_path, "a/name")
    one.open()

    def full(descriptor: int, data: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    verdict = one.write(b"ab", last=False)
    assert verdict.state == FileState.REFUSED and "no room" in verdict.text
    assert os.listdir(tmp_path) == []


def test_what_cannot_fit_is_refused_at_once(tmp_path: Path) -> None:
    verdict = landing(tmp_path, size=1 << 60).open()
    assert verdict.state == FileState.REFUSED and "free" in verdict.text
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("path", ["link/name", "file/name"])
def test_nothing_is_written_through_a_link_or_a_file(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(tmp_path)
    (root / "file").write_bytes(b"")
    verdict = landing(root, path).open()
    assert verdict.state == FileState.REFUSED and path.partition("/")[0] in verdict.text
    assert delete(str(root), (), [b"link", b"root"]).state == FileState.REFUSED
    assert os.listdir(tmp_path) == ["root"]


def test_a_link_of_that_name_is_replaced_and_not_followed(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"stays")
    root = tmp_path / "root"
    root.mkdir()
    (root / "name").symlink_to(outside)
    assert landing(root).open().state == FileState.EXISTS
    one = landing(root, overwrite=True)
    one.open()
    assert one.write(b"abc", last=True).state == FileState.DONE
    assert outside.read_bytes() == b"stays" and (root / "name").read_bytes() == b"abc"


@pytest.mark.parametrize(("second", "state"), [(b"abc", FileState.DONE), (b"xyz", FileState.EXISTS)])
def test_of_two_senders_to_one_name_the_first_wins(tmp_path: Path, second: bytes, state: int) -> None:
    one, two = landing(tmp_path), landing(tmp_path, part=".2.part")
    assert (one.open().state, two.open().state) == (FileState.GO, FileState.GO)
    assert one.write(b"abc", last=True).state == FileState.DONE
    assert two.write(second, last=True).state == state
    assert os.listdir(tmp_path) == ["name"] and (tmp_path / "name").read_bytes() == b"abc"


def test_a_folder_of_that_name_stays(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    assert "folder" in landing(tmp_path, overwrite=True).open().text
    assert "folder" in delete(str(tmp_path), (), [b"name"]).text


def test_delete(tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"")
    assert delete(str(tmp_path), (), [b"name"]).state == FileState.DONE
    assert delete(str(tmp_path), (), [b"name"]).state == FileState.MISSING
    assert delete(str(tmp_path), (), [b"no", b"name"]).state == FileState.MISSING

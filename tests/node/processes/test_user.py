"""Whom tasks run as: who is refused, and in which words."""

from __future__ import annotations

import grp
import os
import pwd
import tempfile
from pathlib import Path

import pytest

from dispycos.actors.node.processes.user import TaskUser, find_task_user
from dispycos.config import Misuse
from dispycos.transport.folders import FolderError

_entry = pwd.getpwnam("nobody")
NOBODY = TaskUser(_entry.pw_uid, _entry.pw_gid, "nobody")


def lend(monkeypatch: pytest.MonkeyPatch, uids: tuple[int, int], gids: tuple[int, int]) -> None:
    """As the interpreter's mode has it: real and effective ones."""
    monkeypatch.setattr(os, "getresuid", lambda: (*uids, uids[1]))
    monkeypatch.setattr(os, "getresgid", lambda: (*gids, gids[1]))


def test_nobody_is_named_and_the_interpreter_is_ours() -> None:
    assert find_task_user(None, None) is None


@pytest.mark.parametrize(
    ("user", "group", "said"),
    [
        ("no-such-user", None, "--user no-such-user: there is no such user"),
        ("4294967294999", None, "--user 4294967294999: there is no such user"),
        ("nobody", "no-such-group", "--group no-such-group: there is no such group"),
        (None, "daemon", "--group is given without --user"),
        ("root", None, "tasks would run as root"),
        ("0", None, "tasks would run as root"),
    ],
)
def test_who_cannot_be_found_or_protects_nothing_is_refused(
    user: str | None, group: str | None, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(Misuse, match=said) as refused:
        find_task_user(user, group)
    assert refused.value.remedy


def test_only_root_may_name_a_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Misuse, match="can be used by root only"):
        find_task_user("nobody", None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    found = find_task_user("nobody", "daemon")
    assert found == NOBODY._replace(gid=grp.getgrnam("daemon").gr_gid)


def test_a_lent_interpreter_says_who_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    lend(monkeypatch, (1000, NOBODY.uid), (1000, NOBODY.gid))
    assert find_task_user(None, None) == NOBODY
    with pytest.raises(Misuse, match="is set-user-ID, so it says whom tasks run as"):
        find_task_user("nobody", None)
    lend(monkeypatch, (1000, 0), (1000, 0))
    with pytest.raises(Misuse, match="tasks would run as root"):
        find_task_user(None, None)
    lend(monkeypatch, (1000, 1000), (1000, NOBODY.gid))
    with pytest.raises(Misuse, match="set-group-ID but not set-user-ID"):
        find_task_user(None, None)


def test_a_shared_folder_that_somebody_else_made_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # a short path: it is for a socket
        monkeypatch.setattr("tempfile.gettempdir", lambda: folder)
        Path(folder, "elsewhere").mkdir()
        Path(folder, f"dispycos-{os.getuid()}-{NOBODY.uid}").symlink_to(Path(folder, "elsewhere"))
        with pytest.raises(FolderError, match="is not a folder of this user"):
            NOBODY.shared_folder()

"""Whom tasks run as, where that is another user than their node's agent is (spec 6.12).

The agent keeps the right to act as that user: it ends and removes what tasks leave. There are two ways to have it:

* it was started as root, and told a user; or
* its interpreter is set-user-ID and set-group-ID. Then the agent is who started it (the real user), tasks are who owns the
  interpreter (the effective one), and that one stays the agent's saved user. What else that gives cannot be given back without
  root: tasks keep the supplementary groups of who started the node.

What both need lies in folders of the agent that the tasks' group may enter, but not list. A lease's own folder is the group's.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from dispycos.config import Failure, Misuse
from dispycos.transport.folders import SOCKET_FOLDER_MAX, FolderError, make_missing

_WORDS_MAX = 4096
_FORGOTTEN = (
    "XDG_RUNTIME_DIR",
    "XDG_CONFIG_HOME",
    "XDG_STATE_HOME",
    "XDG_CACHE_HOME",
    "XDG_DATA_HOME",
    "MAIL",
)


class TaskUser(NamedTuple):
    """`name` is what the password file says, or the number."""

    uid: int
    gid: int
    name: str

    # --- in a process of its own

    def become(self) -> None:
        """For ever. Raises OSError. Clears the death signal of prctl(2), and hides this process from others of this user."""
        if os.geteuid() == 0:
            os.setgroups(self._groups())
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)

    def _groups(self) -> list[int]:
        return os.getgrouplist(self.name, self.gid) if not self.name.isdecimal() else [self.gid]

    def live_in(self, folder: str) -> None:
        """What this process tells its tasks of where they are at home."""
        for name in _FORGOTTEN:
            os.environ.pop(name, None)
        if not os.access(os.environ.get("TMPDIR", folder), os.W_OK | os.X_OK):
            del os.environ["TMPDIR"]
        tempfile.tempdir = None  # looked for again
        os.environ.update(HOME=folder, USER=self.name, LOGNAME=self.name)

    # --- in the agent

    def kill(self, pid: int) -> None:
        """SIGKILL to a process of this user. Raises ProcessLookupError, and PermissionError when it is another's by now."""
        with self._in_charge():
            os.kill(pid, signal.SIGKILL)

    @contextmanager
    def _in_charge(self) -> Iterator[None]:
        if os.geteuid() == 0:
            yield
            return
        own = os.geteuid()
        os.seteuid(self.uid)
        try:
            yield
        finally:
            os.seteuid(own)

    def remove(self, path: str | Path) -> None:
        """A folder with all that tasks put into it. In a thread or not: other threads stay who they are."""
        if os.geteuid() != 0:
            own = os.geteuid()
            libc = ctypes.CDLL(None)
            libc.setfsuid(self.uid)  # of this thread only, and for files only
            try:
                shutil.rmtree(path, ignore_errors=True)
            finally:
                libc.setfsuid(own)
        shutil.rmtree(path, ignore_errors=True)

    def let_in(self, path: Path) -> Path:
        """Its tasks may pass through this folder of ours, but neither list nor change it. Raises FolderError."""
        return self._share(path, 0o710)

    def make_folder(self, path: Path) -> Path:
        """One for its tasks: what is made in it is the group's. Raises OSError, FolderError."""
        path.mkdir(mode=0o700, exist_ok=True)
        return self._share(path, 0o2770)

    def _share(self, path: Path, mode: int) -> Path:
        try:
            os.chown(path, -1, self.gid)
            os.chmod(path, mode)
        except PermissionError:
            raise FolderError(
                f"{path} cannot be opened to the group {group_name(self.gid)}, which tasks run as",
                "the user of the node must be in that group: usermod -a -G, then log out and in again",
            ) from None
        return path

    def shared_folder(self) -> Path:
        """Where this user's tasks find their agent, and by default their folders. Raises FolderError."""
        name = f"dispycos-{os.getuid()}-{self.uid}"
        base = Path(tempfile.gettempdir())
        path = next(p for p in (base / name, Path("/tmp") / name) if len(os.fsencode(p)) <= SOCKET_FOLDER_MAX)
        try:
            path.mkdir(mode=0o700, exist_ok=True)
            found = path.lstat()
        except OSError as error:
            raise FolderError(f"{path} cannot be made: {error.strerror}") from error
        if path.is_symlink() or found.st_uid != os.getuid():  # anyone may make a name in /tmp
            raise FolderError(
                f"{path} is not a folder of this user", f"remove it, or set TMPDIR: ls -ld {path}"
            )
        return self.let_in(path)

    def open_socket(self, path: str) -> None:
        os.chown(path, -1, self.gid)
        os.chmod(path, 0o660)

    def why_not(self, folder: Path, modules: Sequence[str]) -> str:
        """Why tasks of this user cannot run with this interpreter in this folder, or "". Before there are threads."""
        found, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            with suppress(BaseException):
                os.write(told, self._try(folder, modules).encode()[:_WORDS_MAX])
            os._exit(0)
        os.close(told)
        with open(found, encoding="utf-8", errors="replace") as words:
            text = words.read()
        os.waitpid(pid, 0)
        return "" if text == _FINE else text or "the process that was to try it has ended"

    def _try(self, folder: Path, modules: Sequence[str]) -> str:
        here = os.getcwd()  # `python -m` puts it there
        # As the agent.
        paths = [entry for entry in sys.path if entry not in ("", here) and os.path.exists(entry)]
        try:
            self.become()
        except OSError as error:
            return f"a process cannot become that user: {error.strerror}"
        for path in [sys.executable, *paths]:
            if not os.access(path, os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK):
                return f"{_shut(path)} cannot be entered, and Python needs {path}"
        if not os.access(folder, os.X_OK):
            return f"{_shut(str(folder))} cannot be entered, and tasks are to run below {folder}"
        for module in modules:
            try:
                __import__(module)
            except Exception as error:
                return f"{module} cannot be imported: {error}"
        return _FINE


_FINE = "fine"


def _shut(path: str) -> str:
    """The first folder on the way that this process may not enter."""
    ways = [path, *map(str, Path(path).parents)]
    return next((way for way in reversed(ways) if os.path.isdir(way) and not os.access(way, os.X_OK)), path)


# --- who it is ------------------------------------------------------------------------------------------


def find_task_user(user: str | None, group: str | None) -> TaskUser | None:
    """Whom --user and --group name, or whose the interpreter is; None: tasks run as the agent. Raises Misuse."""
    if sys.platform != "linux":
        if user or group:
            raise Misuse("--user needs Linux", "leave it out")
        return None
    lent = os.getresuid()[:2], os.getresgid()[:2]
    is_lent = any(real != effective for real, effective in lent)
    if is_lent and (user or group):
        raise Misuse(
            f"{sys.executable} is set-user-ID, so it says whom tasks run as", "leave --user and --group out"
        )
    if is_lent:
        return _owner(*lent)
    if user is None:
        if group is not None:
            raise Misuse(
                "--group is given without --user", "both say whom tasks run as; leave it out, or add --user"
            )
        return None
    found = _named(user, group)
    if os.geteuid() != 0:
        raise Misuse(
            "--user can be used by root only",
            "start the node as root, or by a set-user-ID interpreter (docs/isolation.md)",
        )
    return found


def _owner(uids: tuple[int, int], gids: tuple[int, int]) -> TaskUser:
    if uids[0] == uids[1]:
        raise Misuse(
            f"{sys.executable} is set-group-ID but not set-user-ID, which protects nothing from tasks",
            f"chmod ug+s {sys.executable}, or use another interpreter",
        )
    return _no_root(TaskUser(uids[1], gids[1], user_name(uids[1])))


def _named(user: str, group: str | None) -> TaskUser:
    import grp
    import pwd

    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise Misuse(f"--user {user}: there is no such user", "useradd makes one, or name another") from None
    gid = entry.pw_gid
    if group is not None:
        try:
            gid = (grp.getgrgid(int(group)) if group.isdecimal() else grp.getgrnam(group)).gr_gid
        except (KeyError, OverflowError):
            raise Misuse(
                f"--group {group}: there is no such group", "groupadd makes one, or name another"
            ) from None
    return _no_root(TaskUser(entry.pw_uid, gid, entry.pw_name))


def _no_root(user: TaskUser) -> TaskUser:
    if user.uid == 0:
        raise Misuse("tasks would run as root, who may change all files of this node", "name another user")
    return user


def user_name(uid: int) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def group_name(gid: int) -> str:
    import grp

    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def be_real_user() -> None:
    """The agent is who started it; whom its interpreter made it stays its saved user. Of no effect where they are one."""
    if sys.platform == "linux":
        (uid, lent, _), (gid, lent_group, _) = os.getresuid(), os.getresgid()
        if lent_group != gid:
            os.setresgid(gid, gid, lent_group)
        if lent != uid:
            os.setresuid(uid, uid, lent)


# --- folders --------------------------------------------------------------------------------------------


def work_parent(user: TaskUser, dest_path: Path | None) -> Path:
    """Where nodes make folders that tasks of this user can enter. Raises FolderError."""
    if dest_path is None:
        path = user.shared_folder() / "nodes"
        path.mkdir(mode=0o700, exist_ok=True)
        return user.let_in(path)
    if not dest_path.exists():
        try:
            make_missing(dest_path)
        except OSError as error:
            raise FolderError(f"{dest_path} cannot be made: {error.strerror}") from error
        user.let_in(dest_path)
    return dest_path


def settle(user: TaskUser, dest_path: Path | None, modules: Sequence[str]) -> None:
    """Raises Failure in words if tasks could not run as this user."""
    be_real_user()
    why_not = user.why_not(work_parent(user, dest_path), modules)
    if why_not:
        raise Failure(
            f"tasks cannot run as {user.name}: {why_not}",
            "use a Python that every user can read, as /usr/bin/python3 with a venv in /opt, or open that folder",
        )

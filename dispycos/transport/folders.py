"""Decides where files of this user lie, and makes the folders; names each fallback, to be said once."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..config import Failure

APP = "dispycos"
SWEPT_AFTER_S = 60.0
SOCKET_FOLDER_MAX = 70  # bytes; an ipc path has room for 107, and the file name needs the rest


class FolderError(Failure):
    """A folder that must be ours alone is not."""


@dataclass(frozen=True, slots=True)
class Folders:
    """config may be shared between hosts (home on NFS); all others are of this host only."""

    config: Path
    state: Path
    runtime: Path
    sockets: Path
    temporary: Path
    notes: tuple[str, ...] = ()

    @property
    def secret_file(self) -> Path:
        return self.config / "secret"

    @property
    def registry(self) -> Path:
        return self.runtime / "registry"


def find_folders(environ: Mapping[str, str] | None = None) -> Folders:
    """Looks, but makes nothing: see make_private."""
    environ = os.environ if environ is None else environ
    temporary = temporary_folder()
    notes: list[str] = []

    def usable(kind: str, path: Path | None) -> Path:
        if path is not None and _can_make(path):
            return path
        fallback = temporary / kind
        why = f"{path} cannot be written" if path is not None else "there is no home folder"
        notes.append(f"{why}: {kind} files are in {fallback}")
        return fallback

    config = usable("config", _home_folder(environ, "XDG_CONFIG_HOME", "config"))
    state = usable("state", _home_folder(environ, "XDG_STATE_HOME", "state"))
    runtime = _runtime_folder(environ) or temporary / "run"
    short = Path("/tmp") / f"{APP}-{user_id()}"
    sockets = next(
        (path for path in (runtime, temporary / "run") if len(os.fsencode(path)) <= SOCKET_FOLDER_MAX), short
    )
    return Folders(config, state, runtime, sockets, temporary, tuple(notes))


def temporary_folder() -> Path:
    return Path(tempfile.gettempdir()) / f"{APP}-{user_id()}"


def user_id() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else os.environ.get("USERNAME", "user")


def _home_folder(environ: Mapping[str, str], variable: str, kind: str) -> Path | None:
    given = environ.get(variable, "")
    if os.path.isabs(given):
        return Path(given) / APP
    home = environ.get("HOME", "")
    if os.path.isabs(home) and os.name == "posix":
        return _in_home(Path(home), kind)
    return _platform_folder(kind)


def _in_home(home: Path, kind: str) -> Path:
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / APP
    return home / {"config": ".config", "state": ".local/state"}[kind] / APP


def _platform_folder(kind: str) -> Path | None:
    """What the platform says; nothing for a user without an entry in the password file."""
    import platformdirs  # only where HOME says nothing: it costs start-up time

    name = {"config": platformdirs.user_config_path, "state": platformdirs.user_state_path}[kind]
    try:
        path = name(APP, appauthor=False)
    except (RuntimeError, KeyError, OSError):
        return None
    return path if path.is_absolute() else None


def _runtime_folder(environ: Mapping[str, str]) -> Path | None:
    """XDG_RUNTIME_DIR, or where a login session would have it: a cron job and a desktop have to meet."""
    given = environ.get("XDG_RUNTIME_DIR", "")
    for base in (given, f"/run/user/{user_id()}"):
        if os.path.isabs(base) and _is_ours_alone(Path(base)) and os.access(base, os.W_OK | os.X_OK):
            return Path(base) / APP
    return None


def _is_ours_alone(path: Path) -> bool:
    try:
        found = path.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and (os.name != "posix" or _is_private(found))


def _is_private(found: os.stat_result) -> bool:
    return found.st_uid == os.getuid() and not found.st_mode & 0o077


def _can_make(path: Path) -> bool:
    """Whether path exists writable, or its nearest existing parent lets us make it."""
    for candidate in (path, *path.parents):
        if candidate.exists():
            return candidate.is_dir() and os.access(candidate, os.W_OK | os.X_OK)
    return False


def make_private(path: Path) -> Path:
    """Makes the folder, with its parents, 0700; refuses a link, and what is open to others or theirs."""
    shared = temporary_folder()  # anyone may have made this name before us
    if shared in path.parents:
        make_private(shared)
    try:
        make_missing(path)
        must_be_private(path)
    except OSError as error:
        raise FolderError(f"{path} cannot be made: {error.strerror}") from error
    return path


def must_be_private(path: Path) -> None:
    """Raises FolderError: it is no folder, or not this user's alone; OSError: it is not there."""
    if os.name != "posix":
        return
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise FolderError(f"{path} is not a folder of this user", f"remove it, or set TMPDIR: ls -ld {path}")
    if found.st_mode & 0o077:
        raise FolderError(
            f"{path} is open to other users (mode {found.st_mode & 0o777:o})", f"chmod 700 {path}"
        )


def sweep_sockets(folder: Path) -> None:
    """Removes the sockets of processes that were killed: nobody listens there. Young ones may be about to listen."""
    for path in folder.glob("*.sock"):
        with contextlib.suppress(OSError):  # another sweeper was first
            if path.lstat().st_mtime < time.time() - SWEPT_AFTER_S and not is_listening(path):
                path.unlink()


def is_listening(path: Path | str) -> bool:
    """Whether somebody takes connections at this socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return False
        except BlockingIOError:  # so many want to connect
            return True
    return True


def make_missing(path: Path) -> None:
    """mkdir -p, where the parents too are made for us alone (as the XDG rules want it)."""
    missing = [folder for folder in (path, *path.parents) if not os.path.lexists(folder)]
    for folder in reversed(missing):
        folder.mkdir(mode=0o700, exist_ok=True)

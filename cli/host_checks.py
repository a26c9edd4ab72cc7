"""What `dispycos doctor` looks at on this machine: libraries, CPUs, limits, folders, clock, secret. Nothing of it is left behind.

Libraries are imported where they are needed: one that is missing or broken is to be named, and the rest is looked at all the same.
"""

from __future__ import annotations

import importlib
import os
import re
import shutil
import socket
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Final

import dispycos.config
from dispycos.config import ViewSettings
from dispycos.transport.folders import FolderError, Folders, find_folders, must_be_private
from dispycos.transport.secret import Secret

from . import findings
from .findings import Finding, Installation, Library, Limits, Machine, Place

MODULES: Final = {"pyzmq": "zmq"}  # of libraries whose module has another name
SHARED: Final = Path("/dev/shm")
CGROUP: Final = Path("/sys/fs/cgroup")


def look_at_installation() -> list[Finding]:
    return findings.of_installation(installation())


def installation() -> Installation:
    needs, least_python = _needs()
    libraries = tuple(_library(name, least) for name, least in needs.items())
    has_gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    release = metadata.version("dispycos")
    return Installation(release, sys.version.split()[0], least_python, has_gil, _has_curve(), libraries)


def _has_curve() -> bool:
    try:
        return bool(importlib.import_module("zmq").has("curve"))
    except Exception:  # it cannot be imported, which is said of it as of any library
        return True


def _needs() -> tuple[dict[str, str], str]:
    """What setup.cfg asks for, as it was installed: the lowest release of each library, and of Python."""
    about = metadata.metadata("dispycos")
    found = (
        re.match(r"([\w.-]+)\s*(?:>=\s*([\w.]+))?", text)
        for text in metadata.requires("dispycos") or ()
        if "extra ==" not in text
    )
    return {one[1]: one[2] or "" for one in found if one}, (about["Requires-Python"] or "").removeprefix(">=")


def _library(name: str, least: str) -> Library:
    try:
        installed = metadata.version(name)
    except metadata.PackageNotFoundError:
        return Library(name, least=least)
    note = ""
    try:
        module = importlib.import_module(MODULES.get(name, name))
        if name == "pyzmq":
            note = f"libzmq {module.zmq_version()}"
    except Exception as error:  # whatever a broken library raises
        return Library(name, installed, least, f"{type(error).__name__}: {error}")
    return Library(name, installed, least, note=note)


def look_at_machine() -> list[Finding]:
    from dispycos.actors.node.resources import cpu_count, measure

    available, there = measure(Path(tempfile.gettempdir()))
    assert available.memory is not None
    return findings.of_machine(Machine(cpu_count(), os.cpu_count() or 1, there.memory, available.memory))


def look_at_limits() -> list[Finding]:
    from dispycos.actors.node.resources import cpu_count

    return findings.of_limits(limits(), cpu_count())


def limits() -> Limits:
    try:
        import resource
    except ImportError:  # Windows
        return Limits(None, None)
    files, files_hard = (_limit(limit) for limit in resource.getrlimit(resource.RLIMIT_NOFILE))
    threads, used = _container_threads() or (_limit(resource.getrlimit(resource.RLIMIT_NPROC)[0]), 0)
    if threads is not None and not used:
        threads, used = (None, 0) if os.getuid() == 0 else (threads, _threads_of_user())  # root has no limit
    return Limits(files, files_hard, threads, used, _shared())


def _limit(limit: int) -> int | None:
    import resource

    return None if limit == resource.RLIM_INFINITY else limit


def _container_threads() -> tuple[int, int] | None:
    with suppress(OSError, ValueError):  # no cgroup of version 2, or "max"
        return int((CGROUP / "pids.max").read_text()), int((CGROUP / "pids.current").read_text())
    return None


def _threads_of_user() -> int:
    import psutil

    user, count = os.getuid(), 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        if process.info["uids"] is not None and process.info["uids"].real == user:
            count += process.info["num_threads"] or 1
    return count


def _shared() -> int | None:
    if sys.platform != "linux":
        return None
    if not os.access(SHARED, os.W_OK | os.X_OK):
        return 0
    return shutil.disk_usage(SHARED).total


def look_at_folders() -> list[Finding]:
    folders = find_folders()
    return findings.of_folders([look_at_place(what, path) for what, path in _wanted(folders)], folders.notes)


def _wanted(folders: Folders) -> list[tuple[str, Path]]:
    return [
        ("the secret", folders.config),
        ("sockets", folders.sockets),
        ("files of tasks", folders.temporary),
    ]


def look_at_place(what: str, path: Path) -> Place:
    """Whether it is ours alone, or could be made, and takes a file, or a socket."""
    nearest = next(folder for folder in (path, *path.parents) if folder.exists())
    place = partial(Place, what, str(path))
    try:
        if nearest == path and what != "the secret":
            must_be_private(path)
        free = shutil.disk_usage(nearest).free
        if what == "sockets":
            _try_socket(nearest)
        with tempfile.TemporaryFile(dir=nearest) as file:
            file.write(bytes(65536))
            file.flush()
    except FolderError as error:
        return place(f"it {error.text.removeprefix(f'{path} ')}", error.remedy)
    except OSError as error:
        return place(f"it cannot be used: {error.strerror or error}", f"ls -ld {nearest}; df {nearest}")
    return place(free=free)


def _try_socket(folder: Path) -> None:
    """Raises OSError: a path that is too long, a file system that has no sockets."""
    path = folder / f".doctor-{os.getpid()}.sock"
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.bind(str(path))
        finally:
            path.unlink(missing_ok=True)


def look_at_clock() -> list[Finding]:
    with tempfile.TemporaryFile() as file:
        file.write(b"now")
        file.flush()
        filed, now = os.fstat(file.fileno()).st_mtime, time.time()
    return [findings.of_clock(now, filed, Path(dispycos.config.__file__).stat().st_mtime)]


def look_at_secret(settings: ViewSettings) -> list[Finding]:
    """Raises Failure in words if it cannot be used."""
    secret = load_secret(settings)
    return [findings.of_secret(secret.source if secret is not None else "", str(find_folders().secret_file))]


def load_secret(settings: ViewSettings) -> Secret | None:
    """None if there is none yet: it is not made here."""
    return Secret.load(settings.secret_file, settings.secret, group_file=settings.group_secret)

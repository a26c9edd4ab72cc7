"""The folder that a server's tasks run in: what is said of a relative path that is not there, and of files that go with it."""

from __future__ import annotations

import os
import re
from collections.abc import Container, Iterator
from contextlib import suppress
from pathlib import Path

from dispycos.protocol.messages import Left

from .files.landing import Stamp, stamp_of

FOLLOWED_MAX = 20  # exceptions behind one another
COUNTED_MAX = 1000  # files: a lease must not end later for its rubbish
NAMED_MAX = 5


class WorkingFolder:
    """Where this server's tasks run: a folder of its own below that of the components, or the one that the client named."""

    def __init__(self, own: Path) -> None:
        self._own = own
        self._program = ""
        self._here = os.open(own, os.O_RDONLY | os.O_DIRECTORY)

    def enter(self, wanted: str, program: str) -> str:
        """Go to the folder that the client wants, if any; why that cannot be, or "". `program`: where the client itself runs."""
        self._program = program
        if not wanted:
            return ""
        try:
            os.chdir(wanted)
            chosen = os.open(wanted, os.O_RDONLY | os.O_DIRECTORY)
        except OSError as error:
            self.come_back()
            return error.strerror or str(error)
        os.close(self._here)
        self._here = chosen
        return ""

    def come_back(self) -> None:
        """Where a task changed to is no place for the next one."""
        os.fchdir(self._here)

    def explain(self, error: BaseException) -> None:
        """To each relative path that was not found, say where it was looked for and what to do."""
        with suppress(Exception):  # a class of the user's own may have a __str__ of its own
            for missing in _behind(error):
                note = self._note(missing) if isinstance(missing, FileNotFoundError) else ""
                if note and note not in getattr(missing, "__notes__", ()):
                    missing.add_note(note)

    def _note(self, error: FileNotFoundError) -> str:
        if error.filename is None:
            if _RELATIVE.search(str(error)):  # as numpy and h5py say it
                return f"relative paths were looked for in {self._place()}; {_REMEDY}"
            return ""
        path = _relative(error.filename)
        if path and not os.path.lexists(path) and not _is_command(error, path):
            return f"{path!r} was looked for in {self._place()}; {self._hint(path)}"
        return ""

    def _place(self) -> str:
        try:
            here = os.getcwd()
        except FileNotFoundError:
            return "a folder that is there no more"
        whose = (
            "the working folder of this server"
            if here == str(self._own)
            else "where this server's tasks run now"
        )
        return f"{here}, {whose}"

    def _hint(self, path: str) -> str:
        components = self._own.parent
        name = path.removeprefix("../")
        if os.path.exists(components / name):
            if os.getcwd() == str(self._own):
                return f"components are in the folder above: {'../' + name!r}"
            return f"components are in the folder above the server's own, not above this one: {str(components / name)!r}"
        found = os.path.join(self._program, path)
        if self._program and (
            os.path.exists(found) or os.path.isdir(os.path.dirname(path) and os.path.dirname(found))
        ):
            return f"your program runs in {self._program}: use {found!r}, or Client(cwd={self._program!r})"
        return _REMEDY


_RELATIVE = re.compile(r"(^|[\s'\"(])\w[\w.-]*[./]\w")  # a word that looks like a file's name
_REMEDY = (
    "files of your program are not sent unless they are named in Client([...]), which puts them into the folder above "
    "('../name'); or use absolute paths, or Client(cwd=...)"
)


def _behind(error: BaseException) -> Iterator[BaseException]:
    """It and those that led to it or are in it."""
    waiting, count = [error], 0
    seen: set[int] = set()
    while waiting and count < FOLLOWED_MAX:
        found = waiting.pop()
        if id(found) in seen:
            continue
        seen.add(id(found))
        count += 1
        yield found
        waiting += [other for other in (found.__context__, found.__cause__) if other is not None]
        if isinstance(found, BaseExceptionGroup):
            waiting += found.exceptions


def _relative(name: object) -> str:
    """The relative path that this is, or ""."""
    try:
        path = os.fsdecode(name)  # type: ignore[arg-type]
    except TypeError:  # a descriptor, or nothing
        return ""
    return "" if os.path.isabs(path) else path


def _is_command(error: BaseException, path: str) -> bool:
    """Whether it was looked for in PATH."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and "/" not in path and trace.tb_frame.f_globals.get("__name__") == "subprocess"


def leftovers(lease_folder: Path, sent: Container[Stamp] = ()) -> Left:
    """What tasks left in the folders of a lease's servers, and not what was sent there and is as it came; of more than COUNTED_MAX
    files only so many.
    """
    count, size = 0, 0
    names: list[str] = []
    for folder in sorted(lease_folder.glob("dispycosproc-*")):
        for path, folders, files in os.walk(folder):
            folders[:] = sorted(name for name in folders if name != "__pycache__")
            for name in sorted(files):
                if count >= COUNTED_MAX:
                    continue
                file = Path(path, name)
                with suppress(OSError):  # what a task left running may remove it
                    found = file.lstat()
                    if stamp_of(found) in sent:
                        continue
                    size += found.st_size
                count += 1
                if len(names) < NAMED_MAX:
                    names.append(str(file.relative_to(folder)))
    return Left(count, size, names)

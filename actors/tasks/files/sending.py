"""What goes when of a file that is sent, and what both ends know of names below a folder."""

from __future__ import annotations

from typing import Final

CHUNK: Final = 1024 * 1024  # bytes
WINDOW: Final = 8  # chunks that may be under way: as much of a file as is in memory, however large it is

NAME_MAX: Final = 255  # bytes, of most file systems
PATH_MAX: Final = 4096


class Crooked(ValueError):
    """This path does not lead below the folder; in words."""


def straight(path: bytes) -> list[bytes]:
    """The names of a relative path that leads down only. Raises Crooked."""
    names = [name for name in path.split(b"/") if name not in (b"", b".")]
    if path.startswith(b"/"):
        raise Crooked(f"{display(path)} is absolute: name a folder below the receiver's")
    if b".." in names:
        raise Crooked(f"{display(path)} leads upwards by '..': name a folder below the receiver's")
    if not names or b"\0" in path:
        raise Crooked(f"{display(path)!r} is not the name of a file")
    if len(path) > PATH_MAX or max(map(len, names)) > NAME_MAX:
        raise Crooked(f"{display(path[:80])}... is too long for a name")
    return names


def display(path: bytes) -> str:
    """For people: names of files may be any bytes."""
    return path.decode("utf-8", "backslashreplace")


class Window:
    """The sending side of a file of so many bytes: chunk after chunk, so many of them unconfirmed."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.confirmed = 0  # bytes that are at the receiver
        self._next = 0
        self._under_way: list[int] = []  # sizes, the oldest first

    @property
    def is_done(self) -> bool:
        return self.confirmed == self.size

    def take(self) -> tuple[int, int] | None:
        """(offset, size) of what may go now; None: nothing, until something is confirmed."""
        size = min(CHUNK, self.size - self._next)
        if not size or len(self._under_way) >= WINDOW:
            return None
        offset, self._next = self._next, self._next + size
        self._under_way.append(size)
        return offset, size

    def confirm(self) -> None:
        """The oldest chunk under way has arrived."""
        self.confirmed += self._under_way.pop(0)

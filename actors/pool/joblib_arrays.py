"""Large arrays among the arguments of joblib's calls: each is stored once, and opened where servers can, or sent to them once."""

from __future__ import annotations

import contextlib
import copy
import itertools
import mmap
import os
import secrets
import shutil
import sys
import tempfile
import weakref
from typing import Any, BinaryIO, NamedTuple, cast

from .kept import Kept, Missing, keep, keep_only, value_of

SHARED_MEMORY = "/dev/shm"
OF_PROCESS = "/proc/"  # where files without a name are found, as long as it has them open
ALIGNED = 64  # bytes

_program = secrets.token_hex(8)  # the keys of its arrays begin so
_numbers = itertools.count()
_alive: set[str] = set()  # keys of arrays of Parallels that are not over


class Stored:
    """Stands for an array in the arguments of a call, and maps it on a server."""

    def __init__(self, key: str, path: str, mode: str, mapping: Mapping) -> None:
        self.key = key
        self.path = path
        self.mode = mode
        self.mapping = mapping

    def open(self) -> bool:
        """False: the file is not on this host, or not for this user."""
        try:
            keep(self.key, self.mapping.open(self.path, self.mode))
        except OSError:
            return False
        return True


class Mapping(NamedTuple):
    """Which bytes of a file are an array: tasks that write into one of numpy.memmap write into the file, as joblib's own do."""

    file: tuple[int, str]
    dtype: Any
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    low: int  # the first and the last byte, from the beginning of the file ...
    high: int
    origin: int  # ... and that of the item of index 0

    @classmethod
    def of(cls, array: Any) -> tuple[str, str, Mapping] | None:
        """With the path, and the mode for others; None: there is no file that has what the array has."""
        import numpy

        whole = array
        while isinstance(whole, numpy.ndarray) and not isinstance(whole.base, mmap.mmap):
            whole = whole.base
        if (
            not isinstance(whole, numpy.memmap)
            or whole.filename is None
            or whole.mode == "c"
            or not array.size
        ):
            return None
        path = os.fspath(whole.filename)
        try:
            file = _identity(path)
        except OSError:  # it was removed
            return None
        begin = whole.__array_interface__["data"][0] - whole.offset
        origin = array.__array_interface__["data"][0] - begin
        steps = [step * (count - 1) for step, count in zip(array.strides, array.shape, strict=True)]
        low = origin + sum(step for step in steps if step < 0)
        high = origin + sum(step for step in steps if step > 0) + array.itemsize
        mapping = cls(file, array.dtype, array.shape, array.strides, low, high, origin)
        return path, "r+" if whole.mode == "w+" else whole.mode, mapping

    def open(self, path: str, mode: str) -> Any:
        """Raises OSError if it is another file here."""
        import numpy

        if _identity(path) != self.file or os.stat(path).st_size < self.high:
            raise FileNotFoundError(path)
        data: Any = numpy.memmap(path, "u1", cast("Any", mode), self.low, (self.high - self.low,))
        array = numpy.ndarray(self.shape, self.dtype, data, self.origin - self.low, self.strides)
        return array.view(numpy.memmap)


def _identity(path: str) -> tuple[int, str]:
    """The inode; and of one in memory, which has no path but its process's, the name that it was made with, which is unique."""
    return os.stat(path).st_ino, os.readlink(path) if path.startswith(OF_PROCESS) else ""


class Batch:
    """joblib's own batch, on a server that has its arrays; `threads`: within each call, None: as its server has it."""

    def __init__(self, calls: Any, stored: dict[str, Stored]) -> None:
        self.calls = calls
        self.stored = stored
        self.threads: int | None = None
        self.program = _program
        self.alive = sorted(_alive.union(stored))  # other arrays of this program are not needed any more
        function = calls.items[0][0] if calls.items else calls
        self.__name__ = getattr(function, "__name__", type(function).__name__)

    def __call__(self) -> Any:
        keep_only(self.program, self.alive)
        for key, stored in self.stored.items():
            if value_of(key) is None and not stored.open():
                return Missing(key)
        if self.stored:
            self.calls.items = [
                (function, tuple(map(_found, args)), {name: _found(value) for name, value in kwargs.items()})
                for function, args, kwargs in self.calls.items
            ]
        if self.threads is None:
            return self.calls()
        from .inner_threads import limited_to

        with limited_to(self.threads):
            return self.calls()


def _found(value: Any) -> Any:
    return value_of(value.key) if isinstance(value, Stored) else value


def read_only(array: Any) -> Any:
    """As one that is mapped: all tasks of this server have the same."""
    array.setflags(write=False)
    return array


class Arrays:
    """Those of one call of a Parallel: each is written once, to a file that servers of this host map into their memory.

    One file has them all, one behind the other. In memory it has no name, and so is gone with the program, however that ends.

    Parameters
    ----------
    min_bytes: of arrays that are stored; None: none is. mode: of the mapping, as numpy.memmap has it.
    folder: for the file; None: in memory, if there is room, else in the temporary directory.
    """

    def __init__(self, min_bytes: int | None, mode: str, folder: str | None) -> None:
        self._min_bytes = min_bytes
        self._mode = "r+" if mode == "w+" else mode
        self._folder = folder or os.environ.get("JOBLIB_TEMP_FOLDER")
        made: list[str] = []
        self._made = made
        self._files: list[
            BinaryIO
        ] = []  # the last is written to: one in memory, and if there is no room for more, one elsewhere
        self._path = ""
        self._remove = weakref.finalize(self, _remove, made)  # at exit too, if a generator of values is left
        self._alive = _alive  # it may be closed when modules have lost what they had
        self._stored: dict[
            int, tuple[Any, Stored]
        ] = {}  # by id, with the array, so that nothing else gets that
        self.kept: dict[str, Kept] = {}  # for servers that cannot open the file

    def put_into(self, calls: Any) -> Batch:
        """joblib's batch with what stands for its large arrays."""
        used: dict[str, Stored] = {}
        if not _has_arrays(calls.items):
            return Batch(calls, used)
        light = copy.copy(calls)
        light.items = [
            (
                function,
                tuple(self._lightened(value, used) for value in args),
                {name: self._lightened(value, used) for name, value in kwargs.items()},
            )
            for function, args, kwargs in calls.items
        ]
        return Batch(light, used)

    def _lightened(self, value: Any, used: dict[str, Stored]) -> Any:
        if not _is_array(value) or (value.base is None and not self._is_large(value)):
            return value
        known = self._stored.get(id(value))
        if known is None:
            stored = self._map(value)
            if stored is None and self._is_large(value):
                stored = self._store(value)
            if stored is None:
                return value
            known = self._stored[id(value)] = value, stored
        used[known[1].key] = known[1]
        return known[1]

    def _is_large(self, array: Any) -> bool:
        return self._min_bytes is not None and array.nbytes >= self._min_bytes and not array.dtype.hasobject

    def _map(self, array: Any) -> Stored | None:
        found = Mapping.of(array)
        if found is None:
            return None
        path, mode, mapping = found
        return Stored(self._keep(array), path, mode, mapping)

    def _keep(self, array: Any) -> str:
        """Its key, by which servers that have not its file get it."""
        import numpy

        key = f"{_program}-{next(_numbers)}"
        self.kept[key] = Kept(key, read_only, (numpy.asarray(array),))
        return key

    def _store(self, array: Any) -> Stored:
        import numpy

        key = self._keep(array)
        self._alive.add(key)
        is_turned = array.flags.f_contiguous
        items = numpy.ascontiguousarray(array.T if is_turned else array)
        file, low = self._room_for(items.nbytes)
        items.tofile(file)
        strides = (items.T if is_turned else items).strides
        mapping = Mapping(
            _identity(self._path), array.dtype, array.shape, strides, low, low + items.nbytes, low
        )
        return Stored(key, self._path, self._mode, mapping)

    def _room_for(self, size: int) -> tuple[BinaryIO, int]:
        """The file, and where in it, which is where it stands."""
        used = self._files[-1].seek(0, os.SEEK_END) if self._files else 0
        is_in_memory = self._folder is None and _has_room(used + size)
        if not self._files or (self._path.startswith(OF_PROCESS) and not is_in_memory):
            self._files.append(self._new_file(is_in_memory))
            used = 0
        file = self._files[-1]
        return file, file.seek(used + -used % ALIGNED)

    def _new_file(self, is_in_memory: bool) -> BinaryIO:
        if is_in_memory:
            number = os.memfd_create(f"{_program}-{next(_numbers)}")
            self._path = f"{OF_PROCESS}{os.getpid()}/fd/{number}"
            return os.fdopen(number, "r+b")
        folder = tempfile.mkdtemp(prefix="dispycos-joblib-", dir=self._folder)
        self._made.append(folder)
        self._path = os.path.join(folder, "arrays")
        return open(self._path, "w+b")

    def close(self) -> list[str]:
        """Their keys. Servers that have a file mapped keep it until they hear of the next call."""
        for file in self._files:
            file.close()
        self._remove()
        self._alive.difference_update(self.kept)
        self._stored.clear()
        keys = list(self.kept)
        self.kept.clear()
        return keys


def _remove(folders: list[str]) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _has_arrays(calls: list[tuple[Any, tuple[Any, ...], dict[str, Any]]]) -> bool:
    """By their types: there are few among many values."""
    numpy = sys.modules.get("numpy")
    if numpy is None:
        return False
    kinds = {type(value) for _, args, _ in calls for value in args}
    kinds.update(type(value) for _, _, kwargs in calls if kwargs for value in kwargs.values())
    return any(issubclass(kind, numpy.ndarray) for kind in kinds)


def _is_array(value: Any) -> bool:
    """Of numpy's own kinds: others, as masked ones, are more than their numbers."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and type(value) in (numpy.ndarray, numpy.memmap)


def _has_room(size: int) -> bool:
    """In memory: about as much as the system gives to files there."""
    with contextlib.suppress(OSError):
        return hasattr(os, "memfd_create") and shutil.disk_usage(SHARED_MEMORY).free > 2 * size
    return False

"""Package data: files beside a local module's source, read at the client and laid into a folder of the server.

They travel one by one, when they are read: a package may hold gigabytes, of which a function needs one template.
"""

import errno
import os
import posixpath
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

from .words import ModuleSource, PackageData

DATA_BYTES_MAX = 64 << 20
ENTRIES_MAX = 4096


def read_data(source: ModuleSource, path: str) -> PackageData:
    """At the client: what that path leads to, in the first of the module's folders that has it."""

    def found(**what: Any) -> PackageData:
        return PackageData(source.name, path, **what)

    folders = source.folders or [os.path.dirname(source.path)]
    for folder in folders:
        target = os.path.join(folder, path)
        try:
            if os.path.isdir(target):
                return found(entries=_entries(target))
            if (size := os.path.getsize(target)) > DATA_BYTES_MAX:
                return found(
                    error=f"it has {size} bytes, more than the {DATA_BYTES_MAX} that travel with a package"
                )
            return found(data=Path(target).read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            return found(error=str(error))
    is_folder = any(map(os.path.isdir, folders))
    return found(error="" if is_folder else f"{source.name} is in no folder there, but in {folders[0]}")


def _entries(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        some = list(islice(entries, ENTRIES_MAX + 1))
    if len(some) > ENTRIES_MAX:
        raise OSError(errno.E2BIG, f"a folder with more than {ENTRIES_MAX} entries does not travel", folder)
    return sorted(entry.name + "/" * entry.is_dir() for entry in some if entry.name != "__pycache__")


class DataHost(Protocol):
    """What data that are read want of the mirror."""

    def package_data(self, module: str, path: str) -> PackageData:
        """What the client has there; the bytes lie in `data_file` then. Raises OSError for what does not travel."""

    def data_file(self, module: str, path: str) -> Path:
        """Where it lies, or would lie, on this machine."""


class PackageReader:
    """importlib.resources asks for it, and for no more than this."""

    def __init__(self, path: "PackagePath") -> None:
        self._path = path

    def files(self) -> "PackagePath":
        from importlib.resources import as_file  # whoever is here has imported it

        if hasattr(as_file, "register"):  # Python 3.11 takes every Traversable for a file
            as_file.register(PackagePath, lambda path: nullcontext(Path(path)))
        return self._path


class PackagePath(os.PathLike[str]):
    """What importlib.resources.files() gives: a Traversable, and as much like a pathlib.Path as users take it for.

    It is got from the client when it is opened, read, or used as a path.
    """

    def __init__(self, host: DataHost, module: str, path: str = "") -> None:
        self._host, self._module, self._path = host, module, path

    @property
    def name(self) -> str:
        return posixpath.basename(self._path) or self._module.rpartition(".")[2]

    @property
    def parent(self) -> "PackagePath":
        return self.joinpath("..")

    def joinpath(self, *descendants: str | os.PathLike[str]) -> "PackagePath":
        """Above the folder of a package is that of the package around it; nothing is above the outermost."""
        module, path = self._module, self._path
        for part in "/".join(map(str, descendants)).split("/"):
            if part == ".." and not path and "." in module:
                module = module.rpartition(".")[0]
            else:
                path = posixpath.normpath(posixpath.join(path, part))
                path = "" if path == "." else path
        return PackagePath(self._host, module, path)

    __truediv__ = joinpath

    def is_dir(self) -> bool:
        return self._path == "" or self._is_listed("/")

    def is_file(self) -> bool:
        return self._path != "" and self._is_listed("")

    def exists(self) -> bool:
        return self.is_dir() or self.is_file()

    def iterdir(self) -> "Iterator[PackagePath]":
        entries = self._found().entries
        if entries is None:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), self._plain())
        return (self.joinpath(entry) for entry in entries)

    def open(self, mode: str = "r", *args: Any, **kwargs: Any) -> IO[Any]:
        return open(self, mode, *args, **kwargs)

    def read_bytes(self) -> bytes:
        return Path(self).read_bytes()

    def read_text(self, encoding: str | None = None, errors: str | None = None) -> str:
        return Path(self).read_text(encoding, errors)

    def __fspath__(self) -> str:
        if self._found().entries is not None:
            for entry in self.iterdir():
                os.fspath(entry)
        return self._plain()

    def __str__(self) -> str:
        """Whoever asks for the text may open it."""
        return os.fspath(self) if self.exists() else self._plain()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._module!r}, {self._path!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PackagePath) and (self._module, self._path) == (other._module, other._path)

    def __hash__(self) -> int:
        return hash((self._module, self._path))

    def __getattr__(self, name: str) -> Any:
        """All else that a pathlib.Path can do."""
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(Path(str(self)), name)

    def _found(self) -> PackageData:
        found = self._host.package_data(self._module, self._path)
        if found.data is None and found.entries is None:
            raise FileNotFoundError(
                errno.ENOENT, f"no such file of {self._module} at the client", f"{self._module}/{self._path}"
            )
        return found

    def _plain(self) -> str:
        return str(self._host.data_file(self._module, self._path))

    def _is_listed(self, end: str) -> bool:
        try:
            entries = self.parent._found().entries
        except (FileNotFoundError, NotADirectoryError):
            return False
        return self.name + end in (entries or [])

"""The server's side of modules: imports the client's local ones from the text that it sent, and gets the data beside them.

Data travel one by one, when they are read: a package may hold gigabytes, of which a function needs one template.
"""

import errno
import linecache
import os
import posixpath
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from importlib.abc import InspectLoader, MetaPathFinder, PathEntryFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import IO, Any, Protocol

from .words import ModuleSource, PackageData


class DataHost(Protocol):
    """What data that are read want of the mirror."""

    def package_data(self, module: str, path: str) -> PackageData:
        """What the client has there; the bytes lie in `data_file` then. Raises OSError for what does not travel."""

    def data_file(self, module: str, path: str) -> Path:
        """Where it lies, or would lie, on this machine."""


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


class ClientFinder(MetaPathFinder):
    """Makes modules from what the client sent, as far as `find_source` gives it; None leaves the import to the others."""

    def __init__(self, host: DataHost, find_source: Callable[[str], ModuleSource | None]) -> None:
        self._host = host
        self._find_source = find_source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        source = self._find_source(fullname)
        return None if source is None else spec_of(source, self._host, path)


class SourceLoader(InspectLoader):
    """Makes a module from the text that the client sent; the files beside it are got when they are read."""

    def __init__(self, source: ModuleSource, host: DataHost) -> None:
        self.source = source
        package = source.name if source.package else source.name.rpartition(".")[0]
        self._folder = PackagePath(host, package or source.name)

    def get_source(self, fullname: str) -> str:
        """Tracebacks ask for it."""
        return self.source.source or ""

    def get_code(self, fullname: str) -> CodeType:
        path = self.source.path or "<namespace>"
        return compile(self.get_source(fullname), path, "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        return self.source.package

    def reload(self, source: ModuleSource) -> None:
        self.source = source
        linecache.cache.pop(source.path, None)
        self.exec_module(sys.modules[source.name])

    def get_data(self, path: str) -> bytes:
        """For pkgutil.get_data; the path begins with the folder of the module's `__file__`."""
        inside = os.path.relpath(path, os.path.dirname(self.source.path))
        return self._folder.joinpath(inside).read_bytes()

    def get_resource_reader(self, fullname: str) -> "SourceLoader":
        """For importlib.resources, which asks it for its files and for no more."""
        return self

    def files(self) -> "PackagePath":
        from importlib.resources import as_file  # whoever is here has imported it

        if hasattr(as_file, "register"):  # Python 3.11 takes every Traversable for a file
            as_file.register(PackagePath, lambda path: nullcontext(Path(path)))
        return self._folder


class ClientFolder(PathEntryFinder):
    """A folder of a package at the client, as pkgutil.iter_modules() finds it in `__path__`."""

    def __init__(self, host: DataHost, package: str) -> None:
        self._path = PackagePath(host, package)

    def find_spec(self, fullname: str, target: ModuleType | None = None) -> ModuleSpec | None:
        return None  # the first ClientFinder was asked before

    def iter_modules(self, prefix: str = "") -> Iterator[tuple[str, bool]]:
        for entry in self._path.iterdir():
            stem, suffix = os.path.splitext(entry.name)
            if suffix == ".py" and stem != "__init__":
                yield prefix + stem, False
            elif entry.name.isidentifier() and entry.is_dir() and (entry / "__init__.py").is_file():
                yield prefix + entry.name, True


def spec_of(source: ModuleSource, host: DataHost, path: Sequence[str] | None = None) -> ModuleSpec | None:
    """None leaves to the others what cannot travel and is not here at the path that it has at the client."""
    folders = source.folders if source.package else None
    if source.source is None:
        is_here = os.path.exists(source.path)
        return (
            spec_from_file_location(source.name, source.path, submodule_search_locations=folders)
            if is_here
            else None
        )
    spec = ModuleSpec(source.name, SourceLoader(source, host), origin=source.path or None)
    spec.has_location = bool(source.path)  # sets __file__, as the client's has it
    if folders is not None:
        for folder in folders:
            sys.path_importer_cache[folder] = ClientFolder(host, source.name)
        spec.submodule_search_locations = [*folders, *_own_portions(source, path)]
    return spec


def _own_portions(source: ModuleSource, path: Sequence[str] | None) -> list[str]:
    """A namespace package may have portions that are installed here."""
    spec = None if source.path else PathFinder.find_spec(source.name, path)
    if spec is None or spec.origin is not None:
        return []
    return [folder for folder in spec.submodule_search_locations or [] if folder not in source.folders]

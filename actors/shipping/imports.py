"""The server's side of modules: imports the client's local ones from the text that it sent."""

import linecache
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.abc import InspectLoader, MetaPathFinder, PathEntryFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location, spec_from_loader
from types import CodeType, ModuleType

from .data import DataHost, PackagePath, PackageReader
from .words import ModuleSource


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
        return self.source.source or ""

    def get_code(self, fullname: str) -> CodeType:
        return compile(
            self.get_source(fullname), self.source.path or "<namespace>", "exec", dont_inherit=True
        )

    def is_package(self, fullname: str) -> bool:
        return self.source.package

    def exec_module(self, module: ModuleType) -> None:
        remember_lines(self.source.path, self.get_source(module.__name__))
        exec(self.get_code(module.__name__), module.__dict__)

    def get_data(self, path: str) -> bytes:
        """For pkgutil.get_data; the path begins with the folder of the module's `__file__`."""
        inside = os.path.relpath(path, os.path.dirname(self.source.path))
        return self._folder.joinpath(inside).read_bytes()

    def get_resource_reader(self, fullname: str) -> PackageReader:
        """For importlib.resources."""
        return PackageReader(self._folder)


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
    if source.source is None:
        folders = source.folders if source.package else None
        is_here = os.path.exists(source.path)
        return (
            spec_from_file_location(source.name, source.path, submodule_search_locations=folders)
            if is_here
            else None
        )
    loader = SourceLoader(source, host)
    spec = spec_from_loader(source.name, loader, origin=source.path or None, is_package=source.package)
    if spec is not None:
        spec.has_location = bool(source.path)  # sets __file__, as the client's has it
    if spec is not None and source.package:
        for folder in source.folders:
            sys.path_importer_cache[folder] = ClientFolder(host, source.name)
        spec.submodule_search_locations = [*source.folders, *_own_portions(source, path)]
    return spec


def _own_portions(source: ModuleSource, path: Sequence[str] | None) -> list[str]:
    """A namespace package may have portions that are installed here."""
    spec = None if source.path else PathFinder.find_spec(source.name, path)
    if spec is None or spec.origin is not None:
        return []
    return [folder for folder in spec.submodule_search_locations or [] if folder not in source.folders]


def remember_lines(file: str, text: str) -> None:
    """Tracebacks show the client's lines; without a time stamp linecache keeps the entry."""
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)

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
from types import CodeType, FrameType, ModuleType
from typing import IO, Any

from msgspec.structs import replace

from .words import CodeBundle, ModuleSource, PackageData

OWN_PACKAGE = __name__.split(".")[0]
NEVER_LOCAL = {OWN_PACKAGE, "__main__", "__mp_main__"}
FOREIGN = ("functools", "importlib", "pkgutil", "runpy")  # importlib.resources dispatches by functools


class ClientModules:
    """The local modules of the client, as far as they came, and the data beside them; hooks imports.

    `get` asks the client for modules or data, and gives the answer to accept().
    """

    def __init__(self, get: Callable[..., None], node: str, client: str, folder: Path) -> None:
        self._get, self._node, self._client, self._folder = get, node, client, folder
        self._sources: dict[str, ModuleSource] = {}
        self._data: dict[tuple[str, str], PackageData] = {}
        self._refused: dict[str, str] = {}  # why
        self._versions: dict[str, str] = {}
        self._local_names: frozenset[str] = frozenset()
        self._knows_client = False
        # The client's local modules win over installed ones of that name; what nobody has is looked for there, too.
        sys.meta_path.insert(0, ClientFinder(self, self._source_of))
        sys.meta_path.append(ClientFinder(self, self._last_source_of))

    def hashes(self) -> set[bytes]:
        return {source.hash for source in self._sources.values()}

    def accept(self, bundle: CodeBundle) -> list[ModuleSource]:
        """Gives those that were reloaded at the client, and are to be here."""
        self._knows_client = self._knows_client or bundle.main_version > 0
        if bundle.main is not None:
            self._local_names = frozenset(bundle.main.local_names) - NEVER_LOCAL
        self._versions.update(bundle.versions)
        self._refused |= {name[:-1]: text for name, text in bundle.errors if name.endswith(".")}
        for found in bundle.data:
            if found.data is not None:
                write_file(self.data_file(found.module, found.path), found.data)
            self._data[found.module, found.path] = replace(found, data=None if found.data is None else b"")
        return [source for source in bundle.modules if self._replaces(source)]

    def _replaces(self, source: ModuleSource) -> bool:
        known = self._sources.get(source.name)
        self._sources[source.name] = source
        self._refused.pop(source.name, None)
        live = sys.modules.get(source.name)
        if live is None or source.source is None:
            return False
        if known is not None and _loader_of(live) is not None:
            self._data = {key: data for key, data in self._data.items() if key[0] != source.name}
            return True
        if not is_standard(source.name) and source.name.split(".")[0] not in NEVER_LOCAL:
            del sys.modules[source.name]  # the client's wins over the installed one
        return False

    def reload(self, source: ModuleSource) -> None:
        if (loader := _loader_of(sys.modules.get(source.name))) is not None:
            loader.reload(source)

    # --- package data ---

    def package_data(self, module: str, path: str) -> PackageData:
        """What the client has there; the bytes lie in `data_file` then. Raises OSError for what does not travel."""
        key = module, path
        if key not in self._data and ".." not in path.split("/"):
            self._get(data=[key])
        found = self._data.get(key) or PackageData(module, path)
        if found.error:
            raise OSError(
                errno.EREMOTE,
                f"this file of {self._client} does not travel: {found.error} "
                "(files named in Client(components=...) lie in the folder above that of the task)",
                f"{module}/{path}",
            )
        return found

    def data_file(self, module: str, path: str) -> Path:
        """Where it lies, or would lie, on this machine."""
        return self._folder / module / path

    def how_to_get(self, file: str, main_file: str) -> str:
        """What to say of a file that was looked for by `__file__`, which leads to the client's folders."""
        paths = {source.path: source.name for source in self._sources.values() if source.path}
        for path, module in (paths | {main_file: "__main__"}).items():
            folder = os.path.dirname(path)
            if path and file.startswith(folder + os.sep):
                known = self._sources.get(module)
                package = module if known is not None and known.package else module.rpartition(".")[0]
                how = (
                    f"importlib.resources.files({package!r}) reads it there"
                    if package
                    else "named in Client(components=...) it comes into the folder above that of the task"
                )
                return f"{folder} is a folder of the client's host, this is {self._node}: {how}"
        return ""

    # --- the import hook asks here ---

    def _source_of(self, name: str) -> ModuleSource | None:
        known = self._sources.get(name)
        if known is None and name not in self._refused:
            top = name.split(".")[0]
            above = self._sources.get(top)
            is_local = top in self._local_names if above is None else above.source is not None
            return self._fetch(name) if is_local else None
        return known

    def _last_source_of(self, name: str) -> ModuleSource | None:
        top = name.split(".")[0]
        if top in NEVER_LOCAL or is_standard(name) or not self._imported_by_client_code():
            return None
        if "." in name and _loader_of(sys.modules.get(top)) is None:
            return None  # part of an installed package: its import tells
        if name not in self._refused and name not in self._sources and self._knows_client:
            source = self._fetch(name)
            if source is not None:
                return source
        raise ModuleNotFoundError(self._why_missing(name), name=name)

    def _fetch(self, name: str) -> ModuleSource | None:
        try:
            self._get(modules=[name])
        except Exception as error:  # the host's: a timeout, a client that is gone
            raise ImportError(
                f"module {name!r} could not be fetched from {self._client}: {error or type(error).__name__}",
                name=name,
            ) from error
        return self._sources.get(name)

    def _why_missing(self, name: str) -> str:
        known = self._sources.get(name)
        if known is not None and known.source is None:
            return (
                f"No module named {name!r} on {self._node}: {known.path} of {self._client} has compiled parts, or no text "
                "that could travel; install it on the nodes"
            )
        version = self._versions.get(name.split(".")[0])
        why = self._refused.get(name) or (f"the client has version {version}" if version else "")
        return f"No module named {name!r} on {self._node}{f': {why}' if why else ''}"

    def _imported_by_client_code(self) -> bool:
        """Whether the client's code imports; libraries try imports that they can do without."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None:
            name = frame.f_globals.get("__name__") or ""
            if name == f"{__package__}.mirror" and frame.f_code.co_name in ("loads", "_set"):
                return True  # a pickle imports
            if name == "__main__" or name in self._sources:
                return True
            is_machinery = "importlib" in frame.f_code.co_filename or name.split(".")[0] in FOREIGN
            if not is_machinery and not name.startswith(f"{OWN_PACKAGE}.actors.shipping."):
                return False
            frame = frame.f_back
        return False


def is_standard(name: str) -> bool:
    return name.split(".")[0] in sys.stdlib_module_names


def write_file(path: Path, data: bytes) -> None:
    """Whole or not at all; servers of one node may write the same file at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    part.write_bytes(data)
    part.replace(path)


def _loader_of(module: ModuleType | None) -> "SourceLoader | None":
    """Of a module that the client sent."""
    loader = getattr(getattr(module, "__spec__", None), "loader", None)
    return loader if isinstance(loader, SourceLoader) else None


class PackagePath(os.PathLike[str]):
    """What importlib.resources.files() gives: a Traversable, and as much like a pathlib.Path as users take it for.

    It is got from the client when it is opened, read, or used as a path.
    """

    def __init__(self, host: ClientModules, module: str, path: str = "") -> None:
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

    def __init__(self, host: ClientModules, find_source: Callable[[str], ModuleSource | None]) -> None:
        self._host = host
        self._find_source = find_source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        source = self._find_source(fullname)
        return None if source is None else spec_of(source, self._host, path)


class SourceLoader(InspectLoader):
    """Makes a module from the text that the client sent; the files beside it are got when they are read."""

    def __init__(self, source: ModuleSource, host: ClientModules) -> None:
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

    def __init__(self, host: ClientModules, package: str) -> None:
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


def spec_of(
    source: ModuleSource, host: ClientModules, path: Sequence[str] | None = None
) -> ModuleSpec | None:
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

"""The client's side of modules: finds its local ones, and reads their text and the data beside them."""

import contextlib
import errno
import os
import site
import sys
import sysconfig
import tokenize
from abc import abstractmethod
from ast import parse
from collections.abc import Iterable
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location
from itertools import islice
from pathlib import Path
from threading import Lock
from types import CodeType, ModuleType
from typing import Any

from .imports import NEVER_LOCAL, ClientFinder, SourceLoader, is_standard
from .statements import Import, hash_of, imports_in
from .words import ModuleSource, PackageData

LOCAL_NAMES_MAX = 4096
MODULE_BYTES_MAX = 16 << 20
DATA_BYTES_MAX = 64 << 20
ENTRIES_MAX = 4096
COMPILED = tuple(EXTENSION_SUFFIXES)
AUTORELOAD = "IPython.extensions.autoreload"


class TextLoader(SourceFileLoader):
    """Of a module whose text is not what its file holds: servers get the text that get_source() gives, too."""

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.get_source(fullname) or "", self.path, "exec", dont_inherit=True)


class TextFinder(MetaPathFinder):
    """In sys.meta_path: it says which of the modules that Python finds are such ones, also those that only servers import."""

    def find_spec(
        self, fullname: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        return spec if spec is not None and self.take(spec) else None

    @abstractmethod
    def take(self, spec: ModuleSpec) -> bool:
        """Give it its TextLoader, if it is one."""


class LocalModules:
    """The client's side. Local is what Python finds outside of the folders that it installs into.

    So the user's own project is local also where it is installed as editable: what is being edited has to travel.
    The text of a loaded module is what was read first, at the snapshot or when first asked, until it is
    reloaded: nearer to the client's live code than the disk. Of one that is not loaded it is the file's.
    """

    def __init__(self) -> None:
        self._installed = _installed_roots()
        self._lock = Lock()
        self._kept: dict[str, tuple[object, int, ModuleSource]] = {}
        self._imports: dict[bytes, list[Import]] = {}
        self._compiled: set[str] = set()
        self._counted = 0
        for name in list(sys.modules):
            self.find(name)

    def names(self) -> list[str]:
        """Top-level modules that an import at the client takes from its own folders (bounded)."""
        found = {name for name in self._kept if "." not in name}
        for folder in _folders_of_imports():
            for entry in _scanned(folder) if self._is_local(folder) else []:
                name = _module_name(entry)
                if name and len(found) < LOCAL_NAMES_MAX and self._is_ours(name, entry.path):
                    found.add(name)
        return sorted(found)

    def find(self, name: str) -> ModuleSource | None:
        """The local module of that name; None when it is installed, built in, or nowhere."""
        if name.split(".")[0] in NEVER_LOCAL:
            return None
        with self._lock:
            module = sys.modules.get(name)
            mark = getattr(module, "__spec__", None) or module  # a reload gives it another spec
            kept = self._kept.get(name)
            if kept is not None and kept[0] is mark and kept[1] == edited_at(name):
                return kept[2]
            spec = _spec_of(name)
            if spec is None or spec.name != name:
                return None
            loader = spec.loader
            source = loader.source if isinstance(loader, SourceLoader) else self._read(spec)
            if source is not None and module is not None:
                self._kept[name] = (mark, edited_at(name), source)
            return source

    def with_needs(self, names: Iterable[str]) -> list[ModuleSource]:
        """Those modules that are local, with their packages and all that they import, packages first."""
        found: dict[str, ModuleSource] = {}
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in found:
                continue
            if "." in name:
                todo.append(name.rpartition(".")[0])
            if (source := self.find(name)) is not None:
                found[name] = source
                todo += self.imported_by(source)
        return [found[name] for name in sorted(found)]

    def imported_by(self, source: ModuleSource) -> list[str]:
        if source.hash not in self._imports:
            try:
                self._imports[source.hash] = imports_in(parse(source.source or ""))
            except (SyntaxError, ValueError):
                self._imports[source.hash] = []  # its import will say so, at the server as here
        package = source.name if source.package else source.name.rpartition(".")[0]
        return candidates(self._imports[source.hash], package)

    def data(self, name: str, path: str) -> PackageData:
        """A file or folder beside the source of a local module."""
        source = self.find(name)
        if source is None:
            return PackageData(name, path, error=self.why_not(name))
        return read_data(source, path)

    def why_not(self, name: str) -> str:
        """What to say about a module that is not sent."""
        top = name.split(".")[0]
        if _spec_of(top) is None and top in sys.modules:
            return f"module {name!r} was made at the client while it ran, and has no file that could travel"
        if _spec_of(top) is None or self.find(top) is not None:
            return f"module {name!r} is not found at the client either"
        version = version_of(name)
        return f"module {name!r} is installed at the client{f' (version {version})' if version else ''}"

    def _read(self, spec: ModuleSpec) -> ModuleSource | None:
        name, origin = spec.name, spec.origin
        package = spec.submodule_search_locations is not None
        folders = list(_path_of(sys.modules.get(name)) or spec.submodule_search_locations or [])
        if package and (origin is None or os.path.isdir(origin)):  # a namespace package
            if folders and not any(map(self._is_local, folders)):
                return None
            digest = hash_of("\0".join([name, *folders]).encode(errors="surrogatepass"))
            return ModuleSource(name, "", True, "", digest, folders)
        if origin is None or not spec.has_location or not self._is_local(origin):
            return None
        text = None if name.split(".")[0] in self._compiled_packages() else _text_of(spec)
        digest = hash_of(f"{origin}\0{package}\0{text}".encode(errors="surrogatepass"))
        return ModuleSource(name, origin, package, text, digest, folders)

    def _compiled_packages(self) -> set[str]:
        """Those of which a compiled part is loaded: half of a package is none, so their other parts do not travel either."""
        if self._counted != len(sys.modules):
            self._counted = len(sys.modules)
            origins = (
                (n, getattr(getattr(m, "__spec__", None), "origin", None))
                for n, m in list(sys.modules.items())
            )
            self._compiled = {n.split(".")[0] for n, origin in origins if str(origin).endswith(COMPILED)}
        return self._compiled

    def _is_local(self, path: str) -> bool:
        if _is_under(path, self._installed) or _is_in_packages(path):
            return False  # most are, and then the file system need not be asked
        real = os.path.realpath(path)
        return not _is_in_packages(real) and not _is_under(real, self._installed)

    def _is_ours(self, name: str, path: str) -> bool:
        if name in NEVER_LOCAL or name in sys.builtin_module_names or not self._is_local(path):
            return False
        if name not in sys.modules and not is_standard(name):
            return True  # what else there may be is found out when it is asked for
        spec = _spec_of(name)
        return spec is not None and spec.has_location and self._is_local(spec.origin or "")


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


def _text_of(spec: ModuleSpec) -> str | None:
    """None for what is compiled or too large."""
    origin = spec.origin or ""
    if os.path.exists(origin) and not isinstance(spec.loader, TextLoader):
        return read_source(origin) if origin.endswith(".py") else None
    get_source = getattr(spec.loader, "get_source", None)  # one in a zip, for instance
    try:
        text = None if get_source is None else get_source(spec.name)
    except (ImportError, SyntaxError, UnicodeDecodeError):
        return None
    return text if isinstance(text, str) else None


def read_source(path: str) -> str | None:
    try:
        if os.path.getsize(path) > MODULE_BYTES_MAX:
            return None
        with tokenize.open(path) as file:
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError):
        return None  # bytecode, a zip, a deleted file: there is no source, and the caller says so


def candidates(imports: Iterable[Import], package: str) -> list[str]:
    """Full names of the modules that these imports may load; `from a import b` may load a.b."""
    found: list[str] = []
    for module, level, names in imports:
        base = module
        if level:
            parts = package.split(".")
            if level > len(parts) or not package:
                continue
            base = ".".join(parts[: len(parts) - level + 1] + ([module] if module else []))
        found += [base, *(f"{base}.{name}" for name in names if name != "*")]
    return found


def edited_at(name: str) -> int:
    """When its file was, if IPython's %autoreload brings each edit into the live module, whose spec stays; else 0."""
    file = getattr(sys.modules.get(name), "__file__", None) if AUTORELOAD in sys.modules else None
    try:
        return os.stat(file).st_mtime_ns if isinstance(file, str) else 0
    except OSError:
        return 0


def version_of(name: str) -> str | None:
    version = getattr(sys.modules.get(name.split(".")[0]), "__version__", None)
    return version if isinstance(version, str) else None


def _spec_of(name: str) -> ModuleSpec | None:
    """As importlib.util.find_spec, but a parent package is not executed."""
    module = sys.modules.get(name)
    if module is not None:
        return _spec_of_loaded(name, module)
    parent = name.rpartition(".")[0]
    if not parent:
        return _found(name, None)
    path = _path_of(sys.modules.get(parent))
    if path is None and (above := _spec_of(parent)) is not None:
        path = above.submodule_search_locations
    return None if path is None else _found(name, list(path))


def _spec_of_loaded(name: str, module: ModuleType) -> ModuleSpec | None:
    spec = getattr(module, "__spec__", None)
    if isinstance(spec, ModuleSpec):
        return spec
    file, path = _own(module, "__file__"), _path_of(module)
    if isinstance(file, str):
        return spec_from_file_location(name, file, submodule_search_locations=path)
    holds = any(other.startswith(f"{name}.") for other in list(sys.modules))
    # So pytest makes parents of test modules.
    return ModuleSpec(name, None, is_package=True) if holds else None


def _own(module: ModuleType | None, name: str) -> object:
    """Some make up every attribute that they are asked for."""
    return vars(module).get(name) if isinstance(module, ModuleType) else None


def _path_of(module: ModuleType | None) -> list[str] | None:
    path = _own(module, "__path__")
    return list(path) if isinstance(path, Iterable) else None


def _found(name: str, path: list[str] | None) -> ModuleSpec | None:
    spec = PathFinder.find_spec(name) if path is None else _found_along(name, path)
    if spec is not None or is_standard(name):
        for finder in sys.meta_path:
            if isinstance(finder, TextFinder) and spec is not None:
                finder.take(spec)
        return spec
    for finder in sys.meta_path:  # those of editable installs, for one
        if finder is PathFinder or isinstance(finder, ClientFinder):
            continue
        find_spec = getattr(finder, "find_spec", None)
        try:
            spec = find_spec(name, path) if find_spec is not None else None
        except ModuleNotFoundError:  # it refuses what nobody else may have
            return None
        if isinstance(spec, ModuleSpec):
            return spec
    return None


def _found_along(name: str, path: list[str]) -> ModuleSpec | None:
    """As PathFinder, which looks into sys.modules for the parent of a namespace package."""
    from pkgutil import get_importer  # most programs need no more than what is loaded

    portions: list[str] = []
    for folder in path:
        finder = get_importer(folder)
        spec = finder.find_spec(name) if finder is not None else None
        if spec is not None and spec.loader is not None:
            return spec
        portions += (spec and spec.submodule_search_locations) or []
    spec = ModuleSpec(name, None, is_package=True)
    spec.submodule_search_locations = portions
    return spec if portions else None


def _folders_of_imports() -> set[str]:
    folders = set()
    for path in sys.path:
        with contextlib.suppress(FileNotFoundError):  # a relative one, and the working folder is gone
            if isinstance(path, str):
                folders.add(os.path.realpath(path or os.curdir))
    return folders


def _installed_roots() -> list[str]:
    paths = [sysconfig.get_path(which) for which in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths += [*site.getsitepackages(), site.getusersitepackages()]
    return list(dict.fromkeys(os.path.realpath(path) for path in paths))


def _is_under(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _is_in_packages(path: str) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(path.split(os.sep))


def _scanned(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as found:
            return list(islice(found, 4 * LOCAL_NAMES_MAX))
    except OSError:
        return []  # a PYTHONPATH entry that is not there, as Python itself ignores it


def _module_name(entry: os.DirEntry[str]) -> str | None:
    stem, suffix = os.path.splitext(entry.name)
    if suffix == ".py" and stem.isidentifier() and stem != "__init__":
        return stem
    is_package = entry.name.isidentifier() and os.path.exists(os.path.join(entry.path, "__init__.py"))
    return entry.name if is_package else None

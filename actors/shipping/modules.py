"""Finds the client's local modules and reads their text; imports them at the server from that text."""

import linecache
import os
import site
import sys
import sysconfig
import tokenize
from ast import parse
from collections.abc import Iterable, Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_loader
from itertools import islice
from threading import Lock
from types import CodeType, ModuleType
from typing import Protocol

from .statements import Import, hash_of, imports_in
from .words import ModuleSource

LOCAL_NAMES_MAX = 4096
MODULE_BYTES_MAX = 16 << 20
OWN_PACKAGE = __name__.split(".")[0]
NEVER_LOCAL = {OWN_PACKAGE, "__main__", "__mp_main__"}


class LocalModules:
    """The client's side. Local: under the script's folder, cwd or PYTHONPATH, not installed.

    The text of a loaded module is what was read first, at the snapshot or when first asked, until it is
    reloaded: nearer to the client's live code than the disk. Of one that is not loaded it is the file's.
    """

    def __init__(self, script_folder: str | None) -> None:
        self._roots = _local_roots(script_folder)
        self._installed = _installed_roots()
        self._lock = Lock()
        self._kept: dict[str, tuple[object, ModuleSource]] = {}
        self._imports: dict[bytes, list[Import]] = {}
        for name in list(sys.modules):
            self.find(name)

    def names(self) -> list[str]:
        """Top-level modules that an import at the client takes from its own folders (bounded)."""
        found: set[str] = set()
        for folder in {os.path.realpath(path or os.curdir) for path in sys.path}:
            for entry in _entries(folder) if self._is_local(folder) else []:
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
            spec = getattr(module, "__spec__", None)
            if not isinstance(spec, ModuleSpec):
                spec = None if module is not None else _spec_without_importing(name)
            if spec is None or spec.name != name:
                return None
            kept = self._kept.get(name)
            if kept is not None and kept[0] is spec:
                return kept[1]
            loader = spec.loader
            source = loader.source if isinstance(loader, SourceLoader) else self._read(spec)
            if source is not None and module is not None:
                self._kept[name] = (spec, source)
            return source

    def with_needs(self, names: Iterable[str]) -> list[ModuleSource]:
        """Those modules that are local, with their packages and all that they import, packages first."""
        found: dict[str, ModuleSource] = {}
        todo = list(names)
        while todo:
            name = todo.pop()
            if name in found or (source := self.find(name)) is None:
                continue
            found[name] = source
            if "." in name:
                todo.append(name.rpartition(".")[0])
            todo += self.imported_by(source)
        return [found[name] for name in sorted(found)]

    def imported_by(self, source: ModuleSource) -> list[str]:
        if source.hash not in self._imports:
            try:
                self._imports[source.hash] = imports_in(parse(source.source))
            except (SyntaxError, ValueError):
                self._imports[source.hash] = []  # its import will say so, at the server as here
        package = source.name if source.package else source.name.rpartition(".")[0]
        return candidates(self._imports[source.hash], package)

    def why_not(self, name: str) -> str:
        """What to say about a module that is not sent."""
        top = sys.modules.get(name.split(".")[0])
        if top is None and _spec_without_importing(name.split(".")[0]) is None:
            return f"module {name!r} is not found at the client either"
        version = version_of(name)
        return f"module {name!r} is installed at the client{f' (version {version})' if version else ''}"

    def _read(self, spec: ModuleSpec) -> ModuleSource | None:
        if spec.origin is None:
            paths = list(spec.submodule_search_locations or [])  # a namespace package
            if not paths or not all(self._is_local(path) for path in paths):
                return None
            return ModuleSource(spec.name, "", True, "", hash_of(b"namespace"))
        if not spec.origin.endswith(".py") or not self._is_local(spec.origin):
            return None
        text = read_source(spec.origin)
        if text is None:
            return None
        package = spec.submodule_search_locations is not None
        digest = hash_of(f"{spec.origin}\0{package}\0{text}".encode())
        return ModuleSource(spec.name, spec.origin, package, text, digest)

    def _is_local(self, path: str) -> bool:
        if _is_under(path, self._installed) or _is_in_packages(path):
            return False  # most are, and then the file system need not be asked
        real = os.path.realpath(path)
        if _is_in_packages(real):
            return False
        return _is_under(real, self._roots) and not _is_under(real, self._installed)

    def _is_ours(self, name: str, path: str) -> bool:
        if name in NEVER_LOCAL or name in sys.builtin_module_names or not self._is_local(path):
            return False
        loaded = sys.modules.get(name)
        if loaded is None:
            return True
        origin = getattr(loaded, "__file__", None)
        return origin is not None and self._is_local(origin)


class ModuleHost(Protocol):
    """What the import hook wants of the mirror."""

    def source_of(self, name: str) -> ModuleSource | None:
        """The module's source, fetched if the client may have it; None leaves the import to the others."""

    def last_source_of(self, name: str) -> ModuleSource | None:
        """The same when nobody else has it; says in an ImportError where it is missing."""


class FirstFinder(MetaPathFinder):
    """Before all others: the client's local modules win over installed ones of that name."""

    def __init__(self, host: ModuleHost) -> None:
        self._host = host

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        source = self._host.source_of(fullname)
        return None if source is None else spec_of(source)


class LastFinder(MetaPathFinder):
    """After all others: modules that the client did not announce, and words for what nobody has."""

    def __init__(self, host: ModuleHost) -> None:
        self._host = host

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        source = self._host.last_source_of(fullname)
        return None if source is None else spec_of(source)


class SourceLoader(InspectLoader):
    """Makes a module from the text that the client sent."""

    def __init__(self, source: ModuleSource) -> None:
        self.source = source

    def get_source(self, fullname: str) -> str:
        return self.source.source

    def get_code(self, fullname: str) -> CodeType:
        return compile(self.source.source, self.source.path or "<namespace>", "exec", dont_inherit=True)

    def is_package(self, fullname: str) -> bool:
        return self.source.package

    def exec_module(self, module: ModuleType) -> None:
        remember_lines(self.source.path, self.source.source)
        exec(self.get_code(module.__name__), module.__dict__)


def spec_of(source: ModuleSource) -> ModuleSpec | None:
    spec = spec_from_loader(source.name, SourceLoader(source), origin=source.path, is_package=source.package)
    if spec is not None:
        spec.has_location = bool(source.path)  # sets __file__, as the client's has it
    return spec


def remember_lines(file: str, text: str) -> None:
    """Tracebacks show the client's lines; without a time stamp linecache keeps the entry."""
    linecache.cache[file] = (len(text), None, text.splitlines(keepends=True), file)


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


def version_of(name: str) -> str | None:
    version = getattr(sys.modules.get(name.split(".")[0]), "__version__", None)
    return version if isinstance(version, str) else None


def is_standard(name: str) -> bool:
    return name.split(".")[0] in sys.stdlib_module_names


def _spec_without_importing(name: str) -> ModuleSpec | None:
    """As importlib.util.find_spec, but a parent package is not executed."""
    path: list[str] | None = None
    spec: ModuleSpec | None = None
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        if end > 1 and path is None:
            return None
        spec = PathFinder.find_spec(".".join(parts[:end]), path)
        if spec is None:
            return None
        locations = spec.submodule_search_locations
        path = None if locations is None else list(locations)
    return spec


def _local_roots(script_folder: str | None) -> list[str]:
    listed = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    roots = [script_folder or "", os.getcwd(), *(p for p in listed if p)]
    return list(dict.fromkeys(os.path.realpath(root) for root in roots if root))


def _installed_roots() -> list[str]:
    paths = [sysconfig.get_path(which) for which in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths += [*site.getsitepackages(), site.getusersitepackages()]
    return list(dict.fromkeys(os.path.realpath(path) for path in paths))


def _is_under(path: str, roots: Iterable[str]) -> bool:
    return any(path == root or path.startswith(root.rstrip(os.sep) + os.sep) for root in roots)


def _is_in_packages(path: str) -> bool:
    return not {"site-packages", "dist-packages"}.isdisjoint(path.split(os.sep))


def _entries(folder: str) -> list[os.DirEntry[str]]:
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

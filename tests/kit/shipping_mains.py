"""Client programs made in the test's own process: a `__main__` from a text, and its snapshot."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from types import ModuleType

from dispycos.actors.shipping.imports import ClientFolder, SourceLoader
from dispycos.actors.shipping.snapshot import Snapshot


@contextmanager
def main_of(folder: Path, text: str) -> Iterator[tuple[ModuleType, Snapshot]]:
    """The text is executed as the script folder/script.py; `__main__` is given back at the end."""
    main = ModuleType("__main__")
    script = folder / "script.py"
    script.write_text(dedent(text))
    main.__file__ = str(script)
    replaced = sys.modules["__main__"]
    sys.modules["__main__"] = main
    try:
        exec(compile(script.read_text(), str(script), "exec", dont_inherit=True), vars(main))
        yield main, Snapshot(main)
    finally:
        sys.modules["__main__"] = replaced


@contextmanager
def given_back() -> Iterator[None]:
    """What a mirror takes over: `__main__`, the command line, imports."""
    kept = sys.modules["__main__"], sys.argv, sys.meta_path[:]
    try:
        yield
    finally:
        sys.modules["__main__"], sys.argv, sys.meta_path[:] = kept
        for name, module in list(sys.modules.items()):
            if isinstance(getattr(getattr(module, "__spec__", None), "loader", None), SourceLoader):
                del sys.modules[name]
        for path, finder in list(sys.path_importer_cache.items()):
            if isinstance(finder, ClientFolder):
                del sys.path_importer_cache[path]

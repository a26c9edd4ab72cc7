"""Package data are read at the client, and look at a server as they look there."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from dispycos.actors.shipping import modules
from dispycos.actors.shipping.imports import PackagePath
from dispycos.actors.shipping.mirror import Mirror
from dispycos.actors.shipping.modules import read_data
from dispycos.actors.shipping.words import CodeBundle, CodeRequest, MainInfo, ModuleSource, PackageData
from tests.kit.shipping_mains import given_back
from tests.kit.shipping_scripts import run_python, write_files

FILES = {
    "pack/words.txt": "hello",
    "pack/deep/er/more.json": "[1]",
    "pack/plugins/__init__.py": "",
    "pack/plugins/first.py": "",
    "pack/plugins/second/__init__.py": "",
    "pack/plugins/no_package/x.txt": "",
    "space/words.txt": "open",
    "top.py": """
        import pkgutil
        TEXT = pkgutil.get_data(__name__, "beside.txt")
    """,
    "beside.txt": "beside",
    "pack/__init__.py": """
        import importlib.resources, pkgutil
        from . import plugins
        AT_IMPORT = pkgutil.get_data(__name__, "deep/er/more.json"), importlib.resources.files(__name__).name
        PLUGINS = [(found.name, found.ispkg) for found in pkgutil.iter_modules(plugins.__path__)]
    """,
    "pack/reads.py": """
        import importlib, pkgutil
        from importlib import resources
        from pathlib import Path

        def at_import():
            import pack, top
            return pack.AT_IMPORT, pack.PLUGINS, top.TEXT

        def of_itself():
            return pkgutil.get_data(__name__, "words.txt")

        def texts():
            words = resources.files("pack") / "words.txt"
            with words.open("rb") as opened:
                return words.read_text(encoding="utf-8"), opened.read(), resources.files("space").joinpath("words.txt").read_bytes()

        def above():
            return (resources.files("pack.plugins") / ".." / "words.txt").read_text(), resources.files("pack.plugins").parent.name

        def listed():
            def walk(folder):
                for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
                    yield entry.name, entry.is_file()
                    if entry.is_dir():
                        yield from walk(entry)
            return [found for found in walk(resources.files("pack")) if "__pycache__" not in found[0] and ".pyc" not in found[0]]

        def kinds():
            folder = resources.files("pack")
            paths = [folder, folder / "deep", folder / "words.txt", folder / "nothing", folder / "deep" / "er" / "more.json"]
            return [(path.name, path.is_dir(), path.is_file(), path.exists()) for path in paths]

        def as_files():
            pack = resources.files("pack")
            with resources.as_file(pack / "deep") as folder, resources.as_file(pack / "words.txt") as file:
                return sorted(path.name for path in folder.rglob("*")), file.read_text(), isinstance(file, Path)

        def as_paths():
            words, deep = resources.files("pack") / "words.txt", resources.files("pack") / "deep"
            return open(words).read(), open(str(words)).read(), words.suffix, [p.name for p in deep.glob("*/*")]

        def modules():
            plugins = importlib.import_module("pack.plugins")
            found = [module.name for module in pkgutil.walk_packages(plugins.__path__, "pack.plugins.")]
            return [importlib.import_module(name).__name__ for name in found]
    """,
    "script.py": """
        import pack.reads
        from shipping_client import Remote

        with Remote() as remote:
            for name, function in list(vars(pack.reads).items()):
                if getattr(function, "__module__", "") == "pack.reads":
                    assert remote.call(function) == function(), (name, remote.call(function), function())
                    print(name)
    """,
}  # fmt: skip


def test_what_a_package_reads_of_itself_is_the_same_at_both_ends(tmp_path: Path) -> None:
    said = run_python(tmp_path, "-B", "script.py", files=FILES).split()
    assert said == [
        "at_import",
        "of_itself",
        "texts",
        "above",
        "listed",
        "kinds",
        "as_files",
        "as_paths",
        "modules",
    ]


def source_at(folder: Path) -> ModuleSource:
    return ModuleSource("pack", f"{folder}/pack/__init__.py", True, "", b"", [f"{folder}/pack"])


def test_a_path_leads_to_a_file_a_folder_or_nothing(tmp_path: Path) -> None:
    write_files(tmp_path, FILES)
    source = source_at(tmp_path)
    assert read_data(source, "words.txt") == PackageData("pack", "words.txt", b"hello")
    assert read_data(source, "deep") == PackageData("pack", "deep", entries=["er/"])
    for path in ("nothing", "words.txt/nothing"):
        assert read_data(source, path) == PackageData("pack", path)


def test_a_module_in_no_folder_says_so() -> None:
    assert (
        "is in no folder there, but in /x.zip/pack" in read_data(source_at(Path("/x.zip")), "words.txt").error
    )


def test_what_is_too_much_is_said_and_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, FILES)
    monkeypatch.setattr(modules, "DATA_BYTES_MAX", 4)
    monkeypatch.setattr(modules, "ENTRIES_MAX", 1)
    assert "it has 5 bytes, more than the 4 that travel" in read_data(source_at(tmp_path), "words.txt").error
    assert "more than 1 entries" in read_data(source_at(tmp_path), "").error


class Host:
    """A client with one file of one package."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def package_data(self, module: str, path: str) -> PackageData:
        return PackageData(module, path, entries=["a.txt"] if path == "" else None)

    def data_file(self, module: str, path: str) -> Path:
        return self.folder / module / path


@pytest.fixture
def path(tmp_path: Path) -> Iterator[PackagePath]:
    yield PackagePath(cast(Any, Host(tmp_path)), "pack.inner")


def test_paths_are_joined_as_files_are(path: PackagePath) -> None:
    assert path / "a" / "b" == path.joinpath("a/b") == path.joinpath("a", "x", "..", "b", ".")
    assert path.parent == path / "a" / ".." / ".." and path.parent.name == "pack" and path.name == "inner"
    assert (
        len({path, path / "a", path.joinpath("a")}) == 2
        and repr(path / "a") == "PackagePath('pack.inner', 'a')"
    )


def test_what_is_not_there_is_no_file_and_says_where_it_was_looked_for(path: PackagePath) -> None:
    for nothing in (path / "nothing", path.parent.parent / "above.txt"):
        assert not nothing.exists() and str(nothing)
        with pytest.raises(FileNotFoundError, match=r"no such file of pack.* at the client"):
            nothing.read_text()
    with pytest.raises(FileNotFoundError):
        list((path / "nothing").iterdir())


@pytest.mark.parametrize(
    ("file", "remedy"),
    [
        (
            "/client/pack/words.txt",
            r"/client/pack is a folder of the client's host, this is node4: importlib.resources.files\('pack'\)",
        ),
        (
            "/client/table.csv",
            r"/client is a folder of the client's host, this is node4: named in Client\(components=",
        ),
        ("/elsewhere/words.txt", None),
    ],
)
def test_a_file_that_was_looked_for_beside_the_code_says_how_to_get_it(file: str, remedy: str | None) -> None:
    source = ModuleSource("pack.reads", "/client/pack/reads.py", False, "", b"1")
    error = FileNotFoundError(2, "No such file or directory", file)
    with given_back():
        mirror = Mirror(node="node4", client="laptop")
        mirror.install(CodeBundle(modules=[source], main_version=1, main=MainInfo(file="/client/script.py")))
        mirror.explain(error)
        mirror.explain(ValueError())
    notes = getattr(error, "__notes__", [])
    assert re.match(remedy, *notes) if remedy else notes == []


def test_a_server_tells_how_else_a_file_may_come(tmp_path: Path) -> None:
    def pull(request: CodeRequest) -> CodeBundle:
        refused = [PackageData(module, path, error="it is too large") for module, path in request.data]
        return CodeBundle(1, data=refused)

    with given_back():
        mirror = Mirror(pull, client="laptop", folder=tmp_path)
        with pytest.raises(
            OSError, match=r"this file of laptop does not travel: it is too large .*components=.*pack/big"
        ):
            PackagePath(mirror.modules, "pack", "big").read_bytes()

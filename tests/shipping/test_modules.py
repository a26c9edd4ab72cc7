"""Which modules are local, what of them is sent, and how imports are resolved without executing anything."""

import os
import sys
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

from dispycos.actors.shipping.modules import AUTORELOAD, LocalModules, candidates, edited_at
from dispycos.actors.shipping.statements import Import
from tests.kit.shipping_scripts import write_files

FILES = {
    "alpha_x/__init__.py": "",
    "alpha_x/one.py": "from . import two\nimport json, os.path\n",
    "alpha_x/two.py": "def f():\n    import beta_x\n",
    "beta_x.py": "value = 1\n",
    "space_x/inner.py": "",
    "notes.txt": "",
    "site-packages/gamma_x.py": "",
}


@pytest.fixture
def local(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LocalModules:
    write_files(tmp_path, FILES)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    return LocalModules()


def test_modules_of_the_scripts_folder_are_local_and_installed_ones_are_not(local: LocalModules) -> None:
    assert {"alpha_x", "beta_x"} <= set(local.names())
    assert not {"gamma_x", "notes", "json", "dispycos", "__init__"} & set(local.names())
    assert local.find("beta_x") and not local.find("gamma_x")
    assert not local.find("json") and not local.find("msgspec") and not local.find("dispycos.actors")


def test_a_module_comes_with_its_packages_and_its_imports_and_none_is_executed(local: LocalModules) -> None:
    sent = local.with_needs(["alpha_x.one", "json", "nowhere_x"])
    assert [source.name for source in sent] == ["alpha_x", "alpha_x.one", "alpha_x.two", "beta_x"]
    assert [source.package for source in sent] == [True, False, False, False]
    assert not {"alpha_x", "beta_x"} & set(sys.modules)


def test_a_namespace_package_is_sent_as_an_empty_one(local: LocalModules) -> None:
    names = [(source.name, source.package) for source in local.with_needs(["space_x.inner"])]
    assert names == [("space_x", True), ("space_x.inner", False)]


def test_what_python_finds_in_any_other_folder_is_local_too(
    local: LocalModules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(
        tmp_path, {"elsewhere/src/delta_x.py": "", "elsewhere/src/queue.py": "", "gone/epsilon_x.py": ""}
    )
    for folder in ("elsewhere/src", "gone"):
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / folder)])
    assert {"delta_x", "epsilon_x"} <= set(LocalModules().names()) and local.find("delta_x")
    assert "queue" not in LocalModules().names() and not local.find("queue")  # the standard one comes first


def test_a_module_in_an_archive_is_read_there(
    local: LocalModules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("packed_x.py", "value = 5\n")
    monkeypatch.syspath_prepend(str(tmp_path / "packed.zip"))
    found = local.find("packed_x")
    assert found and found.source == "value = 5\n"


def test_namespace_packages_inside_others_are_told_apart(
    local: LocalModules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_files(tmp_path, {"space_x/in_x/deep.py": "", "other/space_x/in_x/also.py": ""})
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path / "other")])
    sent = {source.name: source for source in local.with_needs(["space_x.in_x.deep", "space_x.in_x.also"])}
    assert list(sent) == ["space_x", "space_x.in_x", "space_x.in_x.also", "space_x.in_x.deep"]
    assert sent["space_x.in_x"].folders == [f"{tmp_path}/space_x/in_x", f"{tmp_path}/other/space_x/in_x"]
    assert sent["space_x"].hash != sent["space_x.in_x"].hash


def test_a_package_with_compiled_parts_is_named_by_its_place_only(
    local: LocalModules, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = ModuleType("alpha_x.fast")
    compiled.__spec__ = ModuleSpec("alpha_x.fast", None, origin="/x/alpha_x/fast" + EXTENSION_SUFFIXES[0])
    assert [source.source is None for source in local.with_needs(["alpha_x.one"])] == [False] * 4
    monkeypatch.setitem(sys.modules, "alpha_x.fast", compiled)
    sent = {
        source.name: source.source is None for source in LocalModules().with_needs(["alpha_x.one", "beta_x"])
    }
    assert sent == {"alpha_x": True, "alpha_x.one": True, "beta_x": False}


def test_modules_that_were_loaded_without_a_spec_are_found_by_their_file(
    local: LocalModules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So do old loaders; and pytest makes empty parents of what is in no package."""
    loaded, parent = ModuleType("made_x.test_x"), ModuleType("made_x")
    loaded.__file__ = str(tmp_path / "beta_x.py")
    for module in (loaded, parent, ModuleType("nothing_x")):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    sent = local.with_needs(["made_x.test_x", "nothing_x"])
    assert [(source.name, source.source) for source in sent] == [
        ("made_x", ""),
        ("made_x.test_x", "value = 1\n"),
    ]
    assert "was made at the client while it ran" in local.why_not("nothing_x")


def test_modules_that_make_up_their_attributes_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Magic(ModuleType):
        __file__ = "_magic.py"

        def __getattr__(self, name: str) -> object:
            raise RuntimeError(f"there is no {name} in the library")

    monkeypatch.setitem(sys.modules, "magic_x", Magic("magic_x"))
    assert LocalModules().find("magic_x") is None


def test_only_what_is_installed_is_called_so(local: LocalModules) -> None:
    assert "is installed at the client" in local.why_not("gamma_x")
    for name in ("nowhere_x", "alpha_x.nothing"):
        assert local.why_not(name) == f"module {name!r} is not found at the client either"


def test_an_edit_is_another_hash_unless_the_module_runs(local: LocalModules, tmp_path: Path) -> None:
    before = local.find("beta_x")
    (tmp_path / "beta_x.py").write_text("value = 22\n")
    after = local.find("beta_x")
    assert before and after and before.hash != after.hash
    __import__("beta_x")
    try:
        kept = local.find("beta_x")
        (tmp_path / "beta_x.py").write_text("value = 333\n")
        assert local.find("beta_x") == kept == after
    finally:
        del sys.modules["beta_x"]


def test_an_edit_that_autoreload_brings_into_the_live_module_counts(
    local: LocalModules, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It changes functions where they are, and the module keeps its spec."""
    monkeypatch.setitem(sys.modules, AUTORELOAD, ModuleType(AUTORELOAD))
    __import__("beta_x")
    try:
        kept, before = local.find("beta_x"), edited_at("beta_x")
        assert local.find("beta_x") is kept
        (tmp_path / "beta_x.py").write_text("value = 333\n")
        os.utime(tmp_path / "beta_x.py", ns=(before + 1, before + 1))
        after = local.find("beta_x")
        assert kept and after and kept.hash != after.hash
    finally:
        del sys.modules["beta_x"]


def test_relative_imports_are_resolved_and_those_above_the_top_are_left_to_fail() -> None:
    imports = [
        Import("", 1, ("a",)),
        Import("b", 2, ("c",)),
        Import("d.e", 0, ("f", "*")),
        Import("g", 9, ()),
    ]
    assert candidates(imports, "p.q") == ["p.q", "p.q.a", "p.b", "p.b.c", "d.e", "d.e.f"]
    assert candidates([Import("b", 1, ())], "") == []

"""Which modules are local, what of them is sent, and how imports are resolved without executing anything."""

import sys
from pathlib import Path

import pytest

from dispycos.actors.shipping.modules import LocalModules, candidates
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


def test_relative_imports_are_resolved_and_those_above_the_top_are_left_to_fail() -> None:
    imports = [
        Import("", 1, ("a",)),
        Import("b", 2, ("c",)),
        Import("d.e", 0, ("f", "*")),
        Import("g", 9, ()),
    ]
    assert candidates(imports, "p.q") == ["p.q", "p.q.a", "p.b", "p.b.c", "d.e", "d.e.f"]
    assert candidates([Import("b", 1, ())], "") == []

"""The files of the page: those that are there at the start, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from dispycos.actors.web import static
from dispycos.actors.web.answers import Refusal
from dispycos.actors.web.static import Folder, NoPage


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "page"
    (root / "img").mkdir(parents=True)
    for name in ("index.html", "app.js", "img/a.svg", ".secret", "data.unknown"):
        (root / name).write_text(name)
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("x")
    (tmp_path / "outside.txt").write_text("x")
    return root


def test_files_have_their_types(root: Path) -> None:
    folder = Folder(root)
    for name, kind in [
        ("index.html", "text/html; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("img/a.svg", "image/svg+xml"),
        ("data.unknown", "application/octet-stream"),
    ]:
        answer = folder.answer(name)
        assert (answer.headers["content-type"], answer.body) == (kind, name.encode())


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "../outside.txt", "img/../index.html", ".secret", ".git/config", "img", "/index.html"],
)
def test_what_was_not_listed_is_not_there(root: Path, name: str) -> None:
    with pytest.raises(Refusal, match="no such file"):
        Folder(root).answer(name)


def test_a_file_that_came_later_is_not_served_and_one_that_has_gone_is_named(root: Path) -> None:
    folder = Folder(root)
    (root / "later.js").write_text("x")
    (root / "app.js").unlink()

    with pytest.raises(Refusal, match="no such file"):
        folder.answer("later.js")
    with pytest.raises(Refusal, match=r"app\.js: No such file"):
        folder.answer("app.js")


def test_bounds(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(static, "SIZE_MAX", 5)
    with pytest.raises(Refusal, match="more than 5 bytes"):
        Folder(root).answer("index.html")
    monkeypatch.setattr(static, "FILES_MAX", 2)
    with pytest.raises(NoPage, match="more than 2 files"):
        Folder(root)

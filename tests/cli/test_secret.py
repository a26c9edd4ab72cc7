"""`dispycos secret`: from one host to the other, without a secret ever being lost or seen."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from dispycos.cli.main import run
from dispycos.transport.secret import Secret, SecretError

PASSPHRASE = "correct horse battery staple"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [n for n in os.environ if n.startswith(("DISPYCOS_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def own(home: Path) -> Path:
    return home / ".config/dispycos/secret"


def typed(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """At standard input, as a file descriptor."""
    reader, writer = os.pipe()
    os.write(writer, text.encode())
    os.close(writer)
    os.dup2(reader, 0)
    os.close(reader)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(os.fdopen(0, "rb", closefd=False)))


@pytest.fixture(autouse=True)
def keep_stdin() -> object:
    kept = os.dup(0)
    yield
    os.dup2(kept, 0)
    os.close(kept)


def test_a_secret_travels_by_a_file_that_nobody_else_can_read(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["secret", "export", "out"]) == 0
    assert Path("out").stat().st_mode & 0o777 == 0o600
    first = Secret.load_or_make().data
    own(home).unlink()
    assert run(["secret", "import", "out"]) == 0
    assert own(home).stat().st_mode & 0o777 == 0o600
    assert Secret.load_or_make().data == first
    out, err = capfd.readouterr()
    assert first.hex() not in out + err and "dispycos secret import out" in out


@pytest.mark.parametrize("words", [["export"], ["export", "-"], ["show"]])
def test_without_a_file_it_is_printed_alone(words: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["secret", *words]) == 0
    assert capfd.readouterr().out == Secret.load_or_make().text + "\n"


@pytest.mark.parametrize("words", [[], ["-"]])
def test_import_takes_a_secret_or_a_passphrase_from_standard_input(
    home: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    typed(monkeypatch, PASSPHRASE + "\n")
    assert run(["secret", "import", *words]) == 0
    assert own(home).read_text().strip() == Secret.load_or_make(passphrase=PASSPHRASE).text
    assert PASSPHRASE not in own(home).read_text(), "what it comes to is as good, and short"


def test_another_secret_is_overwritten_with_force_only(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("new").write_text("ab" * 32)
    before = Secret.load_or_make().text
    assert run(["secret", "import", "new"]) == 1
    assert "holds something else\n--force overwrites it" in capfd.readouterr().err
    assert Secret.load_or_make().text == before
    assert run(["secret", "import", "--force", "new"]) == 0
    assert Secret.load_or_make().text == "ab" * 32
    assert run(["secret", "import", "new"]) == 0, "the same once more is no loss"
    assert "this very secret already" in capfd.readouterr().out
    Path("out").write_text("somebody's")
    assert run(["secret", "export", "out"]) == 1 and Path("out").read_text() == "somebody's"
    assert run(["secret", "export", "out", "--force"]) == 0 and Path("out").read_text() == "ab" * 32 + "\n"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "holds no secret"),
        (bytes(range(256)), "holds no secret"),
        (b"two lines of\na text that is long", "holds no secret"),
        (b"x" * 5000, "holds no secret"),
        (b"short", "5 characters, which is too easy to guess"),
        (None, "cannot be read: No such file"),
    ],
)
def test_what_holds_no_secret_is_said_and_changes_nothing(
    home: Path, content: bytes | None, complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        Path("new").write_bytes(content)
    assert run(["secret", "import", "new"]) == 1
    err = capfd.readouterr().err
    assert "new" in err and complaint in err and len(err.splitlines()) == 2
    assert not own(home).exists()


def test_a_source_that_others_can_read_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    Path("new").write_text("ab" * 32)
    Path("new").chmod(0o644)
    assert run(["secret", "import", "new"]) == 0
    assert "others can read new: remove it" in capfd.readouterr().err


def test_an_import_that_cannot_be_written_leaves_nothing_behind(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    Path("new").write_text("ab" * 32)
    Path("in-the-way").write_text("")
    assert run(["secret", "import", "new", "--secret_file", "in-the-way/secret"]) == 1
    assert "in-the-way/secret cannot be written: " in capfd.readouterr().err
    assert sorted(path.name for path in home.iterdir()) == ["in-the-way", "new"]


def test_a_group_secret_may_be_read_by_its_group_and_by_nobody_else(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shared = Path("shared")
    shared.write_text("ab" * 32)
    if os.getuid() == 0:
        os.chown(shared, 65534, -1)
        monkeypatch.setattr(os, "getuid", lambda: 65534)  # of root's any may be read by its group
    shared.chmod(0o640)
    assert run(["secret", "show", "--secret_file", "shared"]) == 1
    assert run(["secret", "show", "--group_secret", "shared"]) == 0
    monkeypatch.setenv("DISPYCOS_GROUP_SECRET", "shared")
    assert Secret.load_or_make().text == "ab" * 32, "a program's, too"
    capfd.readouterr()
    for mode in (0o644, 0o660):
        shared.chmod(mode)
        with pytest.raises(SecretError, match=f"read or changed by others .mode {mode:o}") as caught:
            Secret.load_or_make()
        assert caught.value.remedy == "chmod 640 shared"


def test_two_ways_to_a_secret_are_refused(capfd: pytest.CaptureFixture[str]) -> None:
    for command in ("node", "scheduler", "status", "secret show"):
        assert run([*command.split(), "--secret_file", "a", "--group_secret", "b"]) == 2
        assert "--secret_file and --group_secret are both given" in capfd.readouterr().err

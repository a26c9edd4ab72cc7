"""The folder that tasks run in, and what is said of files that are not there or go with it."""

from __future__ import annotations

import os
import subprocess
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dispycos.actors.tasks.files.landing import Landing
from dispycos.actors.tasks.files.receiving import Delivery
from dispycos.actors.tasks.working import COUNTED_MAX, NAMED_MAX, WorkingFolder, leftovers
from dispycos.protocol.status import FileState


@pytest.fixture
def server(tmp_path: Path) -> Iterator[WorkingFolder]:
    """A server's folder below that of the components; the program runs beside both."""
    before = os.getcwd()
    own = tmp_path / "lease" / "dispycosproc-1"
    own.mkdir(parents=True)
    (tmp_path / "lease" / "table.csv").write_text("1,2")
    (tmp_path / "program" / "out").mkdir(parents=True)
    (tmp_path / "program" / "mine.csv").write_text("3,4")
    os.chdir(own)
    folder = WorkingFolder(own)
    assert folder.enter("", str(tmp_path / "program")) == ""
    yield folder
    os.chdir(before)


def notes_of(folder: WorkingFolder, task: Callable[[], object]) -> list[str]:
    try:
        task()
    except Exception as error:
        folder.explain(error)
        folder.explain(error)  # the same exception may be raised again
        return list(getattr(error, "__notes__", []))
    raise AssertionError("it was found")


def test_a_component_is_in_the_folder_above(server: WorkingFolder) -> None:
    (note,) = notes_of(server, lambda: Path("table.csv").read_text())
    assert "the working folder of this server" in note and "'../table.csv'" in note
    assert Path("../table.csv").read_text() == "1,2"


@pytest.mark.parametrize("path", ["mine.csv", b"mine.csv", Path("mine.csv"), "out/new.txt"])
def test_a_file_of_the_program_is_named_where_it_is(
    server: WorkingFolder, tmp_path: Path, path: str | bytes | Path
) -> None:
    (note,) = notes_of(server, lambda: os.open(path, os.O_RDWR))
    assert f"your program runs in {tmp_path / 'program'}" in note and "Client(cwd=" in note


@pytest.mark.parametrize("path", ["table.csv", "../table.csv"])
def test_where_components_are_is_said_to_tasks_that_run_in_a_folder_of_the_client(
    server: WorkingFolder, tmp_path: Path, path: str
) -> None:
    assert server.enter(str(tmp_path / "program" / "out"), "") == ""
    (note,) = notes_of(server, lambda: Path(path).read_text())
    assert f"not above this one: {str(tmp_path / 'lease' / 'table.csv')!r}" in note


def test_any_other_relative_path_says_where_it_was_looked_for(server: WorkingFolder) -> None:
    (note,) = notes_of(server, lambda: Path("nowhere.txt").read_text())
    assert note.startswith(f"'nowhere.txt' was looked for in {os.getcwd()}") and "Client([...])" in note


def fails(text: str) -> Callable[[], None]:
    def task() -> None:
        raise FileNotFoundError(text)

    return task


def test_words_of_a_library_instead_of_a_path_are_taken_too(server: WorkingFolder) -> None:
    (note,) = notes_of(server, fails("in.csv not found."))
    assert note.startswith("relative paths were looked for in")


@pytest.mark.parametrize(
    "task",
    [
        lambda: Path("/no/such/file").read_text(),
        fails("/data/in.csv not found."),
        fails("no record of that customer"),
        lambda: subprocess.run(["no-such-command-anywhere"]),
        lambda: os.close(-1),
    ],
)
def test_what_has_nothing_to_do_with_the_folder_gets_no_note(
    server: WorkingFolder, task: Callable[[], object]
) -> None:
    assert notes_of(server, task) == []


def test_the_cause_of_an_error_is_explained_too(server: WorkingFolder) -> None:
    def task() -> None:
        try:
            Path("table.csv").read_text()
        except OSError as error:
            raise ExceptionGroup("two", [RuntimeError("cannot load"), error]) from None

    with pytest.raises(ExceptionGroup) as raised:
        task()
    server.explain(raised.value)
    assert "'../table.csv'" in "".join(traceback.format_exception(raised.value))


def test_an_error_that_cannot_be_read_stays_as_it_is(server: WorkingFolder) -> None:
    class Odd(FileNotFoundError):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    def task() -> None:
        raise Odd

    assert notes_of(server, task) == []


def test_a_task_that_changed_the_folder_hears_where_it_is(server: WorkingFolder, tmp_path: Path) -> None:
    os.chdir(tmp_path)
    (note,) = notes_of(server, lambda: Path("table.csv").read_text())
    assert f"{tmp_path}, where this server's tasks run now" in note
    server.come_back()
    assert os.getcwd() == str(tmp_path / "lease" / "dispycosproc-1")


def test_a_folder_that_is_gone_is_said_to_be_gone(server: WorkingFolder, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    os.chdir(other)
    other.rmdir()
    (note,) = notes_of(server, lambda: Path("mine.csv").read_text())
    assert "a folder that is there no more" in note


def test_tasks_run_where_the_client_wants_it(server: WorkingFolder, tmp_path: Path) -> None:
    assert server.enter(str(tmp_path / "program"), str(tmp_path)) == ""
    assert Path("mine.csv").read_text() == "3,4"
    os.chdir(tmp_path)
    server.come_back()
    assert os.getcwd() == str(tmp_path / "program")


def test_without_that_folder_they_stay_in_their_own(server: WorkingFolder, tmp_path: Path) -> None:
    own = os.getcwd()
    assert server.enter(str(tmp_path / "missing"), "") == "No such file or directory"
    assert server.enter(str(tmp_path / "program" / "mine.csv"), "") == "Not a directory"
    assert os.getcwd() == own


def test_files_that_go_with_their_folder_are_counted_and_some_named(tmp_path: Path) -> None:
    for path in ("dispycosproc-1/out.txt", "dispycosproc-2/a/b.bin",
                 "dispycosproc-1/__pycache__/m.pyc", "component.csv"):  # fmt: skip
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(b"12345")
    left = leftovers(tmp_path)
    assert (left.count, left.size, left.names) == (2, 10, ["out.txt", "a/b.bin"])


def test_files_that_were_sent_there_are_no_work_of_tasks(tmp_path: Path) -> None:
    folder = tmp_path / "dispycosproc-1"
    folder.mkdir()
    sent = set()
    for name in (b"given", b"changed"):
        landing = Landing(Delivery(str(folder), (), [name], 3, 0o644, False), ".part")
        landing.open()
        assert landing.write(b"abc", last=True).state == FileState.DONE and landing.written is not None
        sent.add(landing.written)
    with (folder / "changed").open("ab") as file:
        file.write(b"d")
    left = leftovers(tmp_path, sent)
    assert (left.count, left.size, left.names) == (1, 4, ["changed"])


def test_of_very_many_files_only_so_many_are_looked_at(tmp_path: Path) -> None:
    folder = tmp_path / "dispycosproc-1"
    folder.mkdir()
    for number in range(COUNTED_MAX + 20):
        (folder / f"{number}").touch()
    left = leftovers(tmp_path)
    assert left.count == COUNTED_MAX and len(left.names) == NAMED_MAX


def test_a_lease_that_never_had_a_folder_leaves_nothing(tmp_path: Path) -> None:
    assert leftovers(tmp_path / "missing").count == 0

"""The file in which a program's dispy jobs are kept that have ended, however it ended. Without a cluster."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dispycos.actors.compat.dispy.jobs import DispyJob
from dispycos.actors.compat.dispy.journal import NAME, Journal, recover_jobs
from dispycos.actors.compat.dispy.remote import Report
from dispycos.actors.shipping.pickling import dumps


@pytest.fixture
def journal(folder: Path) -> Iterator[Journal]:
    journal = Journal(None)
    journal.users = 1
    yield journal
    if journal.users:
        journal.leave()


def end(journal: Journal, *results: Any, status: int = 11) -> None:
    for result in results:
        job = DispyJob((), {})
        job.status, job.ip_addr = status, "10.0.0.1"
        job.start_time = job.end_time = job.submit_time + 1.0
        report = Report(result, "out", "err", None, 1.0, 0)
        journal.ended(job, dumps(report))


def left_behind(journal: Journal) -> Path:
    """As if its program had been killed: the kernel closes its files."""
    assert journal.path is not None
    assert journal._file is not None
    os.close(journal._file)
    journal._file, journal.users = None, 0
    return journal.path


def test_jobs_that_have_ended_are_had_again(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    large = bytearray(b"x" * 3_000_000)  # a frame of its own
    journal.submitted(5)
    end(journal, 7, large)
    lost = DispyJob((), {})
    lost.status, lost.exception = DispyJob.Abandoned, "its node died"
    journal.ended(lost, None)
    path = left_behind(journal)
    assert NAME.fullmatch(path.name)
    assert path.stat().st_mode & 0o777 == 0o600
    jobs = recover_jobs()
    told = [
        (job.result == large or job(), job.stdout, job.exception, job.status, job.ip_addr) for job in jobs
    ]
    assert told == [
        (7, "out", None, 11, "10.0.0.1"),
        (True, "out", None, 11, "10.0.0.1"),
        (None, None, "its node died", 10, None),
    ]
    assert jobs[0].end_time == jobs[0].submit_time + 1.0
    assert "2 other jobs ended with their program" in caplog.text
    assert recover_jobs(path)[0]() == 7
    assert path.exists()


def test_it_is_removed_when_the_last_cluster_is_closed(journal: Journal) -> None:
    journal.users = 2
    end(journal, 1)
    assert journal.path is not None
    journal.leave()
    assert journal.path.exists()
    journal.leave()
    assert not journal.path.exists()


def test_there_is_none_before_the_first_job(journal: Journal, folder: Path) -> None:
    assert not list(folder.iterdir())
    assert recover_jobs() == recover_jobs("none") == []


@pytest.mark.parametrize("cut", range(1, 60))
def test_a_record_that_is_not_whole_is_the_end(journal: Journal, cut: int) -> None:
    end(journal, 1, 2)
    path = left_behind(journal)
    os.truncate(path, path.stat().st_size - cut)
    assert [job() for job in recover_jobs()] == [1]


def test_a_named_file_of_a_killed_program_is_gone_on_with_behind_its_last_whole_record(folder: Path) -> None:
    first = Journal(folder / "named")
    end(first, 1, 2)
    path = left_behind(first)
    os.truncate(path, path.stat().st_size - 1)
    second = Journal(path)
    end(second, 3)
    left_behind(second)
    assert [job() for job in recover_jobs("named")] == [1, 3]


def test_of_a_program_that_still_runs_they_are_had_by_name_only(
    journal: Journal, caplog: pytest.LogCaptureFixture
) -> None:
    journal.submitted(2)
    end(journal, 1)
    assert journal.path is not None
    assert recover_jobs() == []
    assert f"{journal.path} is left out" in caplog.text
    assert [job() for job in recover_jobs(journal.path)] == [1]
    assert "1 other jobs have not ended: its program still runs" in caplog.text


def test_two_programs_do_not_write_one_file(journal: Journal, caplog: pytest.LogCaptureFixture) -> None:
    end(journal, 1)
    assert journal.path is not None
    other = Journal(journal.path)
    end(other, 2)
    assert "another program writes" in caplog.text
    beside = Journal(None)  # begun in the same second
    end(beside, 3)
    assert beside.path != journal.path
    left_behind(beside)
    assert [job() for job in recover_jobs()] == [3]


def test_a_folder_that_cannot_be_written_is_told_once(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    journal = Journal(folder / "none" / "file")
    end(journal, 1, 2)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "not kept for recover_jobs()" in caplog.text


def test_a_disk_that_is_full_is_told_once_and_what_is_there_is_had(
    journal: Journal,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    end(journal, 1)

    def full(file: int, data: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "write", full)
        end(journal, 2)
        end(journal, 3)
    assert caplog.text.count("No space left on device") == 1
    assert [job() for job in recover_jobs()] == [1]


def test_what_another_user_could_have_written_is_not_opened(
    journal: Journal,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    end(journal, 1)
    path = left_behind(journal)
    path.chmod(0o622)
    with pytest.raises(PermissionError, match="others may write it"):
        recover_jobs(path)
    path.chmod(0o600)
    with monkeypatch.context() as patched:
        patched.setattr(os, "geteuid", lambda: path.stat().st_uid + 1)
        with pytest.raises(PermissionError, match="could run anything: it belongs to another user"):
            recover_jobs(path)
        assert recover_jobs() == []
        assert "belongs to another user" in caplog.text
    os.mkfifo(folder / "pipe", 0o600)
    with pytest.raises(PermissionError, match="it is no file"):
        recover_jobs(folder / "pipe")


def test_another_file_is_refused_and_a_result_that_cannot_be_opened_is_told_of(
    journal: Journal, folder: Path
) -> None:
    other = folder / "other"
    other.write_text("text")
    other.chmod(0o600)
    with pytest.raises(ValueError, match="other is no file of recover_jobs"):
        recover_jobs("other")
    job = DispyJob((), {})
    job.status = DispyJob.Finished
    journal.ended(job, b"c__main__\nNone_such\n.")
    end(journal, 1)
    left_behind(journal)
    bad, good = recover_jobs()
    assert (bad(), good()) == (None, 1)
    assert bad.exception is not None
    assert "cannot be opened here: AttributeError" in bad.exception

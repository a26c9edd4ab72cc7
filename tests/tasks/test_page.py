"""What a server writes on its page, its agent reads: whole words, also after SIGKILL, and never by a forked child."""

from __future__ import annotations

import errno
import faulthandler
import fcntl
import mmap
import os
import signal
import struct
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from dispycos.actors.tasks import page as pages
from dispycos.actors.tasks.page import (
    CPU,
    IO,
    SINCE,
    SIZE,
    STEP,
    PageReader,
    PageWriter,
    make_page,
    open_page,
)
from dispycos.actors.tasks.running.interrupts import Interrupts
from dispycos.actors.tasks.step import NO_STEP, Step
from dispycos.protocol.messages import Marks

linux = pytest.mark.skipif(sys.platform != "linux", reason="memfd, seals and madvise are Linux's")


class Owner:
    def __init__(self, position: int) -> None:
        self.position = position


@pytest.fixture
def descriptor() -> Iterator[int]:
    descriptor = make_page()
    yield descriptor
    os.close(descriptor)


def in_child(body: Callable[[], None]) -> int:
    """How a forked child ended that did this: 0, or minus the signal."""
    pid = os.fork()
    if pid == 0:
        faulthandler.disable()
        try:
            body()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def test_an_agent_reads_what_has_begun_and_ended(descriptor: int) -> None:
    writer, reader = PageWriter(descriptor), PageReader(descriptor)
    assert reader.marks() == Marks(0, 0) and reader.running() == 0
    writer.begin(CPU, 3)
    writer.begin(IO, 5)
    assert reader.marks() == Marks(3, 5)
    for _ in range(2):
        assert reader.running() > 0
        writer.end()
    assert reader.running() == 0


def test_the_brackets_around_user_code_write_whose_step_runs(descriptor: int) -> None:
    writer, reader = PageWriter(descriptor), PageReader(descriptor)
    interrupts = Interrupts(page=writer.words)
    assert reader.step() == NO_STEP
    before = time.monotonic_ns()
    interrupts.begin(Owner(7))
    position, since = reader.step()
    assert position == 7 and before <= since <= time.monotonic_ns()
    interrupts.end()
    assert reader.step() == NO_STEP
    interrupts.begin(Owner(7))
    assert reader.step().position == 7 and reader.step().since > since, "two steps of a task differ"
    interrupts.end()


def test_a_step_that_is_followed_by_another_is_not_read_with_the_time_of_that() -> None:
    """What the reader finds word by word is played: between two loads the server goes on."""
    states = [{STEP: 7, SINCE: 100}, {STEP: 0, SINCE: 100}, {STEP: 0, SINCE: 200}, {STEP: 8, SINCE: 200}]
    possible = {Step(7, 100), Step(8, 200), NO_STEP}

    class Words:
        def __init__(self, at: list[int]) -> None:
            self._at = iter(at)

        def __getitem__(self, field: int) -> int:
            return states[next(self._at, len(states) - 1)][field]

    count = len(states)
    for first in range(count):
        for second in range(first, count):
            for third in range(second, count):
                reader = PageReader.__new__(PageReader)
                reader._words = Words([first, second, third])  # type: ignore[assignment]
                assert reader.step() in possible, (first, second, third)


def test_what_a_killed_process_wrote_last_is_there(descriptor: int) -> None:
    reader = PageReader(descriptor)

    def body() -> None:
        writer = PageWriter(descriptor)
        writer.begin(CPU, 41)
        writer.begin(CPU, 42)
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(body) == -signal.SIGKILL
    assert reader.marks().cpu == 42 and reader.running() > 0


VALUES = (0, 2**64 - 1)


def is_torn(
    write: Callable[[mmap.mmap, int], None], is_whole: Callable[[mmap.mmap], bool], seconds: float
) -> bool:
    """Whether a read, beside a process that writes one value and the other, finds neither, within so many seconds."""
    descriptor = make_page()
    memory = mmap.mmap(descriptor, SIZE)
    pid = os.fork()
    if pid == 0:
        while True:
            for value in VALUES:
                write(memory, value)
    try:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not all(is_whole(memory) for _ in range(1000)):
                return True
        return False
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(descriptor)


def test_a_word_is_never_torn() -> None:
    words: list[memoryview] = []

    def words_of(memory: mmap.mmap) -> memoryview:
        if not words:
            words.append(memoryview(memory).cast("Q"))
        return words[0]

    def write(memory: mmap.mmap, value: int) -> None:
        words_of(memory)[CPU] = value

    assert not is_torn(write, lambda memory: words_of(memory)[CPU] in VALUES, seconds=0.7)


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="a reader beside a writer needs a CPU of its own")
def test_a_mark_of_several_words_would_be() -> None:
    """As it was: owner, number and attempt, by struct."""
    packing = struct.Struct("<QQQ")

    def is_whole(memory: mmap.mmap) -> bool:
        return len(set(packing.unpack_from(memory))) == 1

    def write(memory: mmap.mmap, value: int) -> None:
        packing.pack_into(memory, 0, value, value, value)

    assert is_torn(write, is_whole, seconds=20)  # where others have the CPUs the two seldom run at once


@linux
def test_of_a_process_of_this_user_the_page_is_found_and_outlives_it(descriptor: int) -> None:
    """As a client of its host reads it, when no agent is left."""
    ready, told = os.pipe()
    pid = os.fork()
    if pid == 0:
        writer = PageWriter(descriptor)
        os.close(descriptor)  # mapped, it has another one
        writer.begin(CPU, 3)
        writer.begin(IO, 5)
        os.write(told, b"!")
        signal.pause()
    os.read(ready, 1)
    page = open_page(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert page is not None
    assert page.marks() == Marks(3, 5)
    assert open_page(pid) is None, "it is gone"
    page.close()
    for used in (ready, told):
        os.close(used)


def test_a_process_without_a_page_has_none() -> None:
    assert open_page(os.getppid()) is None


@linux
def test_it_cannot_be_cut_and_has_no_path(descriptor: int) -> None:
    seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)
    assert seals & fcntl.F_SEAL_SHRINK and seals & fcntl.F_SEAL_GROW
    for size in (0, 2 * SIZE):
        with pytest.raises(OSError) as failed:
            os.ftruncate(descriptor, size)
        assert failed.value.errno == errno.EPERM
    assert os.fstat(descriptor).st_nlink == 0 and not os.get_inheritable(descriptor)


def test_without_memfd_it_is_a_file_that_has_lost_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    descriptor = make_page()
    assert os.fstat(descriptor).st_nlink == 0 and os.fstat(descriptor).st_size == SIZE
    writer, reader = PageWriter(descriptor), PageReader(descriptor)
    writer.begin(CPU, 3)
    assert reader.marks().cpu == 3
    os.close(descriptor)


@linux
def test_a_forked_child_does_not_have_it(descriptor: int) -> None:
    writer, reader = PageWriter(descriptor), PageReader(descriptor)
    writer.begin(CPU, 3)
    assert in_child(lambda: writer.begin(CPU, 4)) == -signal.SIGSEGV, "so the test below can fail"
    assert reader.marks().cpu == 3


@linux
def test_nothing_of_ours_touches_it_in_a_forked_child(descriptor: int) -> None:
    writer, reader = PageWriter(descriptor), PageReader(descriptor)
    interrupts = Interrupts(page=writer.words)
    interrupts.begin(Owner(7))
    before = reader.step()

    def body() -> None:
        nonlocal writer
        interrupts.in_child()
        writer.in_child()
        interrupts.on_end = None  # it would end the child here
        interrupts.end()
        interrupts.begin(Owner(8))
        interrupts.end()
        writer.begin(CPU, 9)
        writer.end()

    assert in_child(body) == 0
    assert reader.step() == before and reader.marks() == Marks(0, 0)


def test_the_page_is_as_large_as_its_fields() -> None:
    fields = [
        value
        for name, value in vars(pages).items()
        if name.isupper() and name != "SIZE" and type(value) is int
    ]
    assert sorted(fields) == list(range(SIZE // 8))

"""What a recording keeps of a monitor, and what a replay makes of it."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dispycos.actors.web.desk import TABLES
from dispycos.actors.web.reading import Reader
from dispycos.actors.web.recording import BadRecording, Recorder, older, read_moments
from dispycos.actors.web.replaying import ReplayDesk, play
from dispycos.actors.web.tables import Tables
from dispycos.actors.web.watching import Monitor
from dispycos.config import Misuse
from dispycos.protocol.addresses import NODE, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import NodeInfo
from dispycos.protocol.watching import LINKS, MAILBOXES, OUTPUT, SERVERS, TASKS, NodeSight

RINGS = {"log": 50, "events": 10, "samples": 20}
NODE_INFO = NodeInfo("n1", "10.0.0.1", 9706, 4, "Linux", (3, 11), 0x88, None)
pytestmark = pytest.mark.timeout(20)


def run(recorder: Recorder, ticks: int = 40, tables: Tables | None = None, text: str = "x") -> Tables:
    """A cluster whose tasks come, run and go, as a monitor would record it."""
    tables = tables if tables is not None else Tables("aa", RINGS)
    for tick in range(ticks):
        now = 1000.0 + tick
        tables.set("meta", "cluster", {"kind": "client", "gone": "", "done": tick})
        row = {"id": f"c.{tick}", "state": "running", "args": "(secret,)"}
        tables.set("tasks", f"c.{tick}", row)
        if tick > 5:
            tables.set("tasks", f"c.{tick - 3}", {**row, "state": "done"})
            tables.drop("tasks", f"c.{tick - 6}")
        tables.append("log", {"t": now, "text": f"{text}{tick}"})
        tables.append("samples", {"t": now, "rate": tick})
        tables.commit(now)
        recorder(tables, now)
    return tables


def replayed(path: Path) -> Tables:
    tables = Tables("bb", {})
    for _, moment in read_moments(path):
        play(tables, moment)
        tables.commit(moment.now)
    return tables


def shown(tables: Tables) -> dict[str, Any]:
    """All that a page would see, but for arguments."""
    told = tables.snapshot(TABLES)
    for row in told["tasks"]["set"].values():
        row["args"] = None
    return told


def lines_of(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_a_recorded_run_ends_in_the_same_tables_when_it_is_replayed(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run")
    tables = run(recorder)
    recorder.close()
    assert shown(replayed(tmp_path / "run")) == shown(tables)
    assert not older(tmp_path / "run").exists()


def test_arguments_are_not_written(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run")
    run(recorder)
    assert b"secret" not in (tmp_path / "run").read_bytes()


def test_only_the_user_may_read_it(tmp_path: Path) -> None:
    Recorder(tmp_path / "run")
    assert (tmp_path / "run").stat().st_mode & 0o777 == 0o600


def test_each_tick_is_in_the_file_at_once_and_a_tick_without_news_is_not(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run")
    tables = run(recorder, ticks=3)
    assert len(lines_of(tmp_path / "run")) == 1 + 3
    recorder(tables, 2000.0)
    assert len(lines_of(tmp_path / "run")) == 1 + 3
    assert [moment.whole for _, moment in read_moments(tmp_path / "run")] == [True, False, False]


def test_it_never_has_more_bytes_than_its_bound_and_each_file_can_be_read_alone(tmp_path: Path) -> None:
    path, bound = tmp_path / "run", 60_000
    recorder = Recorder(path, bound)
    tables = Tables("aa", RINGS)
    for _ in range(10):
        run(recorder, 40, tables, text="y" * 200)
        assert all(file.stat().st_size <= bound // 2 for file in (path, older(path)) if file.exists())
    assert older(path).exists()
    assert shown(replayed(path)) == shown(tables)
    older(path).unlink()
    assert shown(replayed(path)) == shown(tables)


def test_lines_of_output_that_are_too_long_for_it_are_left_out_from_the_oldest(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run", 40_000)
    tables = Tables("aa", RINGS)
    for number in range(40):
        tables.append("log", {"t": 1.0, "text": f"{number}" + "z" * 500})
    tables.commit(1.0)
    recorder(tables, 1.0)
    log = replayed(tmp_path / "run").snapshot(["log"])["log"]
    assert 0 < len(log["set"]) < 40 and "40" in log["set"] and log["total"] == 40


def test_one_that_was_there_is_kept_as_the_older_one(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(Recorder(path), ticks=2)
    first = path.read_bytes()
    run(Recorder(path), ticks=5, tables=Tables("cc", RINGS))
    assert older(path).read_bytes() == first
    assert [header.epoch for header, _ in read_moments(path)] == ["aa"] * 2 + ["cc"] * 5


def test_a_file_that_is_no_recording_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(Misuse, match="is there, and is no recording"):
        Recorder(path)
    assert path.read_text() == "mine"


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="nowhere/run cannot be written: No such file"):
        Recorder(tmp_path / "nowhere" / "run")


def test_a_full_disk_ends_the_recording_in_words_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = Recorder(tmp_path / "run")
    tables = run(recorder, ticks=2)
    recorder._file = open("/dev/full", "wb", buffering=0)  # noqa: SIM115
    with caplog.at_level(logging.ERROR):
        run(recorder, ticks=3, tables=tables)
    assert [record.message.partition(" ends at ")[2][8:] for record in caplog.records] == [
        ": No space left on device"
    ]
    assert recorder.names == frozenset()  # nothing is looked at for it any more


def test_a_torn_last_line_is_left_out_and_said_to_be(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run"
    run(Recorder(path), ticks=3)
    path.write_bytes(path.read_bytes()[:-20])
    with caplog.at_level(logging.WARNING):
        assert len(list(read_moments(path))) == 2
    assert "run, line 4: it is torn" in caplog.text


@pytest.mark.parametrize(
    "line",
    [
        b"not JSON",
        b"__import__('os').abort()",
        b'{"now": 1.0}',
        b'{"now": 1.0, "whole": false, "tables": {"tasks": {"set": 3}}}',
        b"[" * 100_000,
    ],
)
def test_a_broken_line_in_between_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "run"
    run(Recorder(path), ticks=4)
    lines = path.read_bytes().splitlines()
    lines[2] = line
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(BadRecording, match="run, line 3: "):
        list(read_moments(path))


def test_changes_of_what_has_not_been_told_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    run(Recorder(path), ticks=3)
    header, _, *rest = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([header, *rest]))
    with pytest.raises(BadRecording, match="line 2: what it tells changes of has not been told"):
        list(read_moments(path))


@pytest.mark.parametrize("text", ["mine\n", '{"dispycos_recording": 1}\n'])
def test_another_file_is_no_recording(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes").write_text(text)
    with pytest.raises(BadRecording, match="notes, line 1: "):
        list(read_moments(tmp_path / "notes"))


def test_one_of_a_later_format_names_its_release(tmp_path: Path) -> None:
    line = '{"dispycos_recording":2,"release":"99.1","epoch":"aa","began":1.0}\n'
    (tmp_path / "run").write_text(line)
    with pytest.raises(BadRecording, match=r"was made by dispycos 99\.1"):
        list(read_moments(tmp_path / "run"))


def test_a_file_that_is_not_there_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(BadRecording, match="run is not there"):
        list(read_moments(tmp_path / "run"))


# --- the monitor ---


class Nobody:
    """A runtime by which nothing leaves: what is asked is kept."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def send(self, envelope: Envelope) -> None:
        self.asked.append(envelope.message)

    def address(self, actor: int) -> Address:
        return Address(7, actor)

    def attach_inbox(self, actor: int, receive: Any) -> Address:
        return self.address(actor)

    def detach(self, actor: int) -> None: ...


def test_while_it_records_the_monitor_looks_though_nobody_reads_but_not_at_arguments(tmp_path: Path) -> None:
    async def main() -> None:
        recorder = Recorder(tmp_path / "run")
        reader = Reader(Tables("aa", RINGS), "client", "run.py", 0x77, 1.0)
        reader.hear(Address(0x88, NODE), NodeSight(NODE_INFO, None, 0.0, None, [], [], []), 1.0)
        post = Nobody()
        monitor = Monitor(post, reader, 0.01, keeper=recorder)
        await monitor.ticked()
        await monitor.ticked()
        to_client, to_node = post.asked[:2]
        assert to_client.parts == TASKS | OUTPUT | LINKS | MAILBOXES
        assert to_node.parts == SERVERS | MAILBOXES
        recorder.close()
        await monitor.ticked()
        asked = len(post.asked)
        await asyncio.sleep(0.05)
        assert len(post.asked) == asked  # nor does anybody look when it has ended
        await monitor.close()

    asyncio.run(main())
    assert len(list(read_moments(tmp_path / "run"))) >= 2


def test_the_last_state_is_recorded_when_the_monitor_ends(tmp_path: Path) -> None:
    async def main() -> None:
        reader = Reader(Tables("aa", RINGS), "client", "run.py", 0, 1.0)
        monitor = Monitor(Nobody(), reader, 60.0, keeper=Recorder(tmp_path / "run"))
        await monitor.ticked()
        reader.gone = "The client ended."
        await monitor.close()

    asyncio.run(main())
    assert replayed(tmp_path / "run").rows("meta")["cluster"]["gone"] == "The client ended."


# --- the desk ---


def desk(path: Path, scene: Callable[[ReplayDesk], Any], speed: float = 0.0) -> None:
    async def main() -> None:
        async with asyncio.timeout(10):
            replay = ReplayDesk(path, speed)
            try:
                await scene(replay)
            finally:
                await replay.close()

    asyncio.run(main())


async def end_of(replay: ReplayDesk) -> None:
    while not replay.tables.rows("meta").get("cluster", {}).get("gone"):
        await replay.ticked()


def test_a_replay_ends_with_the_last_state_and_says_so(tmp_path: Path) -> None:
    tables = run(Recorder(tmp_path / "run"))

    async def scene(replay: ReplayDesk) -> None:
        await end_of(replay)
        for name in ("tasks", "log", "samples"):
            assert replay.tables.snapshot([name]) == {name: shown(tables)[name]}
        assert replay.tables.now == tables.now
        meta = replay.tables.rows("meta")["cluster"]
        assert meta["kind"] == "replay" and meta["done"] == 39
        assert meta["gone"].startswith("The recording ends at ")

    desk(tmp_path / "run", scene)


def test_a_replay_takes_its_time_by_its_speed(tmp_path: Path) -> None:
    run(Recorder(tmp_path / "run"), ticks=5)
    pauses: list[float] = []

    async def scene(replay: ReplayDesk) -> None:
        asyncio_sleep = asyncio.sleep

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            await asyncio_sleep(0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(asyncio, "sleep", sleep)
            await end_of(replay)

    desk(tmp_path / "run", scene, speed=4.0)
    assert [pause for pause in pauses if pause] == [0.25] * 4


def test_nothing_can_be_changed_in_a_replay(tmp_path: Path) -> None:
    run(Recorder(tmp_path / "run"), ticks=1)

    async def scene(replay: ReplayDesk) -> None:
        done = await replay.act("terminate", ["c.1"], {})
        assert (done.done, done.refused) == (
            0,
            [("c.1", "this is a recording: nothing can be changed in it")],
        )
        with pytest.raises(LookupError, match="a recording has no stacks"):
            await replay.stack("c.1")

    desk(tmp_path / "run", scene)

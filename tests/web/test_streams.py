"""The stream of events, over HTTP on this host: what each reader is told, and what one that does not read costs."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest

from dispycos.actors.web import streams
from dispycos.actors.web.tables import Tables
from tests.web.fake_desk import Site


def set_cpu(cpu: float) -> Any:
    return lambda tables: tables.set("nodes", "ash0:51348", {"id": "ash0:51348", "cpu": cpu})


def test_first_the_whole_then_what_changes(own_site: Site) -> None:
    with own_site.stream("tables=nodes,servers") as reader:
        event, version, told = reader.next()
        assert (event, version, told["version"], told["now"]) == ("snapshot", "e1.1", 1, 1000.0)
        assert set(told["tables"]) == {"nodes", "servers", "meta"}
        assert len(told["tables"]["nodes"]["set"]) == 3

        own_site.change(set_cpu(50.0))
        event, version, told = reader.next()
        assert (event, version) == ("delta", "e1.2")
        assert {name: part["set"] for name, part in told["tables"].items()} == {
            "nodes": {"ash0:51348": {"id": "ash0:51348", "cpu": 50.0}}
        }

        own_site.change(lambda tables: tables.drop("nodes", "ash0:51348"))
        assert reader.next()[2]["tables"]["nodes"]["del"] == ["ash0:51348"]


def test_a_tick_that_changes_nothing_of_its_tables_tells_a_reader_nothing(own_site: Site) -> None:
    with own_site.stream("tables=nodes") as reader:
        reader.next()
        own_site.change(lambda tables: tables.set("servers", "x", {"id": "x"}))
        own_site.change()
        own_site.change(set_cpu(1.0))
        assert reader.next()[1] == "e1.3"


@pytest.mark.parametrize("way", ["header", "query"])
def test_a_reader_that_comes_back_hears_what_it_has_missed(own_site: Site, way: str) -> None:
    own_site.change(set_cpu(1.0))
    own_site.change(lambda tables: tables.drop("nodes", "ash1:51348"))
    query, headers = ("", {"Last_Event_ID": "e1.1"}) if way == "header" else ("&since=e1.1", {})

    with own_site.stream(f"tables=nodes{query}", **headers) as reader:
        event, version, told = reader.next()

    assert (event, version) == ("delta", "e1.3")
    assert set(told["tables"]["nodes"]["set"]) == {"ash0:51348"}
    assert told["tables"]["nodes"]["del"] == ["ash1:51348"]


@pytest.mark.parametrize(
    "since",
    ["e2.1", "e1.999", "e1.-1", "e1.", "e1", ".", "e1.1.1", "e1.x", "e1." + "9" * 400, "é.1"],
)
def test_who_knows_another_life_or_nonsense_gets_the_whole(own_site: Site, since: str) -> None:
    with own_site.stream("tables=nodes", Last_Event_ID=since) as reader:
        assert reader.next()[0] == "snapshot"


def test_in_silence_there_is_a_comment_now_and_then(own_site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "SILENCE_S", 0.3)
    with own_site.stream("tables=nodes") as reader:
        reader.next()
        for _ in range(3):  # ticks that tell it nothing are silence, too
            own_site.change()
            own_site.change(lambda tables: tables.set("servers", "x", {"t": time.time()}))
            assert reader.next() == ("comment", "still here", None)
        own_site.change(set_cpu(2.0))
        assert reader.next()[0] == "delta"


def test_at_the_end_each_reader_gets_the_last_state_and_is_told(own_site: Site) -> None:
    readers = [own_site.stream("tables=nodes") for _ in range(3)]
    for reader in readers:
        reader.next()
    own_site.do(lambda desk: (set_cpu(77.0)(desk.tables), desk.tables.commit(2.0)))  # no tick tells of it
    own_site.server.stop("The client survey.py ended at 14:31:07.")

    for reader in readers:
        assert reader.next()[2]["tables"]["nodes"]["set"]["ash0:51348"]["cpu"] == 77.0
        assert reader.next() == ("gone", "", {"text": "The client survey.py ended at 14:31:07."})
        with pytest.raises(EOFError):
            reader.next()
    assert own_site.desk.is_closed


def test_whoever_reads_is_known_while_it_does(own_site: Site) -> None:
    with own_site.stream("tables=nodes,tasks") as reader:
        reader.next()
        assert +own_site.do(lambda desk: desk.readers) == {"nodes": 1, "tasks": 1, "meta": 1}
    own_site.wait(lambda desk: not +desk.readers)


def test_a_table_that_is_not_there_is_named(own_site: Site) -> None:
    answer = own_site.get("/api/v1/stream?tables=nodes,colours")
    assert answer.status == 400
    assert answer.json["error"] == "there is no table 'colours'" and "leases" in answer.json["remedy"]


def test_one_page_more_than_there_may_be_is_refused_in_words_and_others_go_on(own_site: Site) -> None:
    readers = [own_site.stream("tables=nodes") for _ in range(streams.STREAMS_MAX)]
    for reader in readers:
        assert reader.next()[0] == "snapshot"

    answer = own_site.get("/api/v1/stream?tables=nodes")
    assert answer.status == 503 and answer.json == {
        "error": "100 pages are open already, which is the most",
        "remedy": "close some",
    }
    own_site.change(set_cpu(3.0))
    assert {reader.next()[1] for reader in readers} == {"e1.2"}

    readers.pop().close()
    own_site.wait(lambda desk: desk.readers["nodes"] == streams.STREAMS_MAX - 1)
    with own_site.stream("tables=nodes") as reader:
        assert reader.next()[0] == "snapshot"
    for reader in readers:
        reader.close()


def test_what_is_new_is_encoded_once_for_all(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = Tables("e", {})

    class Desk:
        pass

    desk: Any = Desk()
    desk.tables = tables
    encoded: list[Any] = []

    def encode(value: Any) -> bytes:
        encoded.append(value)
        return b"{}"

    monkeypatch.setattr(streams, "encode", encode)
    for number in range(2):
        tables.set("nodes", "a", {"x": number})
        tables.commit(float(number))
    all_streams = streams.Streams(desk)

    for names in (["nodes"], ["nodes", "meta"], ["nodes"]):
        all_streams.event(names, 1)
    assert len(encoded) == 1
    all_streams.event(["nodes"], -1)
    assert len(encoded) == 2
    tables.set("nodes", "a", {"x": 5})
    tables.commit(3.0)
    assert b"nodes" in all_streams.event(["nodes"], 2)
    assert len(encoded) == 3


def big(version: int) -> Any:
    return lambda tables: tables.set("nodes", "big", {"text": str(version % 10) * 4_000_000})


def lazy_reader(own_site: Site) -> socket.socket:
    """Asks, and does not read."""
    line = socket.create_connection(("127.0.0.1", own_site.port))
    token = own_site.access.operator
    line.sendall(
        f"GET /api/v1/stream?tables=nodes HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
    )
    return line


def test_a_reader_that_stops_reading_costs_no_more_with_each_tick_and_holds_up_nobody(own_site: Site) -> None:
    own_site.change(big(0))
    lazy = [lazy_reader(own_site) for _ in range(3)]
    own_site.wait(lambda desk: desk.readers["nodes"] == 3)
    with own_site.stream("tables=nodes") as reader:
        reader.next()
        waiting = []
        for version in range(1, 6):
            own_site.change(big(version))
            assert reader.next()[2]["tables"]["nodes"]["set"]["big"]["text"][0] == str(version)
            waiting.append(buffered(own_site))
        # A part of one event for each, and what the kernel takes.
        assert max(waiting) <= 3 * (streams.PART_BYTES + 70_000), waiting

    began = time.monotonic()
    own_site.server.stop("It was shut down.")
    assert not own_site.server._thread.is_alive()
    assert time.monotonic() - began < 10, "stop waits for nobody for long"
    for line in lazy:
        line.close()


def buffered(own_site: Site) -> int:
    """Bytes that wait in this process for readers."""
    import gc

    from dispycos.actors.web.connections import Connection

    def count(desk: Any) -> int:
        found = [one for one in gc.get_objects() if isinstance(one, Connection) and one in one.connections]
        return sum(one.transport.get_write_buffer_size() for one in found)

    return int(own_site.do(count))


def test_a_reader_that_comes_to_itself_hears_the_last_state_and_not_each_on_the_way(own_site: Site) -> None:
    own_site.change(big(0))
    line = lazy_reader(own_site)
    own_site.wait(lambda desk: desk.readers["nodes"] == 1)
    for version in range(1, 10):
        own_site.change(big(version))

    heard = b""
    while b'"text":"999' not in heard:
        heard += line.recv(1 << 20)
    assert 1 <= heard.count(b"event: delta") < 9
    line.close()


def test_readers_come_and_go_while_it_ticks(own_site: Site) -> None:
    ends = threading.Event()

    def tick() -> None:
        number = 0.0
        while not ends.is_set():
            number += 1.0
            own_site.change(set_cpu(number))

    ticking = threading.Thread(target=tick)
    ticking.start()
    try:
        for _ in range(20):
            with own_site.stream("tables=nodes") as reader:
                first = reader.next()
                then = reader.next()
                assert (first[0], then[0]) == ("snapshot", "delta")
                assert then[2]["version"] > first[2]["version"]
    finally:
        ends.set()
        ticking.join()
    own_site.wait(lambda desk: not +desk.readers)

"""What is asked of the cluster, and what the tables show of the answers."""

from __future__ import annotations

from typing import Any

import pytest

from dispycos.actors.web import reading
from dispycos.actors.web.known import Mailbox
from dispycos.actors.web.reading import Reader
from dispycos.actors.web.tables import Tables
from dispycos.protocol.addresses import CLIENT, NODE, SCHEDULER, Address
from dispycos.protocol.messages import (
    Availability,
    ClientInfo,
    ClientReport,
    Inventory,
    NodeInfo,
    SchedulerReport,
    ServerReport,
    ServerUse,
    Spot,
    TaskReport,
)
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.watching import (
    ARGUMENTS,
    LINKS,
    MAILBOXES,
    OUTPUT,
    SERVERS,
    TASKS,
    ClientNode,
    ClientSight,
    Death,
    EndedTask,
    FailureGroup,
    FunctionTotals,
    LiveTask,
    Look,
    Machine,
    NodeSight,
    OutputLine,
    ServerCounts,
    Waiting,
)

ME, BROKER = 0x1234_5678_9ABC_DEF0, Address(9, SCHEDULER)
INFO = ClientInfo("survey.py", "desk", 4711, (3, 11))
EVERYTHING = frozenset(
    [
        "nodes",
        "servers",
        "tasks",
        "functions",
        "failures",
        "waiting",
        "log",
        "events",
        "clients",
        "samples",
        "actors",
        "deaths",
        "links",
        "leases",
    ]
)
RINGS = {"log": 100, "events": 100, "samples": 100}
RETURNED = [0, 1, 0, 0, 0, 0, 0]


def node_info(number: int = 1, **changes: Any) -> NodeInfo:
    available = Availability(75.0, 4_000, 9_000, 100)
    info = NodeInfo(f"n{number}", f"10.0.0.{number}", 9706, 4, "Linux", (3, 11), 100 + number, available)
    return info._replace(**changes)


def server(number: int = 1, node: int = 101, **changes: Any) -> ServerCounts:
    addr, name = f"10.0.0.{node - 100}", f"n{node - 100}/server-{number}"
    counts = ServerCounts(1000 + number, node, addr, 9706 + number, name, "running", 1, 2, 5, 1)
    return counts._replace(**changes)


def sight(**changes: Any) -> ClientSight:
    fields: dict[str, Any] = {
        "client": INFO,
        "scheduler": "s",
        "state": "active",
        "age_s": 10.0,
        "submitted": 8,
        "waiting": 0,
        "held": 3,
        "outcomes": [0, 4, 1, 0, 0, 0, 0],
        "cpu_s": 2.0,
        "nodes": [ClientNode(node_info(), "running", "")],
        "servers": [server()],
        "functions": [],
        "failures": [],
        "waits": [],
    }
    return ClientSight(**{**fields, **changes})


def ended(n: int, number: int, outcome: int = OutcomeKind.RETURNED, failure: int = 0) -> EndedTask:
    return EndedTask(
        n, number, 1, "f", outcome, 1001, 2.0, 0.5, 1.5, 0.4, 1000, failure, False, "E: no" * bool(failure)
    )


class Desk:
    """A reader, driven by hand."""

    def __init__(self, kind: str = "client", own: int = ME) -> None:
        self.tables = Tables("e", RINGS)
        self.reader = Reader(self.tables, kind, "survey.py", own, 500.0)
        self.now = 1000.0

    def ask(self, *wanted: str) -> list[tuple[Address, Any]]:
        names = frozenset(wanted) if wanted else EVERYTHING
        return [(one.to, one.word) for one in self.reader.questions(names, self.now)]

    def hear(self, word: Any, sender: int = ME) -> None:
        self.reader.hear(Address(sender, 1), word, self.now)
        self.reader.sample(self.now)
        self.tables.commit(self.now)

    def rows(self, table: str) -> list[dict[str, Any]]:
        return list(self.tables.rows(table).values())

    def row(self, table: str) -> dict[str, Any]:
        (row,) = self.rows(table)
        return row

    @property
    def meta(self) -> dict[str, Any]:
        return self.row("meta")

    def events(self) -> list[tuple[str, str]]:
        return [(row["kind"], row["text"]) for row in self.rows("events")]


def tick(desk: Desk, word: Any = None, sender: int = ME) -> None:
    desk.ask()
    desk.hear(word if word is not None else sight(), sender)
    desk.now += 1.0


def test_a_clients_monitor_asks_its_client_and_what_that_tells_of() -> None:
    desk = Desk()
    assert desk.ask() == [(Address(ME, CLIENT), Look(TASKS | OUTPUT | LINKS | MAILBOXES, 0, 0, 0, 10_000))]
    desk.hear(sight())
    asked = dict(desk.ask())
    assert asked[Address(101, NODE)] == Look(SERVERS | ARGUMENTS | MAILBOXES)


def test_what_is_asked_follows_from_what_is_read() -> None:
    desk = Desk()
    tick(desk)
    assert dict(desk.ask("nodes")) == {Address(ME, CLIENT): Look(0), Address(101, NODE): Look(0)}
    desk.reader.show_args = False
    assert dict(desk.ask("servers"))[Address(101, NODE)] == Look(SERVERS)


def test_only_the_first_answer_about_a_long_table_is_asked_to_be_long() -> None:
    """Of tasks that print nothing ten thousand were taken with each look: no line of theirs had ever come."""
    desk = Desk()
    limits = []
    for wanted in (["nodes"], ["tasks"], ["tasks"], ["tasks", "log"], ["tasks", "log"]):
        limits.append(dict(desk.ask(*wanted))[Address(ME, CLIENT)].limit)
        desk.hear(sight(ended=[ended(1, 17)]))
        desk.now += 1.0
    assert limits == [1000, 10_000, 1000, 10_000, 1000]
    desk.ask("tasks", "log")
    desk.hear(sight(submitted=1))  # less than before: its client has another lease, whose numbers begin anew
    assert dict(desk.ask("tasks"))[Address(ME, CLIENT)].limit == 10_000


def test_nodes_are_asked_in_turn_however_many_they_are() -> None:
    desk = Desk()
    nodes = [ClientNode(node_info(number), "running", "") for number in range(1, 201)]
    tick(desk, sight(nodes=nodes))
    seen: set[Address] = set()
    for _ in range(4):
        asked = [to for to, _ in desk.ask("servers") if to.actor == NODE]
        assert len(asked) == len(set(asked)) == reading.DEEP_MAX
        seen.update(asked)
        desk.hear(sight(nodes=nodes))
        desk.now += 1.0
    assert len(seen) == 200
    desk.hear(sight(nodes=nodes))
    assert "200 nodes in turn" in desk.meta["notes"][0]
    desk.now += 100.0
    brief: set[Address] = set()
    for _ in range(10):
        brief.update(to for to, _ in desk.ask("nodes") if to.actor == NODE)
        desk.hear(sight(nodes=nodes))
    assert len(brief) == 200, "each in ten looks"


def test_a_node_has_its_resources() -> None:
    desk = Desk()
    tick(desk, sight(nodes=[ClientNode(node_info(resources=(("gpu", 2),)), "running", "")]))
    assert desk.row("nodes")["resources"] == {"gpu": 2}


def test_nodes_and_servers_have_their_counts() -> None:
    desk = Desk()
    tick(desk)
    tick(desk, sight(servers=[server(ended=25)]))
    node, row = desk.row("nodes"), desk.row("servers")
    assert (node["id"], node["state"], node["cpu"], node["running"]) == ("n1:9706", "running", 25.0, 1)
    assert (node["done"], node["failed"], node["submitted"], node["rate"]) == (24, 1, 28, 20.0)
    assert (row["id"], row["node"], row["submitted"]) == ("10.0.0.1:9707", "n1:9706", 28)
    assert (desk.meta["running"], desk.meta["servers_busy"], desk.meta["done"]) == (1, 1, 4)


def test_a_node_tells_of_servers_that_should_be_there_until_its_lease_ends() -> None:
    desk = Desk()
    tick(desk)
    assert desk.row("nodes")["absent"] == []
    why = [(9708, "it starts"), (9709, "its server_setup has failed: no database")]
    desk.hear(NodeSight(node_info(), INFO, 5.0, None, [], why, []), 101)
    assert desk.row("nodes")["absent"] == [
        [9708, "it starts"],
        [9709, "its server_setup has failed: no database"],
    ]
    tick(desk, sight(nodes=[]))
    assert desk.row("nodes")["absent"] == []


def test_counts_of_servers_that_are_gone_are_not_lost() -> None:
    desk = Desk()
    tick(desk)
    gone = [ClientNode(node_info(), "running", "", 5, 1)]
    tick(desk, sight(servers=[], nodes=gone))
    assert desk.row("nodes")["done"] == 4 and desk.row("servers")["state"] == "ended"
    reborn = server(epoch=2001, ended=3, failed=0)
    tick(desk, sight(servers=[reborn], nodes=gone))
    assert (desk.row("nodes")["done"], desk.row("nodes")["failed"], desk.row("nodes")["servers"]) == (7, 1, 1)
    assert [row["id"] for row in desk.rows("servers")] == ["10.0.0.1:9707"], "it took the other one's place"
    tick(desk, sight(state="ended", nodes=[], servers=[], past=[(101, 30, 2)]))
    assert (desk.row("nodes")["done"], desk.row("nodes")["servers"]) == (28, 0), (
        "what was done is told to the end"
    )


def test_a_task_runs_and_ends_and_its_failure_has_a_name() -> None:
    desk = Desk()
    live = LiveTask(17, 1, "f", 1001, "running", 3.0, 1.0, False, "")
    tick(desk, sight(live=[live]))
    row = desk.row("tasks")
    assert (row["id"], row["state"], row["start"]) == ("9abcdef0.17", "running", 997.0)
    assert row["node"] == "n1:9706" and row["server"] == "10.0.0.1:9707"
    group = FailureGroup(
        3, "f", OutcomeKind.RAISED, "ValueError", "no <b>\nmore", "trace", 1, 2.0, 2.0, [1001]
    )
    tick(desk, sight(ended=[ended(1, 17, OutcomeKind.RAISED, failure=3)], failures=[group]))
    row = desk.row("tasks")
    assert (row["state"], row["run"], row["error"]) == ("failed", 0.5, "E: no")
    assert row["failure"] == desk.row("failures")["id"] and desk.row("failures")["nodes"] == ["n1:9706"]
    assert desk.reader.clients[ME].task == 1 and desk.ask()[0][1].since == 1


def test_a_task_that_vanishes_between_two_looks_is_not_shown_for_ever() -> None:
    desk = Desk()
    tick(desk, sight(live=[LiveTask(17, 1, "f", 0, "queued", 3.0, None, False, "it waits")]))
    tick(desk, sight())
    assert desk.rows("tasks") == []


def test_a_full_list_says_what_was_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispycos.actors.web.rows.TASKS_KEPT", 3)
    desk = Desk()
    for n in range(1, 6):
        tick(desk, sight(ended=[ended(n, n)], outcomes=[0, n, 0, 0, 0, 0, 0]))
    assert [row["id"].rpartition(".")[2] for row in desk.rows("tasks")] == ["3", "4", "5"]
    told = desk.tables.snapshot(["tasks"])["tasks"]
    assert (told["total"], told["kept"], told["dropped_until"]) == (5, 3, 999.0)


def test_a_new_lease_of_the_same_process_counts_anew() -> None:
    desk = Desk()
    tick(desk, sight(submitted=100, ended=[ended(50, 60)]))
    tick(desk, sight(submitted=2))
    assert desk.ask()[0][1].since == 0


def test_functions_are_summed_and_have_quantiles() -> None:
    desk = Desk()
    totals = FunctionTotals("f", 12, 3, [0, 5, 2, 0, 0, 1, 0], 4.0, [(80, 8)], [(60, 8)])
    tick(desk, sight(functions=[totals], live=[LiveTask(1, 1, "f", 1001, "running", 1.0, 1.0, False, "")]))
    row = desk.row("functions")
    assert (row["count"], row["running"], row["queued"], row["done"], row["failed"], row["lost"]) == (
        12,
        1,
        3,
        5,
        2,
        1,
    )
    assert row["run_p50"] == row["run_p99"] == pytest.approx(1.0) and row["queue_p50"] < 0.1


def test_a_dead_server_has_a_certificate_and_is_an_event() -> None:
    desk = Desk()
    tick(desk)
    use = ServerUse(5, 1, 3.0, 1_000_000, 2_000_000)
    report = ServerReport(Spot("10.0.0.1", 9707, 1001, "n1/server-1"), 77, [], use)
    desk.hear(NodeSight(node_info(), INFO, 5.0, Machine(0.5, 8_000, 20_000, 0), [report], [], []), 101)
    text = "killed by SIGKILL (9)"
    death = Death(1, 0.5, 1001, "n1/server-1", "10.0.0.1", 9707, "n1", text, False, [(17, "f")])
    tick(desk, sight(servers=[], deaths=[death]))
    row = desk.row("deaths")
    assert (row["signal"], row["code"], row["memory"], row["tasks"]) == (
        "SIGKILL",
        None,
        1_000_000,
        ["9abcdef0.17"],
    )
    assert desk.row("servers")["state"] == "lost" and desk.row("servers")["text"] == text
    assert ("died", f"server n1/server-1: {text}") in desk.events()
    assert desk.ask()[0][1].death == 1


@pytest.mark.parametrize(
    ("text", "signal", "code"),
    [("killed by SIGSEGV (11)", "SIGSEGV", None), ("ended with exit code 3", None, 3), ("gone", None, None)],
)
def test_how_a_server_died_is_read_from_the_words(text: str, signal: str | None, code: int | None) -> None:
    from dispycos.actors.web.rows import _signal_of

    assert _signal_of(text) == (signal, code)


def test_lines_come_once_with_where_they_are_from() -> None:
    desk = Desk()
    lines = [
        OutputLine(1, 0.5, "n1/server-1", 1, "", "", "hello"),
        OutputLine(2, 0.1, "x", 0, "info", "app", "hi"),
    ]
    tick(desk, sight(lines=lines, line=2))
    first, second = desk.rows("log")
    assert (first["level"], first["server"], first["text"]) == ("print", "10.0.0.1:9707", "hello")
    assert (second["level"], second["logger"], second["server"]) == ("info", "app", None)
    assert desk.ask()[0][1].line == 2


def test_a_node_tells_what_its_servers_do() -> None:
    desk = Desk()
    tick(desk)
    task = TaskReport("f", ME, 17, 1, False, "running", 4.0, 30, "x=1", 7, 3)
    report = ServerReport(
        Spot("10.0.0.1", 9707, 1001, "n1/server-1"), 77, [task], ServerUse(5, 1, 3.0, 10, 20)
    )
    desk.hear(NodeSight(node_info(), INFO, 5.0, Machine(0.5, 8_000, 20_000, 0), [report], [], []), 101)
    row = desk.row("servers")
    assert (row["function"], row["task"], row["args"], row["since"]) == ("f", "9abcdef0.17", "x=1", 997.0)
    assert (row["memory"], row["peak"], row["cpu_s"], row["pid"]) == (10, 20, 3.0, 77)
    assert desk.row("nodes")["memory_total"] == 8_000 and desk.meta["memory_used"] == 4_000
    actor = desk.row("actors")
    assert (actor["id"], actor["mailbox"], actor["server"]) == ("9abcdef0.17", 7, "10.0.0.1:9707")
    desk.hear(NodeSight(node_info(), INFO, 5.0, None, [report._replace(tasks=[])], [], []), 101)
    assert desk.rows("actors") == []


def test_the_age_of_the_oldest_message_is_seen_by_looking() -> None:
    mailbox = Mailbox()
    assert mailbox.saw(0, 10, 100.0)[0] is None
    assert mailbox.saw(5, 10, 101.0)[0] == 0.0
    assert mailbox.saw(8, 10, 104.0)[0] == 3.0
    assert mailbox.saw(8, 12, 105.0) == (4.0, 2.0), "two of the first five were taken: the third is as old"
    assert mailbox.saw(3, 17, 106.0)[0] == 2.0, "those of 101 s are taken, those of 104 s not"
    assert mailbox.saw(0, 20, 107.0)[0] is None


# --- the scheduler's ---


def report(*clients: ClientReport, state: str = "open") -> SchedulerReport:
    return SchedulerReport(
        "s", "10.0.0.9", 9705, False, list(clients), [("n1", "10.0.0.1", 9706, state)], False, [101]
    )


ACTIVE = ClientReport("survey.py", "desk", 4711, "running", 1, 2, 3, ME)
QUEUED = ClientReport("tiles.py", "desk", 4712, "queued", 0, 0, 0, 77)


def test_a_schedulers_monitor_asks_the_clients_that_it_has() -> None:
    desk = Desk("scheduler", own=9)
    assert desk.ask("nodes", "clients") == [(BROKER, Inventory())]
    desk.hear(report(ACTIVE, QUEUED), 9)
    clients = {row["name"]: (row["state"], row["place"]) for row in desk.rows("clients")}
    assert clients == {"survey.py": ("active", None), "tiles.py": ("queued", 1)}
    assert Address(ME, CLIENT) in dict(desk.ask())
    desk.hear(report(QUEUED), 9)
    assert {row["name"]: row["state"] for row in desk.rows("clients")}["survey.py"] == "ended"
    assert Address(ME, CLIENT) not in dict(desk.ask())


def test_nodes_that_are_free_away_or_gone_say_so() -> None:
    desk = Desk("scheduler", own=9)
    for state, shown in [
        ("free", "idle"),
        ("not reachable", "lost"),
        ("declined", "idle"),
        ("open", "running"),
    ]:
        tick(desk, report(state=state), 9)
        assert desk.row("nodes")["state"] == shown
    assert ("lost", "node n1 is lost") in desk.events() and ("resumed", "node n1 is back") in desk.events()
    tick(desk, SchedulerReport("s", "10.0.0.9", 9705, False, [], [], False, []), 9)
    assert desk.row("nodes")["state"] == "closed"


def test_what_its_client_has_suspended_stays_so_though_the_scheduler_calls_it_open() -> None:
    desk = Desk("scheduler", own=9)
    tick(desk, report(ACTIVE), 9)
    tick(desk, sight(nodes=[ClientNode(node_info(), "suspended", "by its client")]))
    tick(desk, report(ACTIVE), 9)
    assert desk.row("nodes")["state"] == "suspended"


def test_a_client_that_does_not_answer_is_said_to_be_silent() -> None:
    desk = Desk("scheduler", own=9)
    tick(desk, report(ACTIVE), 9)
    for _ in range(reading.MISSED):
        desk.ask()
    desk.reader.sample(desk.now)
    assert desk.row("clients")["state"] == "silent"
    desk.hear(report(ACTIVE), 9)
    assert desk.row("clients")["state"] == "silent", "its scheduler does not know that"
    tick(desk)
    assert desk.row("clients")["text"] == ""
    assert desk.row("clients")["state"] == "active"


def test_a_clients_monitor_says_when_its_client_has_ended() -> None:
    desk = Desk()
    tick(desk, sight(live=[LiveTask(17, 1, "f", 1001, "running", 3.0, 1.0, False, "")]))
    tick(desk, sight(state="ended", nodes=[], servers=[]))
    assert desk.meta["gone"] == "The client survey.py ended." and desk.rows("tasks") == []
    assert desk.row("nodes")["state"] == "closed"
    tick(desk, sight())
    assert desk.meta["gone"] == ""


def test_two_hosts_of_one_name_are_two_nodes() -> None:
    desk = Desk()
    other = node_info(2, name="n1")
    tick(desk, sight(nodes=[ClientNode(node_info(), "running", ""), ClientNode(other, "running", "")]))
    first, second = [row["id"] for row in desk.rows("nodes")]
    assert first == "n1:9706" and second.startswith("n1:9706~")
    assert desk.reader.place_named(second) == (desk.reader.clients[ME], 102, 0)


def test_what_waits_for_a_server_that_is_not_there_hears_what_keeps_the_nodes() -> None:
    waits = [Waiting("none", "", "there is no server", 7, 3.0)]
    desk = Desk()
    tick(desk, sight(nodes=[], servers=[], waits=waits))
    assert "start `dispycos node`" in desk.row("waiting")["text"]
    desk.hear(
        NodeSight(node_info(), None, 0.0, None, [], [], [], resting="its service hours are 22:00-06:00"), 101
    )
    tick(desk, sight(nodes=[], servers=[], waits=waits))
    assert desk.row("waiting")["text"] == "there is no server; nodes: n1: its service hours are 22:00-06:00"
    assert (desk.row("waiting")["count"], desk.row("waiting")["oldest"]) == (7, 998.0)
    tick(desk, sight(nodes=[], servers=[]))
    assert desk.rows("waiting") == []


def test_a_client_that_has_no_tasks_yet_hides_those_of_no_other() -> None:
    desk = Desk("scheduler", own=9)
    desk.hear(sight())
    done = desk.meta["done"]
    desk.hear(sight(state="queued", outcomes=[], nodes=[], servers=[]), ME + 1)
    assert desk.meta["done"] == done == 4


def test_a_node_that_its_client_has_suspended_is_so_whatever_its_scheduler_says() -> None:
    desk = Desk()
    told = SchedulerReport("s", "10.0.0.9", 9705, False, [], [("n1", "10.0.0.1", 9706, "open")], epochs=[101])
    desk.ask()
    for state in ("suspended", "suspended", "running"):
        desk.hear(sight(nodes=[ClientNode(node_info(), state, "by its client")]))
        desk.hear(told, 9)
        assert desk.row("nodes")["state"] == state
    assert [kind for kind, _ in desk.events()] == ["suspended", "resumed"]


def test_what_was_there_before_anybody_looked_has_not_come_just_now() -> None:
    old, new = Desk(), Desk()
    old.ask()
    old.hear(sight(age_s=60.0))
    new.ask()
    new.hear(sight(age_s=0.5))
    assert (old.events(), new.events()) == ([], [("joined", "node n1 joined")])


def test_a_server_that_died_before_anybody_looked_has_its_place_and_its_last_lines() -> None:
    desk = Desk()
    desk.ask()
    death = Death(
        1,
        5.0,
        1009,
        "n1/server-9",
        "10.0.0.1",
        9715,
        "n1",
        "killed by SIGKILL (9)",
        False,
        [(3, "f")],
        ["last"],
    )
    group = FailureGroup(1, "f", OutcomeKind.LOST, "TaskLost", "killed", "", 1, 5.0, 5.0, [1009])
    desk.hear(sight(deaths=[death], failures=[group]))
    row = desk.row("deaths")
    assert (row["server"], row["node"], row["lines"]) == ("10.0.0.1:9715", "n1:9706", ["last"])
    desk.hear(sight(failures=[group]))
    assert desk.row("failures")["nodes"] == ["n1:9706"]


def test_local_tasks_are_actors_of_their_client_and_names_are_told() -> None:
    desk = Desk()
    desk.ask()
    task = TaskReport("collect", ME, 7, 1, True, "running", 0.0, 7, messages=3, names=["collector"])
    desk.hear(sight(actors=[task]))
    row = desk.row("actors")
    assert (row["name"], row["task"], row["server"], row["mailbox"]) == ("collector", None, None, 3)
    desk.hear(sight())
    assert desk.rows("actors") == []


def test_lines_that_were_not_kept_are_said() -> None:
    desk = Desk()
    desk.ask()
    line = OutputLine(41, 1.0, "n1/server-1", 1, "", "", "hello")
    desk.hear(sight(lines=[line], line=41))
    assert [row["text"] for row in desk.rows("log")] == ["40 lines before this one were not kept", "hello"]

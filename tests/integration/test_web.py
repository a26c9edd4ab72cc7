"""The web monitor of real programs, asked by its JSON: what it shows is true, and what it is told happens."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.kit.programs import User, wait_until
from tests.kit.web import Caller, caller_of

pytestmark = pytest.mark.timeout(60)

SURVEY = """
    import os, signal, sys, time
    import dispycos

    def busy(number, label="<b>x</b>"):
        time.sleep(1000)

    def broken(number):
        raise ValueError(f"no {number} <img src=x>")

    def quick(number):
        print("did", number, flush=True)
        return number

    def crash():
        os.kill(os.getpid(), signal.SIGKILL)

    async def main(*, task):
        client = dispycos.Client(name="survey")
        http = dispycos.HTTPServer(client, port=0, show_task_args="--hide" not in sys.argv)
        print("viewer", http.viewer_url, flush=True)
        async with client:
            for handle in [client.submit(quick, n) for n in range(20)]:
                await handle
            for number in range(3):
                try:
                    await client.submit(broken, number)
                except ValueError:
                    pass
            try:
                await client.submit(crash)
            except dispycos.TaskLost:
                pass
            runs = client.submit(busy, 1)
            print("runs", flush=True)
            try:
                await runs
            except dispycos.TaskTerminated:
                print("terminated", flush=True)
            waits = [client.submit(busy, 2) for _ in range(6)]
            print("waits", flush=True)
            for handle in waits:
                try:
                    await handle
                except dispycos.TaskTerminated:
                    pass
            print("all ended", flush=True)
        print("closed", flush=True)
        while not os.path.exists("seen"):
            await task.sleep(0.05)
        http.shutdown()
        print("shut", flush=True)

    dispycos.run(main)
"""


@pytest.fixture
def user() -> Iterator[User]:
    with User() as user:
        yield user


def only(rows: list[dict[str, Any]]) -> dict[str, Any]:
    assert len(rows) == 1, rows
    return rows[0]


def test_a_programs_monitor_shows_what_is_true_and_ends_what_it_is_told_to(user: User) -> None:
    user.node("alpha", cpus=2)
    survey = user.script("survey.py", SURVEY)
    web = caller_of(survey)
    survey.wait_line("^runs")
    node = only(web.rows("nodes"))
    assert (node["name"], node["state"], node["done"], node["failed"], node["servers"]) == (
        "alpha",
        "running",
        20,
        3,
        2,
    )
    assert all(row["queue"] < 20 for row in web.rows("tasks", state="done"))
    functions = {row["function"]: row for row in web.rows("functions")}
    assert (functions["quick"]["done"], functions["broken"]["failed"], functions["crash"]["lost"]) == (
        20,
        3,
        1,
    )
    failure = only(web.rows("failures", function="broken"))
    assert failure["error"] == "ValueError" and failure["count"] == 3 and "broken" in failure["trace"]
    death = only(web.rows("deaths"))
    assert death["signal"] == "SIGKILL" and death["functions"] == ["crash"]
    busy = only(web.rows("tasks", state="running"))
    assert busy["function"] == "busy" and busy["node"] == node["id"]
    serving = only([row for row in web.rows("servers", state="running") if row["function"]])
    assert "label='<b>x</b>'" in serving["args"] or "1" in serving["args"]
    assert serving["task"] == busy["id"] and serving["memory"] > 1_000_000
    assert "time.sleep(1000)" in str(web.get(f"/api/v1/stack/{busy['id']}"))
    assert {row["text"] for row in web.rows("log")} == {f"did {number}" for number in range(20)}
    assert web.act("terminate", busy["id"])["done"] == 1
    survey.wait_line("^terminated")
    survey.wait_line("^waits")
    other = next(row["id"] for row in web.rows("servers") if row["state"] in ("idle", "running"))
    assert web.act("suspend", other)["done"] == 1
    assert only([row for row in web.rows("servers") if row["id"] == other])["state"] == "suspended"
    assert only(web.rows("waiting"))["count"] >= 4
    assert web.act("resume", other)["done"] == 1
    wait_until(
        lambda: web.act("terminate_where", filter={"function": "busy"})["done"] == 0, 20, "all are ended"
    )
    survey.wait_line("^all ended")


def test_pages_keep_the_last_state_of_a_client_that_ends_and_are_told(user: User) -> None:
    survey = user.script("survey.py", SURVEY)
    web = caller_of(survey)
    survey.wait_line("^runs")
    events = web.events("nodes,tasks")
    kind, data = next(events)
    assert kind == "snapshot" and len(data["tables"]["tasks"]["set"]) >= 24
    web.act("terminate_where", filter={"function": "busy"})
    survey.wait_line("^waits")
    web.act("terminate_where", filter={"function": "busy"})
    survey.wait_line("^closed")
    wait_until(
        lambda: "survey ended" in web.get("/api/v1/cluster")["gone"], 10, "it says that the client has ended"
    )
    assert only(web.rows("nodes"))["state"] == "closed" and web.rows("tasks", function="quick")
    user.write({"seen": ""})
    told = list(events)
    assert told[-1][0] == "gone" and "shut its monitor down" in told[-1][1]["text"]
    survey.wait_line("^shut")
    assert survey.wait(20) == 0


def test_who_may_look_may_not_act_and_strangers_may_do_nothing(user: User) -> None:
    survey = user.script("survey.py", SURVEY)
    web = caller_of(survey)
    viewer = Caller(survey.wait_line("^viewer ").text.removeprefix("viewer "))
    survey.wait_line("^runs")
    assert viewer.rows("nodes") and viewer.get("/api/v1/session")["role"] == "viewer"
    wish = {"action": "terminate", "ids": ["x.1"]}
    assert viewer.status("/api/v1/actions", wish) == 403
    stranger = Caller(f"{web.base}/?token=wrong")
    assert stranger.status("/api/v1/nodes") == stranger.status("/metrics") == stranger.status("/") == 401
    assert stranger.status("/healthz") == 200
    assert web.status("/api/v1/nodes", Host="evil.example") == 421
    assert web.status("/api/v1/actions", wish, Origin="http://evil.example") == 403
    assert web.status("/../../setup.cfg") == web.status("/%2e%2e/setup.cfg") == 404


def test_arguments_are_not_shown_where_that_is_not_wanted(user: User) -> None:
    survey = user.script("survey.py", SURVEY, "--hide")
    web = caller_of(survey)
    survey.wait_line("^runs")
    assert only([row for row in web.rows("servers") if row["function"] == "busy"])["args"] is None
    assert web.act("options", show_args=True, poll_sec=0.5)["done"] == 2
    wait_until(
        lambda: [row["args"] for row in web.rows("servers") if row["function"] == "busy"] != [None],
        10,
        "they are",
    )


REFUSED = """
    import sys
    import dispycos

    async def main():
        client = dispycos.Client()
        try:
            dispycos.HTTPServer(client, {what})
        except (Exception, SystemExit) as error:
            print(f"{{type(error).__name__}}: {{error}}")

    dispycos.run(main)
"""


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("port={taken}", "port {taken}.*in use"),
        ("host='203.0.113.9', port=0", "port 0 of 203.0.113.9: Cannot assign"),
        ("port=0, certfile='missing.pem'", "certfile: missing.pem is not there"),
        ("port=0, keyfile='missing.pem'", "no certfile"),
        ("port=0, DocumentRoot='nowhere'", "no folder nowhere"),
        ("port=0, poll_sec=0", "poll_sec"),
    ],
)
def test_what_is_of_no_use_is_refused_in_words(user: User, what: str, words: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        script = user.script("refused.py", REFUSED.format(what=what.format(taken=port)))
        script.wait_line(words.format(taken=port))


def test_a_schedulers_monitor_shows_clients_that_come_and_go(user: User) -> None:
    scheduler = user.scheduler("--web", "0")
    node = user.node("alpha", "--web", "0", cpus=2)
    web, nodes_web = caller_of(scheduler), caller_of(node)
    wait_until(lambda: [row["state"] for row in web.rows("nodes")] == ["idle"], 10, "the node is free")
    survey = user.script("survey.py", SURVEY)
    survey.wait_line("^runs")
    client = only(web.rows("clients"))
    assert (client["name"], client["state"], client["done"]) == ("survey", "active", 20)
    assert only(web.rows("tasks", state="running"))["function"] == "busy"
    assert only(nodes_web.rows("tasks", state="running"))["function"] == "busy"
    assert only(nodes_web.rows("nodes"))["client"] is not None
    assert web.act("end_lease", client["id"])["done"] == 1
    survey.wait_line("a viewer of the cluster has ended the lease")
    wait_until(lambda: [row["state"] for row in web.rows("nodes")] == ["idle"], 15, "the node is free again")
    assert only(web.rows("clients"))["state"] == "ended"
    scheduler.interrupt()

"""The endpoints of pycos' web server, as its scripts use them."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.web.fake_desk import Answer, Site


def form(site: Site, path: str, **fields: Any) -> Answer:
    return site.ask("POST", path, body=urlencode(fields, doseq=True))


def test_the_status_lists_nodes_as_pycos_did_and_every_reader_gets_all(site: Site) -> None:
    for path in ("/cluster_status", "/cluster_updates", "/cluster_updates"):
        nodes = site.get(path).json
        assert len(nodes) == 3
        assert nodes[0] == {
            "name": "ash0",
            "addr": "10.0.0.0",
            "status": "running",
            "servers": 2,
            "update_time": 999.5,
            "tasks_submitted": 5,
            "tasks_done": 4,
            "avail_info": {"cpu": 75.0, "memory": 1 << 30, "disk": 1 << 40, "swap": None},
        }


@pytest.mark.parametrize("host", ["10.0.0.0", "ash0", "ash0:51348", "10.0.0.0:51348"])
def test_a_node_with_its_servers(site: Site, host: str) -> None:
    node = form(site, "/node_info", host=host).json
    assert node["name"] == "ash0"
    assert node["servers"][1] == {
        "location": "10.0.0.0:9001",
        "tasks_submitted": 3,
        "tasks_done": 2,
        "tasks_running": 1,
        "update_time": 999.0,
    }


def test_a_server_with_the_tasks_that_run(site: Site) -> None:
    server = form(site, "/server_info", location="10.0.0.0:9000", limit=1).json
    assert (server["location"], server["tasks_done"]) == ("10.0.0.0:9000", 2)
    assert server["tasks"] == [
        {"task": "c1.0", "name": "load", "args": "x=0", "kwargs": "", "start_time": 990.0}
    ]
    assert len(form(site, "/server_info", location="10.0.0.0:9000").json["tasks"]) == 2


def test_the_ids_of_tasks_that_were_terminated(site: Site) -> None:
    assert form(site, "/terminate_tasks", task=["c1.1", "no.1", "c1.2"]).json == ["c1.1", "c1.2"]
    assert site.desk.acted == [("terminate", ["c1.1", "no.1", "c1.2"], {})]
    assert form(site, "/terminate_tasks").json == []


def test_options_are_set_and_the_answer_is_empty(site: Site) -> None:
    answer = form(site, "/update", timeout="2.5", show_task_args="false")
    assert (answer.status, answer.body) == (200, b"")
    assert site.desk.acted == [("options", [], {"poll_sec": 2.5, "show_args": False})]
    assert form(site, "/update").status == 200


def test_nodes_and_servers_are_suspended_and_resumed_with_an_answer(site: Site) -> None:
    assert form(site, "/suspend_node", nodes=json.dumps(["10.0.0.1"])).json["done"] == 1
    assert form(site, "/resume_node", nodes=json.dumps(["ash1", "nowhere"])).json["done"] == 1
    assert form(site, "/suspend_server", servers=json.dumps(["10.0.0.0:9000"])).json["done"] == 1
    assert form(site, "/resume_server", servers="[]").json["done"] == 0
    assert [one[:2] for one in site.desk.acted] == [
        ("suspend", ["ash1:51348"]),
        ("resume", ["ash1:51348", "nowhere"]),
        ("suspend", ["10.0.0.0:9000"]),
    ]


@pytest.mark.parametrize(
    ("path", "fields", "status", "named"),
    [
        ("/node_info", {}, 400, "host"),
        ("/node_info", {"host": "nowhere"}, 404, "'nowhere'"),
        ("/server_info", {"location": "x"}, 404, "'x'"),
        ("/server_info", {"location": "10.0.0.0:9000", "limit": "many"}, 400, "limit"),
        ("/update", {"timeout": "soon"}, 400, "timeout"),
        ("/update", {"timeout": "nan"}, 400, "poll_sec"),
        ("/update", {"timeout": "0"}, 400, "poll_sec"),
        ("/suspend_node", {}, 400, "nodes"),
        ("/suspend_node", {"nodes": "ash1"}, 400, "JSON"),
        ("/suspend_server", {"servers": '{"a": 1}'}, 400, "JSON"),
        ("/suspend_server", {"servers": "[" * 100_000}, 400, "JSON"),
        ("/terminate_tasks", {"task": ["x"] * 20_001}, 400, "20,000"),
    ],
)
def test_what_is_of_no_use_is_named(
    site: Site, path: str, fields: dict[str, Any], status: int, named: str
) -> None:
    answer = form(site, path, **fields)
    assert answer.status == status and named in answer.json["error"]
    assert not site.desk.acted


def test_a_viewer_may_ask_of_nodes_and_servers_though_that_is_posted(site: Site) -> None:
    for path, fields in [("/node_info", "host=ash0"), ("/server_info", "location=10.0.0.0:9000")]:
        assert site.ask("POST", path, body=fields, role="viewer").status == 200
        assert site.ask("POST", path, site.cookie("viewer"), fields).status == 403  # CSRF, as with every POST
        forged = site.bearer("viewer") | {"Origin": "http://elsewhere.example"}
        assert site.ask("POST", path, forged, fields).status == 403


def test_they_need_a_token_as_all_else(site: Site) -> None:
    for method, path in [("GET", "/cluster_status"), ("POST", "/update"), ("POST", "/terminate_tasks")]:
        assert site.ask(method, path, {}).status == 401

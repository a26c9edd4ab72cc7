"""The exposition for Prometheus: its form, and what is in it."""

from __future__ import annotations

import re
from typing import Any

import pytest

from dispycos.actors.web.metrics import exposition
from dispycos.protocol.watching import ClientNode
from tests.web import test_reading as cluster

SAMPLE = re.compile(
    r'(dispycos_[a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\\n]|\\["\\n])*",?)+)\})? (-?[0-9][0-9.e+-]*)'
)
LABEL = re.compile(r'([a-z]+)="((?:[^"\\\n]|\\["\\n])*)"')
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def parse(text: str) -> tuple[Samples, dict[str, str]]:
    """Samples and kinds; strict: HELP and TYPE stand before the samples of a name, each series is there once."""
    samples: Samples = {}
    kinds: dict[str, str] = {}
    helped = ""
    assert text.endswith("\n") and "\n\n" not in text
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped = line.split(" ", 3)[2]
            assert helped not in kinds
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == helped and kind in ("counter", "gauge")
            assert (kind == "counter") == name.endswith("_total")
            kinds[name] = kind
        else:
            found = SAMPLE.fullmatch(line)
            assert found, line
            name, labels, value = found.groups()
            assert name == helped
            key = name, tuple(LABEL.findall(labels or ""))
            assert key not in samples
            samples[key] = float(value)
    return samples, kinds


def node(name: str, **facts: Any) -> dict[str, Any]:
    return {
        "id": f"{name}:51348",
        "state": "running",
        "servers": 2,
        "done": 7,
        "cpu": 12.5,
        "swap": None,
        **facts,
    }


def test_sums_nodes_functions_and_clients_have_samples() -> None:
    samples, kinds = parse(
        exposition(
            {
                "meta": [{"submitted": 12, "done": 7, "failed": 1, "lost": 0, "cancelled": 0, "queued": 3}],
                "nodes": [node("ash"), node("elm", servers=4)],
                "functions": [{"function": "load", "done": 7, "failed": 1, "running": 1, "cpu_s": 1e-07}],
                "clients": [{"id": "c1", "name": "survey.py", "state": "active", "servers": 6, "queued": 3}],
            }
        )
    )

    assert samples["dispycos_tasks_submitted_total", ()] == 12
    assert samples["dispycos_tasks_ended_total", (("state", "failed"),)] == 1
    assert samples["dispycos_node_servers", (("node", "elm:51348"),)] == 4
    assert samples["dispycos_node_cpu_percent", (("node", "ash:51348"),)] == 12.5
    assert samples["dispycos_function_tasks_ended_total", (("function", "load"), ("state", "done"))] == 7
    assert samples["dispycos_function_cpu_seconds_total", (("function", "load"),)] == 1e-07
    assert samples["dispycos_client_servers", (("client", "survey.py"), ("id", "c1"))] == 6
    assert not [name for name, _ in samples if name == "dispycos_node_swap_free_bytes"], "not known"
    assert kinds["dispycos_tasks_queued"] == "gauge"


def test_labels_of_what_is_gone_are_gone() -> None:
    samples, _ = parse(
        exposition(
            {
                "nodes": [node("ash"), node("elm", state="closed"), node("oak", state="lost")],
                "clients": [{"id": "c1", "name": "x", "state": "ended", "servers": 0, "queued": 0}],
            }
        )
    )
    assert {dict(labels)["node"] for name, labels in samples if "node" in dict(labels)} == {"ash:51348"}
    assert not [name for name, _ in samples if name.startswith("dispycos_client")]


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nb", 'a\\"} 1\ndispycos_evil 1', "λ", "", "a,b={}"])
def test_whatever_a_function_is_called_it_is_one_label(name: str) -> None:
    samples, _ = parse(exposition({"functions": [{"function": name, "running": 1}]}))

    told = {dict(labels)["function"] for _, labels in samples if "function" in dict(labels)}
    back = {"\\\\": "\\", '\\"': '"', "\\n": "\n"}
    assert {re.sub(r"\\.", lambda found: back[found[0]], one) for one in told} == {name}


def test_a_parser_of_prometheus_takes_it() -> None:
    parser = pytest.importorskip("prometheus_client.parser", reason="needs prometheus_client")
    text = exposition({"meta": [{"submitted": 3, "done": 1}], "nodes": [node('a"b')]})

    families = {family.name: family for family in parser.text_string_to_metric_families(text)}
    assert families["dispycos_tasks_submitted"].samples[0].value == 3
    assert families["dispycos_node_servers"].samples[0].labels == {"node": 'a"b:51348'}


def test_counters_of_a_node_do_not_go_back_when_its_servers_die_and_are_replaced() -> None:
    desk = cluster.Desk()
    heard = []
    # Servers with what they have ended, and what the client knows of those that are gone.
    ticks = [({1: 5}, 0), ({1: 8, 2: 8}, 0), ({1: 9}, 8), ({}, 17), ({3: 2}, 17), ({3: 4}, 17)]
    for servers, gone in ticks:
        nodes = [ClientNode(cluster.node_info(), "running", "", gone, gone // 8)]
        counts = [cluster.server(number, ended=ended, failed=1) for number, ended in servers.items()]
        cluster.tick(desk, cluster.sight(servers=counts, nodes=nodes))
        samples, _ = parse(exposition({"nodes": desk.rows("nodes")}))
        heard.append([value for (name, _), value in samples.items() if name.endswith("_total")])

    assert heard == [[4, 1], [14, 2], [15, 2], [15, 2], [16, 3], [18, 3]]

"""What a prompt and a notebook show of a client."""

from __future__ import annotations

from dispycos.actors.client.shown import NODES_MAX, Shown


def test_one_line_says_what_a_client_has_and_how_far_it_is() -> None:
    client = Shown("demo", "", [("here", 2), ("there", 1)], {"queued": 1_200, "done": 3})
    assert client.as_line() == "<Client demo: 3 servers on 2 nodes; tasks: 1,200 queued, 3 done>"


def test_one_line_says_why_a_client_has_no_cluster() -> None:
    assert Shown("demo", "not scheduled").as_line() == "<Client demo: not scheduled>"


def test_names_are_text_in_a_notebook() -> None:
    shown = Shown("<b>", "", [("<i>", 2)]).as_html()
    assert "<strong>Client &lt;b&gt;</strong>: 2 servers on 1 node" in shown
    assert "<td>&lt;i&gt;</td><td>2</td>" in shown


def test_a_notebook_shows_so_many_nodes_and_counts_the_rest() -> None:
    shown = Shown("demo", "", [(f"n{k}", 1) for k in range(NODES_MAX + 7)]).as_html()
    assert shown.count("<tr><td>n") == NODES_MAX and "and 7 more" in shown

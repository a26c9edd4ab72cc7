"""That what is counted is true however much was dropped, and that who looks hears what is new."""

from __future__ import annotations

from dispycos.actors.client.tally import GROUPS_MAX, OTHERS, RING, End, Functions, Tally
from dispycos.protocol.messages import Output
from dispycos.protocol.status import OutcomeKind
from dispycos.protocol.watching import Death


def end(number: int, function: str = "f", outcome: int = OutcomeKind.RETURNED, at: float = 5.0) -> End:
    return (number, 1, function, outcome, 77, at, 0.25, 0.5, 0.2, 1000, 0, False, "")


def test_counters_stay_true_when_the_ring_is_full() -> None:
    tally = Tally()
    for number in range(RING + 500):
        tally.add(end(number))
    assert tally.ended == tally.outcomes()[OutcomeKind.RETURNED] == RING + 500
    told = tally.ends_after(0, 10 * RING, now=6.0)
    assert [told[0].n, told[-1].n, len(told)] == [501, RING + 500, RING]
    assert told[-1].number == RING + 499 and told[-1].ago_s == 1.0


def test_only_what_is_new_is_told_and_of_too_much_the_newest() -> None:
    tally = Tally()
    for number in range(10):
        tally.add(end(number))
    assert [task.number for task in tally.ends_after(7, 100, 5.0)] == [7, 8, 9]
    assert [task.number for task in tally.ends_after(0, 2, 5.0)] == [8, 9]
    assert (
        tally.ends_after(10, 100, 5.0) == tally.ends_after(11, 100, 5.0) == tally.ends_after(0, -1, 5.0) == []
    )


def test_each_function_has_its_own_counts_and_times() -> None:
    tally = Tally()
    tally.add(end(1))
    tally.add(end(2, outcome=OutcomeKind.RAISED))
    tally.add(end(3, "g"))
    f, g, h = tally.totals({"f": 3, "g": 1, "h": 2}, {"f": 1})
    assert (f.name, f.submitted, f.held, f.cpu_s) == ("f", 3, 1, 0.4)
    assert f.outcomes[OutcomeKind.RETURNED] == f.outcomes[OutcomeKind.RAISED] == 1
    assert [count for _, count in f.run] == [2] and f.wait > f.run
    assert (g.name, g.submitted, g.held) == ("g", 1, 0)
    assert (h.name, h.submitted, sum(h.outcomes)) == ("h", 2, 0), "none of its tasks has ended"


def test_functions_beyond_the_bound_are_counted_together() -> None:
    functions = Functions()
    for number in range(2000):
        functions[f"f{number}"].outcomes[1] += 1
    assert len(functions) <= 1001 and sum(sum(one.outcomes) for one in functions.values()) == 2000
    assert sum(functions[OTHERS].outcomes) == 1000


def test_failures_that_are_alike_are_one_group_with_one_trace() -> None:
    tally = Tally()
    kind = OutcomeKind.RAISED
    first = tally.failed("f", kind, "ValueError", "no 1", "trace 1", 77, 1.0)
    assert tally.failed("f", kind, "ValueError", "no 2", "trace 2", 78, 4.0) == first
    assert tally.failed("f", kind, "KeyError", "x", "trace", 77, 4.0) != first
    group = tally.groups(now=5.0)[0]
    assert (group.tasks, group.text, group.trace, group.servers) == (2, "no 2", "trace 1", [77, 78])
    assert (group.first_s, group.last_s) == (4.0, 1.0)
    for number in range(2 * GROUPS_MAX):
        tally.failed("f", kind, f"E{number}", "", "", 0, 1.0)
    assert len(tally.groups(1.0)) == GROUPS_MAX and tally.failed("f", kind, "new", "", "", 0, 1.0) == 0


def test_ends_of_servers_are_told_once() -> None:
    tally = Tally()
    death = Death(0, 0.0, 77, "box/server-1", "10.0.0.1", 9706, "box", "killed by SIGKILL (9)", False, [])
    tally.died(death, 1.0)
    tally.died(death, 2.0)
    assert [(told.n, told.ago_s) for told in tally.deaths_after(0, 3.0)] == [(1, 2.0), (2, 1.0)]
    assert [told.n for told in tally.deaths_after(1, 3.0)] == [2]


def test_a_death_tells_the_last_lines_of_that_server_alone() -> None:
    tally = Tally()
    for server, text, at in (
        ("a/server-1", "mine", 1.0),
        ("a/server-2", "not mine", 1.0),
        ("a/server-1", "last", 2.0),
    ):
        tally.output.add(Output(server, 1), f"{text}\n".encode(), at)
    tally.died(Death(0, 0.0, 5, "a/server-1", "10.0.0.1", 9707, "a", "killed", False, []), 2.1)
    tally.output.add(Output("a/server-1", 1), b"of the next one\n", 9.0)
    [death] = tally.deaths_after(0, 10.0)
    assert death.lines == ["mine", "last"]

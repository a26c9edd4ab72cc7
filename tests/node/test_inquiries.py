"""Questions for what a node's servers do: each gets one answer, whatever its servers do meanwhile."""

from __future__ import annotations

from dispycos.actors.node.answering import NEIGHBOURS_MAX
from dispycos.actors.node.inquiries import ANSWER_S, BUSY, Inquiries
from dispycos.actors.node.lease import NodeOutbox, Place
from dispycos.actors.tasks.step import NO_STEP, Step
from dispycos.machine import Send
from dispycos.protocol.addresses import CLIENT, Address
from dispycos.protocol.envelope import Envelope
from dispycos.protocol.messages import (
    Inventory,
    Neighbour,
    NodeInfo,
    NodeReport,
    ServerReport,
    ServerTasks,
    Spot,
    TaskReport,
)
from tests.kit.node import THE_NODE, Hand, server_address

ASKER, OTHER = Address(66, CLIENT), Address(67, CLIENT)
REPORT = NodeReport(NodeInfo("box", "10.0.0.5", 9700, 2, "Linux", (3, 11), 100), "script.py", [])
TASK = TaskReport("compute", 7, 1, 1, False, "running", 2.0)


def server(number: int, life: int = 1) -> Place:
    spot = Spot("", 0, server_address(number, life).epoch, f"box/server-{number}")
    return Place(number, spot, True, 10 * life + number)


def report_of(one: Place, *tasks: TaskReport) -> ServerReport:
    return ServerReport(one.spot, one.pid, list(tasks))


class Asked:
    """The machine; each step gives back what it wants: (to whom, the servers in the answer), words to servers."""

    def __init__(self) -> None:
        self._out = NodeOutbox(THE_NODE)
        self.machine = Inquiries(self._out)
        self.steps: dict[int, Step] = {}  # what the pages of the servers say
        self.questions: dict[int, list[int]] = {}  # their numbers, as each server has heard them

    def did(self) -> list[object]:
        done: list[object] = []
        for effect in self._out.effects:
            assert isinstance(effect, Send)
            said = effect.envelope
            if isinstance(said.message, Inventory):
                self.questions.setdefault(said.to.epoch, []).append(said.correlation)
            else:
                assert isinstance(said.message, NodeReport) and said.message.client == "script.py"
                done.append((said.to, said.correlation, said.message.servers))
        self._out.effects.clear()
        return done

    def ask(
        self, *servers: Place, sender: Address = ASKER, number: int = 5, now: float = 0.0
    ) -> list[object]:
        self.machine.ask(Envelope(THE_NODE, sender, Inventory(), number), REPORT, servers, now)
        return self.did()

    def hear(self, one: Place, *tasks: TaskReport, question: int = 0, now: float = 0.1) -> list[object]:
        """The answer to the question that it heard first, or to the next ones."""
        number = self.questions[one.spot.epoch][question]
        word = ServerTasks(list(tasks))
        self.machine.on_answer(Envelope(THE_NODE, one.address, word, number), word, now)
        return self.did()

    def wake_at(self, now: float) -> list[object]:
        self.machine.wake(now, lambda number: self.steps.get(number, NO_STEP))
        return self.did()

    def forget(self, one: Place) -> list[object]:
        self.machine.forget(one.spot.epoch)
        return self.did()


def test_where_no_server_is_the_answer_comes_at_once() -> None:
    asked = Asked()
    assert asked.ask() == [(ASKER, 5, [])]
    assert asked.machine.deadline is None


def test_two_questions_at_once_get_each_their_own_answer() -> None:
    asked, one, two = Asked(), server(1), server(2)
    assert asked.ask(one, two) == []
    assert asked.ask(one, two, sender=OTHER, number=9, now=0.1) == []
    assert asked.machine.deadline == ANSWER_S, "the first one's"
    assert asked.hear(one, TASK, question=1) == []
    assert asked.hear(one) == []
    assert asked.hear(two, question=1) == [(OTHER, 9, [report_of(one, TASK), report_of(two)])]
    assert asked.machine.deadline == ANSWER_S, "the other waits still"
    assert asked.hear(two) == [(ASKER, 5, [report_of(one), report_of(two)])]
    assert asked.machine.deadline is None


def test_pages_answer_only_those_whose_time_is_up() -> None:
    asked, one = Asked(), server(1)
    asked.ask(one)
    asked.ask(one, sender=OTHER, number=9, now=0.2)
    assert asked.wake_at(ANSWER_S - 0.01) == []
    assert asked.wake_at(ANSWER_S) == [(ASKER, 5, [report_of(one)])], "it has no step"
    assert asked.machine.deadline == 0.2 + ANSWER_S
    assert asked.hear(one, TASK, question=1) == [(OTHER, 9, [report_of(one, TASK)])]


def test_the_page_tells_for_how_long_a_step_keeps_the_server() -> None:
    asked, one = Asked(), server(1)
    asked.ask(one)
    asked.steps[1] = Step(8, int(3e9))
    busy = TaskReport(BUSY, 0, 0, 0, False, "running", 4.0)
    assert asked.wake_at(7.0) == [(ASKER, 5, [report_of(one, busy)])]
    assert asked.hear(one, TASK, now=7.1) == [], "too late"


def test_a_dead_server_is_left_out_of_every_question() -> None:
    asked, one, two = Asked(), server(1), server(2)
    asked.ask(one, two)
    asked.ask(one, sender=OTHER, number=9)
    asked.hear(two)
    assert asked.forget(one) == [(ASKER, 5, [report_of(two)]), (OTHER, 9, [])]
    assert asked.machine.deadline is None
    assert asked.forget(one) == []


def test_what_a_server_told_before_its_death_is_told() -> None:
    asked, one, two = Asked(), server(1), server(2)
    asked.ask(one, two)
    asked.hear(one, TASK)
    assert asked.forget(one) == []
    assert asked.hear(two) == [(ASKER, 5, [report_of(one, TASK), report_of(two)])]


def test_the_page_of_the_next_server_at_a_place_tells_nothing_of_the_one_before() -> None:
    asked, old, other, new = Asked(), server(1), server(2), server(1, life=2)
    asked.ask(old, other)
    asked.forget(old)
    asked.ask(new, sender=OTHER, number=9, now=0.1)
    assert asked.wake_at(0.1 + ANSWER_S) == [(ASKER, 5, [report_of(other)]), (OTHER, 9, [report_of(new)])]


def test_nobody_else_answers_for_a_server() -> None:
    asked, one, stranger = Asked(), server(1), server(2)
    asked.ask(one)
    asked.questions[stranger.spot.epoch] = asked.questions[one.spot.epoch]
    assert asked.hear(stranger, TASK) == []
    asked.questions[one.spot.epoch].append(4711)
    assert asked.hear(one, TASK, question=1) == [], "no such question"
    assert asked.hear(one) == [(ASKER, 5, [report_of(one)])]


def test_a_report_has_the_neighbours_that_the_node_has_met_and_of_too_many_the_last() -> None:
    hand = Hand(1)
    for number in range(NEIGHBOURS_MAX + 2):
        hand.node.meet(Neighbour(f"n{number}", ("10.0.0.1",), 9706, number))
    hand.node.meet(Neighbour("n2", ("10.0.0.2",), 9706, 5))  # it was started again
    [said] = hand.hear(ASKER, Inventory())
    assert isinstance(said, tuple) and isinstance(said[1], NodeReport)
    assert len(said[1].neighbours) == NEIGHBOURS_MAX
    assert said[1].neighbours[-1] == Neighbour("n2", ("10.0.0.2",), 9706, 5)
    assert {found.name for found in said[1].neighbours}.isdisjoint({"n0", "n1"})

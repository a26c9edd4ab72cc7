"""A handle without its host: what it is equal to, how it is shown, how it travels, and what it asks its host."""

from __future__ import annotations

import asyncio
import pickle
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, get_origin

import pytest

from dispycos.actors.tasks.ends import Raised, Returned
from dispycos.actors.tasks.record import Record
from dispycos.actors.tasks.submitting import MonitorStatus, Task
from dispycos.errors import RemoteError, TaskLost, TaskTerminated
from dispycos.protocol.addresses import Address, Location
from dispycos.protocol.messages import TaskId
from dispycos.protocol.status import OutcomeKind

HOME = Address(7, 20)
PLACE = Location("10.0.0.5", 9701)


class Host:
    """Writes down what it is asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.loop = asyncio.new_event_loop()

    def follow(self, task: Task) -> None:
        self.asked.append(("follow", task))

    def tell(self, task: Task, message: Any) -> None:
        self.asked.append(("tell", task, message))

    async def deliver(self, task: Task, message: Any, timeout: float | None) -> int:
        self.asked.append(("deliver", task, message, timeout))
        return 1

    async def ask(self, task: Task, message: Any, timeout: float | None) -> Any:
        self.asked.append(("ask", task, message, timeout))
        return "answer"

    def terminate(self, task: Task) -> None:
        self.asked.append(("terminate", task))

    async def monitor(self, task: Task, by: Task | None) -> None:
        self.asked.append(("monitor", task, by))


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.loop.close()


def handle(host: Any, home: Address = HOME, name: str = "compute", source: Any = None, **where: Any) -> Task:
    return Task.__new__(Task)._bind(host, home, name, source, **where)


def test_a_location_is_equal_by_value_hashable_and_shown_as_addr_and_port() -> None:
    assert Location("10.0.0.5", 9701) == PLACE
    assert len({PLACE, Location("10.0.0.5", 9701), Location("10.0.0.5", 9702)}) == 2
    assert (str(PLACE), f"{PLACE}") == ("10.0.0.5:9701", "10.0.0.5:9701")
    assert (PLACE.addr, PLACE.port) == ("10.0.0.5", 9701)
    assert pickle.loads(pickle.dumps(PLACE)) == PLACE


def test_a_monitor_status_names_task_kind_and_value(host: Host) -> None:
    status = MonitorStatus(handle(host), StopIteration, 5)
    assert (status.info, status.type, status.value) == (handle(host), StopIteration, 5)


def test_handles_are_equal_when_they_mean_the_same_task(host: Host) -> None:
    one, same, other = handle(host), handle(host, name="renamed"), handle(host, Address(7, 21))
    assert one == same and hash(one) == hash(same)
    assert one != other and one != HOME and one != None  # noqa: E711
    assert len({one, same, other}) == 2


def test_a_handle_shows_its_name_and_place(host: Host) -> None:
    assert repr(handle(host)) == "<Task compute>"
    placed = handle(host, place=PLACE)
    assert repr(placed) == "<Task compute at 10.0.0.5:9701>"
    assert placed.location == PLACE


def test_a_handle_shows_how_far_its_task_is(host: Host) -> None:
    record = Record("compute", task=TaskId(7, 20))
    task = handle(host, source=record)
    assert repr(task) == "<Task compute: queued>"
    record.address, record.location = Address(9, 3), PLACE
    assert repr(task) == "<Task compute at 10.0.0.5:9701: running>"
    record.ended, record.outcome, record.seconds = True, OutcomeKind.RAISED, 0.5
    assert repr(task) == "<Task compute at 10.0.0.5:9701: failed in 0.5 s>"


def test_a_notebook_shows_a_handle_with_its_name_as_text(host: Host) -> None:
    record = Record("<i>", task=TaskId(7, 20))
    shown = handle(host, name="<i>", source=record)._repr_html_()
    assert shown == "<span>Task <strong>&lt;i&gt;</strong>, queued</span>"


def test_a_handle_is_pickled_as_home_name_address_and_place(host: Host) -> None:
    assert handle(host).__reduce__()[1] == ((7, 20), "compute", None, None)
    task = handle(host, place=PLACE, direct=Address(1001, 30))
    assert task.__reduce__()[1] == ((7, 20), "compute", (1001, 30), ("10.0.0.5", 9701))
    assert len(pickle.dumps(task)) < 120
    submitted, actor = handle(host), handle(host)
    submitted._source, actor._source = Record("compute"), Record("compute", alone=True)
    assert submitted.__reduce__()[1][4:] == (True,) and actor.__reduce__()[1][4:] == ()


def test_a_handle_may_be_weakly_referenced(host: Host) -> None:
    task = handle(host)
    assert weakref.ref(task)() is task


def test_what_is_done_to_a_handle_is_asked_of_its_host(host: Host) -> None:
    task, by = handle(host), handle(host, Address(7, 21))

    async def use() -> list[Any]:
        return [
            task.send("m"),
            await task.deliver("d", 2.0),
            await task.ask("a"),
            task.terminate(),
            await task.monitor(by),
            await task.sleep(0.0, "slept"),
        ]

    assert asyncio.run(use()) == [0, 1, "answer", 0, 0, "slept"]
    assert host.asked == [
        ("tell", task, "m"),
        ("deliver", task, "d", 2.0),
        ("ask", task, "a", None),
        ("terminate", task),
        ("monitor", task, by),
    ]


@pytest.mark.parametrize(("ended", "alive"), [(False, True), (True, False)])
def test_a_task_is_alive_until_its_end_is_known(host: Host, ended: bool, alive: bool) -> None:
    task = handle(host, source=SimpleNamespace(ended=ended))
    assert task.is_alive() is alive
    assert task.done() is not alive
    assert host.asked == []
    assert handle(host).is_alive(), "somebody else's: nothing is known here"


def test_whether_somebody_elses_task_is_done_has_to_be_asked(host: Host) -> None:
    task = handle(host)
    assert not task.done()
    assert host.asked == [("follow", task)]


def test_somebody_elses_task_is_in_its_first_attempt_as_far_as_is_known(host: Host) -> None:
    assert handle(host).attempt == 1


def test_cancel_of_a_task_that_has_ended_does_nothing(host: Host) -> None:
    assert not handle(host, source=SimpleNamespace(ended=True)).cancel()
    assert host.asked == []
    task = handle(host, source=SimpleNamespace(ended=False))
    assert task.cancel("why")
    assert host.asked == [("terminate", task)]


def test_asyncio_takes_a_handle_for_a_future(host: Host) -> None:
    assert asyncio.isfuture(handle(host))


def cancelled(host: Host, *, asked: bool = True) -> Task:
    task = handle(host)
    if asked:
        assert task.cancel("why")
    return task


def test_a_cancelled_task_is_cancelled_when_it_has_ended(host: Host) -> None:
    task = cancelled(host)
    assert not task.cancelled()
    task._complete(Raised(TaskTerminated("it ended")))
    assert task.cancelled() and task.done()
    for look in (task.result, task.exception):
        with pytest.raises(asyncio.CancelledError, match="why"):
            look()


def test_a_task_that_was_terminated_says_that(host: Host) -> None:
    task = cancelled(host, asked=False)
    task._complete(Raised(TaskTerminated("it ended")))
    assert not task.cancelled()
    with pytest.raises(TaskTerminated, match="it ended"):
        task.result()


@pytest.mark.parametrize("error", [None, ValueError("x"), TaskLost("gone"), RemoteError("odd", "mod.Odd")])
def test_a_cancelled_task_that_ends_otherwise_keeps_its_outcome(host: Host, error: Any) -> None:
    task = cancelled(host)
    task._complete(Returned(5) if error is None else Raised(error))
    assert not task.cancelled()
    assert task.exception() is error
    if error is None:
        assert task.result() == 5


@pytest.mark.parametrize("asked", [True, False])
def test_a_task_that_raises_cancelled_error_is_cancelled_only_if_that_was_asked_for(
    host: Host, asked: bool
) -> None:
    task = cancelled(host, asked=asked)
    task._complete(Raised(asyncio.CancelledError()))
    assert task.cancelled() is asked
    if not asked:
        with pytest.raises(RemoteError, match="compute raised CancelledError"):
            task.result()


def test_the_first_outcome_counts(host: Host) -> None:
    task = handle(host)
    task._complete(Returned(1))
    task._complete(Returned(2))
    assert task.result() == 1


def test_nobody_else_gives_a_task_its_outcome(host: Host) -> None:
    with pytest.raises(RuntimeError, match="set_result"):
        handle(host).set_result(1)
    with pytest.raises(RuntimeError, match="set_exception"):
        handle(host).set_exception(ValueError())


@pytest.mark.parametrize("method", ["receive", "recv"])
def test_who_is_not_the_task_cannot_receive_for_it(host: Host, method: str) -> None:
    async def use() -> None:
        await getattr(handle(host), method)()

    with pytest.raises(RuntimeError, match="use send or ask"):
        asyncio.run(use())
    with pytest.raises(RuntimeError, match="use send or ask"):
        handle(host).reply(1)


def test_task_can_be_subscripted_and_a_handle_is_as_small_as_before() -> None:
    assert get_origin(Task[int]) is Task
    assert not hasattr(Task.__new__(Task), "__dict__")

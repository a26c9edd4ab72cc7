"""Messages between tasks wherever they are: client and server, two servers of a node, two nodes, one server, the client alone."""

import asyncio
import dataclasses
import time

from scenarios import play, raises, until

from dispycos import MonitorStatus, Task, TaskLost


@dataclasses.dataclass
class Letter:
    sender: Task
    others: dict
    text: str = ""


async def echo(*, task):
    """Replies to requests; sends back what comes with a handle; ends at "end"."""
    while (message := await task.receive()) != "end":
        if isinstance(message, tuple) and isinstance(message[0], Task):
            message[0].send(("back", task, *message[1:]))
        else:
            task.reply(message)
    return "ended"


def collect(count, *, task):
    """The old syntax: a generator function."""
    found = []
    for _ in range(count):
        found.append((yield task.receive()))
    return found


async def send_by_two(handles, *, task):
    """By a handle from before the receiver had begun, and then by one that knows where it is."""
    [old] = handles  # as an argument itself it would stand for the value
    n = 0
    while (new := await task.receive(0.0005)) is None:
        old.send(n)
        n += 1
    for handle in (old, new):
        for _ in range(50):
            handle.send(n)
            n += 1
    new.send(None)
    return n


async def collect_until_none(*, task):
    found = []
    while (message := await task.receive()) is not None:
        found.append(message)
    return found


async def test_two_handles_of_one_task_keep_the_order_of_what_one_task_sends(client, task):
    for _ in range(5):
        receiver = client.submit(collect_until_none)
        sender = client.io_submit(send_by_two, [receiver])
        while receiver.location is None:
            await task.sleep(0.005)
        await task.sleep(0.02)
        sender.send(receiver)
        time.sleep(0.02)  # as in a program that computes
        count = await sender
        assert await receiver == list(range(count))


async def send_numbers(receiver, first, last):
    for n in range(first, last):
        receiver.send(n)


async def ask_other(other, value):
    return await other.ask(value, timeout=5)


async def deliver_to(other, *messages):
    return [await other.deliver(message, timeout=5) for message in messages]


async def monitor_other(other, *, task):
    await other.monitor()
    await task.receive()
    task.reply("watching")
    return await task.receive(timeout=5)


async def hand_over(letter, *, task):
    """Answers by the handle in the letter, and returns handles."""
    letter.sender.send({"list": [task, letter.sender], "text": letter.text})
    letter.others["echo"][0].send("end")
    return [task, {"sender": letter.sender}]


async def never(*, task):
    await task.receive()


async def ignore(count, *, task):
    """Takes requests and never replies."""
    for _ in range(count):
        await task.receive()


async def raise_later(*, task):
    await task.receive()
    raise ValueError("by intent")


async def two_nodes(client):
    """A server of node a, another of the same node, one of node b."""
    servers = sorted(await client.servers(), key=lambda server: server.port)
    found = {}
    for name in ("a", "b"):
        probe = await client.io_rtask_at(name, never)
        found[name] = probe.location
        probe.terminate()
    same = min((s for s in servers if s != found["a"]), key=lambda s: abs(s.port - found["a"].port))
    assert abs(same.port - found["a"].port) == 1
    return found["a"], same, found["b"]


async def test_receive_times_out_with_the_alarm_value(client, task):
    start = time.monotonic()
    assert await task.receive(timeout=0.05) is None
    assert await task.receive(timeout=0, alarm_value="alarm") == "alarm"
    assert time.monotonic() - start < 5


async def receive_late(*, task):
    return await task.receive(timeout=0.05, alarm_value="alarm")


async def test_receive_times_out_on_a_server_too(client, task):
    assert await client.submit(receive_late) == "alarm"


async def test_client_and_server_talk_both_ways(client, task):
    rtask = await client.rtask(echo)
    rtask.send((task, "hello"))
    word, sender, text = await task.receive(timeout=5)
    assert (word, text) == ("back", "hello") and sender == rtask and sender.location == rtask.location
    sender.send("end")
    assert await rtask == "ended"


async def test_messages_arrive_once_and_in_the_order_of_sending(client, task):
    rtask = await client.rtask(collect, 5000)
    for n in range(5000):
        rtask.send(n)
    assert await rtask == list(range(5000))


async def test_a_servers_messages_to_the_client_keep_their_order(client, task):
    await client.submit(send_numbers, task, 0, 3000)
    assert [await task.receive(timeout=5) for _ in range(3000)] == list(range(3000))


async def test_server_to_server_on_one_node_across_nodes_and_on_one_server(client, task):
    here, same, far = await two_nodes(client)
    for other in (here, same, far):
        receiver = await client.io_rtask_at(other, collect, 1000)
        sender = await client.io_rtask_at(here, send_numbers, receiver, 0, 1000)
        assert await receiver == list(range(1000)), other
        await sender


async def test_deliver_says_1_when_it_is_in_the_mailbox_and_0_after_the_end(client, task):
    here, same, far = await two_nodes(client)
    for place in (here, same, far):
        receiver = await client.io_rtask_at(place, collect, 2)
        assert await receiver.deliver("one") == 1
        deliverer = await client.io_rtask_at(here, deliver_to, receiver, "two", "three")
        one, two = await deliverer
        assert one == 1 and two in (0, 1)  # the third may have been in the mailbox before the task ended
        assert await receiver == ["one", "two"]
        assert receiver.send("late") == 0
        assert await receiver.deliver("late") == 0
        assert await client.submit(deliver_to, receiver, "late") == [0]


async def test_deliver_to_a_task_that_waits_for_a_server_times_out(client, task):
    blockers = [await client.rtask(never) for _ in range(4)]
    queued = client.submit(collect, 1)
    start = time.monotonic()
    assert await queued.deliver("x", timeout=0.2) == 0
    assert 0.15 < time.monotonic() - start < 4
    for blocker in blockers:
        blocker.terminate()
    assert await queued == ["x"]  # it may still arrive, and here it does


async def test_messages_to_a_queued_task_wait_for_it(client, task):
    blockers = [await client.rtask(never) for _ in range(4)]
    queued = client.submit(collect, 3)
    for n in range(3):
        queued.send(n)
    for blocker in blockers:
        blocker.terminate()
    assert await queued == [0, 1, 2]


async def test_ask_and_reply_from_everywhere(client, task):
    here, same, far = await two_nodes(client)
    for place in (here, same, far):
        answerer = await client.io_rtask_at(place, echo)
        assert await answerer.ask({"n": 1}) == {"n": 1}
        assert await (await client.io_rtask_at(here, ask_other, answerer, (1, 2))) == (1, 2)
        answerer.send("end")
        await answerer


async def test_many_questions_at_once_get_their_own_answers(client, task):
    answerer = await client.rtask(echo)
    answers = await asyncio.gather(*[answerer.ask(n, timeout=5) for n in range(300)])
    assert answers == list(range(300))
    answerer.send("end")


async def test_a_server_asks_the_client(client, task):
    asking = await client.rtask(ask_other, task, 20)
    question = await task.receive(timeout=5)
    task.reply(question + 1)
    assert await asking == 21


async def test_ask_times_out_and_a_late_reply_is_dropped(client, task):
    answerer = await client.rtask(ignore, 2)
    start = time.monotonic()
    with raises(TimeoutError):
        await answerer.ask(1, timeout=0.1)
    assert time.monotonic() - start < 5
    answerer.send(2)
    await answerer


async def test_asking_a_task_that_ends_without_a_reply_is_task_lost(client, task):
    here, same, far = await two_nodes(client)
    for place in (here, same, far):
        answerer = await client.io_rtask_at(place, ignore, 1)
        with raises(TaskLost):
            await answerer.ask(1, timeout=5)
        await answerer
        with raises(TaskLost):
            await answerer.ask(1, timeout=5)
        answerer = await client.io_rtask_at(place, ignore, 1)
        with raises(TaskLost):
            await (await client.io_rtask_at(here, ask_other, answerer, 1))


async def test_reply_without_a_question_is_a_clear_error(client, task):
    task.send("no question")
    await task.receive(timeout=5)
    with raises(RuntimeError, "nothing to reply to"):
        task.reply(1)


async def test_receive_of_another_task_is_a_clear_error(client, task):
    rtask = await client.rtask(never)
    with raises(RuntimeError, "send or ask"):
        await rtask.receive(timeout=1)
    rtask.terminate()


async def test_a_monitor_hears_of_the_end_with_its_value(client, task):
    rtask = await client.rtask(echo)
    assert await rtask.monitor() == 0
    rtask.send("end")
    status = await task.receive(timeout=5)
    assert isinstance(status, MonitorStatus)
    assert (status.info, status.type, status.value) == (rtask, StopIteration, "ended")


async def test_a_monitor_hears_of_an_exception(client, task):
    rtask = await client.rtask(raise_later)
    await rtask.monitor()
    rtask.send("now")
    status = await task.receive(timeout=5)
    assert status.info == rtask and status.type is ValueError and "by intent" in str(status.value)
    assert "in raise_later" in status.traceback and "ValueError: by intent" in status.traceback


async def test_a_monitor_hears_of_a_termination(client, task):
    rtask = await client.rtask(never)
    await rtask.monitor()
    rtask.terminate()
    status = await task.receive(timeout=5)
    assert status.info == rtask and status.type is KeyboardInterrupt


async def test_a_task_that_has_ended_already_can_be_monitored(client, task):
    rtask = await client.rtask(collect, 0)
    assert await rtask == []
    await rtask.monitor()
    status = await task.receive(timeout=5)
    assert (status.info, status.type, status.value) == (rtask, StopIteration, [])


async def test_an_error_that_a_monitor_asked_for_after_the_end_is_no_news_at_the_end(client, task):
    rtask = await client.rtask(collect, "no number")
    while rtask.is_alive():
        await task.sleep(0.01)
    await rtask.monitor()
    status = await task.receive(timeout=5)
    assert (status.info, status.type) == (rtask, TypeError)
    assert rtask._source.task.number not in client._lease.ledger.tasks.unread


async def test_tasks_on_servers_monitor_each_other(client, task):
    here, same, far = await two_nodes(client)
    for place in (here, same, far):
        other = await client.io_rtask_at(place, echo)
        watcher = await client.io_rtask_at(here, monitor_other, other)
        # Its word to the task's home, which is here, has come before its reply; what it sends to the task itself might not wait.
        assert await watcher.ask("do you watch?") == "watching"
        other.send("end")
        status = await watcher
        assert (status.info, status.type, status.value) == (other, StopIteration, "ended")


async def test_handles_work_from_inside_dataclasses_dicts_lists_and_results(client, task):
    _, _, far = await two_nodes(client)
    other = await client.io_rtask_at(far, echo)
    rtask = await client.rtask(hand_over, Letter(task, {"echo": [other]}, "hi"))
    message = await task.receive(timeout=5)
    assert message["list"] == [rtask, task] and message["text"] == "hi"
    result = await rtask
    assert result == [rtask, {"sender": task}] and hash(result[0]) == hash(rtask)
    assert await other == "ended"


def count_down(n, *, task):
    while n:
        n -= yield task.receive()
    return "zero"


async def test_local_tasks_of_all_kinds(client, task):
    generator = Task(count_down, 3)
    coroutine = Task(echo)
    for n in (1, 2):
        generator.send(n)
    assert await generator == "zero"
    assert await coroutine.ask("x") == "x"
    assert await coroutine.deliver("end") == 1 and await coroutine == "ended"
    assert await Task(lambda: 5) == 5
    with raises(ValueError, "by intent"):
        failing = Task(raise_later)
        failing.send(0)
        await failing


async def test_a_server_talks_to_a_local_task(client, task):
    local = Task(collect, 10)
    await client.submit(send_numbers, local, 0, 10)
    assert await local == list(range(10))


async def test_a_local_task_is_terminated(client, task):
    from dispycos import TaskTerminated

    local = Task(never)
    await asyncio.sleep(0)
    local.terminate()
    with raises(TaskTerminated):
        await local


async def test_handles_in_gather_wait_wait_for_as_completed_and_shield(client, task):
    handles = [await client.io_rtask(collect, 1) for _ in range(4)]
    done, pending = await asyncio.wait(handles, timeout=0.05)
    assert not done and pending == set(handles)
    handles[2].send("c")
    done, pending = await asyncio.wait(handles, return_when=asyncio.FIRST_COMPLETED)
    assert {h.result()[0] for h in done} == {"c"} and len(pending) == 3
    for handle, letter in zip(handles, "abcd", strict=True):
        handle.send(letter)
    assert await asyncio.gather(*handles) == [["a"], ["b"], ["c"], ["d"]]
    assert sorted([await one async for one in completed(handles)]) == [["a"], ["b"], ["c"], ["d"]]
    assert await asyncio.wait_for(handles[0], 1) == ["a"]
    assert await asyncio.shield(handles[0]) == ["a"]


async def completed(handles):
    for one in asyncio.as_completed(handles, timeout=5):
        yield one


async def test_wait_for_ends_a_task_that_takes_too_long(client, task):
    rtask = await client.rtask(never)
    with raises(TimeoutError):
        await asyncio.wait_for(rtask, 0.1)
    await until(rtask.done, what="its end")  # from 3.12 on wait_for does not wait for that itself


async def test_a_cancelled_shield_leaves_the_task_alone(client, task):
    rtask = await client.rtask(collect, 1)
    with raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(rtask), 0.1)
    assert not rtask.done()
    rtask.send(1)
    assert await rtask == [1]


async def test_gather_collects_exceptions(client, task):
    failing, fine = client.submit(int, "x"), client.submit(int, "5")
    error, five = await asyncio.gather(failing, fine, return_exceptions=True)
    assert isinstance(error, ValueError) and five == 5


async def wait_for_others(others, teller):
    waiting = asyncio.gather(*others)
    teller.send("waiting")
    return await waiting


async def test_a_server_awaits_handles_of_other_tasks(client, task):
    others = [await client.io_rtask(collect, 1) for _ in range(3)]
    waiting = await client.io_rtask(wait_for_others, others, task)
    assert await task.receive(timeout=5) == "waiting"
    await asyncio.sleep(0.1)  # what went to the others may still be on its way
    for n, other in enumerate(others):
        other.send(n)
    assert await waiting == [[0], [1], [2]]


async def wait_for_one(other, teller):
    teller.send("waiting")
    try:
        return await other
    except TaskLost as error:
        return str(error)


async def test_a_server_that_awaits_a_handle_as_its_task_ends_gets_the_value_or_word_of_it(client, task):
    """The value goes to the client alone once the task has ended; whoever comes late hears that, and never waits for ever."""
    for place in await two_nodes(client):
        for _ in range(20):
            other = await client.io_rtask_at(place, collect, 1)
            waiting = await client.io_rtask(wait_for_one, other, task)
            assert await task.receive(timeout=5) == "waiting"
            other.send(1)
            assert await waiting in (
                [1],
                "collect has ended; its value went to the client that asked for it",
            )


if __name__ == "__main__":
    play(globals(), [echo, collect, Letter])

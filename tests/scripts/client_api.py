"""What a program does with a Client: functions of all kinds, where they run, what there is."""

import asyncio
import itertools
import os
import time

from scenarios import play, raises, until

import dispycos
from dispycos import Location, TaskRefused
from dispycos.actors.client.client import BACKLOG_MAX


async def coroutine(n, *, task):
    await task.sleep(0.01)
    return n + 1


def generator(n, *, task):
    yield task.sleep(0.01)
    five = yield 5
    return n + five


def plain(n, more=0):
    return n + more, os.getpid()


def with_task(*, task):
    return task.name, task.location


def busy(seconds):
    start = time.time()
    time.sleep(seconds)
    return os.getpid(), start, time.time()


async def idle(*, task):
    return os.getpid(), await task.receive()


async def test_functions_of_all_three_kinds_run(client, task):
    assert await (await client.rtask(coroutine, 1)) == 2
    assert await (await client.rtask(generator, 1)) == 6
    value, pid = await (await client.rtask(plain, 1, more=2))
    assert value == 3 and pid != os.getpid()


async def test_task_is_passed_to_those_who_name_it(client, task):
    rtask = await client.rtask(with_task)
    name, location = await rtask
    assert name == "with_task" and location == rtask.location and location in await client.servers()


async def test_builtins_and_library_functions_run(client, task):
    assert await client.submit(sum, [1, 2, 3]) == 6
    assert await client.submit(os.path.join, "a", "b") == "a/b"


async def test_nodes_and_servers_are_complete_after_schedule(client, task):
    assert await client.nodes() == ["127.0.0.1"]  # of both
    servers = await client.servers()
    assert len(servers) == len(set(servers)) == 4
    assert all(isinstance(server, Location) and server.addr == "127.0.0.1" for server in servers)


async def test_tasks_lists_what_runs_everywhere_on_a_node_and_on_a_server(client, task):
    handles = [await client.rtask(idle) for _ in range(4)]
    assert set(await client.tasks()) == set(handles)
    for handle in handles:
        assert await client.tasks(handle.location) == [handle]
    on_a, on_b = await client.tasks("a"), await client.tasks("b")
    assert len(on_a) == len(on_b) == 2 and set(on_a + on_b) == set(handles)
    for handle in handles:
        handle.send("end")
    assert [(await handle)[1] for handle in handles] == ["end"] * 4
    assert await client.tasks() == []


async def test_rtask_at_takes_a_node_by_name_and_a_server_by_location(client, task):
    for name in ("a", "b"):
        pid = (await (await client.rtask_at(name, plain, 1)))[1]
        assert (await (await client.io_rtask_at(name, plain, 1)))[1] is not None and pid
    for server in await client.servers():
        rtask = await client.rtask_at(server, plain, 1)
        pid = (await rtask)[1]
        assert rtask.location == server
        io = await client.io_rtask_at(server, plain, 1)
        assert io.location == server and (await io)[1] == pid


async def test_rtask_at_takes_a_nodes_address(client, task):
    assert (await (await client.rtask_at("127.0.0.1", plain, 1)))[0] == 1


async def test_an_unknown_place_is_refused_in_words(client, task):
    with raises(TaskRefused, "nowhere", "a (127.0.0.1:", "b (127.0.0.1:"):
        await client.rtask_at("nowhere", plain, 1)
    with raises(TaskRefused, "127.0.0.9:1", "servers: 127.0.0.1:"):
        await client.io_rtask_at(Location("127.0.0.9", 1), plain, 1)
    with raises(TypeError, "where"):
        await client.rtask_at(5, plain, 1)


async def test_what_is_no_function_is_a_type_error_here(client, task):
    with raises(TypeError, "int"):
        client.submit(5)
    with raises(TypeError):
        await client.submit(plain)


async def test_submit_queues_more_tasks_than_servers_and_loses_none(client, task):
    handles = [client.submit(plain, n) for n in range(500)]
    assert [(await handle)[0] for handle in handles] == list(range(500))


def whose(*own):
    return own


async def submitter(client, name, number):
    """Fifty calls at once, of all kinds; each has a value that nobody else's has."""
    calls = [(name, number, n) for n in range(50)]
    handles = [client.submit(whose, *call) for call in calls[:48]]
    handles.append(await client.rtask(whose, *calls[48]))
    handles.append(await client.io_rtask(whose, *calls[49]))
    assert await asyncio.gather(*handles) == calls


async def test_twenty_submitters_get_each_their_own_values_twenty_times(client, task):
    for number in range(20):
        await asyncio.gather(*[submitter(client, name, number) for name in range(20)])


async def test_ready_waits_until_few_tasks_wait_here(client, task):
    holders = [await client.rtask_at(server, idle) for server in await client.servers()]
    many = [client.submit(plain, number) for number in range(BACKLOG_MAX + 20_000)]  # many go ahead
    ready = asyncio.gather(client.ready(), client.ready())
    await asyncio.sleep(0.05)
    assert not ready.done(), "all servers are held"
    for holder in holders:
        holder.send("go on")
    await ready
    assert client._lease.ledger.dispatcher.waiting <= BACKLOG_MAX
    await client.ready()
    await asyncio.wait(many)


async def test_ready_ends_when_what_waits_is_cancelled(client, task):
    many = [client.submit(plain, n) for n in range(BACKLOG_MAX + 2000)]
    waits = asyncio.ensure_future(client.ready())
    await asyncio.sleep(0)
    for handle in many:
        handle.terminate()
    await waits
    await asyncio.wait(many)


async def test_map_gives_each_argument_with_its_value(client, task):
    found = {n: value async for n, (value, _) in client.map(plain, range(50))}
    assert found == {n: n for n in range(50)}
    pairs = {pair: value async for pair, (value, _) in client.map(plain, [1, 2], [10, 20])}
    assert pairs == {(1, 10): 11, (2, 20): 22}


async def test_map_over_nothing_ends_at_once(client, task):
    assert [x async for x in client.map(plain, [])] == []


async def test_map_raises_what_a_task_raises_and_ends_the_others(client, task):
    with raises(ZeroDivisionError):
        async for _ in client.map(divmod, [1, 1, 1], [1, 0, 1]):
            pass
    await until(lambda: no_tasks(client), what="the others are terminated")


async def test_map_over_an_endless_iterable_is_left_at_will(client, task):
    found = []
    async for _, (value, _) in client.map(plain, itertools.count()):
        found.append(value)
        if len(found) == 100:
            break
    assert len(set(found)) == 100
    await until(lambda: no_tasks(client), what="the others are terminated")
    assert (await client.submit(plain, 3))[0] == 3


async def test_map_gives_its_values_before_what_its_iterable_raises(client, task):
    def broken():
        yield from range(8)
        raise OSError("the disk is gone")

    found = []
    with raises(OSError, "the disk is gone"):
        async for _, value in client.map(abs, broken(), ordered=True):
            found.append(value)
    assert found == [*range(8)]


async def test_map_names_what_cannot_be_sent(client, task):
    with raises(dispycos.NotPicklable, "argument 1", "generator"):
        async for _ in client.map(plain, [1, (n for n in ())]):
            pass


async def test_map_without_a_function_or_an_iterable_says_so_at_once(client, task):
    with raises(TypeError, "int"):
        client.map(5, [1])
    with raises(TypeError, "iterable"):
        client.map(plain)
    with raises(TypeError):
        client.map(plain, 5)
    with raises(dispycos.NotScheduled):
        dispycos.Client().map(plain, [1])


def scaled(n, *, by):
    if n == 1500:
        raise ValueError("not this one")
    return n * by


async def test_short_items_of_a_map_go_together_and_each_has_its_own_end(client, task):
    values = client.map(scaled, range(3000), kwargs={"by": 3}, return_exceptions=True, ordered=True)
    found = [pair async for pair in values]
    assert [n for n, _ in found] == list(range(3000))
    assert all(value == 3 * n for n, value in found if n != 1500)
    (failure,) = values.failures
    assert failure.item == 1500 and found[1500][1] is failure.error
    assert "for the item 1500" in failure.error.__notes__ and "in scaled" in str(failure.error.__cause__)
    with raises(ValueError, "not this one"):
        async for _ in client.map(scaled, range(3000), kwargs={"by": 3}, chunksize=100):
            pass
    await until(lambda: no_tasks(client), what="the others are terminated")


class Made:
    """Its code is here, and nothing of it at a server before."""

    def __init__(self, n):
        self.n = n

    def __call__(self, m):
        return Made(self.n * m)


async def test_items_values_and_functions_of_a_chunk_may_be_anything(client, task):
    found = [
        (made.n, value.n)
        async for made, value in client.map(lambda made: made(2), map(Made, range(50)), chunksize=20)
    ]
    assert sorted(found) == [(n, 2 * n) for n in range(50)]
    assert sorted([value.n async for _, value in client.map(Made(3), range(50), chunksize=20)]) == list(
        range(0, 150, 3)
    )
    lists = [value async for _, value in client.map(bytearray, [100_000] * 4, chunksize=2)]
    assert lists == [bytearray(100_000)] * 4


def wrapped(n):
    return coroutine(n, task=asyncio)


async def test_functions_that_suspend_or_are_given_their_task_run_in_tasks_of_their_own(client, task):
    for function in (coroutine, wrapped):
        assert sorted([value async for _, value in client.map(function, range(40))]) == list(range(1, 41))
    with raises(ValueError, "chunksize=2"):
        client.map(coroutine, range(4), chunksize=2)


def kills_once(n, file):
    if n == 70 and not os.path.exists(file):
        open(file, "w").close()
        os._exit(3)
    return n


async def test_items_of_a_lost_server_are_lost_or_tried_again(client, task):
    file = os.path.abspath("killed")
    found = client.map(kills_once, range(200), kwargs={"file": file}, chunksize=50, retries=1, ordered=True)
    assert [value async for _, value in found] == list(range(200))
    os.remove(file)
    found = client.map(kills_once, range(200), kwargs={"file": file}, chunksize=50, return_exceptions=True)
    lost = {n for n, value in [pair async for pair in found] if isinstance(value, dispycos.TaskLost)}
    assert lost >= set(range(50, 100)), "with what had ended there just before, and was not said yet"


async def test_a_map_ends_at_its_timeout(client, task):
    with raises(TimeoutError, "map(sleep): not within 0.3 s"):
        async for _ in client.map(time.sleep, [0.01, 30.0, 30.0], timeout=0.3):
            pass
    await until(lambda: no_tasks(client), what="the others are terminated")


async def test_a_task_that_raises_stop_iteration_ends_as_others_do(client, task):
    with raises(dispycos.RemoteError, "StopIteration"):
        await client.submit(next, iter([]))


async def no_tasks(client):
    return not await client.tasks()


async def test_one_rtask_at_a_time_on_a_server(client, task):
    spans = await asyncio.gather(*[client.submit(busy, 0.1) for _ in range(12)])
    by_pid = {}
    for pid, start, end in spans:
        by_pid.setdefault(pid, []).append((start, end))
    assert len(by_pid) == 4
    for spans in by_pid.values():
        spans.sort()
        assert all(first[1] <= second[0] for first, second in itertools.pairwise(spans)), spans


async def test_io_rtasks_run_beside_an_rtask(client, task):
    cpu = await client.rtask(idle)
    ios = [await client.io_rtask_at(cpu.location, idle) for _ in range(3)]
    for handle in (cpu, *ios):
        handle.send("end")
    assert len({(await handle)[0] for handle in (cpu, *ios)}) == 1


async def test_io_rtask_at_a_server_that_computes_has_its_task_at_once(client, task):
    server = (await client.servers())[0]
    computing = await client.rtask_at(server, busy, 60)
    io = await client.io_rtask_at(server, idle)
    assert io.location == server and not computing.done(), "it did not wait for the step"
    io.send("end")
    computing.terminate()
    assert (await io)[1] == "end"


async def test_the_least_loaded_node_is_taken_first(client, task):
    handles = []
    for _ in range(2):
        handles.append(await client.rtask(idle))
        handles.append(await client.rtask(idle))
        assert len(await client.tasks("a")) == len(await client.tasks("b"))
    fifth = client.submit(idle)
    assert fifth.location is None
    handles[0].send("end")
    await handles[0]
    await until(lambda: fifth.location == handles[0].location, what="the freed server is used")
    for handle in (*handles[1:], fifth):
        handle.send("end")
        await handle


async def test_an_rtask_for_a_busy_server_waits_and_holds_up_no_other(client, task):
    first = await client.rtask(idle)
    second = client._submit(plain, (1,), {}, where=first.location)
    assert (await client.submit(plain, 2))[0] == 2
    assert not second.done()
    first.send("end")
    await first
    assert (await second)[0] == 1 and second.location == first.location


async def test_a_handle_says_what_it_is(client, task):
    rtask = await client.rtask(idle)
    assert isinstance(rtask, dispycos.Task) and rtask.is_alive() and not rtask.done()
    assert "idle" in repr(rtask) and str(rtask.location) in repr(rtask)
    rtask.send(1)
    await rtask
    assert rtask.done() and not rtask.is_alive() and rtask.result()[1] == 1
    assert await rtask == await rtask.finish(timeout=1) == await rtask()


async def test_finish_times_out_and_the_task_goes_on(client, task):
    rtask = await client.rtask(idle)
    with raises(TimeoutError):
        await rtask.finish(timeout=0.05)
    rtask.send("still here")
    assert (await rtask)[1] == "still here"


async def test_a_second_client_of_the_loop_waits_in_line_and_may_leave_it(client, task):
    second = dispycos.Client([plain])
    with raises(TimeoutError):
        await second.schedule(timeout=0.1)
    with raises(dispycos.NotScheduled):
        second.submit(plain, 1)
    assert (await client.submit(plain, 3))[0] == 3


async def test_schedule_again_is_no_harm(client, task):
    assert await client.schedule() == 0


async def test_a_client_without_a_cluster_says_so(client, task):
    stranger = dispycos.Client([plain])
    with raises(dispycos.NotScheduled, "schedule()"):
        stranger.submit(plain, 1)
    with raises(dispycos.NotScheduled):
        await stranger.nodes()


async def test_bad_parameters_are_named(client, task):
    with raises(FileNotFoundError, "no/such/file"):
        dispycos.Client(["no/such/file.txt"])
    with raises(ValueError, "pulse_interval"):
        dispycos.Client(pulse_interval=0)
    with raises(TypeError, "status_task"):
        dispycos.Client(status_task=5)
    with raises(TypeError, "nodes[0]"):
        dispycos.Client(nodes=[5])
    with raises(TypeError):
        dispycos.Client([5])


if __name__ == "__main__":
    play(globals(), [coroutine, generator, plain])

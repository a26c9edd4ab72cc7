"""A client suspends, closes and starts anew its servers and nodes, while tasks run: two nodes of two servers behind one address."""

import asyncio
import os
import time
from functools import partial

from scenarios import play, raises, until

import dispycos
from dispycos import DispycosNodeAllocate, Location, TaskLost, TaskRefused, TaskTerminated

DATA = MARK = None


def load(value="first"):
    global DATA
    DATA = value


def look():
    return DATA, MARK, os.getpid()


def pid():
    return os.getpid()


def mark():
    global MARK
    MARK = os.getpid()


async def wait(*, task):
    return await task.receive()


async def wait_and_clean(*, task):
    try:
        await task.receive()
    except KeyboardInterrupt:
        await asyncio.sleep(0.05)
        return "cleaned"


def compute(teller):
    """Until it is interrupted."""
    try:
        teller.send("computes")
        while True:
            time.sleep(0.01)
    except KeyboardInterrupt:
        teller.send("interrupted")
        raise


def close_own(restart):
    dispycos_close_server(restart=restart)  # noqa: F821 - tasks find it without an import
    time.sleep(0.05)
    return "went on"


async def close_own_at_once(*, task):
    dispycos.dispycos_server_quit(terminate=True, restart=True)
    await task.receive()


def close_own_node():
    dispycos_close_node()  # noqa: F821
    return "went on"


class Half(DispycosNodeAllocate):
    def allocate(self, ip_addr, name, platform, cpus, memory, disk):
        assert super().allocate(ip_addr, name, platform, cpus, memory, disk) == cpus == 2
        return 1 if name == "b" else 0


async def count(client, number):
    await until(lambda: _has(client, number))


async def _has(client, number):
    return len(await client.servers()) == number


async def first(client):
    return sorted(await client.servers())[0]


async def at(client, where, function, *args):
    return await (await client.rtask_at(where, function, *args))


async def pids(client):
    return {where: await at(client, where, pid) for where in sorted(await client.servers())}


async def test_a_suspended_server_gets_nothing_and_what_it_runs_goes_on(client, task):
    where = await first(client)
    runs = await client.io_rtask_at(where, wait)
    own = await at(client, where, pid)
    assert client.suspend_server(where) == 0
    others = await asyncio.gather(*(client.submit(pid) for _ in range(30)))
    waits = asyncio.ensure_future(client.rtask_at(where, pid))
    runs.send("done")
    assert await runs == "done" and own not in others and not waits.done()
    assert client.resume_server(where) == 0
    assert await (await waits) == own


async def test_a_suspended_node_is_named_by_name_or_address_of_all(client, task):
    on_a = {await (await client.rtask_at("a", pid)) for _ in range(6)}
    client.suspend_node("a")
    assert not on_a & set(await asyncio.gather(*(client.submit(pid) for _ in range(30))))
    client.suspend_node("127.0.0.1")
    waits = asyncio.ensure_future(client.rtask(pid))
    await asyncio.sleep(0.1)
    assert not waits.done()
    client.resume_node("127.0.0.1")
    await (await waits)


async def test_two_nodes_behind_one_address_are_both_meant_by_it(client, task):
    assert await client.nodes() == ["127.0.0.1"] and len(await client.servers()) == 4
    handles = [await client.io_rtask_at(where, wait) for where in await client.servers()]
    assert set(await client.tasks("127.0.0.1")) == set(handles) == set(await client.tasks())
    on_a, on_b = await client.tasks("a"), await client.tasks("b")
    assert len(on_a) == len(on_b) == 2 and set(on_a) | set(on_b) == set(handles)
    assert await client.tasks(handles[0].location) == [handles[0]]
    for handle in handles:
        handle.send(None)
    await asyncio.gather(*handles)


async def test_a_server_that_is_restarted_has_lost_its_globals_and_the_others_have_not(client, task):
    before, where = await pids(client), await first(client)
    await at(client, where, mark)
    assert await at(client, where, look) == ("first", before[where], before[where])
    assert client.restart_server(where) == 0
    await until(lambda: _is_another(client, where, before))
    after = await pids(client)
    assert {place for place in before if before[place] != after[place]} == {where}
    assert await at(client, where, look) == ("first", None, after[where])


async def _is_another(client, where, before):
    try:
        return await at(client, where, pid) != before[where]
    except (TaskRefused, TaskLost, TaskTerminated):
        return False


async def test_close_server_waits_for_cpu_tasks_and_then_interrupts_io_tasks(client, task):
    where = await first(client)
    cpu, io = await client.rtask_at(where, wait), await client.io_rtask_at(where, wait_and_clean)
    client.close_server(where)
    with raises(TaskRefused, "is being closed"):
        await client.rtask_at(where, pid)
    await asyncio.sleep(0.1)
    assert not io.done()
    cpu.send("end")
    assert await cpu == "end" and await io == "cleaned"
    await count(client, 3)
    client.close_server(where)  # it is
    await asyncio.gather(*(client.submit(pid) for _ in range(20)))
    assert where not in await client.servers()
    client.restart_server(where)
    await count(client, 4)


async def test_with_terminate_cpu_tasks_are_interrupted_too(client, task):
    where, before = await first(client), await pids(client)
    cpu = await client.rtask_at(where, compute, task)
    assert await task.receive() == "computes"
    client.close_server(where, terminate=True, restart=True)
    assert await task.receive() == "interrupted"
    with raises(TaskTerminated, "compute was terminated: server ", " was closed"):
        await cpu
    await until(lambda: _is_another(client, where, before))


async def test_a_task_closes_its_own_server_and_goes_on_to_its_end(client, task):
    where, before = await first(client), await pids(client)
    assert await at(client, where, close_own, False) == "went on"
    await count(client, 3)
    client.restart_server(where)
    await count(client, 4)
    assert await at(client, where, close_own, True) == "went on"
    await until(lambda: _is_another(client, where, before))
    before = await pids(client)
    ended = await client.rtask_at(where, close_own_at_once)
    with raises(TaskTerminated):
        await ended
    await until(lambda: _is_another(client, where, before))


async def test_a_node_that_is_restarted_is_set_up_anew(client, task):
    before = await pids(client)
    for args, value in (((42,), 42), ((), 42), (("first",), "first")):
        client.restart_node("a", False, *args)
        await until(partial(_has_data, client, value, before))
        before = await pids(client)
    assert (await at(client, "b", look))[0] == "first"


async def _has_data(client, value, before):
    try:
        data, _, own = await at(client, "a", look)
    except (TaskRefused, TaskLost, TaskTerminated):
        return False
    return data == value and own not in before.values() and await _has(client, 4)


async def test_bad_input_is_named_with_what_there_is(client, task):
    where = await first(client)
    nowhere = Location("127.0.0.1", 1)
    for method in (client.suspend_server, client.resume_server, client.close_server, client.restart_server):
        with raises(TaskRefused, "no server 127.0.0.1:1 is known; there are 127.0.0.1:", str(where)):
            method(nowhere)
        with raises(TypeError, "a server is named by its Location", "'a'"):
            method("a")
    for method in (client.suspend_node, client.resume_node, client.close_node, client.restart_node):
        with raises(TaskRefused, "no node nobody is known; nodes: a (127.0.0.1:"):
            method("nobody")
        with raises(TypeError, "a node is named by a str or a Location, not int"):
            method(5)
    with raises(TaskRefused, "no node nobody"):
        client.abandon_zombie("nobody", True)
    with raises(TypeError, "flag must be True or False"):
        client.abandon_zombie("a", 1)
    for call in (client.close_server, client.restart_server, client.close_node, client.restart_node):
        with raises(TypeError, "terminate must be True or False, not 'yes'"):
            call(where, "yes")
    with raises(TypeError, "restart must be True or False, not 1"):
        client.close_server(where, False, 1)
    with raises(TypeError, "nodes[0] must be a host name"):
        client.node_allocate(5)
    with raises(RuntimeError, "for remote tasks", "client.close_server(where)"):
        dispycos.dispycos_close_server()
    with raises(RuntimeError, "client.close_node(where)"):
        dispycos.dispycos_close_node()


async def test_a_node_is_given_back_and_comes_again_when_it_is_named(client, task):
    client.abandon_zombie("b", True)
    assert await at(client, "b", close_own_node) == "went on"
    with raises(TaskRefused, "b"):
        await client.rtask_at("b", pid)
    await until(lambda: _has_no_b(client))
    with raises(TaskRefused, "node or server b is in use; nodes: a (127.0.0.1:"):
        await client.rtask_at("b", pid)
    client.node_allocate(Half("*"))
    await count(client, 3)
    assert (await client.nodes()) == ["127.0.0.1"]
    client.close_node("b", terminate=True)
    await count(client, 2)


async def _has_no_b(client):
    try:
        client.resume_node("b")
    except TaskRefused:
        return True


if __name__ == "__main__":
    play(globals(), node_setup=load)

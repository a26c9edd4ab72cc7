"""node_setup and server_setup at two nodes: what is loaded once a node, enabled by a status_task, and found by all tasks."""

import asyncio
import os
import sys

from scenarios import until

import dispycos
from dispycos import Scheduler

table = None  # as the client has it
opened = None


def load(words, task=None):
    """In the old syntax: once a node, in the folder where its files are."""
    global table
    import beside

    with open("data/words.txt") as file:
        table = (words, file.read(), beside.VALUE, os.getpid())
    print("loading", words)
    yield task.sleep(0.01)
    return 0


async def open_up(number, *, task):
    global opened
    await asyncio.sleep(0)
    opened = (number, task.location, os.getpid())


def look():
    with open("../data/words.txt") as file, open("../words.txt") as short:
        return table, opened, file.read() == short.read(), os.getppid(), os.getpid()


async def die():
    os._exit(3)


heard = []


def listen(*, task):
    while True:
        message = yield task.receive()
        heard.append(message)
        if not isinstance(message, dispycos.DispycosStatus):
            continue
        if message.status == Scheduler.NodeDiscovered:
            client.enable_node(message.info.location, f"for {message.info.name}")
        elif message.status == Scheduler.ServerDiscovered:
            client.enable_server(message.info, message.info.port)


def statuses():
    return [message.status.name for message in heard if isinstance(message, dispycos.DispycosStatus)]


async def main():
    global client
    client = dispycos.Client(
        ["data/words.txt"],
        status_task=dispycos.Task(listen),
        node_setup=load,
        server_setup=open_up,
        disable_nodes=True,
        disable_servers=True,
    )
    async with client:
        await until(lambda: statuses().count("ServerInitialized") == 4)
        told = statuses()
        for kind in ("Node", "Server"):
            count = 2 if kind == "Node" else 4
            assert told.count(f"{kind}Discovered") == told.count(f"{kind}Initialized") == count, told
        assert (
            told.index("NodeDiscovered") < told.index("NodeInitialized") < told.index("ServerDiscovered")
        ), told
        print("statuses in their order")

        global table
        table = "another thing"  # of the client's; what node_setup made is the nodes' own
        found = {}
        for server in await client.servers():
            for _ in range(2):
                shared, own, same, zygote, pid = await (await client.rtask_at(server, look))
                assert shared[1:3] == ("some words", "beside") and shared[3] == zygote, shared
                assert own[0] == server.port and own[2] == pid and own[1] == server and same, own
                found.setdefault(shared[0], set()).add(zygote)
        assert {words: len(pids) for words, pids in found.items()} == {"for a": 1, "for b": 1}, found
        print("what was loaded is there once a node")

        [server, *_] = await client.servers()
        before = statuses().count("ServerInitialized")
        try:
            await (await client.rtask_at(server, die))
        except dispycos.TaskLost:
            pass
        await until(lambda: statuses().count("ServerInitialized") > before)
        shared, own, *_ = await (await client.rtask_at(server, look))
        assert shared[1] == "some words" and own[0] == server.port, (shared, own)
        print("a replaced server has it too")
    told = statuses()
    assert told[-1] == "ClientClosed" and told.count("NodeInitialized") == 2, told
    print("the end")


if __name__ == "__main__":
    os.makedirs("data", exist_ok=True)
    with open("data/words.txt", "w") as file:
        file.write("some words")
    with open("beside.py", "w") as file:
        file.write("VALUE = 'beside'\n")
    sys.path.insert(0, os.getcwd())
    dispycos.run(main)

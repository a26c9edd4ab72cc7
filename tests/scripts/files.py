"""Files between a program, its nodes, its servers and its tasks."""

import asyncio
import os
import tempfile
from pathlib import Path

from scenarios import play, raises, until

from dispycos import FileNotSent, TaskLost, TaskRefused

HERE = Path(tempfile.mkdtemp(prefix="dispycos-test-"))
DEST = HERE / "results"


def made(name, data):
    path = HERE / name
    path.write_bytes(data)
    return path


def read(path):
    return Path(path).read_bytes()


async def reverse(name, *, task):
    Path("reversed").write_bytes(Path(name).read_bytes()[::-1])
    return await task.send_file(task.client, "reversed", dir="from/task", overwrite=True)


async def spread(where, *, task):
    Path("spread").write_bytes(b"spread")
    return await task.send_file(where, "spread")


async def test_a_file_goes_to_a_task_and_the_result_comes_back_in_a_file(client, task):
    data = os.urandom(5_000_000)
    [server, *_] = await client.servers()
    seen = []
    assert await client.send_file(server, made("input", data), progress=lambda *done: seen.append(done)) == 0
    assert seen[-1] == (5_000_000, 5_000_000) and len(seen) == 5
    assert await (await client.rtask_at(server, reverse, "input")) == 0
    assert read(DEST / "from/task/reversed") == data[::-1]
    assert client.dest_path == DEST


async def test_a_file_for_a_node_lies_above_the_folders_of_its_servers(client, task):
    assert await client.send_file("a", made("table", b"1,2"), dir="data") == 0
    assert await (await client.rtask_at("a", read, "../data/table")) == b"1,2"
    assert await client.del_file("a", "table", dir="data") == 0
    with raises(FileNotFoundError, "node a", "data/table"):
        await client.del_file("a", "table", dir="data")


async def test_the_same_is_not_sent_twice_and_another_one_not_without_being_told(client, task):
    path = made("twice", b"first")
    for _ in range(2):
        assert await client.send_file("b", path) == 0
    for data in (b"other", b"longer than it was"):
        path.write_bytes(data)
        with raises(FileExistsError, str(path), "node b", "overwrite"):
            await client.send_file("b", path)
    assert await client.send_file("b", path, overwrite=True) == 0
    assert await (await client.rtask_at("b", read, "../twice")) == b"longer than it was"


async def test_empty_files_and_names_that_are_no_text_are_files(client, task):
    path = os.fsencode(HERE) + b"/\xff\xfe"
    Path(os.fsdecode(path)).write_bytes(b"")
    assert await client.send_file("a", path) == 0
    assert await (await client.rtask_at("a", os.path.getsize, b"../\xff\xfe")) == 0


async def test_no_path_leads_out_of_the_folder(client, task):
    path = made("evil", b"evil")
    for folder in ("..", "a/../../b", "/tmp"):
        with raises(ValueError, "below"):
            await client.send_file("a", path, dir=folder)
    await (await client.rtask_at("a", os.symlink, str(HERE), "../link"))
    with raises(FileNotSent, "node a", "link"):
        await client.send_file("a", path, dir="link/x")
    assert not (HERE / "x").exists()
    with raises(FileNotSent, "node a"):
        await client.del_file("a", "evil", dir="link")
    assert path.exists()


async def test_what_is_no_file_is_refused(client, task):
    with raises(IsADirectoryError, str(HERE)):
        await client.send_file("a", HERE)
    with raises(FileNotFoundError, "missing"):
        await client.send_file("a", HERE / "missing")
    os.mkfifo(HERE / "pipe")
    with raises(ValueError, "regular"):
        await client.send_file("a", HERE / "pipe")
    with raises(TaskRefused, "nowhere"):
        await client.send_file("nowhere", made("lost", b""))


async def test_a_task_sends_to_nodes_too(client, task):
    assert await (await client.rtask_at("a", spread, "b")) == 0
    assert await (await client.rtask_at("b", read, "../spread")) == b"spread"


async def test_a_file_over_the_limit_of_the_client_is_refused_before_it_travels(client, task):
    def large(*, task):
        with open("large", "wb") as file:
            file.truncate(200 << 20)
        yield task.send_file(task.client, "large")

    with raises(FileNotSent, "large", "Client(max_file_size="):
        await (await client.rtask(large))
    assert not (DEST / "large").exists()


async def test_a_file_that_changes_while_it_travels_is_not_there(client, task):
    path = made("changing", bytes(20 << 20))

    def change(done, size):
        with open(path, "ab") as file:
            file.write(b"x")

    with raises(FileNotSent, "changing"):
        await client.send_file("a", path, progress=change)
    await asyncio.sleep(0.1)
    assert [
        name
        for name in await (await client.rtask_at("a", os.listdir, ".."))
        if "chang" in name or "part" in name
    ] == []


async def vanish(*, task):
    with open("vanishing", "wb") as file:
        file.truncate(50 << 20)
    await task.send_file(task.client, "vanishing", progress=lambda done, size: os._exit(1))


async def test_a_sender_that_dies_leaves_nothing(client, task):
    with raises(TaskLost):
        await (await client.rtask(vanish))
    await until(lambda: not any(name.endswith(".part") for name in os.listdir(DEST)))
    assert not (DEST / "vanishing").exists()


async def test_at_its_timeout_a_file_is_given_up_and_nothing_is_left(client, task):
    with raises(TimeoutError, "slow", "0.05 s"):
        path = made("slow", b"")
        os.truncate(path, 1 << 30)
        await client.send_file("a", path, timeout=0.05)
    path.unlink()
    there = await (await client.rtask_at("a", os.listdir, ".."))
    assert "slow" not in there


async def test_the_cluster_goes_on_while_a_file_travels(client, task):
    path = made("long", b"")
    os.truncate(path, 2 << 30)  # it takes longer than a small task, on any machine
    travels = asyncio.Event()
    sending = asyncio.ensure_future(client.send_file("b", path, progress=lambda done, size: travels.set()))
    await travels.wait()
    assert await client.submit(os.path.join, "a", "b") == "a/b"
    assert not sending.done()
    sending.cancel()
    await asyncio.wait([sending])


if __name__ == "__main__":
    play(globals(), dest_path=DEST, max_file_size="100m")

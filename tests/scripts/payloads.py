"""Large arguments, results and messages."""

import asyncio
import time

from scenarios import play

MEGA = 1 << 20


def there_and_back(data):
    return data


def make(size):
    return bytes(size)


def length(data):
    return len(data)


async def echo(*, task):
    while (message := await task.receive()) is not None:
        task.reply(message)


async def collect_lengths(count, *, task):
    return [len(await task.receive()) for _ in range(count)]


async def send_large(receiver, count):
    for n in range(count):
        receiver.send(bytes([n]) * MEGA)


def pattern(size):
    return bytes(range(256)) * (size // 256)


async def test_50_mb_of_bytes_there_and_back(client, task):
    data = pattern(50 * MEGA)
    assert await client.submit(there_and_back, data) == data


async def test_50_mb_of_numpy_there_and_back(client, task):
    try:
        import numpy
    except ImportError:
        return
    data = numpy.arange(50 * MEGA // 8, dtype=numpy.float64).reshape(1024, -1)
    back = await client.submit(there_and_back, data)
    assert back.shape == data.shape and (back == data).all()
    back[0, 0] = 5  # it is ours to change


async def test_large_results_and_arguments_one_way(client, task):
    assert len(await client.submit(make, 50 * MEGA)) == 50 * MEGA
    assert await client.submit(length, bytes(50 * MEGA)) == 50 * MEGA


async def test_several_large_results_at_once_beside_small_tasks(client, task):
    large = [client.submit(make, 8 * MEGA) for _ in range(6)]
    small = [client.submit(length, b"x") for _ in range(100)]
    assert await asyncio.gather(*small) == [1] * 100
    assert [len(data) for data in await asyncio.gather(*large)] == [8 * MEGA] * 6


async def test_1_mb_messages_back_and_forth(client, task):
    rtask = await client.rtask(echo)
    for n in range(30):
        data = bytes([n]) * MEGA
        assert await rtask.ask(data, timeout=5) == data
    rtask.send(None)


async def test_many_large_messages_at_once(client, task):
    """More than may wait at a sender by send()."""
    rtask = await client.rtask(collect_lengths, 40)
    assert await asyncio.gather(*(rtask.deliver(bytes(MEGA)) for _ in range(40))) == [1] * 40
    assert await rtask == [MEGA] * 40


async def test_large_messages_across_nodes_keep_their_order(client, task):
    receiver = await client.io_rtask_at("a", receive_firsts, 20)
    await client.io_rtask_at("b", send_large, receiver, 20)
    assert await receiver == list(range(20))


async def receive_firsts(count, *, task):
    return [(await task.receive())[0] for _ in range(count)]


async def test_sizes_around_the_limits_of_frames(client, task):
    rtask = await client.rtask(echo)
    for size in (
        0,
        1,
        2**14 - 1,
        2**14,
        2**14 + 1,
        2**17,
        2**18 - 64,
        2**18,
        2**18 + 1,
        2**20,
        3 * 2**20 + 7,
    ):
        data = bytes([size % 251]) * size
        assert await rtask.ask(data, timeout=5) == data, size
        assert await client.submit(there_and_back, data) == data, size
    rtask.send(None)


async def test_a_small_message_is_not_held_up_by_a_large_one(client, task):
    rtask = await client.io_rtask_at("a", echo)
    large = asyncio.ensure_future(client.submit(length, bytes(50 * MEGA))())
    await asyncio.sleep(0)
    start = time.monotonic()
    assert await rtask.ask("small", timeout=5) == "small"
    took = time.monotonic() - start
    assert await large == 50 * MEGA
    assert took < 3.0, took
    rtask.send(None)


if __name__ == "__main__":
    play(globals())

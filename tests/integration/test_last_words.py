"""An outcome comes behind all that its task sent, however large."""

from tests.kit.programs import ROOT, User

SENDS = """
import asyncio

import dispycos


async def send(to):
    to.send(bytes(20_000_000))
    to.send(b"small")


async def receive(*, task):
    print(len(await task.receive()), len(await task.receive()))


async def main():
    async with dispycos.Client([send]) as client:
        here = dispycos.Task(receive)
        sender = client.submit(send, here)
        sender.add_done_callback(lambda _: print("ended"))
        await asyncio.wait([sender, here])


asyncio.run(main())
"""


def test_no_outcome_overtakes_a_large_message_of_its_task() -> None:
    with User(DISPYCOS_CPUS="1", PYTHONPATH=str(ROOT)) as user:
        assert user.script("sends.py", SENDS).succeed(60).splitlines() == ["20000000 5", "ended"]

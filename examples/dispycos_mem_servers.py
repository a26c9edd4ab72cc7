"""Each server keeps a part of the data in memory, and answers questions: `python dispycos_mem_servers.py [FILE ...]`.

The program starts one task a file and has each CPU of the cluster to itself, as if it were a computer of its own: a task loads
the file, then answers whoever asks. `ask` waits for the answer of that one question. Without arguments this script and its
neighbours are the files. Runs alone; where `dispycos node` runs on this or other machines, those are used.
"""

import hashlib
import pathlib
from collections.abc import Sequence

import click

import dispycos

HERE = pathlib.Path(__file__).parent


async def serve(name: str, *, task: dispycos.Task) -> None:
    """Remote task: has the data until it is told to end."""
    data = pathlib.Path(name).read_bytes()
    while (question := await task.receive()) is not None:
        kind, argument = question
        if kind == "count":
            task.reply(data.count(argument))
        elif kind == "digest":
            task.reply(hashlib.new(argument, data).hexdigest())
        else:
            task.reply(f"{kind!r} is no question of mine")


async def main(files: Sequence[pathlib.Path]) -> None:
    async with dispycos.Client([serve]) as client:
        servers = await client.servers()
        keepers: list[tuple[str, dispycos.Task]] = []
        for path, server in zip(files, servers, strict=False):
            await client.send_file(server, path)
            keepers.append((path.name, await client.rtask_at(server, serve, path.name)))
        for name, keeper in keepers:
            lines = await keeper.ask(("count", b"\n"))
            digest = await keeper.ask(("digest", "sha1"))
            print(f"server at {keeper.location} has {name}: {lines} lines, sha1 {digest[:16]}")
            print(f"asked for the weather it says: {await keeper.ask(('weather', ''))}")
            keeper.send(None)


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path))
def command(files: tuple[pathlib.Path, ...]) -> None:
    """Keep FILES in the memory of servers, one each, and ask for what is in them."""
    dispycos.run(main, files or sorted(HERE.glob("dispycos_client*.py")))


if __name__ == "__main__":
    command()

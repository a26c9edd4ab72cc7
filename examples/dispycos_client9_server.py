"""Each server loads data of its own before its first task: `python dispycos_client9_server.py [FILE ...]`.

As dispycos_client9_node.py, for servers: with `disable_servers` each waits until the program has prepared it. The status_task
sends it a file and enables it, whose `server_setup` reads the file into a global of that one process. Without arguments this
script and its neighbours are the files. Runs alone; where `dispycos node` runs on this or other machines, those are used.
"""

import hashlib
import itertools
import pathlib
from collections.abc import Sequence

import click

import dispycos
from dispycos import DispycosStatus, Scheduler

HERE = pathlib.Path(__file__).parent
data = b""
name = ""


def load(path: str) -> None:
    """server_setup: runs once in each server, in the folder where the file is."""
    global data, name
    data, name = pathlib.Path(path).read_bytes(), path


def digest(algorithm: str) -> tuple[str, str, str]:
    """Remote task: what its server has loaded."""
    return name, algorithm, hashlib.new(algorithm, data).hexdigest()


async def prepare_servers(files: Sequence[pathlib.Path], *, task: dispycos.Task) -> None:
    """status_task: a server that is found gets its file, and is enabled."""
    turn = itertools.cycle(files)
    while True:
        word = await task.receive()
        if not isinstance(word, DispycosStatus) or word.status != Scheduler.ServerDiscovered:
            continue
        path, server = next(turn), word.info
        await client.send_file(server, path, overwrite=True)
        client.enable_server(server, path.name)
        print(f"server {server} has {path.name}")


client: dispycos.Client


async def main(files: Sequence[pathlib.Path]) -> None:
    global client
    preparing = dispycos.Task(prepare_servers, files)
    client = dispycos.Client(
        [load, digest],
        status_task=preparing,
        server_setup=load,
        disable_servers=True,
    )
    async with client:
        for handle in [client.submit(digest, algorithm) for algorithm in ("md5", "sha1", "sha256") * 2]:
            file, algorithm, value = await handle
            print(f"{algorithm} of {file}: {value[:32]}")
        preparing.terminate()  # before the client leaves: what comes from now on need not be prepared


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path))
def command(files: tuple[pathlib.Path, ...]) -> None:
    """Process FILES in the memory of servers."""
    dispycos.run(main, files or sorted(HERE.glob("dispycos_client*.py")))


if __name__ == "__main__":
    command()

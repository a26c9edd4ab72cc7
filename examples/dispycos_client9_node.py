"""Data is loaded once a node, and all its servers share the memory: `python dispycos_client9_node.py [FILE ...]`.

With `disable_nodes` a node that is found waits until the program has prepared it: a status_task sends it a file and then
enables it, whose `node_setup` reads the file into a global. Servers are forked after that, so each sees the data without a
copy. Without arguments this script and its neighbours are the files. Runs alone; where `dispycos node` runs on other machines,
those are used.
"""

import hashlib
import itertools
import pathlib
from collections.abc import Sequence

import click

import dispycos
from dispycos import DispycosNodeAllocate, DispycosStatus, Scheduler

HERE = pathlib.Path(__file__).parent
data = b""
name = ""


def load(path: str) -> None:
    """node_setup: runs once in each node, before its servers are there."""
    global data, name
    data, name = pathlib.Path(path).read_bytes(), path


def digest(algorithm: str) -> tuple[str, str, str]:
    """Remote task: the data is in the memory of its server already."""
    return name, algorithm, hashlib.new(algorithm, data).hexdigest()


async def prepare_nodes(files: Sequence[pathlib.Path], *, task: dispycos.Task) -> None:
    """status_task: a node that is found gets its file, and is enabled."""
    turn = itertools.cycle(files)
    while True:
        word = await task.receive()
        if not isinstance(word, DispycosStatus) or word.status != Scheduler.NodeDiscovered:
            continue
        path, node = next(turn), word.info.avail_info.location
        await client.send_file(node, path, overwrite=True)
        client.enable_node(node, path.name)
        print(f"node {word.info.name} has {path.name}")


client: dispycos.Client


async def main(files: Sequence[pathlib.Path]) -> None:
    global client
    preparing = dispycos.Task(prepare_nodes, files)
    client = dispycos.Client(
        [load, digest],
        nodes=[
            DispycosNodeAllocate("*", platform="Windows", cpus=0),
            DispycosNodeAllocate("*"),
        ],  # no fork there
        status_task=preparing,
        node_setup=load,
        disable_nodes=True,
    )
    async with client:
        for handle in [client.submit(digest, algorithm) for algorithm in ("md5", "sha1", "sha256") * 2]:
            file, algorithm, value = await handle
            print(f"{algorithm} of {file}: {value[:32]}")
        preparing.terminate()  # before the client leaves: what comes from now on need not be prepared


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path))
def command(files: tuple[pathlib.Path, ...]) -> None:
    """Process FILES in the memory of nodes."""
    dispycos.run(main, files or sorted(HERE.glob("dispycos_client*.py")))


if __name__ == "__main__":
    command()

"""Files go to tasks and come back: `python dispycos_client4.py [FILE ...]`.

Each file is sent to a server, a task there counts its words, writes them to another file and sends that back. It lies in the
folder `--to` then. Without arguments this script and its neighbours are the files. Runs alone; where `dispycos node` runs on this
or other machines, those are used.
"""

import collections
import pathlib
import re
from collections.abc import Sequence

import click

import dispycos

HERE = pathlib.Path(__file__).parent


async def count_words(name: str, *, task: dispycos.Task) -> str:
    """Remote task, in a folder of its server: the files it reads and writes need no path."""
    words = collections.Counter[str](re.findall(r"[a-z]+", pathlib.Path(name).read_text().lower()))
    counts = pathlib.Path(f"{name}.words")
    counts.write_text("".join(f"{count:6} {word}\n" for word, count in words.most_common()))
    await task.send_file(task.client, counts)
    return counts.name


async def main(files: Sequence[pathlib.Path], to: str) -> None:
    async with dispycos.Client([count_words], dest_path=to) as client:
        servers = await client.servers()
        for number, path in enumerate(files):
            server = servers[number % len(servers)]
            await client.send_file(server, path, overwrite=True)
            result = await (await client.rtask_at(server, count_words, path.name))
            most = (client.dest_path / result).read_text().split()[1]
            print(
                f"{path.name} was counted at {server}: mostly {most!r}; all words are in {client.dest_path / result}"
            )


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path))
@click.option("--to", default="words", show_default=True, help="Folder for what the tasks send.")
def command(files: tuple[pathlib.Path, ...], to: str) -> None:
    """Count the words of FILES on servers."""
    dispycos.run(main, files or sorted(HERE.glob("dispycos_client*.py"))[:4], to)


if __name__ == "__main__":
    command()

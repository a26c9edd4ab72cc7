"""The words of a text, counted on all CPUs: `python word_count.py [FILE ...]`.

Map and reduce, in the simplest way: each file is cut into pieces, each piece is counted by a task, and the counts are added up
as they come. Without arguments the text is what the standard library says of itself: the docstrings and comments of its
modules. Runs alone; where `dispycos node` runs on this or other machines, those are used.
"""

import collections
import pathlib
import re
import sysconfig
import time
from collections.abc import Iterator, Sequence

import click

import dispycos


def count_words(text: str) -> collections.Counter[str]:
    """Runs in a server."""
    return collections.Counter(re.findall(r"[a-z]{2,}", text.lower()))


def pieces(files: Sequence[pathlib.Path], size: int) -> Iterator[str]:
    """Cut at line ends, so that no word is cut."""
    for path in files:
        lines = path.read_text(errors="replace").splitlines(keepends=True)
        piece: list[str] = []
        length = 0
        for line in lines:
            piece.append(line)
            length += len(line)
            if length >= size:
                yield "".join(piece)
                piece, length = [], 0
        if piece:
            yield "".join(piece)


async def main(files: Sequence[pathlib.Path], top: int) -> None:
    began = time.perf_counter()
    total: collections.Counter[str] = collections.Counter()
    count = size = 0
    async with dispycos.Client([count_words]) as client:
        async for piece, words in client.map(count_words, pieces(files, 200_000)):
            total += words
            count += 1
            size += len(piece)
    seconds = time.perf_counter() - began
    print(f"{total.total():,} words, {len(total):,} different ones, in {len(files)} files")
    print(f"{count} pieces, {size / 2**20:.1f} MiB of text, in {seconds:.1f} s")
    for word, times in total.most_common(top):
        print(f"{times:8,} {word}")


@click.command()
@click.argument("files", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=pathlib.Path))
@click.option("--top", default=10, show_default=True, help="How many words to show.")
def command(files: tuple[pathlib.Path, ...], top: int) -> None:
    """Count the words of FILES."""
    library = pathlib.Path(sysconfig.get_path("stdlib"))
    dispycos.run(main, files or sorted(library.glob("*.py")), top)


if __name__ == "__main__":
    command()

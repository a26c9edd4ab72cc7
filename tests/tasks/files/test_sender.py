"""What is said of a file before anything of it leaves."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from dispycos.actors.tasks.files.sender import Files, Source
from dispycos.errors import FileNotSent


async def nobody(where: Any) -> list[Any]:
    return []


def send(path: Path, size_max: int = 0, **options: Any) -> int:
    given = {"dir": None, "overwrite": False, "timeout": None, "progress": None, **options}
    files = Files(None, 1, nobody, print, lambda: size_max)  # type: ignore[arg-type]
    return asyncio.run(files.send("a", path, **given))


def test_what_the_scheduler_does_not_allow_does_not_leave(tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(11))
    with pytest.raises(
        FileNotSent,
        match=r"big .* 11 bytes, more than the 10 that the scheduler allows; .*--max_file_size 11",
    ):
        send(tmp_path / "big", 10)
    assert send(tmp_path / "big", 11) == 0


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"overwrite": 1}, TypeError, "overwrite must be True or False"),
        ({"progress": 5}, TypeError, "progress must be callable"),
        ({"dir": "/x"}, ValueError, "absolute"),
        ({"dir": "x/../.."}, ValueError, "upwards"),
    ],
)
def test_arguments_of_no_use_are_named(
    tmp_path: Path, options: dict[str, Any], kind: type, words: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(kind, match=words):
        send(tmp_path / "file", **options)


def test_a_source_that_shrinks_grows_or_is_rewritten_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for change in (b"ab", b"abcd", b"xyz"):
        path.write_bytes(b"abc")
        source = Source(path)
        path.write_bytes(change)
        os.utime(path, (1, 1))
        with pytest.raises(FileNotSent, match="file was not sent"):
            source.read(0, 3)
        source.close()

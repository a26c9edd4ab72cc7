"""The files of the page: a map made once, so that no path of a request is ever opened."""

from __future__ import annotations

import mimetypes
from pathlib import Path
from typing import Final

from starlette.responses import Response

from .answers import Refusal

FILES_MAX: Final = 1000  # who names "/" has made a mistake
SIZE_MAX: Final = 20_000_000  # bytes of one
TYPES: Final = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".svg": "image/svg+xml",
    ".css": "text/css",
}


class NoPage(Exception):
    """The folder is of no use, in words."""


class Folder:
    """Raises NoPage."""

    def __init__(self, root: Path) -> None:
        self._files: dict[str, tuple[Path, str]] = {}
        if not root.is_dir():
            raise NoPage(f"DocumentRoot: there is no folder {root}")
        for path in sorted(root.rglob("*")):
            if len(self._files) == FILES_MAX:
                raise NoPage(
                    f"DocumentRoot: there are more than {FILES_MAX:,} files in {root}: is it the page's?"
                )
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(root).parts):
                kind = (
                    TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
                )
                self._files[path.relative_to(root).as_posix()] = path, kind
        if "index.html" not in self._files:
            raise NoPage(f"DocumentRoot: there is no index.html in {root}")

    def answer(self, name: str) -> Response:
        """Raises Refusal."""
        found = self._files.get(name)
        if found is None:
            raise Refusal(404, f"there is no such file: {name[:100]!r}")
        path, kind = found
        try:
            if path.stat().st_size > SIZE_MAX:
                raise Refusal(404, f"{name} has more than {SIZE_MAX:,} bytes")
            return Response(path.read_bytes(), media_type=kind)
        except OSError as error:
            raise Refusal(404, f"{name}: {error.strerror}") from None

"""`dispycos docker-files`: where the package's Dockerfile and compose file are, or a copy of them (spec 6.11)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import dispycos.version
from dispycos.config import DockerSettings, Failure

DATA = Path(dispycos.version.__file__).parent / "data"


def run(settings: DockerSettings) -> int:
    """Nothing that is there already is overwritten: it may have been changed for tasks that need more."""
    files = sorted(file for file in DATA.iterdir() if file.is_file())
    if settings.copy is not None:
        files = [_copy(file, settings.copy) for file in files]
    if settings.json:
        print(json.dumps({"files": [str(file) for file in files]}))
        return 0
    for file in files:
        print(file)
    return 0


def _copy(file: Path, folder: Path) -> Path:
    copy = folder / file.name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with open(file, "rb") as source, open(copy, "xb") as target:
            shutil.copyfileobj(source, target)
    except FileExistsError:
        raise Failure(f"{copy} is there already", "remove it, or name another folder") from None
    except OSError as error:
        raise Failure(f"{copy} cannot be written: {error.strerror}") from None
    return copy

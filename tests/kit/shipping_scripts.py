"""Runs scripts as a user would: files in a folder of their own, a fresh interpreter."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from textwrap import dedent

KIT = Path(__file__).parent
ROOT = KIT.parents[1]


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))


def run_python(
    folder: Path, *arguments: str, files: Mapping[str, str] | None = None, text: str | None = None
) -> str:
    """Standard output; fails with all output unless the exit code is 0."""
    write_files(folder, files or {})
    # The checkout is on the path as a user's own folder may be; dispycos itself is never a local module.
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join([str(KIT), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env=environ,
        input=None if text is None else dedent(text),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

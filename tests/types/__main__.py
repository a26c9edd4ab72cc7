"""What type checkers say of programs that use dispycos, those of programs/ and examples/, strictly: `python -m tests.types`.

A line that ends in `# error` has to be refused by each checker, and no other line may be. A checker that is not there is left out,
and that is said; with --all it is an error.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
UNTYPED = {"grid_search.py"}  # scikit-learn has no types, and may not be installed
PROGRAMS = sorted(
    path
    for path in [*(HERE / "programs").glob("*.py"), *(ROOT / "examples").glob("*.py")]
    if path.name not in UNTYPED
)


class Line(NamedTuple):
    file: str
    number: int


Words = dict[Line, str]  # what a checker says of each line that it refuses


def marked(files: list[Path]) -> set[Line]:
    return {
        Line(str(file.relative_to(ROOT)), number)
        for file in files
        for number, text in enumerate(file.read_text().splitlines(), 1)
        if text.endswith("# error")
    }


def mypy() -> Words:
    """Of the newest run of mypy for this tree it takes what is cached."""
    said = call("mypy", "--strict", "--hide-error-context", "--no-pretty", *map(str, PROGRAMS))
    found: Words = {}
    for file, number, words in re.findall(r"^(.+?):(\d+): error: (.*)$", said, re.MULTILINE):
        found.setdefault(Line(os.path.relpath(file, ROOT), int(number)), words)
    return found


def pyright() -> Words:
    config = HERE / "pyrightconfig.json"
    said = call("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(config))
    found: Words = {}
    for word in json.loads(said)["generalDiagnostics"]:
        if word["severity"] == "error":
            line = Line(os.path.relpath(word["file"], ROOT), word["range"]["start"]["line"] + 1)
            found.setdefault(line, word["message"].splitlines()[0])
    return found


def call(checker: str, *options: str) -> str:
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", checker, *options], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    if done.returncode not in (0, 1):  # 1: there are errors
        raise RuntimeError(f"{checker} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def differences(expected: set[Line], found: Words) -> list[str]:
    unexpected = [
        f"{line.file}:{line.number}: {words}" for line, words in sorted(found.items()) if line not in expected
    ]
    missing = [f"{line.file}:{line.number}: is not refused" for line in sorted(expected - found.keys())]
    return unexpected + missing


def why_not(checker: str) -> str:
    """Why it cannot be run; "" if it can."""
    done = subprocess.run([sys.executable, "-m", checker, "--version"], capture_output=True, text=True)
    return (done.stderr.strip().splitlines() or ["no reason given"])[-1] if done.returncode else ""


def main(checkers: Mapping[str, Callable[[], Words]], *, all_of_them: bool) -> int:
    expected, failed = marked(PROGRAMS), False
    for name, check in checkers.items():
        reason = why_not(name)
        if reason:
            print(f"{name}: not run: {reason}")
            failed |= all_of_them
            continue
        different = differences(expected, check())
        print(
            f"{name}: {len(PROGRAMS)} programs, {len(expected)} lines to refuse: {len(different) or 'no'} differences"
        )
        print("".join(f"  {line}\n" for line in different), end="")
        failed |= bool(different)
    return failed


if __name__ == "__main__":
    sys.exit(main({"mypy": mypy, "pyright": pyright}, all_of_them="--all" in sys.argv[1:]))

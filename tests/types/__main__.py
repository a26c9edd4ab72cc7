"""What type checkers say of programs that use dispycos, those of programs/ and examples/, strictly: `python -m tests.types`.

A line that ends in `# error` has to be refused by each checker, and no other line may be. And pyright has to know the type of each
name that users reach. A checker that is not there is left out, and that is said; with --all it is an error.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import dispycos
from dispycos.actors.client.sync_submitting import SyncOptioned
from dispycos.actors.pool.future import Future
from dispycos.actors.tasks.mapping import Failure
from dispycos.actors.tasks.submitting import Optioned

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


def reached() -> set[str]:
    """The functions and classes that users import or are given, with what these inherit, by module and name."""
    given = [Optioned, SyncOptioned, Future, Failure]
    found = set()
    for value in [*(getattr(dispycos, name) for name in dispycos.__all__), *given]:
        for each in inspect.getmro(value) if inspect.isclass(value) else [value]:
            if getattr(each, "__module__", "").startswith("dispycos."):
                found.add(f"{each.__module__}.{each.__qualname__}")
    return found


def unknown() -> tuple[int, list[str]]:
    """How many names there are in what users reach, and those whose types pyright does not know for sure."""
    said = call("pyright", "--outputjson", "--ignoreexternal", "--verifytypes", "dispycos")
    whole, names, found = reached(), 0, []
    for symbol in json.loads(said)["typeCompleteness"]["symbols"]:
        name = symbol["name"]
        if name in whole or name.rpartition(".")[0] in whole:
            names += 1
            if symbol["isTypeAmbiguous"] or not symbol["isTypeKnown"]:
                found.append(" ".join([name, *(word["message"] for word in symbol["diagnostics"])]))
    return names, found


def call(checker: str, *options: str) -> str:
    here = os.path.dirname(sys.executable)  # where pyright looks for a Python with dispycos
    environment = {**os.environ, "MYPYPATH": str(ROOT), "PYTHONPATH": str(ROOT)}
    environment["PATH"] = os.pathsep.join([here, environment.get("PATH", "")])
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


def tell_unknown() -> bool:
    """Whether there are any."""
    names, found = unknown()
    print(f"pyright: {names} names that users reach: {len(found) or 'none'} of an unknown type")
    print("".join(f"  {line}\n" for line in found), end="")
    return bool(found) or not names


if __name__ == "__main__":
    failed = main({"mypy": mypy, "pyright": pyright}, all_of_them="--all" in sys.argv[1:])
    if not why_not("pyright"):
        failed |= tell_unknown()
    sys.exit(failed)

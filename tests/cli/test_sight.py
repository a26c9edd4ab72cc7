"""What other processes can read of a passphrase, in the one that was given it and in what that one forked later."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dispycos.cli.sight import take_out_of_sight

PASSPHRASE = "correct horse battery staple"
PROGRAM = """
import os, sys
from dispycos.cli.sight import take_out_of_sight
print(take_out_of_sight(sys.argv[1]))
del sys.argv[1]
if os.fork():
    os.wait()
else:
    for name in ("cmdline", "environ"):
        print(repr(open(f"/proc/self/{name}").read()))
    print(sys.argv, sys.orig_argv, os.environ.get("DISPYCOS_SECRET"), flush=True)
    os._exit(0)
"""


def told_by_a_fork(*arguments: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, PASSPHRASE, *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="overwriting what /proc shows is possible on Linux only")
@pytest.mark.parametrize(
    "arguments",
    [
        ("-s", PASSPHRASE),
        (f"--secret={PASSPHRASE}",),
        (f"-ds{PASSPHRASE}", "-c", "2"),
        (PASSPHRASE, PASSPHRASE),
    ],
)
def test_no_fork_shows_a_passphrase_however_it_was_given(arguments: tuple[str, ...]) -> None:
    told = told_by_a_fork(*arguments)
    assert told.startswith("True\n")
    assert "horse" not in told and "***" in told
    assert all(word in told for word in arguments if PASSPHRASE not in word)


@pytest.mark.skipif(sys.platform != "linux", reason="overwriting what /proc shows is possible on Linux only")
def test_the_variable_goes_and_its_neighbours_stay() -> None:
    told = told_by_a_fork(
        A_FIRST="1",
        DISPYCOS_SECRET="another horse",
        DISPYCOS_SECRET_FILE="/a/file",
        NOT_DISPYCOS_SECRET="kept",
    )
    assert "another" not in told and "None" in told
    assert all(
        word in told for word in ("A_FIRST=1", "DISPYCOS_SECRET_FILE=/a/file", "NOT_DISPYCOS_SECRET=kept")
    )


def test_a_passphrase_that_stands_in_a_file_is_shown_by_nobody() -> None:
    assert take_out_of_sight("this is in nobody's command line")
    assert take_out_of_sight(None)


def test_where_a_command_line_cannot_be_overwritten_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dispycos.cli.sight._addresses", lambda field: (0, 0))
    monkeypatch.setattr(sys, "argv", ["dispycos", "node", "-s", PASSPHRASE])
    assert not take_out_of_sight(PASSPHRASE)
    assert sys.argv[3] == "*" * len(PASSPHRASE)

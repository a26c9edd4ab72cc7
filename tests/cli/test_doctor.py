"""`dispycos doctor`: it looks at this machine and loopback, ends whatever hangs there, leaves nothing, and its exit code tells."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from dispycos.cli import network_checks
from dispycos.cli.doctor import examine, run, show
from dispycos.cli.findings import Finding
from dispycos.cli.host_checks import installation, limits, look_at_clock, look_at_place, look_at_secret
from dispycos.cli.network_checks import echo, look_at_peers, stranger
from dispycos.config import Failure, ViewSettings
from dispycos.transport.question import Question
from dispycos.transport.secret import SecretError
from dispycos.values import HostPort

pytestmark = [pytest.mark.timeout(30), pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")]

LOCAL = ViewSettings(ip_addr=("127.0.0.1",))


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Of a person who has nothing yet."""
    with tempfile.TemporaryDirectory(prefix="dc-") as name:
        folder = Path(name)
        for variable in [name for name in os.environ if name.startswith(("DISPYCOS_", "XDG_"))]:
            monkeypatch.delenv(variable)
        (folder / "run").mkdir(mode=0o700)
        monkeypatch.setenv("HOME", str(folder))
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder / "run"))
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def loggers() -> Iterator[None]:
    """The command sets levels for its whole process, which is ours here."""
    kept = [(logger, logger.level) for logger in map(logging.getLogger, ("dispycos", "asyncio", "zeroconf"))]
    yield
    for logger, level in kept:
        logger.setLevel(level)


def test_it_tells_each_thing_and_leaves_nothing(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = run(ViewSettings(ip_addr=("127.0.0.1",), json=True))
    found = json.loads(capsys.readouterr().out)["findings"]
    assert {
        "python",
        "libraries",
        "cpus",
        "folders",
        "clock",
        "secret",
        "addresses",
        "multicast",
        "ports",
        "cluster",
    } <= {one["check"] for one in found}
    assert code == any(one["level"] == "error" for one in found)
    assert [path.relative_to(home).as_posix() for path in home.rglob("*")] == ["run"]


def test_a_check_that_hangs_is_named_and_left_and_one_that_fails_is_a_finding() -> None:
    gate = threading.Event()

    def hangs() -> list[Finding]:
        gate.wait(20)
        return []

    def misused() -> list[Finding]:
        raise Failure("it is wrong", "do this")

    def broken() -> list[Finding]:
        raise OSError("no such device")

    try:
        found = examine({"a": hangs, "b": misused, "c": broken, "d": lambda: [Finding("d", "ok", "")]}, 0.3)
    finally:
        gate.set()
    assert found == [
        Finding("b", "error", "it is wrong", "do this"),
        Finding("c", "error", "OSError: no such device"),
        Finding("d", "ok", ""),
        Finding("a", "error", "no answer within 0.3 s: it hangs"),
    ]


def test_where_no_thread_can_be_started_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    (found,) = examine({"a": list})
    assert found.level == "error" and "can't start new thread" in found.text and "ulimit -u" in found.remedy


def test_libraries_that_are_missing_are_named_and_the_machine_is_looked_at(home: Path) -> None:
    program = """
        import sys
        sys.modules.update(zmq=None, msgspec=None, zeroconf=None)
        from dispycos.cli.main import run
        sys.exit(run(["doctor", "--json"]))
    """
    done = subprocess.run([sys.executable, "-c", dedent(program)], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (1, "")
    found = {(one["check"], one["level"]): one["text"] for one in json.loads(done.stdout)["findings"]}
    assert "zeroconf" in found["libraries", "error"] and "cannot be imported" in found["libraries", "error"]
    assert ("secret", "ok") in found and ("folders", "ok") in found and ("network", "error") in found


def test_lines_are_aligned_with_what_to_do_below(capsys: pytest.CaptureFixture[str]) -> None:
    show(
        [
            Finding("a", "ok", "well"),
            Finding("long name", "error", "bad", "repair it"),
            Finding("b", "warning", "odd"),
        ]
    )
    assert capsys.readouterr().out.splitlines() == [
        "ok       a          well",
        "error    long name  bad",
        "                    -> repair it",
        "warning  b          odd",
        "1 error, 1 warning",
    ]


def test_what_setup_cfg_asks_for_is_installed_here() -> None:
    seen = installation()
    assert seen.least_python == "3.11" and seen.has_curve
    libraries = {library.name: library for library in seen.libraries}
    assert {"pyzmq", "msgspec", "dill", "psutil", "zeroconf", "click", "rich"} <= set(libraries)
    assert libraries["pyzmq"].least == "26" and libraries["pyzmq"].note.startswith("libzmq ")
    assert not [library.trouble for library in seen.libraries if library.trouble]


def test_limits_are_those_of_this_process() -> None:
    import resource

    seen = limits()
    assert seen.files == resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert seen.threads is None or 0 < seen.threads_used <= seen.threads


def test_a_folder_has_to_be_ours_alone_and_to_take_a_socket(home: Path) -> None:
    folder = home / "x"
    assert look_at_place("sockets", folder / "y" / "z").trouble == ""
    assert not folder.exists()
    folder.mkdir(mode=0o755)
    assert look_at_place("sockets", folder).remedy == f"chmod 700 {folder}"
    folder.chmod(0o700)
    found = look_at_place("sockets", folder)
    assert found.trouble == "" and found.free and not list(folder.iterdir())
    deep = folder / ("n" * 100)
    deep.mkdir(mode=0o700)
    assert "AF_UNIX path too long" in look_at_place("sockets", deep).trouble
    assert look_at_place("files of tasks", deep).trouble == ""
    (home / "file").write_text("")
    assert "not a folder" in look_at_place("sockets", home / "file").trouble


def test_the_clock_is_compared_with_a_file_of_now() -> None:
    assert [one.level for one in look_at_clock()] == ["ok"]


def test_a_secret_is_looked_at_and_not_made(home: Path) -> None:
    assert "there is none yet" in look_at_secret(LOCAL)[0].text
    assert not (home / ".config").exists()
    file = home / "secret"
    file.write_text("ab" * 32)
    file.chmod(0o644)
    with pytest.raises(SecretError, match="mode 644"):
        look_at_secret(ViewSettings(secret_file=file))
    file.chmod(0o600)
    assert look_at_secret(ViewSettings(secret_file=file))[0].text.startswith(f"from {file}")


def test_a_question_to_all_on_loopback_comes_back() -> None:
    seen = asyncio.run(echo(["127.0.0.1"]))
    assert (list(seen.asked), list(seen.heard), seen.trouble) == (["127.0.0.1"], ["127.0.0.1"], "")


def test_what_does_not_come_back_is_not_waited_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network_checks, "ECHO_S", 0.05)
    monkeypatch.setattr(Question, "ask", lambda question: None)
    assert list(asyncio.run(echo(["127.0.0.1"])).heard) == []


def test_a_port_5353_that_a_stranger_has_alone_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mine:
        mine.bind(("127.0.0.1", 0))
        monkeypatch.setattr(network_checks, "PORT", mine.getsockname()[1])
        assert "Address already in use" in asyncio.run(echo(["127.0.0.1"])).trouble


def test_who_listens_at_a_port_is_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert stranger(listener.getsockname()[1]).endswith(f"(pid {os.getpid()})")


def test_hosts_that_are_named_are_tried_by_tcp() -> None:
    with socket.socket() as other, socket.socket() as nobody:
        for sock in (other, nobody):
            sock.bind(("127.0.0.1", 0))
        other.listen()
        greeting = threading.Thread(target=_greet, args=(other, b"SSH-2.0"), daemon=True)
        greeting.start()
        places = [HostPort("127.0.0.1", sock.getsockname()[1]) for sock in (other, nobody)]
        told = [one.text for one in asyncio.run(look_at_peers(ViewSettings(peer=tuple(places))))]
        greeting.join(5)
    assert "another program listens there, which says b'SSH-2.0'" in told[0]
    assert "nobody listens there" in told[1]


def _greet(listener: socket.socket, words: bytes) -> None:
    """Twice: whether it is open is asked first."""
    for _ in range(2):
        connection, _ = listener.accept()
        connection.sendall(words)
        connection.close()

"""What every long-running process has: keys, sockets, its entry in the registry, links to what is named or found, its end."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import socket
import stat
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from dispycos.cli import process as process_module
from dispycos.cli.process import Process, is_free, load_keys, set_up_logging
from dispycos.config import CommonSettings, Failure
from dispycos.transport.addresses import tcp_endpoint
from dispycos.transport.discovery import Presence, Registry
from dispycos.transport.folders import find_folders
from dispycos.transport.ports import PortTaken
from dispycos.transport.secret import Secret, SecretError
from dispycos.transport.security import Keys
from dispycos.values import HostPort

pytestmark = pytest.mark.timeout(30)

KEYS = Keys.from_secret(Secret(b"o" * 32, "test"))
THEIRS = Keys.from_secret(Secret(b"t" * 32, "test"))
SETTINGS = CommonSettings(ip_addr=("127.0.0.1",))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing of the user's is touched."""
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("DISPYCOS_IP_ADDR", "127.0.0.1")
    monkeypatch.delenv("DISPYCOS_SECRET", raising=False)
    return tmp_path


def make(
    role: str = "node", keys: Keys | None = KEYS, *, name: str = "box", private: bool = False
) -> Process:
    return Process(role, name, SETTINGS, keys, private=private)


def play(scene: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        async with asyncio.timeout(20):
            await scene()

    asyncio.run(main())


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


def presence_of(process: Process, keys: Keys | None = KEYS) -> Presence:
    assert keys is not None
    return Presence(
        process.role,
        process.name,
        ("127.0.0.1",),
        process.port,
        keys.tag,
        process.runtime.epoch,
        key=keys.listener.public.decode(),
    )


# --- keys ---


def test_the_users_own_secret_makes_the_keys(home: Path) -> None:
    keys = load_keys(CommonSettings())
    assert keys is not None
    assert keys.tag == Secret.load_or_make().tag
    assert (home / "dispycos" / "secret").exists()


def test_a_secret_file_that_others_can_read_is_no_key(tmp_path: Path) -> None:
    path = tmp_path / "open"
    path.write_text("ab" * 32)
    path.chmod(0o644)
    with pytest.raises(SecretError, match="644"):
        load_keys(CommonSettings(secret_file=path))


def test_without_keys_it_is_said_loudly(caplog: pytest.LogCaptureFixture, home: Path) -> None:
    assert load_keys(CommonSettings(insecure=True)) is None
    assert "INSECURE" in caplog.text
    assert not (home / "dispycos").exists()


@pytest.mark.parametrize("debug", [True, False])
def test_tables_are_looked_at_after_each_turn_with_debug_only(debug: bool) -> None:
    async def scene() -> None:
        process = Process("node", "box", CommonSettings(debug=debug, insecure=True), None)
        async with process:
            assert process.runtime.checks == ([process.runtime.router.check] if debug else [])

    play(scene)


# --- sockets ---


def test_a_process_listens_where_it_may_and_knows_its_port() -> None:
    async def scene() -> None:
        process = make()
        async with process:
            port = process.listen_tcp(0)
            assert port == process.port and port > 0
            assert not is_free("127.0.0.1", port)
        assert is_free("127.0.0.1", port)

    play(scene)


@pytest.mark.parametrize("role", ["node", "scheduler"])
def test_a_process_listens_at_its_ip_addr_only(role: str) -> None:
    async def scene() -> None:
        process = Process(role, "box", CommonSettings(ip_addr=("127.0.0.2",)), KEYS)
        async with process:
            port = process.listen_tcp(0)
            assert is_free("127.0.0.1", port) and not is_free("127.0.0.2", port)

    play(scene)


def test_a_port_in_use_is_said_with_the_remedy() -> None:
    async def scene() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            async with make() as process:
                with pytest.raises(PortTaken) as info:
                    process.listen_tcp(port)
                assert f"port {port} is in use" in str(info.value) and "another port" in info.value.remedy

    play(scene)


def test_a_port_that_is_not_allowed_is_a_failure_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    import zmq

    async def scene() -> None:
        async with make() as process:

            def listen(endpoint: str) -> str:
                raise zmq.ZMQError(zmq.EACCES if hasattr(zmq, "EACCES") else 13)

            monkeypatch.setattr(process.runtime, "listen", listen)
            with pytest.raises(Failure, match=r"cannot listen at tcp://127.0.0.1:80: ."):
                process.listen_tcp(80)

    play(scene)


def test_the_local_socket_lies_in_a_private_folder_and_goes_with_the_process() -> None:
    async def scene() -> None:
        process = make()
        async with process:
            path = Path(process.listen_ipc())
            assert stat.S_ISSOCK(path.stat().st_mode)
            assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
            assert len(os.fsencode(path)) <= 107
        assert not path.exists()

    play(scene)


def test_two_processes_have_two_local_sockets() -> None:
    async def scene() -> None:
        async with make() as one, make() as two:
            assert one.listen_ipc() != two.listen_ipc()

    play(scene)


@pytest.mark.parametrize("address", ["127.0.0.1", "*", "::1"])
def test_a_free_port_is_known_from_a_taken_one(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        taken = socket.socket(family)
        taken.bind(("127.0.0.1" if address == "*" else address, 0))
    except OSError:
        pytest.skip(f"no {address} here")
    with taken:
        port = taken.getsockname()[1]
        taken.listen()
        assert not is_free(address, port)
    assert is_free(address, port)


# --- the registry ---


def test_an_announced_process_is_in_the_registry_until_it_ends() -> None:
    registry = Registry(find_folders().registry)

    async def scene() -> None:
        process = make()
        async with process:
            process.listen_tcp(0)
            process.ports = (process.port + 1,)
            process.listen_ipc()
            await process.announce(multicast=False)
            (entry,) = registry.read()
            assert (entry.role, entry.name, entry.pid, entry.port, entry.ports) == (
                "node",
                "box",
                os.getpid(),
                process.port,
                (process.port + 1,),
            )
            assert (entry.ipc, entry.tag, entry.epoch) == (process.ipc, KEYS.tag, process.runtime.epoch)
            assert entry.addresses == ("127.0.0.1",)
            assert entry.key == KEYS.listener.public.decode()
        assert registry.read() == []

    play(scene)


def test_a_private_process_is_not_taken_for_a_public_one() -> None:
    async def scene() -> None:
        async with make("scheduler", private=True) as process:
            await process.announce(multicast=False)
            (entry,) = Registry(find_folders().registry).read()
            assert entry.role == "private-scheduler"

    play(scene)


def test_the_entry_goes_although_the_process_fails() -> None:
    async def scene() -> None:
        with pytest.raises(ValueError):
            async with make() as process:
                await process.announce(multicast=False)
                raise ValueError
        assert Registry(find_folders().registry).read() == []

    play(scene)


# --- finding others ---


def test_what_is_found_of_the_own_cluster_is_told_and_reached() -> None:
    async def scene() -> None:
        async with make("scheduler") as here, make("node", name="there") as there:
            there.listen_tcp(0)
            found: list[Presence] = []
            here.on_presence = found.append
            here._found(presence_of(there))
            here._found(presence_of(here))  # mDNS shows us ourselves
            assert found == [presence_of(there)]
            here.reach(found[0])
            here.reach(found[0])
            assert len(here._finds) == 1
            await until(lambda: here.runtime.is_linked(there.runtime.epoch))
            here.reach(presence_of(there))
            assert len(here._finds) == 1

    play(scene)


def test_of_many_hints_the_first_go_and_those_that_proved_themselves_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process_module, "HINTS_MAX", 3)

    async def scene() -> None:
        async with make("scheduler") as here, make("node", name="there") as there:
            there.listen_tcp(0)
            here.reach(presence_of(there))
            await until(lambda: here.runtime.is_linked(there.runtime.epoch))
            with socket.create_server(("127.0.0.1", 0)) as silent:
                port = silent.getsockname()[1]
                hints = [
                    Presence("node", "hint", (f"127.0.0.{k}",), port, KEYS.tag, 70 + k) for k in range(1, 8)
                ]
                for hint in hints:
                    here.reach(hint)
                places = [(hint.addresses, hint.port) for hint in hints]
                assert list(here._finds) == [(("127.0.0.1",), there.port), *places[-3:]]
                assert here.runtime.is_linked(there.runtime.epoch)
                here.reach(hints[0])  # announced again
                assert places[0] in here._finds

    play(scene)


def test_who_is_faster_dials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_module, "OTHER_DIALS_S", 0.5)

    async def scene() -> None:
        async with make("scheduler") as here, make("node") as there:
            here.listen_tcp(0)
            there.listen_tcp(0)
            here.reach_later(presence_of(there))
            there.reach(presence_of(here))
            await until(lambda: here.runtime.is_linked(there.runtime.epoch))
            await asyncio.sleep(0.6)
            assert here._finds == {}

    play(scene)


def test_a_found_process_of_another_cluster_hears_that_it_is_refused_and_so_do_we() -> None:
    async def scene() -> None:
        async with make("node", THEIRS, name="there") as there, make("scheduler") as here:
            there.listen_tcp(0)
            said: list[tuple[str, str]] = []
            heard: list[str] = []
            here.notice = lambda text, level: said.append((text, level))
            there.notice = lambda text, level: heard.append(text)
            here.on_presence = lambda found: pytest.fail("not of this cluster")
            here.knocks = True
            for _ in range(3):
                here._found(presence_of(there, THEIRS))
            await until(lambda: said and heard)
            await until(lambda: not here._tasks)
            ((text, level),) = said
            assert level == "warning"
            assert f"there at 127.0.0.1:{there.port}" in text and "dispycos secret show" in text
            assert heard[0].startswith("refused 127.0.0.1") and len(heard) == 1

    play(scene)


def test_only_who_knocks_dials_another_cluster() -> None:
    async def scene() -> None:
        async with make("node", THEIRS) as there, make("scheduler") as here:
            there.listen_tcp(0)
            here._found(presence_of(there, THEIRS))
            assert not here._tasks

    play(scene)


def test_the_same_visitor_is_told_of_once() -> None:
    async def scene() -> None:
        async with make() as process:
            said: list[str] = []
            process.notice = lambda text, level: said.append(text)
            for text in ("refused a", "refused b", "refused a"):
                process.runtime.on_refused(text)
            assert said == ["refused a", "refused b"]
            for number in range(process_module.REFUSED_MAX + 10):
                process.runtime.on_refused(f"refused {number}")
            assert len(process._refused) == process_module.REFUSED_MAX

    play(scene)


def test_a_named_place_is_reached_whatever_its_name_is() -> None:
    async def scene() -> None:
        async with make("node") as here, make("scheduler") as there:
            port = there.listen_tcp(0)
            here.reach_named([HostPort("localhost", port)], 1, "--peer", "scheduler")
            await until(lambda: here.runtime.is_linked(there.runtime.epoch))

    play(scene)


def test_a_named_place_without_port_has_the_default_one() -> None:
    async def scene() -> None:
        async with make("node") as here, make("scheduler") as there:
            port = there.listen_tcp(0)
            here.reach_named([HostPort("127.0.0.1", None)], port, "--peer", "scheduler")
            await until(lambda: here.runtime.is_linked(there.runtime.epoch))

    play(scene)


def test_a_named_place_of_another_kind_is_an_error_in_words() -> None:
    async def scene() -> None:
        async with make("scheduler") as here, make("scheduler") as there:
            said: list[tuple[str, str]] = []
            here.notice = lambda text, level: said.append((text, level))
            port = there.listen_tcp(0)
            here.reach_named([HostPort("127.0.0.1", port)], 1, "--node", "node")
            await until(lambda: said)
            assert said == [(f"--node 127.0.0.1:{port} is a scheduler; the option is for a node", "error")]

    play(scene)


def test_a_named_place_that_refuses_is_an_error_in_words() -> None:
    async def scene() -> None:
        async with make("node", THEIRS) as here, make("scheduler") as there:
            there.notice = lambda text, level: None
            said: list[tuple[str, str]] = []
            here.notice = lambda text, level: said.append((text, level))
            here.reach_named([HostPort("127.0.0.1", there.listen_tcp(0))], 1, "--peer", "scheduler")
            await until(lambda: said)
            assert said[0][1] == "error"
            assert said[0][0].startswith("--peer 127.0.0.1:") and "copy the secret file" in said[0][0]

    play(scene)


def test_a_name_that_does_not_exist_is_an_error_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*about: object, **more: object) -> list[object]:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", fail)

    async def scene() -> None:
        async with make("node") as here:
            said: list[tuple[str, str]] = []
            here.notice = lambda text, level: said.append((text, level))
            here.reach_named([HostPort("nowhere", 9)], 1, "--node", "node")
            await until(lambda: said)
            assert said[0][1] == "error"
            assert said[0][0].startswith("--node nowhere:9: ")

    play(scene)


# --- the end ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_asks_for_the_end(number: int) -> None:
    before = signal.getsignal(number)

    async def scene() -> None:
        async with make() as process:
            os.kill(os.getpid(), number)
            await asyncio.wait_for(process.stopping.wait(), 5)

    try:
        play(scene)
    finally:
        signal.signal(number, before)


def test_what_runs_beside_must_not_fail_unheard() -> None:
    async def fail() -> None:
        raise LookupError("beside")

    async def scene() -> None:
        with pytest.raises(LookupError, match="beside"):
            async with make() as process:
                process.keep(fail())
                await asyncio.wait_for(process.stopping.wait(), 5)

    play(scene)


def test_an_error_of_its_own_comes_before_that_of_what_runs_beside() -> None:
    async def fail() -> None:
        raise LookupError("beside")

    async def scene() -> None:
        with pytest.raises(ValueError, match="own"):
            async with make() as process:
                process.keep(fail())
                await process.stopping.wait()
                raise ValueError("own")

    play(scene)


def test_what_runs_beside_ends_with_the_process() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append("beside")

    async def scene() -> None:
        async with make() as process:
            process.keep(forever())
            await asyncio.sleep(0)
        await until(lambda: ended)

    play(scene)


def test_links_end_with_the_process() -> None:
    async def scene() -> None:
        async with make("scheduler", name="there") as there:
            port = there.listen_tcp(0)
            async with make("node") as here:
                here.diallers.append(here.runtime.dial([tcp_endpoint("127.0.0.1", port)]))
                await here.diallers[0].ready
                epoch = here.runtime.epoch
                await until(lambda: there.runtime.is_linked(epoch))
            await until(lambda: not there.runtime.is_linked(epoch))

    play(scene)


@pytest.mark.parametrize(("debug", "level"), [(True, logging.DEBUG), (False, logging.INFO)])
def test_logging_goes_to_standard_error(monkeypatch: pytest.MonkeyPatch, debug: bool, level: int) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(logging, "basicConfig", lambda **options: given.update(options))
    for name in ("asyncio", "zeroconf"):
        monkeypatch.setattr(logging.getLogger(name), "level", logging.getLogger(name).level)
    set_up_logging(debug=debug)
    assert given["level"] == level
    assert given["stream"] is sys.stderr
    record = logging.LogRecord("dispycos", level, "", 0, "node n", None, None)
    line = logging.Formatter(given["format"], given["datefmt"]).format(record)
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\S* (DEBUG|dispycos:) node n$", line), line
    set_up_logging(debug=False, times=False)
    assert given["format"] == "dispycos: %(message)s"

"""Finding each other: the registry's files, mDNS between network namespaces, this host's addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median

import msgspec
import pytest

from dispycos.config import Failure
from dispycos.transport.addresses import (
    AddressError,
    HostAddresses,
    find_addresses,
    is_named,
    resolve,
    resolve_endpoint,
    tcp_endpoint,
)
from dispycos.transport.claims import kernel_mark
from dispycos.transport.discovery import Presence, Registry, _service, host_mark, read_service
from dispycos.transport.folders import SWEPT_AFTER_S, FolderError, find_folders, make_private, sweep_sockets
from tests.kit.netns import Hosts, why_unavailable

NO_NAMESPACES = why_unavailable()
needs_namespaces = pytest.mark.skipif(bool(NO_NAMESPACES), reason=NO_NAMESPACES or "-")


def entry(**changes: object) -> Presence:
    plain = Presence(
        role="node",
        name="host-2",
        pid=os.getpid(),
        addresses=("10.0.0.1", "127.0.0.1"),
        port=9706,
        ports=(9706, 9707, 9708),
        ipc="ipc:///run/x",
        tag="0123456789abcdef",
        epoch=2**64 - 1,
        python=(3, 12),
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


# --- the registry ---


def test_who_is_announced_is_read_until_withdrawn(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "run" / "registry")
    assert registry.read() == []
    path = registry.announce(entry())
    assert registry.read() == [entry()]
    assert (tmp_path / "run" / "registry").stat().st_mode & 0o777 == 0o700
    registry.withdraw(path)
    registry.withdraw(path)
    assert registry.read() == [] and not list((tmp_path / "run" / "registry").iterdir())


ANNOUNCER = """
import sys
from pathlib import Path
import msgspec
from dispycos.transport.discovery import Presence, Registry
folder, *entries = sys.argv[1:]
registry = Registry(Path(folder))
for entry in entries:
    registry.announce(msgspec.json.decode(entry, type=Presence))
print("announced", flush=True)
input()
"""


@contextmanager
def announced(folder: Path, *entries: Presence) -> Iterator[subprocess.Popen[str]]:
    """By another process; it is killed at the end of the block."""
    texts = [msgspec.json.encode(entry).decode() for entry in entries]
    process = subprocess.Popen(
        [sys.executable, "-c", ANNOUNCER, str(folder), *texts],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        wait_line(process, "announced")
        yield process
    finally:
        process.kill()
        process.communicate(timeout=10)


def test_a_process_that_is_gone_is_neither_read_nor_kept(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    with announced(tmp_path / "registry", entry(epoch=7)):
        assert registry.read() == [entry(epoch=7)]
    assert registry.read() == [] and not list((tmp_path / "registry").iterdir())


def test_a_pid_says_nothing_of_who_lives(tmp_path: Path) -> None:
    """It is another process's in another container."""
    registry = Registry(tmp_path / "registry")
    with announced(tmp_path / "registry", entry(epoch=7, pid=2**22)):  # nobody's here
        assert [found.epoch for found in registry.read()] == [7]
    written = registry.announce(entry(epoch=8))
    left = written.with_name(written.name.replace(f"{8:016x}", f"{9:016x}"))
    left.write_bytes(written.read_bytes())  # with the pid of one who lives
    assert [found.epoch for found in registry.read()] == [8] and not left.exists()


def test_announced_again_an_entry_is_the_same_ones(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    path = registry.announce(entry())
    assert registry.announce(entry(name="now")) == path
    assert [found.name for found in Registry(tmp_path / "registry").read()] == ["now"]


def test_entries_of_containers_that_share_the_folder_go_when_their_process_has_ended(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    path = registry.announce(entry())
    beside = path.with_name(kernel_mark() + "f" * 8 + path.name.removeprefix(host_mark()))
    path.rename(beside)
    assert registry.read() == [] and beside.exists(), "it lives, but its loopback is not ours"
    registry.withdraw(path)
    assert registry.read() == [] and not beside.exists()


def test_the_socket_of_a_process_that_was_killed_goes_with_its_entry_and_nothing_else_does(
    tmp_path: Path,
) -> None:
    left, file = tmp_path / "n1-1.sock", tmp_path / "file"
    file.touch()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(left))
    there = entry(epoch=1, ipc=str(left))
    with announced(tmp_path / "registry", there, replace(there, epoch=2), entry(epoch=3, ipc=str(file))):
        pass
    assert Registry(tmp_path / "registry").read() == []
    assert not left.exists() and file.exists() and not list((tmp_path / "registry").iterdir())


def test_a_socket_at_which_somebody_listens_stays_whatever_an_entry_says(tmp_path: Path) -> None:
    there = tmp_path / "n1-1.sock"
    with announced(tmp_path / "registry", entry(ipc=str(there))):
        pass
    with socket.socket(socket.AF_UNIX) as living:
        living.bind(str(there))
        living.listen()
        assert Registry(tmp_path / "registry").read() == []
        assert there.exists()


def test_files_that_are_not_ours_are_passed_over_and_left(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    tmp_path.chmod(0o700)
    mine = registry.announce(entry())
    broken = tmp_path / f"{host_mark()}-1-0.json"
    for content in (
        b"",
        b"[]",
        b'{"role": 5}',
        b"\xff\xfe",
        b"{" * 70_000,
        mine.read_bytes().replace(b"9706", b'"x"'),
    ):
        broken.write_bytes(content)
        assert registry.read() == [entry()]
    (tmp_path / "another-container-1-0.json").write_bytes(mine.read_bytes())
    assert registry.read() == [entry()]
    assert broken.exists() and (tmp_path / "another-container-1-0.json").exists()


def test_reading_the_registry_takes_less_than_two_milliseconds(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "registry")
    for epoch in range(8):
        registry.announce(entry(epoch=epoch))
    times = []
    for _ in range(20):
        start = time.perf_counter()
        assert len(registry.read()) == 8
        times.append(time.perf_counter() - start)
    print(f"registry of 8: {min(times) * 1000:.2f} ms")
    assert min(times) < 0.002


def test_two_processes_with_a_shared_folder_see_each_other(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from dispycos.transport.discovery import Registry;"
        "print([e.name for e in Registry(Path(sys.argv[1])).read()])"
    )
    registry = Registry(tmp_path / "r")
    registry.announce(entry())
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "r")], capture_output=True, text=True
    )
    assert done.stdout == "['host-2']\n"


# --- folders ---


def test_folders_follow_xdg_and_home(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir(mode=0o700)
    found = find_folders({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(run)})
    assert found.secret_file == tmp_path / ".config/dispycos/secret"
    assert found.registry == run / "dispycos/registry"
    assert found.notes == ()
    assert find_folders({"HOME": "/x", "XDG_CONFIG_HOME": str(tmp_path)}).config == tmp_path / "dispycos"


def test_a_runtime_folder_open_to_others_is_not_used(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    assert (
        tmp_path
        not in find_folders({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}).runtime.parents
    )


def test_ipc_sockets_get_a_short_folder_when_the_runtime_folder_is_long(tmp_path: Path) -> None:
    run = tmp_path / ("x" * 80)
    run.mkdir(mode=0o700)
    found = find_folders({"HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(run)})
    assert found.runtime == run / "dispycos"
    assert len(str(found.sockets)) < 80


def test_without_a_usable_home_there_is_a_fallback_and_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    found = find_folders({"HOME": f"{tmp_path}/file"})
    assert found.config == found.temporary / "config"
    assert [n for n in found.notes if f"{tmp_path}/file" in n and str(found.config) in n]


def test_a_private_folder_is_ours_alone_or_refused(tmp_path: Path) -> None:
    assert make_private(tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(FolderError, match="chmod 700"):
        make_private(tmp_path / "open")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    with pytest.raises(FolderError, match="not a folder of this user"):
        make_private(tmp_path / "link")
    with pytest.raises(FolderError, match="cannot be made"):
        make_private(Path("/proc/nowhere"))


def test_only_old_sockets_at_which_nobody_listens_are_swept(tmp_path: Path) -> None:
    listening, dead, young = (tmp_path / f"{name}.sock" for name in ("listening", "dead", "young"))
    with socket.socket(socket.AF_UNIX) as open_one:
        open_one.bind(str(listening))
        open_one.listen(1)
        for path in (dead, young):
            with socket.socket(socket.AF_UNIX) as closed:
                closed.bind(str(path))
        for path in (listening, dead):
            long_ago = path.stat().st_mtime - 2 * SWEPT_AFTER_S
            os.utime(path, (long_ago, long_ago))
        sweep_sockets(tmp_path)
        assert sorted(tmp_path.iterdir()) == [listening, young]


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to become a user without an entry")
def test_a_user_without_name_or_home_has_folders_and_a_secret(tmp_path: Path) -> None:
    program = (
        "import os, platformdirs.unix\n"
        "from dispycos.transport.folders import find_folders\n"
        "from dispycos.transport.secret import Secret\n"
        "from dispycos.transport.discovery import Registry\n"
        "os.setgid(54321); os.setuid(54321)\n"
        "f = find_folders(); print(f.notes); print(Secret.load_or_make().source);"
        "print(Registry(f.registry).read())"
    )
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.name.startswith(("pytest-", "popen-")):  # one more of a worker's
            parent.chmod(0o711)
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"TMPDIR": str(tmp_path), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.stdout.splitlines()[1:] == [f"{tmp_path}/dispycos-54321/config/secret", "[]"], done.stderr


# --- addresses ---


def test_this_host_has_loopback_last_and_announces_everything() -> None:
    found = find_addresses()
    assert "127.0.0.1" in found.own and found.to_bind == ("*",)
    assert found.announced == found.own or not [a for a in found.announced if a.startswith("127.")]
    assert found.main == found.own[0]


def test_ip_addr_restricts_what_is_bound_and_announced() -> None:
    found = find_addresses(["127.0.0.1"])
    assert (found.own, found.to_bind, found.announced) == (("127.0.0.1",),) * 3
    assert find_addresses(["127.0.0.2"]).main == "127.0.0.2"


def test_an_external_address_stands_for_the_inner_one_and_is_never_bound() -> None:
    found = find_addresses(["127.0.0.1"], ["ec2.example.com"])
    assert found.announced == ("ec2.example.com",)
    assert (found.main, found.to_bind) == ("ec2.example.com", ("127.0.0.1",))
    assert find_addresses((), ["203.0.113.9"]).announced == ("203.0.113.9",)
    inner = tuple(map(ipaddress.ip_interface, ("10.0.0.5/8", "192.168.1.5/24")))
    assert HostAddresses(inner, external=("203.0.113.9",)).announced == ("203.0.113.9",)
    chosen = HostAddresses(inner, is_restricted=True, external=("203.0.113.9",))
    assert chosen.announced == ("203.0.113.9", "192.168.1.5")


@pytest.mark.parametrize(
    ("endpoint", "named"),
    [
        ("tcp://10.0.0.1:9706", False),
        ("tcp://[::1]:9706", False),
        ("ipc:///run/a:b.sock", False),
        ("tcp://localhost:9706", True),
    ],
)
def test_a_host_is_resolved_where_it_is_dialled(endpoint: str, named: bool) -> None:
    """Inside of a cloud its name may mean another address than outside."""
    assert is_named(endpoint) == named
    found = asyncio.run(resolve_endpoint(endpoint))
    assert ("tcp://127.0.0.1:9706" in found) if named else found == (endpoint,)


def test_an_address_of_another_host_is_refused_and_those_of_this_one_are_named() -> None:
    with pytest.raises(AddressError, match=r"203\.0\.113\.9 is not an address of this host") as caught:
        find_addresses(["203.0.113.9"])
    assert "127.0.0.1" in caught.value.remedy and isinstance(caught.value, Failure)


def test_endpoints_have_brackets_where_libzmq_wants_them() -> None:
    assert tcp_endpoint("10.0.0.1", 5) == "tcp://10.0.0.1:5"
    assert tcp_endpoint("::1", "*") == "tcp://[::1]:*"


def test_names_become_numbers_in_a_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*arguments: object, **named: object) -> list[object]:
        time.sleep(0.5)
        return []

    def deny(*arguments: object, **named: object) -> list[object]:
        raise socket.gaierror(-2, "no such name")

    async def main() -> None:
        assert await resolve("10.1.2.3") == ("10.1.2.3",)
        assert {"127.0.0.1", "::1"} & set(await resolve("localhost"))
        monkeypatch.setattr("socket.getaddrinfo", deny)
        with pytest.raises(AddressError, match=r"host\.invalid is not known: no such name"):
            await resolve("host.invalid")
        monkeypatch.setattr("socket.getaddrinfo", hang)
        with pytest.raises(AddressError, match="no name server"):
            await resolve("slow.invalid", timeout_s=0.05)

    start = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - start < 5


# --- mDNS ---

ANNOUNCE = """
import asyncio, signal, sys, time
from dispycos.transport.addresses import find_addresses
from dispycos.transport.discovery import Multicast, Presence
async def main(only):
    multicast = Multicast(only)
    print("open", repr(await multicast.open()), flush=True)
    own = find_addresses(only).announced
    await multicast.announce(Presence("node", "host.b-2", own, 9706, "ab" * 8, 2**63, "k" * 40, "", (3, 12)))
    print("announced", flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    await ended.wait()
    start = time.monotonic()
    await multicast.close()
    print(f"closed {time.monotonic() - start:.2f}", flush=True)
asyncio.run(main(sys.argv[1:]))
"""
BROWSE = """
import asyncio, sys, time
from dispycos.transport.discovery import Multicast
async def main(patience, only):
    multicast, start, seen = Multicast(only), time.monotonic(), asyncio.Event()
    note = await multicast.open()
    if note: print("note", note)
    def found(p):
        print(f"found {time.monotonic() - start:.2f}", p, flush=True); seen.set()
    await multicast.browse(found)
    try:
        await asyncio.wait_for(seen.wait(), patience)
        if patience > 10: await asyncio.sleep(3600)
    except TimeoutError:
        print("nobody")
    start = time.monotonic(); await multicast.close(); print(f"closed {time.monotonic() - start:.2f}")
asyncio.run(main(float(sys.argv[1]), sys.argv[2:]))
"""


def python(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", program, *arguments]


def wait_line(process: subprocess.Popen[str], wanted: str) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(wanted):
            return line
    raise AssertionError(f"no {wanted!r} before the end: {process.stderr.read() if process.stderr else ''}")


def test_what_a_service_says_is_what_was_announced_and_nonsense_is_passed_over() -> None:
    here = Presence("node", "box", ("10.0.0.1",), 9706, "ab" * 8, 2**63, "k" * 40, python=(3, 12))
    assert read_service(_service(here)) == here
    older = replace(here, python=None)  # one that does not say its Python
    assert read_service(_service(older)) == older
    for odd in ({"python": (3, 1200)}, {"role": "No de"}, {"tag": "ab"}, {"key": "k"}, {"addresses": ()}):
        assert read_service(_service(replace(here, **odd))) is None


@needs_namespaces
@pytest.mark.timeout(40)
def test_another_host_is_found_soon_whoever_starts_first() -> None:
    with Hosts(2) as (a, b):
        waiting = a.start(python(BROWSE, "20"))
        announcer = b.start(python(ANNOUNCE))
        wait_line(announcer, "announced")
        start = time.monotonic()
        told = wait_line(waiting, "found")
        assert time.monotonic() - start < 4
        late = a.run(python(BROWSE, "5")).stdout
        print("waiting:", told, "late:", late)
        assert f"name='host.b-2', addresses=('{b.address}',), port=9706" in told
        assert "python=(3, 12)" in told
        assert f"tag='{'ab' * 8}', epoch={2**63}, key='{'k' * 40}'" in told
        assert float(late.split()[1]) < 2
        # The answer to all follows by then, and only what was heard there can be said goodbye to.
        time.sleep(1.5)
        announcer.terminate()
        goodbye = wait_line(announcer, "closed")
        print("announcer", goodbye)
        assert float(goodbye.split()[1]) < 1, "a goodbye must not hold up the end"
        time.sleep(2)  # for so long after a goodbye it may be taken back
        b.start(python(ANNOUNCE))
        assert "name='host.b-2'" in wait_line(waiting, "found"), "gone and there again, it is found again"


ASK_FIRST = """
import asyncio, sys, time
from dispycos.transport.addresses import find_addresses
from dispycos.transport.question import Question
question = Question(find_addresses().own)
time.sleep(1)  # imports, for example
from dispycos.transport.discovery import Multicast
async def main():
    print("answered", await question.answered(0.01))
    multicast, seen = Multicast(), asyncio.Event()
    await multicast.open()
    def found(p): print("found", p.name); seen.set()
    start = time.monotonic()
    await multicast.browse(found, question=question)
    await asyncio.wait_for(seen.wait(), 5)
    print(f"after {time.monotonic() - start:.3f}")
    await multicast.close()
asyncio.run(main())
"""


@needs_namespaces
@pytest.mark.timeout(40)
def test_who_answers_a_question_that_was_asked_before_there_was_a_loop_is_found_as_soon_as_somebody_listens() -> (
    None
):
    with Hosts(2) as (a, b):
        wait_line(b.start(python(ANNOUNCE)), "announced")
        time.sleep(2.5)  # it was told to all
        answered, found, after = a.run(python(ASK_FIRST)).stdout.splitlines()
        assert (answered, found) == ("answered True", "found host.b-2")
        assert float(after.split()[1]) < 0.1  # what is asked now is answered, too


@needs_namespaces
@pytest.mark.timeout(40)
def test_several_that_ask_at_the_same_time_are_all_answered_at_once() -> None:
    with Hosts(2) as (a, b):
        wait_line(b.start(python(ANNOUNCE)), "announced")
        time.sleep(2.5)  # it was told to all
        asking = [a.start(python(BROWSE, "5")) for _ in range(4)]
        took = [float(wait_line(process, "found").split()[1]) for process in asking]
        assert max(took) < 0.9, took  # else it was the question of a second later


UNANSWERED = """
import asyncio, socket
from contextlib import suppress
from dispycos.transport.question import GROUP, PORT, Question
async def main():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as group:
        group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        group.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        group.bind((GROUP, PORT))
        group.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(GROUP) + socket.inet_aton("127.0.0.1"))
        group.setblocking(False)
        question = Question(["127.0.0.1", "::1"])
        assert not await question.answered(0.3)
        heard = []
        with suppress(BlockingIOError):
            while True:
                heard.append(group.recv(1000))
        question.close()
    print(len([data for data in heard if b"_dispycos" in data]))
asyncio.run(main())
"""


@needs_namespaces
@pytest.mark.timeout(40)
def test_a_question_to_which_nobody_answers_is_asked_again() -> None:
    with Hosts(1) as (alone,):
        ran = alone.run(python(UNANSWERED))
        assert int(ran.stdout or 0) >= 3, ran


THIEF = """
import socket, time
def share():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("10.77.0.1", 5353))
    return sock
shared = [share() for _ in range(100)]
print("sharing", flush=True)
time.sleep(3600)
"""


@needs_namespaces
@pytest.mark.timeout(40)
def test_answers_come_at_once_also_where_other_programs_share_the_port_of_mdns() -> None:
    """What is sent to port 5353 of this host goes to any one of them; answers to all follow a second later."""
    with Hosts(2) as (a, b):
        wait_line(b.start(python(ANNOUNCE)), "announced")
        time.sleep(1.5)  # it was told to all
        alone = [float(a.run(python(BROWSE, "5")).stdout.split()[1]) for _ in range(5)]
        wait_line(a.start(python(THIEF)), "sharing")
        shared = [float(a.run(python(BROWSE, "5")).stdout.split()[1]) for _ in range(5)]
        assert median(shared) < median(alone) + 0.5, (alone, shared)


@needs_namespaces
@pytest.mark.timeout(40)
@pytest.mark.parametrize("only", [["127.0.0.1"], []])
def test_restricted_to_loopback_nothing_leaves_by_another_interface(only: list[str]) -> None:
    with Hosts(2) as (a, b):
        sniffer = a.start(python(SNIFF, "2"))
        wait_line(sniffer, "listening")
        announcer = b.start(python(ANNOUNCE, *only))
        assert wait_line(announcer, "open") == "open ''\n"
        wait_line(announcer, "announced")
        assert "found" in b.run(python(BROWSE, "5", *only)).stdout
        heard = int(wait_line(sniffer, f"from {b.address}").split()[-1])
        assert (heard == 0) == bool(only)


SNIFF = """
import socket, struct, sys, time
raw = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x0800))
raw.bind(("eth0", 0x0800)); raw.settimeout(0.1)
ask = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
name = b"\\x09_dispycos\\x04_tcp\\x05local\\0"
query = struct.pack(">6H", 0, 0, 1, 0, 0, 0) + name + struct.pack(">2H", 12, 0x8001)
print("listening", flush=True)
end, heard = time.monotonic() + float(sys.argv[1]), 0
while time.monotonic() < end:
    if heard < 1000:
        for to in ("10.77.0.2", "224.0.0.251"):
            ask.sendto(query, (to, 5353))
    try:
        packet = raw.recv(2048)
    except TimeoutError:
        continue
    heard += packet[12:16] == bytes([10, 77, 0, 2]) and packet[9] == 17
print("from 10.77.0.2:", heard)
"""


@needs_namespaces
@pytest.mark.timeout(40)
def test_a_host_without_interfaces_says_so_once_and_goes_on() -> None:
    with Hosts(1) as (a,):
        a.cut()
        a.ip("link", "set", "lo", "down")
        done = a.run(python(BROWSE, "0.3"))
        assert done.stdout.splitlines()[-2] == "nobody", done.stderr
        assert done.stderr == ""
        print(done.stdout)


@pytest.mark.parametrize(
    ("name", "announced"),
    [("host-2", "host-2"), ("n" * 300, "n" * 63), ("\u2713" * 30, "\u2713" * 21), ("a\tb\udce9", "a?b?")],
)
def test_a_name_of_any_length_is_announced_so_that_it_is_taken(name: str, announced: str) -> None:
    presence = Presence("node", name, ("127.0.0.1",), 9706, "ab" * 8, 2**63, "k" * 40)
    found = read_service(_service(presence))
    assert found is not None and found.name == announced

"""What people and strangers get wrong: a clear word where they look, the right exit code, and everything else goes on."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
from collections.abc import Iterator
from textwrap import dedent

import psutil
import pytest
import zmq

from tests.kit.programs import Program, User, free_port, port_of, wait_until

pytestmark = pytest.mark.timeout(60)

WORKS = """
    import dispycos

    def compute(n):
        return n * n

    async def main():
        async with dispycos.Client([compute]) as client:
            print(await client.submit(compute, 7), len(await client.servers()))

    dispycos.run(main)
"""


def check_it_works(user: User) -> None:
    assert user.script("works.py", WORKS).succeed().startswith("49 ")


def check_refusal(program: Program, code: int, *words: str) -> None:
    assert program.wait() == code, program.told()
    text = program.err
    assert program.out == "" and 1 <= len(text.splitlines()) <= 2, program.told()
    assert all(word in text for word in words), program.told()


# --- at the command line ------------------------------------------------------------------------------------


def test_an_unknown_option_or_command_is_exit_2(user: User) -> None:
    check_refusal(user.command("node", "--bogus"), 2, "--bogus", "dispycos node --help")
    check_refusal(user.command("nodes"), 2, "nodes", "--help")


def test_a_port_in_use_is_exit_1_and_names_the_port(cluster: User) -> None:
    port = port_of(cluster.nodes[0])
    check_refusal(cluster.command("node", "--daemon", "--tcp_ports", str(port)), 1, f"{port}")
    check_refusal(
        cluster.command("scheduler", "--daemon", "--tcp_port", str(port)), 1, f"port {port} is in use"
    )
    check_it_works(cluster)


def test_a_port_in_use_by_a_stranger_is_found_too(user: User) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        check_refusal(user.command("node", "--daemon", "--tcp_ports", str(port)), 1, f"port {port} is in use")


def test_an_address_that_this_machine_does_not_have_is_a_clear_error(user: User) -> None:
    check_refusal(user.command("node", "--daemon", "--ip_addr", "192.0.2.77"), 2, "192.0.2.77")


@pytest.mark.parametrize("role", ["node", "scheduler"])
def test_a_dest_path_that_cannot_be_written_is_a_clear_error(user: User, role: str) -> None:
    (user.folder / "file").write_text("")
    refused = user.command(role, "--daemon", "--dest_path", "file/below")
    check_refusal(refused, 2, "--dest_path file/below: ", "name a folder in which you can write")


def test_a_secret_file_that_others_can_read_is_refused_everywhere(user: User) -> None:
    user.command("secret", "show").succeed()
    user.secret_file.chmod(0o644)
    for command in (("node", "--daemon"), ("scheduler", "--daemon"), ("status",), ("secret", "show")):
        check_refusal(
            user.command(*command), 1, "can be read or changed by others", f"chmod 600 {user.secret_file}"
        )
    script = user.script("works.py", WORKS)
    assert script.wait() == 1
    assert "can be read or changed by others" in script.err and "chmod 600" in script.err
    user.secret_file.chmod(0o600)
    check_it_works(user)


def test_an_empty_or_foolish_secret_file_is_refused(user: User) -> None:
    user.secret_file.parent.mkdir(parents=True)
    user.secret_file.write_text("")
    user.secret_file.chmod(0o600)
    check_refusal(user.command("node", "--daemon"), 1, str(user.secret_file))


# --- another secret -----------------------------------------------------------------------------------------


@pytest.fixture
def stranger() -> Iterator[User]:
    with User() as person:
        yield person


def test_a_scheduler_that_was_named_and_has_another_secret_is_an_error(user: User, stranger: User) -> None:
    scheduler = stranger.scheduler()
    script = user.script(
        "named.py",
        """
        import sys, dispycos

        async def main():
            await dispycos.Client().schedule(location=dispycos.Location("127.0.0.1", int(sys.argv[1])))

        dispycos.run(main)
        """,
        str(port_of(scheduler)),
    )
    assert script.wait(20) != 0
    last = [line.text for line in script.lines if line.stream == "err"][-1]
    assert "ScheduleError" in last and "127.0.0.1" in last and "secret" in last, script.told()
    there = scheduler.wait_line("another secret")
    # libzmq tells a listener of a descriptor only: on a busy machine that may be closed before it is asked for its peer.
    assert "127.0.0.1" in there.text or "an unknown address" in there.text
    assert "copy" in there.text
    assert there.at - script.started < 10 and scheduler.is_alive()


def test_a_node_that_was_named_and_has_another_secret_is_an_error(user: User, stranger: User) -> None:
    node = stranger.node("theirs")
    script = user.script(
        "named.py",
        """
        import sys, dispycos

        async def main():
            await dispycos.Client(nodes=[dispycos.DispycosNodeAllocate("127.0.0.1", port=int(sys.argv[1]))]).schedule()

        dispycos.run(main)
        """,
        str(port_of(node)),
    )
    assert script.wait(10) != 0, script.told()
    said = " ".join(line.text for line in script.lines if line.stream == "err")
    assert "ScheduleError" in said and "secret" in said, script.told()


def test_a_found_node_with_another_secret_is_named_at_both_ends_and_the_client_goes_on_privately(
    user: User, stranger: User
) -> None:
    node = stranger.node("theirs")
    entry = next((stranger.folder / "run" / "dispycos" / "registry").iterdir())
    registry = user.folder / "run" / "dispycos" / "registry"
    check_it_works(user)  # makes the folders
    registry.mkdir(mode=0o700, parents=True, exist_ok=True)
    os.link(entry, registry / entry.name)  # found for sure: mDNS on loopback is not everywhere
    script = user.script("works.py", WORKS)
    assert script.succeed().startswith("49 ")
    here = script.wait_line("node theirs .*another secret")
    assert "127.0.0.1" in here.text and "copy" in here.text and here.stream == "err"
    there = node.wait_line("another secret")
    assert "127.0.0.1" in there.text and "copy" in there.text
    assert node.is_alive()
    check_it_works(stranger)


def test_peer_with_another_secret_is_said_at_both_ends(user: User, stranger: User) -> None:
    scheduler = stranger.scheduler()
    node = user.node("mine", "--peer", f"127.0.0.1:{port_of(scheduler)}")
    assert "--peer" in node.wait_line("--peer.*secret", 5).text
    scheduler.wait_line("another secret", 5)
    assert node.is_alive()
    check_it_works(user)


def test_status_of_a_place_with_another_secret_is_exit_4(user: User, stranger: User) -> None:
    node = stranger.node("theirs")
    status = user.command("status", "--peer", f"127.0.0.1:{port_of(node)}")
    assert status.wait() == 4, status.told()
    assert "secret" in " ".join(line.text for line in status.lines)


# --- places that are not there ------------------------------------------------------------------------------


SCHEDULE = """
    import sys, dispycos

    async def main():
        try:
            await dispycos.Client().schedule(location=sys.argv[1])
        except dispycos.ScheduleError as error:
            print(error)

    dispycos.run(main)
"""


def test_a_place_where_nobody_listens_is_no_scheduler(user: User) -> None:
    said = user.script("nobody.py", SCHEDULE, "127.0.0.1:1").succeed(10)
    assert "127.0.0.1:1 is not there: nobody listens" in said and "start `dispycos scheduler`" in said


def test_the_place_of_a_node_is_no_scheduler(user: User) -> None:
    node = user.node("n")
    said = user.script("node.py", SCHEDULE, f"localhost:{port_of(node)}").succeed(10)
    assert "is a node, no scheduler" in said and "nodes=" in said
    assert node.is_alive()


@pytest.mark.parametrize("banner", [b"SSH-2.0-Some\r\n", b""])
def test_the_place_of_another_program_is_no_scheduler(user: User, banner: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    held.append(stranger.accept()[0])
                    held[-1].sendall(banner)

        held: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        port = stranger.getsockname()[1]
        script = user.script("stranger.py", SCHEDULE, f"127.0.0.1:{port}")
        said = script.succeed(10)
        for connection in held:
            connection.close()
    assert f"127.0.0.1:{port} is not there" in said, said
    assert ("another program" in said and "SSH" in said) or (not banner and "says nothing" in said), said


def test_a_host_name_that_does_not_exist_is_a_clear_error(user: User) -> None:
    script = user.script(
        "nohost.py",
        """
        import dispycos

        async def main():
            await dispycos.Client().schedule(location="no-such-host.invalid")

        dispycos.run(main)
        """,
    )
    assert script.wait(20) == 1
    assert (
        "no-such-host.invalid" in script.err.splitlines()[-1]
        or "no-such-host.invalid" in script.err.splitlines()[-2]
    )


# --- what strangers send ------------------------------------------------------------------------------------


def memory_of(program: Program) -> int:
    return int(psutil.Process(program.pid).memory_info().rss)


@pytest.mark.parametrize("role", ["node", "scheduler"])
def test_bytes_from_strangers_harm_nobody(role: str, user: User) -> None:
    target = user.node("n") if role == "node" else user.scheduler()
    if role == "scheduler":
        user.node("n")
    port = port_of(target)
    before = memory_of(target)
    held = []
    for data in (
        b"",
        b"GET / HTTP/1.0\r\n\r\n",
        os.urandom(100_000),
        b"\xff" + bytes(8) + b"\x01\x7f" + bytes(50),
        b"\0" * 9,
    ):
        for _ in range(10):
            connection = socket.create_connection(("127.0.0.1", port), 5)
            connection.settimeout(1)
            try:
                connection.sendall(data)
            except OSError:
                continue  # it hung up on us already
            held.append(connection)
    context = zmq.Context()
    try:
        plain = context.socket(zmq.DEALER)
        plain.setsockopt(zmq.LINGER, 0)
        plain.connect(f"tcp://127.0.0.1:{port}")
        for _ in range(100):
            plain.send_multipart([b"hello", os.urandom(1000), b"\x80\x05."])
        public, secret = zmq.curve_keypair()
        curve = context.socket(zmq.DEALER)
        curve.setsockopt(zmq.LINGER, 0)
        curve.curve_publickey, curve.curve_secretkey = public, secret
        curve.curve_serverkey = zmq.curve_keypair()[0]
        curve.connect(f"tcp://127.0.0.1:{port}")
        curve.send(b"hello")
        check_it_works(user)
        assert plain.poll(0) == 0 and curve.poll(0) == 0, "a stranger got an answer"
    finally:
        context.destroy(0)
        for connection in held:
            connection.close()
    assert target.is_alive() and memory_of(target) - before < 30 << 20
    assert len(target.err.splitlines()) < 10, target.told()


def test_hundreds_of_connections_of_strangers_leave_the_node_usable(user: User) -> None:
    node = user.node("n")
    port = port_of(node)
    held = [socket.create_connection(("127.0.0.1", port), 5) for _ in range(300)]
    try:
        check_it_works(user)
    finally:
        for connection in held:
            connection.close()
    wait_until(lambda: psutil.Process(node.pid).num_fds() < 200, 10, "the connections are closed")
    check_it_works(user)


def test_strangers_files_in_the_registry_harm_nobody(user: User) -> None:
    check_it_works(user)
    registry = user.folder / "run" / "dispycos" / "registry"
    registry.mkdir(mode=0o700, parents=True, exist_ok=True)
    (registry / "node-1.json").write_bytes(b"\xff\xfe{")
    (registry / "node-2.json").write_text("[]")
    (registry / "node-3.json").mkdir()
    user.node("n", cpus=1)
    assert user.script("works.py", WORKS).succeed() == "49 1\n"


# --- surroundings -------------------------------------------------------------------------------------------


def test_it_works_without_home_and_runtime_folder_and_says_where_its_files_are(user: User) -> None:
    variables = {"HOME": "/nonexistent", "XDG_RUNTIME_DIR": ""}
    script = user.script("works.py", WORKS, **variables)
    assert script.succeed().startswith("49 ")


def test_it_works_with_a_long_temporary_folder(user: User) -> None:
    long = user.folder / ("deep" * 20) / ("folder" * 10)
    long.mkdir(parents=True)
    script = user.script("works.py", WORKS, TMPDIR=str(long), XDG_RUNTIME_DIR=str(long))
    assert script.wait() == 0, script.told()


NO_SOCKET = """
    import sys
    import dispycos
    from dispycos.actors.tasks.current import current_host

    async def compute(n, *, task):
        return n * await task.receive()

    async def main():
        client = dispycos.Client([compute])
        await client.schedule(sys.argv[1])
        task = await client.rtask(compute, 7)
        task.send(7)
        print(await task, "servers linked:", len(current_host().runtime.router.neighbours("server")))
        await client.close()

    dispycos.run(main)
"""


@pytest.mark.parametrize(("mode", "servers"), [(0o755, 0), (0o700, 1)])
def test_a_client_without_a_socket_of_its_own_uses_the_tree(user: User, mode: int, servers: int) -> None:
    """Its folder is open to others, which nobody shall use. In one that is not servers find its socket."""
    user.node("a", cpus=1)
    scheduler = user.scheduler()
    folder = user.folder / "other" / "dispycos"
    folder.mkdir(parents=True)
    folder.chmod(mode)
    folder.parent.chmod(0o700)
    where = f"127.0.0.1:{port_of(scheduler)}"
    script = user.script("works.py", NO_SOCKET, where, XDG_RUNTIME_DIR=str(folder.parent))
    assert script.succeed() == f"49 servers linked: {servers}\n", script.told()


def test_it_works_in_a_folder_with_files_named_like_its_own_modules(user: User) -> None:
    user.write(
        {
            f"{name}.py": "raise RuntimeError('shadowed')\n"
            for name in ("actors", "brokers", "cli", "client", "task")
        }
    )
    check_it_works(user)


def test_it_works_in_a_folder_with_files_named_like_the_standard_library(user: User) -> None:
    """Python itself puts the script's folder first: what the script imports is theirs, but children must not stumble."""
    user.write({"queue_.py": "", "resource.py": "x = 1\n", "platform_.py": ""})
    check_it_works(user)


# --- nodes that are named -----------------------------------------------------------------------------------

NODES = """
    import sys
    import dispycos

    async def main():
        for text in sys.argv[1:]:
            client = dispycos.Client(nodes=[text])
            try:
                await client.schedule()
            except dispycos.ScheduleError as error:
                print(repr(error), flush=True)
            else:
                places = await client.servers()
                print(text, len(places), await client.submit(abs, -7), flush=True)
                await client.close()

    dispycos.run(main)
"""


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_node_is_named_by_its_host_whatever_it_is_called(user: User, is_shared: bool) -> None:
    if is_shared:
        user.scheduler()
    port = port_of(user.node("rack[1]", cpus=1))
    texts = ["127.0.0.1", "localhost", f"localhost:{port}", "rack[1]", "r*", "127.*", f"[::1]:{port}"]
    script = user.script("nodes.py", NODES, *texts[:-1])
    assert script.succeed(30) == "".join(f"{text} 1 7\n" for text in texts[:-1])
    assert script.err == ""


def test_a_node_that_says_another_address_is_known_because_it_answers_where_it_was_named(user: User) -> None:
    port = port_of(user.node("n", "--ext_ip_addr", "192.0.2.9", cpus=1))
    said = user.script("nodes.py", NODES, f"127.0.0.1:{port}").succeed(20)
    assert said.startswith(f"127.0.0.1:{port} 1 7"), said


def test_scheduler_in_a_program_dials_the_nodes_that_its_client_names(user: User) -> None:
    port = port_of(user.node("n", cpus=1))
    for entry in (user.folder / "run" / "dispycos" / "registry").iterdir():
        entry.unlink()  # it is not found by itself
    text = "import dispycos\n\ndispycos.Scheduler(cpus=2)\n" + dedent(NODES)
    assert user.script("nodes.py", text, f"localhost:{port}").succeed(20).startswith(f"localhost:{port} 1 7")


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_node_that_cannot_be_is_refused_in_words(user: User, is_shared: bool) -> None:
    scheduler = user.scheduler()
    place = f"127.0.0.1:{port_of(scheduler)}"
    if not is_shared:
        scheduler.interrupt()
        assert scheduler.wait() == 0
    texts = ["no-such-host.invalid", "a..b", *([place] if is_shared else [])]
    said = user.script("nodes.py", NODES, *texts).succeed(30).splitlines()
    assert len(said) == len(texts)
    assert all("ScheduleError" in line and text in line for text, line in zip(texts, said, strict=True)), said


@pytest.mark.parametrize("is_shared", [False, True])
def test_a_named_host_without_a_node_is_said_and_waited_for(user: User, is_shared: bool) -> None:
    if is_shared:
        user.scheduler()
    port = free_port()
    script = user.script("nodes.py", NODES, f"127.0.0.1:{port}")
    script.wait_line(rf"nodes: 127.0.0.1:{port}: no answer")
    user.node("late", port=port)
    assert script.succeed(10).startswith(f"127.0.0.1:{port} 0 7"), "schedule() did not wait for it"


# --- what a program gives to its client ---


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            "dispycos.Client([5])",
            "TypeError: components[0] must be a function, a class, a module or the path",
        ),
        ("dispycos.Client(['none.txt'])", "FileNotFoundError: components[0]: no such file: none.txt (in /"),
        ("dispycos.Client(nodes=5)", "TypeError: nodes must be a list, a host name,"),
        (
            "dispycos.DispycosNodeAllocate('*', cpus='2')",
            "TypeError: DispycosNodeAllocate: cpus must be a whole number, not '2'",
        ),
    ],
    ids=["component", "file", "nodes", "allocation"],
)
def test_what_is_of_no_use_ends_the_program_with_one_word_on_it(user: User, given: str, told: str) -> None:
    program = user.python("-c", f"import dispycos; {given}")
    assert program.wait() == 1, program.told()
    assert program.out == "" and program.err.splitlines()[-1].startswith(told), program.told()


def test_a_task_that_ends_its_process_ends_the_program_that_awaits_it_in_words(user: User) -> None:
    text = """
        import os, sys, dispycos

        async def main():
            async with dispycos.Client() as client:
                await client.submit({"os._exit": os._exit, "sys.exit": sys.exit}[sys.argv[1]], 7)

        dispycos.run(main)
    """
    crashed, left = (user.script("ends.py", text, what) for what in ("os._exit", "sys.exit"))
    assert crashed.wait() == 1, crashed.told()
    assert re.search(r"TaskLost: server \S+ exited with code 7 while it ran _exit", crashed.err)
    assert left.wait() == 1, left.told()
    assert "RemoteError: exit raised builtins.SystemExit: 7" in left.err, left.told()

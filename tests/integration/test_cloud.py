"""Nodes that are not where they say: behind a NAT, behind forwarded ports, and at the end of ssh tunnels."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kit.netns import Host, Hosts, why_no_nat, why_unavailable

REASON = why_unavailable()
NO_NAT = why_no_nat()
pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(bool(REASON), reason=REASON)]

DISPYCOS = [sys.executable, "-m", "dispycos"]
SCRIPT = """
import json, os, sys, time
import dispycos

def where():
    time.sleep(0.2)
    return os.environ["HOME"]

async def main():
    location, *nodes = sys.argv[1:]
    client = dispycos.Client([where], nodes=[place or None for place in nodes] or None)
    await client.schedule(location=location or None, timeout=20)
    handles = [client.submit(where) for _ in range(6)]
    homes = sorted(set([await handle for handle in handles]))
    print(json.dumps([homes, sorted({str(handle.location) for handle in handles})]), flush=True)
    if "HOLD" in os.environ:
        rtask = await client.rtask(hold)
        print("held", flush=True)
        print("after the cut:", await rtask, flush=True)
    await client.close()

async def hold(*, task):
    await task.sleep(5)
    return "alive"

dispycos.run(main)
"""


@pytest.fixture
def net() -> Iterator[Hosts]:
    net = Hosts(3)
    with net:
        yield net


def share_secret(hosts: list[Host]) -> None:
    for host in hosts:
        folder = host.folder / ".config" / "dispycos"
        folder.mkdir(parents=True, mode=0o700)
        (folder / "secret").write_text("0123456789abcdef" * 4)
        os.chmod(folder / "secret", 0o600)


def wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"not within {seconds:g} s: {what}"
        time.sleep(0.05)


def start(host: Host, *options: str) -> subprocess.Popen[str]:
    """A node or scheduler, waited for until it says so."""
    process = host.start([*DISPYCOS, *options, "--daemon"])
    assert process.stderr is not None
    line = process.stderr.readline()
    assert " port " in line, line
    return process


def run_client(host: Host, location: str, *nodes: str) -> tuple[list[str], list[str], str]:
    """The homes of the hosts where its tasks ran, its nodes, and what it complained of."""
    script = host.folder / "where.py"
    script.write_text(SCRIPT)
    ran = host.run([sys.executable, str(script), location, *nodes], timeout=40)
    assert ran.returncode == 0, ran.stderr
    homes, places = json.loads(ran.stdout)
    return [Path(home).name for home in homes], places, ran.stderr


@pytest.mark.skipif(bool(NO_NAT), reason=NO_NAT)
def test_two_nodes_behind_one_address_are_used_from_outside_by_its_forwarded_ports(net: Hosts) -> None:
    router, outside, _ = net.hosts
    inside = net.add_behind(router, 2)
    share_secret(net.hosts)
    for port, host in zip((9706, 9806), inside, strict=True):
        router.forward(port, host, port)
        # Names of their own: in truth these are namespaces of one host.
        options = ["--name", f"at-{port}", "--ext_ip_addr", router.address, "--tcp_ports", str(port)]
        start(host, "node", "--cpus", "1", *options)
    router.forward(19706, inside[0], 9706)
    at = f"{router.address}:"
    both = run_client(outside, "", at + "9706", at + "9806")
    assert both == (["i2", "i3"], [at + "9707", at + "9807"], "")
    # Both of them are at this address: the port says which is meant.
    assert run_client(outside, "", at + "9806") == (["i3"], [at + "9807"], "")
    # Another port of the router leads there as well: what is meant is who answers, and it says where it is.
    assert run_client(outside, "", at + "19706") == (["i2"], [at + "9707"], "")


@pytest.mark.skipif(bool(NO_NAT), reason=NO_NAT)
def test_a_client_behind_a_router_uses_a_scheduler_and_nodes_outside(net: Hosts) -> None:
    """Nobody can dial it, and it has no address that they know."""
    router, outside, further = net.hosts
    (inside,) = net.add_behind(router, 1)
    share_secret(net.hosts)
    start(outside, "scheduler")
    start(further, "node", "--cpus", "1", "--peer", outside.address)
    homes, places, complaints = run_client(inside, outside.address)
    assert (homes, places, complaints) == (["h3"], [f"{further.address}:9707"], "")


# --- ssh ---------------------------------------------------------------------------------------------------

SSH_PORT = 2222
FIREWALL = f"""
table inet filter {{
    chain input {{
        type filter hook input priority 0; policy drop;
        iifname "lo" accept
        ct state established,related accept
        tcp dport {SSH_PORT} accept
    }}
}}
"""


def why_no_ssh() -> str:
    if why_no_nat():
        return why_no_nat()
    missing = [name for name in ("ssh", "ssh-keygen", "sshd") if shutil.which(name) is None]
    return f"ssh forwarding needs {', '.join(missing)}" if missing else ""


NO_SSH = why_no_ssh()


def start_sshd(host: Host, folder: Path) -> None:
    """One of its own, with keys that are made for it; nothing of this machine's is used."""
    for name in ("host_key", "key"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True, timeout=20
        )
    (folder / "sshd_config").write_text(
        f"Port {SSH_PORT}\nHostKey {folder}/host_key\nAuthorizedKeysFile {folder}/key.pub\n"
        "PidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
    )
    sshd = shutil.which("sshd")  # it wants its whole path, and a folder in /run
    run = f'mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && exec {sshd} -D -f "$0" >/dev/null 2>&1'
    host.start(["sh", "-c", run, str(folder / "sshd_config")])


def forward(host: Host, to: Host, folder: Path, *ports: int) -> subprocess.Popen[str]:
    """`ssh -N -L PORT:127.0.0.1:PORT`, waited for until it forwards."""
    options = [
        "BatchMode=yes",
        "ExitOnForwardFailure=yes",
        "StrictHostKeyChecking=no",
        "UserKnownHostsFile=/dev/null",
    ]
    ssh = ["ssh", "-N", "-F", "none", "-i", str(folder / "key"), "-p", str(SSH_PORT)]
    ssh += [word for option in options for word in ("-o", option)]
    ssh += [word for port in ports for word in ("-L", f"{port}:127.0.0.1:{port}")]

    def try_it() -> subprocess.Popen[str]:
        started = host.start([*ssh, f"root@{to.address}"])
        probe = f"import socket; socket.create_connection(('127.0.0.1', {ports[0]}), 5)"
        until = time.monotonic() + 20
        while host.run([sys.executable, "-c", probe]).returncode:
            assert time.monotonic() < until, "no port is forwarded within 20 s"
            if started.poll() is not None:  # sshd does not listen yet
                return try_it()
            time.sleep(0.05)
        return started

    return try_it()


@pytest.mark.skipif(bool(NO_SSH), reason=NO_SSH)
def test_client_and_node_that_reach_the_scheduler_by_ssh_only(net: Hosts, tmp_path: Path) -> None:
    """And a tunnel that breaks is a cut: the task that ran goes on, and its client hears of it."""
    here, server, there = net.hosts
    share_secret(net.hosts)
    for host in net.hosts:
        host.nft(FIREWALL)
    start_sshd(server, tmp_path)
    start(server, "scheduler", "--ip_addr", "127.0.0.1")
    forward(there, server, tmp_path, 9705)
    start(there, "node", "--cpus", "1", "--peer", "127.0.0.1")
    tunnel = forward(here, server, tmp_path, 9705)
    script = here.folder / "where.py"
    script.write_text(SCRIPT)
    client = here.start([sys.executable, str(script), "127.0.0.1"], env={"HOLD": "1"})
    assert client.stdout is not None
    homes, places = json.loads(client.stdout.readline())
    assert [Path(home).name for home in homes] == ["h3"] and places == [f"{there.address}:9707"]
    assert client.stdout.readline() == "held\n"
    tunnel.kill()
    tunnel.wait()
    forward(here, server, tmp_path, 9705)
    assert client.stdout.readline() == "after the cut: alive\n"
    assert client.wait(20) == 0


@pytest.mark.skipif(bool(NO_SSH), reason=NO_SSH)
def test_a_node_that_only_a_forwarded_port_reaches(net: Hosts, tmp_path: Path) -> None:
    here, server, _ = net.hosts
    share_secret(net.hosts)
    server.nft(FIREWALL)
    start_sshd(server, tmp_path)
    start(server, "node", "--cpus", "1", "--ip_addr", "127.0.0.1")
    forward(here, server, tmp_path, 9706)
    assert run_client(here, "", "127.0.0.1:9706") == (["h2"], ["127.0.0.1:9707"], "")

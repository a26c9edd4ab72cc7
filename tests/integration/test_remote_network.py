"""A scheduler in front of a network that its mDNS does not reach: one node that is named there is enough (spec 6.3.2)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.kit.netns import Host, Hosts, why_unavailable

REASON = why_unavailable()
pytestmark = [pytest.mark.timeout(90), pytest.mark.skipif(bool(REASON), reason=REASON)]

DISPYCOS = [sys.executable, "-m", "dispycos"]
SECRET = "a secret of more than 16 characters"


@pytest.fixture
def hosts() -> Iterator[list[Host]]:
    """The first one is behind a router, and the others are on one switch: multicast does not pass."""
    with Hosts(3) as hosts:
        head = hosts[0]
        switch = head.namespace.removesuffix("h1") + "sw"

        def router(*words: str) -> None:
            subprocess.run(["ip", "netns", "exec", switch, *words], check=True, capture_output=True)

        router("ip", "link", "set", "ph1", "nomaster")
        router("ip", "address", "add", "10.78.0.254/24", "dev", "ph1")
        router("ip", "address", "add", "10.77.0.254/24", "dev", "br0")
        router("sysctl", "-w", "net.ipv4.ip_forward=1")
        head.ip("address", "flush", "dev", "eth0")
        head.address = "10.78.0.1"
        head.ip("address", "add", "10.78.0.1/24", "dev", "eth0")
        head.mend()
        for host in hosts:
            host.ip("route", "add", "default", "via", "10.78.0.254" if host is head else "10.77.0.254")
        yield hosts


def nodes_of(head: Host) -> dict[str, str]:
    """What its scheduler has, by name."""
    ran = head.run([*DISPYCOS, "status", "--json"], env={"DISPYCOS_SECRET": SECRET})
    if ran.returncode:
        return {}
    return {
        node["name"]: node["state"]
        for scheduler in json.loads(ran.stdout)["schedulers"]
        for node in scheduler["nodes"]
    }


def wait_for_nodes(head: Host, names: set[str]) -> None:
    until = time.monotonic() + 30
    while (found := nodes_of(head)) != dict.fromkeys(names, "free"):
        assert time.monotonic() < until, found


def test_a_node_that_is_named_tells_of_its_neighbours_and_the_scheduler_has_them(hosts: list[Host]) -> None:
    head, near, beside = hosts
    env = {"DISPYCOS_SECRET": SECRET}
    for name, host in (("near", near), ("beside", beside)):
        host.start([*DISPYCOS, "node", "--daemon", "-c", "1", "--name", name], env=env)
    head.start([*DISPYCOS, "scheduler", "--daemon"], env=env)
    time.sleep(1)
    assert nodes_of(head) == {}, "it hears nobody"
    head.start(
        [*DISPYCOS, "scheduler", "--daemon", "-t", "0", "-n", "with-node", "--node", near.address], env=env
    )
    wait_for_nodes(head, {"near", "beside"})

"""Hosts for tests: network namespaces on one virtual switch, made with `ip`, and always removed again.

    with Hosts(2) as (a, b):
        a.run([sys.executable, "-c", "..."])      # waits, returns the CompletedProcess
        node = b.start([...])                     # runs on, is ended with the hosts

Nothing touches the machine's own network: the switch is a bridge in a namespace of its own. Each host has a
folder as HOME, TMPDIR and XDG_RUNTIME_DIR, since namespaces share the file system; the last, with its sockets, is
hidden from the other hosts.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

COMMAND_TIMEOUT_S = 20
CLONE_NEWNET = 0x40000000  # os.unshare came with Python 3.12
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
HIDE = (
    'for folder in $0; do mount -t tmpfs tmpfs "$folder"; done; exec "$@"'  # in a mount namespace of its own
)
INSIDE = "192.168.7"
NAT = """
table ip nat {
    chain inward { type nat hook prerouting priority -100; }
    chain outward { type nat hook postrouting priority 100; oifname "eth0" masquerade; }
}
"""
ROOT = Path(__file__).parents[2]
_numbers = itertools.count(1)


def enter_own_network() -> bool:
    """This thread, and the threads and processes that it starts, have loopback and nothing else from now on.

    False, and without effect, where the kernel does not let them.
    """
    if sys.platform != "linux" or ctypes.CDLL(None).unshare(CLONE_NEWNET):
        return False
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))
    return True


def can_have_own_network() -> bool:
    """Whether `enter_own_network` has an effect in processes of this one."""
    command = [sys.executable, "-c", "from tests.kit.netns import *; sys.exit(not enter_own_network())"]
    return subprocess.run(command, cwd=ROOT, timeout=COMMAND_TIMEOUT_S).returncode == 0


def why_unavailable() -> str:
    """'' where namespaces can be made, else the reason to skip."""
    if os.name != "posix" or not hasattr(os, "geteuid") or os.geteuid() != 0:
        return "network namespaces need root"
    if shutil.which("ip") is None:
        return "network namespaces need the command `ip`"
    name = f"dt{os.getpid()}probe"
    made = subprocess.run(
        ["ip", "netns", "add", name], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S
    )
    if made.returncode:
        return f"the kernel refuses network namespaces: {made.stderr.strip()}"
    try:
        _ip("-n", name, "link", "add", "name", "va", "type", "veth", "peer", "name", "vb")
        _ip("-n", name, "link", "add", "name", "br0", "type", "bridge")
    except subprocess.CalledProcessError as error:
        return f"the kernel refuses veth or bridge: {error.stderr.strip()}"
    finally:
        _ip("netns", "del", name)
    return ""


def why_no_nat() -> str:
    """'' where hosts can be put behind a NAT, else the reason to skip."""
    reason = why_unavailable()
    if reason:
        return reason
    if shutil.which("nft") is None:
        return "a NAT needs the command `nft`"
    tried = subprocess.run(
        ["unshare", "--net", "nft", "-f", "-"],
        input=NAT,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
    )
    return f"the kernel refuses a NAT: {tried.stderr.strip()}" if tried.returncode else ""


class Host:
    """One namespace: `address` on the switch, interface eth0."""

    def __init__(self, namespace: str, address: str, folder: Path) -> None:
        self.namespace = namespace
        self.address = address
        self.folder = folder
        self.neighbours: list[Host] = []
        self._started: list[subprocess.Popen[str]] = []

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        run = self.folder / "run"
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("DISPYCOS_", "XDG_"))}
        folder = str(self.folder)
        return {**kept, "HOME": folder, "TMPDIR": folder, "XDG_RUNTIME_DIR": str(run), **(extra or {})}

    def run(
        self,
        command: Sequence[str],
        *,
        timeout: float = COMMAND_TIMEOUT_S,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self._inside(command), capture_output=True, text=True, timeout=timeout, env=self.environment(env)
        )

    def start(self, command: Sequence[str], *, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
        """Both outputs are pipes; the process is ended with the host if it still runs then."""
        process = subprocess.Popen(
            self._inside(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=self.environment(env),
        )
        self._started.append(process)
        return process

    def ip(self, *arguments: str) -> None:
        """`ip ARGUMENTS` inside: see cut()."""
        _ip("-n", self.namespace, *arguments)

    def nft(self, rules: str) -> None:
        """`nft -f` inside."""
        subprocess.run(
            self._inside(["nft", "-f", "-"]),
            input=rules, check=True, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S,
        )  # fmt: skip

    def forward(self, port: int, other: Host, to: int) -> None:
        """What comes to this port of a NAT goes to a host behind it."""
        self.nft(f"add rule ip nat inward tcp dport {port} dnat to {other.address}:{to}")

    def cut(self) -> None:
        self.ip("link", "set", "eth0", "down")

    def mend(self) -> None:
        self.ip("link", "set", "eth0", "up")
        self.ip("route", "replace", "224.0.0.0/4", "dev", "eth0")

    def _inside(self, command: Sequence[str]) -> list[str]:
        hidden = [str(host.folder / "run") for host in self.neighbours if host is not self]
        return ["ip", "netns", "exec", self.namespace, "sh", "-c", HIDE, " ".join(hidden), *command]

    def _end_processes(self) -> None:
        """`ip netns exec` becomes the command, so its pid is the command's; what it left ends too."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate(timeout=COMMAND_TIMEOUT_S)
        listed = subprocess.run(["ip", "netns", "pids", self.namespace], capture_output=True, text=True)
        for pid in map(int, listed.stdout.split()):
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass


class Hosts:
    """`count` hosts on a switch (a context manager; `add` makes one later, `add_behind` some behind a NAT)."""

    def __init__(self, count: int) -> None:
        self._prefix = f"dt{os.getpid()}n{next(_numbers)}"
        self._count = count
        self._namespaces: list[str] = []
        self.hosts: list[Host] = []
        self._folder = Path(tempfile.mkdtemp(prefix="dt"))

    def __enter__(self) -> list[Host]:
        try:
            self._make_namespace(f"{self._prefix}sw")
            _ip("-n", f"{self._prefix}sw", "link", "add", "name", "br0", "type", "bridge")
            _ip("-n", f"{self._prefix}sw", "link", "set", "br0", "up")
            for _ in range(self._count):
                self.add()
        except BaseException:
            self.close()
            raise
        return self.hosts

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def add(self) -> Host:
        number = len(self.hosts) + 1
        return self._make_host(f"h{number}", f"10.77.0.{number}", f"{self._prefix}sw", "br0")

    def _make_host(self, name: str, address: str, switch: str, bridge: str) -> Host:
        namespace, folder = f"{self._prefix}{name}", self._folder / name
        folder.mkdir(mode=0o700)
        (folder / "run").mkdir(mode=0o700)
        host = Host(namespace, address, folder)
        host.neighbours = self.hosts
        self._make_namespace(namespace)
        self.hosts.append(host)
        port = ["link", "add", "name", f"p{name}", "type", "veth", "peer", "name", "eth0"]
        _ip("-n", switch, *port, "netns", namespace)
        _ip("-n", switch, "link", "set", f"p{name}", "master", bridge, "up")
        host.ip("link", "set", "lo", "up")
        host.ip("address", "add", f"{address}/24", "dev", "eth0")
        host.mend()
        return host

    def add_behind(self, router: Host, count: int) -> list[Host]:
        """Hosts that reach others by way of this one, with its address; nobody reaches them but by its forward()."""
        router.ip("link", "add", "name", "br1", "type", "bridge")
        router.ip("link", "set", "br1", "up")
        router.ip("address", "add", f"{INSIDE}.1/24", "dev", "br1")
        router.run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])
        router.nft(NAT)
        inside = []
        for number in range(2, 2 + count):
            host = self._make_host(f"i{number}", f"{INSIDE}.{number}", router.namespace, "br1")
            host.ip("route", "add", "default", "via", f"{INSIDE}.1")
            inside.append(host)
        return inside

    def close(self) -> None:
        for host in self.hosts:
            host._end_processes()
        for namespace in self._namespaces:
            subprocess.run(["ip", "netns", "del", namespace], capture_output=True, timeout=COMMAND_TIMEOUT_S)
        self._namespaces.clear()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _make_namespace(self, name: str) -> None:
        _ip("netns", "add", name)
        self._namespaces.append(name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S)

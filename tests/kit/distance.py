"""A wire between two hosts on which each packet is under way for so long, for kernels without netem.

Two TUN devices, one in each namespace, and a thread that hands packets from one to the other when their time has come. The
kernel gives them whole, with checksums, one a read.
"""

from __future__ import annotations

import fcntl
import os
import select
import struct
import subprocess
import threading
import time
from collections import deque
from types import TracebackType

from tests.kit.netns import Host

TUNSETIFF = 0x400454CA
IFF_TUN, IFF_NO_PI = 0x0001, 0x1000
PACKET_MAX = 65536


def why_unavailable() -> str:
    """'' where there can be such a wire, else the reason."""
    try:
        os.close(os.open("/dev/net/tun", os.O_RDWR))
    except OSError as error:
        return f"a wire with a delay needs /dev/net/tun: {error.strerror}"
    return ""


class Wire:
    """The only way between two hosts while the block runs: they leave their switch. `near` and `far` are their addresses on it."""

    near, far = "10.78.0.1", "10.78.0.2"

    def __init__(self, near: Host, far: Host, seconds: float) -> None:
        self._seconds = seconds
        self._ends = []
        for host, here, there in ((near, self.near, self.far), (far, self.far, self.near)):
            host.ip("link", "delete", "eth0")
            self._ends.append(_tunnel(host, here, there))
        self._is_over = False
        self._thread = threading.Thread(target=self._carry, daemon=True)

    def __enter__(self) -> Wire:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._thread.join()
        for end in self._ends:
            os.close(end)

    def _carry(self) -> None:
        under_way: deque[tuple[float, int, bytes]] = deque()
        one, other = self._ends
        opposite = {one: other, other: one}
        while not self._is_over:
            wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else 0.1
            ready, _, _ = select.select(self._ends, [], [], min(wait, 0.1))
            for end in ready:
                under_way.append((time.monotonic() + self._seconds, opposite[end], os.read(end, PACKET_MAX)))
            while under_way and under_way[0][0] <= time.monotonic():
                _, end, packet = under_way.popleft()
                os.write(end, packet)


def _tunnel(host: Host, here: str, there: str) -> int:
    """Its file: what is sent from `here` to `there` is read from it. Made here, then moved: the file stays valid."""
    name = f"w{host.namespace[-12:]}"
    end = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(end, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    subprocess.run(["ip", "link", "set", name, "netns", host.namespace], check=True, capture_output=True)
    host.ip("addr", "add", here, "peer", there, "dev", name)
    host.ip("link", "set", name, "up")
    return end

"""What this machine, or the container around us, lets a node use: CPUs, memory, disk."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

from dispycos.protocol.messages import Availability
from dispycos.protocol.watching import Machine

CPU_MAX = Path("/sys/fs/cgroup/cpu.max")
MEMORY_MAX = Path("/sys/fs/cgroup/memory.max")
MEMORY_NOW = Path("/sys/fs/cgroup/memory.current")

ONE_THREAD = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
)


def cpu_count() -> int:
    """CPUs by affinity and cgroup quota, not what the host has."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    words = _read(CPU_MAX).split()
    if len(words) == 2 and words[0].isdecimal() and words[1].isdecimal() and int(words[1]):
        count = min(count, max(1, -(-int(words[0]) // int(words[1]))))
    return count


def measure(folder: Path) -> tuple[Availability, Machine]:
    """What is left, CPU in percent since the last call, and what there is in all; disk is `folder`'s partition; in bytes."""
    memory, disk, swap = psutil.virtual_memory(), psutil.disk_usage(str(folder)), psutil.swap_memory()
    total, left = memory.total, memory.available
    limit, used = _read(MEMORY_MAX).strip(), _read(MEMORY_NOW).strip()
    if limit.isdecimal() and used.isdecimal():
        total = min(total, int(limit))
        left = min(left, max(0, int(limit) - int(used)))
    cpu = round(100.0 - psutil.cpu_percent(), 1)
    available = Availability(cpu, memory=left, disk=disk.free, swap=swap.free)
    return available, Machine(os.getloadavg()[0], total, disk.total, swap.total)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:  # not in a cgroup of version 2
        return ""

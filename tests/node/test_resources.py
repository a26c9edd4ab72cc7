"""That a node offers what its container allows, not what the host has."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest

from dispycos.actors.node import resources
from dispycos.actors.node.resources import cpu_count, measure


@pytest.fixture
def cgroup(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cgroup without limits until a file is written."""
    for constant, name in (
        ("CPU_MAX", "cpu.max"),
        ("MEMORY_MAX", "memory.max"),
        ("MEMORY_NOW", "memory.current"),
    ):
        monkeypatch.setattr(resources, constant, tmp_path / name)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    return tmp_path


def test_without_a_cgroup_the_affinity_counts(cgroup: Path) -> None:
    assert cpu_count() == 8


@pytest.mark.parametrize(
    ("quota", "count"),
    [
        ("max 100000\n", 8),
        ("200000 100000\n", 2),
        ("150000 100000\n", 2),  # one and a half: two servers share them
        ("50000 100000\n", 1),
        ("1 100000\n", 1),
        ("1600000 100000\n", 8),
        ("", 8),
        ("garbage\n", 8),
        ("100000 0\n", 8),
    ],
)
def test_a_quota_of_the_container_counts(cgroup: Path, quota: str, count: int) -> None:
    (cgroup / "cpu.max").write_text(quota)
    assert cpu_count() == count


def test_this_machine_has_a_cpu() -> None:
    assert cpu_count() >= 1


def test_what_is_left_is_in_percent_and_bytes_and_no_more_than_there_is(cgroup: Path, tmp_path: Path) -> None:
    left, machine = measure(tmp_path)
    assert 0.0 <= left.cpu <= 100.0
    assert 0 < left.memory <= machine.memory <= psutil.virtual_memory().total
    assert 0 < left.disk <= machine.disk
    assert 0 <= left.swap <= machine.swap
    assert machine.load >= 0.0


@pytest.mark.parametrize(
    ("limit", "used", "left"), [("1000000\n", "400000\n", 600_000), ("1000000\n", "2000000\n", 0)]
)
def test_memory_is_what_the_container_has(cgroup: Path, limit: str, used: str, left: int) -> None:
    (cgroup / "memory.max").write_text(limit)
    (cgroup / "memory.current").write_text(used)
    available, machine = measure(cgroup)
    assert (available.memory, machine.memory) == (left, 1_000_000)


def test_a_container_without_memory_limit_has_the_hosts(cgroup: Path) -> None:
    (cgroup / "memory.max").write_text("max\n")
    (cgroup / "memory.current").write_text("400000\n")
    available, machine = measure(cgroup)
    assert available.memory > 1_000_000
    assert machine.memory == psutil.virtual_memory().total

"""Which settings go together, and how they are compared."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace
from pathlib import Path

import pytest

from dispycos.config import (
    Failure,
    Misuse,
    NodeSettings,
    NothingFound,
    Refused,
    SchedulerSettings,
    count_servers,
)


def test_settings_do_not_show_the_secret() -> None:
    assert "hunter2" not in repr(NodeSettings(secret="hunter2"))


@pytest.mark.parametrize(
    "settings",
    [
        NodeSettings(secret="x" * 16, secret_file=Path("f")),
        NodeSettings(insecure=True, secret_file=Path("f")),
        NodeSettings(min_pulse_interval=5, max_pulse_interval=4),
        NodeSettings(min_pulse_interval=0),
        NodeSettings(ip_addr=("10.0.0.1",), ext_ip_addr=("a", "b")),
        SchedulerSettings(insecure=True, secret="x" * 16),
    ],
)
def test_settings_that_contradict_each_other_are_misuse(settings: NodeSettings | SchedulerSettings) -> None:
    with pytest.raises(Misuse) as caught:
        settings.check()
    assert caught.value.exit_code == 2 and "--" in caught.value.text and caught.value.remedy


def test_defaults_are_those_of_the_spec() -> None:
    node, scheduler = NodeSettings(), SchedulerSettings()
    node.check()
    scheduler.check()
    assert (node.cpus, node.serve, node.min_pulse_interval, node.max_pulse_interval) == (0, -1, 10, 100)


@pytest.mark.parametrize(("cpus", "servers"), [(0, 4), (1, 1), (4, 4), (-1, 3), (-3, 1)])
def test_cpus_counts_servers(cpus: int, servers: int) -> None:
    assert count_servers(cpus, available=4) == (servers, "")


def test_more_servers_than_cpus_is_allowed_with_a_warning() -> None:
    assert count_servers(64, available=2) == (64, "64 servers share 2 CPUs")


@pytest.mark.parametrize("cpus", [-4, -5])
def test_leaving_no_cpu_is_misuse(cpus: int) -> None:
    with pytest.raises(Misuse, match="leaves none of 4"):
        count_servers(cpus, available=4)


def test_exit_codes_tell_failures_apart() -> None:
    kinds = (Failure, Misuse, NothingFound, Refused)
    assert [kind.exit_code for kind in kinds] == [1, 2, 3, 4]
    assert str(Failure("what", "remedy")) == "what\nremedy"


def test_settings_are_compared_and_changed_as_a_whole_and_show_no_secret() -> None:
    node = NodeSettings(cpus=2, secret="nobody reads this one")
    assert node == NodeSettings(cpus=2, secret="nobody reads this one") != replace(node, cpus=3)
    assert node != SchedulerSettings(secret="nobody reads this one")
    assert (replace(node, cpus=3).cpus, replace(node, cpus=3).secret, node.serve) == (3, node.secret, -1)
    assert "cpus=2" in repr(node) and "serve=-1" in repr(node) and "nobody" not in repr(node)
    with pytest.raises(FrozenInstanceError, match="cpus"):
        node.cpus = 3  # type: ignore[misc]
    with pytest.raises(TypeError, match="NodeSettings has no setting tcp_port"):
        NodeSettings(tcp_port=1)  # type: ignore[call-arg]

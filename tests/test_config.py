"""What a setting may be, and which settings go together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispycos import config
from dispycos.config import (
    Failure,
    HostPort,
    Misuse,
    NodeSettings,
    PortRange,
    SchedulerSettings,
    count_servers,
    natural_number,
    positive_seconds,
)

GOOD = [
    (config.parse_whole, "-2", -2),
    (config.parse_port, "0", 0),
    (config.parse_port, "65535", 65535),
    (config.parse_port_range, "9706", PortRange(9706, 9706)),
    (config.parse_port_range, "2345-2347", PortRange(2345, 2347)),
    (config.parse_seconds, "0.5", 0.5),
    (config.parse_seconds, "5m", 300.0),
    (config.parse_size, "0", 0),
    (config.parse_size, "10m", 10 * 2**20),
    (config.parse_size, "1.5 GiB", 3 * 2**29),
    (config.parse_name, "host-2.lan", "host-2.lan"),
    (config.parse_path, "/tmp/x y", Path("/tmp/x y")),
    (config.parse_host, "[fe80::1]", "fe80::1"),
    (config.parse_host, "fe80::1%eth0", "fe80::1%eth0"),
    (config.parse_host, "ec2-1-2-3-4.x.amazonaws.com", "ec2-1-2-3-4.x.amazonaws.com"),
    (config.parse_place, "host", HostPort("host")),
    (config.parse_place, "10.0.0.1:9706", HostPort("10.0.0.1", 9706)),
    (config.parse_place, "[::1]:9706", HostPort("::1", 9706)),
    (config.parse_place, "::1", HostPort("::1")),
    (config.parse_flag, "Yes", True),
    (config.parse_flag, "0", False),
    (config.parse_serve, "-1", -1),
    (config.parse_resource, " gpu=2", ("gpu", 2)),
    (config.parse_passphrase, "sixteen letters!", "sixteen letters!"),
]

BAD = [
    (config.parse_whole, ["", "x", "1.5", "1_000", "٣", "9" * 30]),
    (config.parse_port, ["-1", "65536", "http"]),
    (config.parse_port_range, ["5-3", "0-5", "1-", "-", "1-2-3", "1-70000"]),
    (config.parse_seconds, ["-1", "nan", "inf", "1e9", "", "5 days"]),
    (config.parse_size, ["-1", "10 q", "m", "999999999999999t"]),
    (config.parse_name, ["", " ", "a/b", "..", "-x", "a b", "x" * 64, "a\nb", "a:b", "*"]),
    (config.parse_path, ["", "a\0b", "~0", "~no such user/x"]),
    (config.parse_host, ["", "a b", "300.1.1.1", "1.2.3", "::g", "http://x", "x" * 300, "[::1"]),
    (config.parse_place, ["host:", "host:0", "host:x", ":5", "host:70000", "[::1]5", "a:1:2"]),
    (config.parse_flag, ["maybe"]),
    (config.parse_serve, ["0", "-2"]),
    (config.parse_resource, ["gpu", "gpu=", "gpu=0", "gpu=x", "gpu=-1", "gpu=0.5", "=1", "my gpu=1"]),
    (config.parse_passphrase, ["", "fifteen letters"]),
]


@pytest.mark.parametrize(("parse", "text", "value"), GOOD)
def test_a_value_is_read(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(("parse", "text"), [(parse, text) for parse, texts in BAD for text in texts])
def test_a_wrong_value_is_refused_with_a_reason(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse(text)
    assert str(caught.value)


@given(st.sampled_from([parse for parse, _ in BAD]), st.text(max_size=40))
def test_no_text_makes_a_parser_fail_otherwise(parse: Callable[[str], object], text: str) -> None:
    try:
        value = parse(text)
    except ValueError:
        return
    if isinstance(value, PortRange | HostPort):
        assert parse(str(value)) == value, "what is saved is read back the same"


def test_a_bad_passphrase_is_not_repeated_in_the_message() -> None:
    with pytest.raises(ValueError) as caught:
        config.parse_passphrase("hunter2")
    assert "hunter2" not in str(caught.value)


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
    kinds = (Failure, Misuse, config.NothingFound, config.Refused)
    assert [kind.exit_code for kind in kinds] == [1, 2, 3, 4]
    assert str(Failure("what", "remedy")) == "what\nremedy"


class Third(float):
    """A kind of number of a program's own."""


@pytest.mark.parametrize("value", [1, 0.5, Third(2.0), Fraction(1, 2)])
def test_seconds_of_a_program_are_any_number_above_0(value: Any) -> None:
    assert positive_seconds(value, "it") == float(value)


@pytest.mark.parametrize(
    ("value", "error"),
    [(0, ValueError), (-1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError)]
    + [(value, TypeError) for value in ("5", None, True, 5j)],
)
def test_what_is_no_number_of_seconds_is_named(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="pulse_interval must be a number of seconds"):
        positive_seconds(value, "pulse_interval")


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


class Index:
    """As numpy's whole numbers are."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __index__(self) -> int:
        return self.number


@pytest.mark.parametrize("value", [0, 7, Index(7)])
def test_a_natural_number_may_be_of_any_kind(value: object) -> None:
    number = natural_number(value, "retries")
    assert type(number) is int and number == (0 if value == 0 else 7)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(-1, ValueError), (Index(-1), ValueError), (True, TypeError), (1.0, TypeError), ("1", TypeError)],
)
def test_what_is_no_natural_number_is_named(value: object, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="retries must"):
        natural_number(value, "retries")

"""What a value may be, of a program or as text."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispycos import values
from dispycos.values import HostPort, PortRange, natural_number, positive_seconds

GOOD = [
    (values.parse_whole, "-2", -2),
    (values.parse_port, "0", 0),
    (values.parse_port, "65535", 65535),
    (values.parse_port_range, "9706", PortRange(9706, 9706)),
    (values.parse_port_range, "2345-2347", PortRange(2345, 2347)),
    (values.parse_seconds, "0.5", 0.5),
    (values.parse_seconds, "5m", 300.0),
    (values.parse_size, "0", 0),
    (values.parse_size, "10m", 10 * 2**20),
    (values.parse_size, "1.5 GiB", 3 * 2**29),
    (values.parse_name, "host-2.lan", "host-2.lan"),
    (values.parse_path, "/tmp/x y", Path("/tmp/x y")),
    (values.parse_host, "[fe80::1]", "fe80::1"),
    (values.parse_host, "fe80::1%eth0", "fe80::1%eth0"),
    (values.parse_host, "ec2-1-2-3-4.x.amazonaws.com", "ec2-1-2-3-4.x.amazonaws.com"),
    (values.parse_place, "host", HostPort("host")),
    (values.parse_place, "10.0.0.1:9706", HostPort("10.0.0.1", 9706)),
    (values.parse_place, "[::1]:9706", HostPort("::1", 9706)),
    (values.parse_place, "::1", HostPort("::1")),
    (values.parse_flag, "Yes", True),
    (values.parse_flag, "0", False),
    (values.parse_serve, "-1", -1),
    (values.parse_resource, " gpu=2", ("gpu", 2)),
    (values.parse_passphrase, "sixteen letters!", "sixteen letters!"),
]


BAD = [
    (values.parse_whole, ["", "x", "1.5", "1_000", "٣", "9" * 30]),
    (values.parse_port, ["-1", "65536", "http"]),
    (values.parse_port_range, ["5-3", "0-5", "1-", "-", "1-2-3", "1-70000"]),
    (values.parse_seconds, ["-1", "nan", "inf", "1e9", "", "5 days"]),
    (values.parse_size, ["-1", "10 q", "m", "999999999999999t"]),
    (values.parse_name, ["", " ", "a/b", "..", "-x", "a b", "x" * 64, "a\nb", "a:b", "*"]),
    (values.parse_path, ["", "a\0b", "~0", "~no such user/x"]),
    (values.parse_host, ["", "a b", "300.1.1.1", "1.2.3", "::g", "http://x", "x" * 300, "[::1"]),
    (values.parse_place, ["host:", "host:0", "host:x", ":5", "host:70000", "[::1]5", "a:1:2"]),
    (values.parse_flag, ["maybe"]),
    (values.parse_serve, ["0", "-2"]),
    (values.parse_resource, ["gpu", "gpu=", "gpu=0", "gpu=x", "gpu=-1", "gpu=0.5", "=1", "my gpu=1"]),
    (values.parse_passphrase, ["", "fifteen letters"]),
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
        values.parse_passphrase("hunter2")
    assert "hunter2" not in str(caught.value)


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

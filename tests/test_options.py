"""Where a value comes from, and that no option is ignored in silence."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispycos.cli.options import (
    COMMANDS,
    SECRET_SHOW,
    Command,
    Given,
    Option,
    read_config,
    settle,
    toml_value,
    write_config,
)
from dispycos.config import Failure, HostPort, Misuse, NodeSettings, PortRange, SchedulerSettings, Settings

NODE, SCHEDULER, STATUS, PRIVATE = COMMANDS

SPEC_NODE = """
    cpus ip_addr ext_ip_addr udp_port name dest_path max_file_size secret certfile keyfile clean peer
    min_pulse_interval max_pulse_interval zombie_period debug tcp_ports ipv4_udp_multicast serve daemon
    service_start service_stop service_end
"""
SPEC_SCHEDULER = """
    ip_addr ext_ip_addr udp_port tcp_port name node dest_path max_file_size secret certfile keyfile
    zombie_period debug daemon ipv4_udp_multicast
"""
SPEC_SHORTS = {
    "c": "cpus",
    "i": "ip_addr",
    "u": "udp_port",
    "n": "name",
    "s": "secret",
    "d": "debug",
    "t": "tcp_port",
}


def settled(
    command: Command = NODE, given: Given | None = None, env: dict[str, str] | None = None, **file: object
) -> Settings:
    return settle(command, given or {}, env or {}, file).settings


def test_the_commands_have_every_option_of_the_spec() -> None:
    assert set(SPEC_NODE.split()) <= {o.name for o in NODE.options}
    assert set(SPEC_SCHEDULER.split()) <= {o.name for o in SCHEDULER.options}
    shorts = {o.short: o.name for o in (*NODE.options, *SCHEDULER.options) if o.short}
    assert shorts == SPEC_SHORTS


@pytest.mark.parametrize("command", [*COMMANDS, SECRET_SHOW], ids=lambda c: c.name)
def test_each_option_is_a_setting_or_refused_in_words(command: Command) -> None:
    settings = {f.name for f in fields(command.settings)}
    names = [o.name for o in command.options]
    assert len(set(names)) == len(names)
    assert settings <= set(names)
    for option in command.options:
        assert option.name in settings or option.refusal


def test_nothing_given_gives_the_defaults() -> None:
    assert settled() == NodeSettings()
    assert settled(SCHEDULER) == SchedulerSettings()


def test_the_command_line_wins_over_the_environment_and_that_over_the_file_and_that_over_the_default() -> (
    None
):
    def cpus(given: Given, env: dict[str, str], **file: object) -> int:
        found = settled(NODE, given, env, **file)
        assert isinstance(found, NodeSettings)
        return found.cpus

    env = {"DISPYCOS_CPUS": "2"}
    assert cpus({"cpus": "1"}, env, cpus=3) == 1
    assert cpus({"cpus": None}, env, cpus=3) == 2
    assert cpus({}, {"DISPYCOS_CPUS": ""}, cpus=3) == 3
    assert cpus({}, {}) == 0


def test_a_repeated_option_is_a_list_everywhere() -> None:
    expected = NodeSettings(
        tcp_ports=(PortRange(5, 7), PortRange(9, 9)), peer=(HostPort("a"), HostPort("::1", 5))
    )
    assert settled(NODE, {"tcp_ports": ("5-7", "9"), "peer": ("a", "[::1]:5")}) == expected
    assert settled(NODE, {}, {"DISPYCOS_TCP_PORTS": "5-7,9", "DISPYCOS_PEER": "a [::1]:5"}) == expected
    assert settled(NODE, {}, {}, tcp_ports=["5-7", 9], peer=["a", "[::1]:5"]) == expected
    assert settled(NODE, {}, {}, **{"tcp-ports": "9"}) == NodeSettings(tcp_ports=(PortRange(9, 9),))


def test_a_file_may_use_dashes_and_later_names() -> None:
    assert settled(NODE, {}, {}, **{"max-file-size": "1k", "node_ports": [5]}) == NodeSettings(
        max_file_size=1024, tcp_ports=(PortRange(5, 5),)
    )


REFUSED = [(command, o) for command in COMMANDS for o in command.options if o.refusal]
SAMPLES = {"certfile": "f", "keyfile": "f", "udp_port": "51347", "zombie_period": "60"}


@pytest.mark.parametrize(("command", "option"), REFUSED, ids=lambda x: getattr(x, "name", ""))
def test_an_option_that_is_not_in_effect_is_refused_wherever_it_stands(
    command: Command, option: Option
) -> None:
    value = "true" if option.is_flag else SAMPLES.get(option.name, "07:30")
    given = {option.name: True if option.is_flag else value}
    for place in (given, {}, {}):
        env = {} if place else {option.variable: value}
        with pytest.raises(Misuse, match=r"not available in this version|mDNS") as caught:
            settled(command, place, env)
        assert option.name in caught.value.text.lower() and caught.value.remedy
    with pytest.raises(Misuse, match=f"^{option.name} in the --config file"):
        settled(command, {}, {}, **{option.name: value})


def test_a_wrong_value_is_named_with_the_place_where_it_stands() -> None:
    with pytest.raises(Misuse, match=r"^--cpus: 'x' is not a whole number"):
        settled(NODE, {"cpus": "x"})
    with pytest.raises(Misuse, match=r"^DISPYCOS_CPUS: 'x'"):
        settled(NODE, {}, {"DISPYCOS_CPUS": "x"})
    with pytest.raises(Misuse, match=r"^cpus in the --config file: 'x'"):
        settled(NODE, {}, {}, cpus="x")
    with pytest.raises(Misuse, match=r"^--service_start: '25:00' is not a time"):
        settled(NODE, {"service_start": "25:00"})
    for value in (True, [1], {"a": 1}):
        with pytest.raises(Misuse, match=r"^cpus in the --config file"):
            settled(NODE, {}, {}, cpus=value)


def test_an_overridden_value_does_not_matter() -> None:
    assert settled(NODE, {"cpus": "1"}, {"DISPYCOS_CPUS": "x"}) == NodeSettings(cpus=1)


def test_a_flag_of_the_file_can_be_taken_back_by_the_environment() -> None:
    assert settled(NODE, {"debug": False}, {"DISPYCOS_DEBUG": "0"}, debug=True) == NodeSettings()


def test_the_secret_of_the_strongest_place_counts() -> None:
    env = {"DISPYCOS_SECRET": "sixteen letters!"}
    assert settled(NODE, {"secret_file": "f"}, env) == NodeSettings(secret_file=Path("f"))
    assert settled(NODE, {"insecure": True}, env) == NodeSettings(insecure=True)
    assert settled(NODE, {}, env, secret_file="f") == NodeSettings(secret="sixteen letters!")
    with pytest.raises(Misuse, match="both given"):
        settled(NODE, {"secret_file": "f", "insecure": True}, env)


def test_what_is_saved_is_read_back_the_same_save_for_what_is_of_one_host(tmp_path: Path) -> None:
    given: Given = {
        "cpus": "-1",
        "tcp_ports": ("5-7", "9"),
        "peer": ("[::1]:5", "a"),
        "min_pulse_interval": "0.5",
        "dest_path": '/tmp/"odd" \\ path',
        "max_file_size": "1k",
        "daemon": True,
        "ip_addr": ("127.0.0.1",),
        "name": "me",
        "secret": "sixteen letters!",
    }
    result = settle(NODE, given, {}, {})
    write_config(tmp_path / "f", result.saved)
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert "letters" not in result.saved and "127.0.0.1" not in result.saved

    again = settle(
        NODE,
        {"ip_addr": ("127.0.0.1",), "name": "me", "secret": given["secret"]},
        {},
        read_config(tmp_path / "f", NODE),
    )
    assert again.settings == result.settings


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_any_text_survives_toml(text: str) -> None:
    assert tomllib.loads(f"a = {toml_value(text)}") == {"a": text}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [("cpus = ", "is not TOML"), ("cpsu = 1", "'cpsu' is not an option of node"), (b"\xff", "TOML")],
)
def test_a_bad_file_is_named(tmp_path: Path, content: str | bytes, complaint: str) -> None:
    path = tmp_path / "c.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Misuse, match=complaint) as caught:
        read_config(path, NODE)
    assert str(path) in caught.value.text


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="No such file"):
        read_config(tmp_path / "c.toml", NODE)
    with pytest.raises(Failure, match="cannot be written"):
        write_config(tmp_path / "none" / "c.toml", "")

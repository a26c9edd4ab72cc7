"""Where a value comes from, and that no option is ignored in silence."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import click
import hypothesis
import pytest
from hypothesis import strategies as st

from dispycos.cli.main import COMMANDS, SECRET_SHOW, Command, Invocation
from dispycos.cli.options import Option, given, place_of, read_config, save_config, toml_value, variable_of
from dispycos.config import Failure, Misuse, NodeSettings, SchedulerSettings, Settings
from dispycos.hours import TimeOfDay
from dispycos.values import HostPort, PortRange

BY_NAME = {command.name: command for command in COMMANDS}
NODE, SCHEDULER, STATUS, PRIVATE = (BY_NAME[name] for name in ("node", "scheduler", "status", "private"))

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


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [n for n in os.environ if n.startswith("DISPYCOS_")]:
        monkeypatch.delenv(name)


def options_of(command: Command) -> dict[str, Option]:
    return {o.name or "": o for o in command.params if isinstance(o, Option)}


def context_of(command: Command, words: str | list[str], file: Path | None = None) -> click.Context:
    typed = words.split() if isinstance(words, str) else words
    return command.make_context(
        command.name, [*typed, *(["--config", str(file)] if file else [])], obj=Invocation()
    )


def settled(command: Command = NODE, words: str | list[str] = "", file: Path | None = None) -> Settings:
    return command.settings(**given(context_of(command, words, file)))


@pytest.fixture
def toml(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        path = tmp_path / "c.toml"
        path.write_text(text)
        return path

    return write


Toml = Callable[[str], Path]


def test_the_commands_have_every_option_of_the_spec() -> None:
    assert set(SPEC_NODE.split()) <= set(options_of(NODE))
    assert set(SPEC_SCHEDULER.split()) <= set(options_of(SCHEDULER))
    options = {**options_of(NODE), **options_of(SCHEDULER)}
    shorts = {word[1]: name for name, o in options.items() for word in o.opts if word[1] != "-"}
    assert shorts == SPEC_SHORTS


@pytest.mark.parametrize("command", [*COMMANDS, SECRET_SHOW], ids=lambda c: c.name)
def test_each_option_is_a_setting_or_refused_in_words(command: Command) -> None:
    settings, options = {f.name for f in fields(command.settings)}, options_of(command)
    assert settings - {"secret"} <= {param.name for param in command.params}
    assert {name for name, option in options.items() if not option.refusal} <= settings


def test_nothing_given_gives_the_defaults() -> None:
    assert settled() == NodeSettings()
    assert settled(SCHEDULER) == SchedulerSettings()


def test_the_command_line_wins_over_the_environment_and_that_over_the_file_and_that_over_the_default(
    monkeypatch: pytest.MonkeyPatch, toml: Toml
) -> None:
    file = toml("cpus = 3")
    monkeypatch.setenv("DISPYCOS_CPUS", "2")
    assert settled(NODE, "--cpus 1", file) == NodeSettings(cpus=1)
    assert settled(NODE, "", file) == NodeSettings(cpus=2)
    monkeypatch.setenv("DISPYCOS_CPUS", "")
    assert settled(NODE, "", file) == NodeSettings(cpus=3)
    assert settled() == NodeSettings()


def test_a_repeated_option_is_a_list_everywhere(monkeypatch: pytest.MonkeyPatch, toml: Toml) -> None:
    expected = NodeSettings(
        tcp_ports=(PortRange(5, 7), PortRange(9, 9)), peer=(HostPort("a"), HostPort("::1", 5))
    )
    assert settled(NODE, "--tcp_ports 5-7 --tcp_ports 9 --peer a --peer [::1]:5") == expected
    assert settled(NODE, "", toml('tcp_ports = ["5-7", 9]\npeer = ["a", "[::1]:5"]')) == expected
    assert settled(NODE, "", toml('tcp-ports = "9"')) == NodeSettings(tcp_ports=(PortRange(9, 9),))
    monkeypatch.setenv("DISPYCOS_TCP_PORTS", "5-7,9")
    monkeypatch.setenv("DISPYCOS_PEER", "a [::1]:5")
    assert settled() == expected


def test_times_of_day_stand_in_a_file_as_toml_times_or_as_texts(toml: Toml) -> None:
    file = toml('service_start = 17:00:00\nservice-stop = "07:00"\nservice_end = "8:30"')
    expected = NodeSettings(
        service_start=TimeOfDay(17, 0), service_stop=TimeOfDay(7, 0), service_end=TimeOfDay(8, 30)
    )
    assert settled(NODE, "", file) == expected
    save_config(file, NODE, {"service_start": TimeOfDay(17, 0), "service_stop": TimeOfDay(7, 0)})
    assert 'service_start = "17:00"\nservice_stop = "07:00"' in file.read_text()
    assert settled(NODE, "--service_end 08:30", file) == expected


def test_a_time_of_day_with_seconds_is_none(toml: Toml) -> None:
    with pytest.raises(click.BadParameter, match="'17:00:30' is not a time of day"):
        settled(NODE, "", toml("service_start = 17:00:30"))


def test_a_file_may_use_dashes_and_later_names(toml: Toml) -> None:
    file = toml('max-file-size = "1k"\nnode_ports = [5]')
    assert settled(NODE, "", file) == NodeSettings(max_file_size=1024, tcp_ports=(PortRange(5, 5),))


REFUSED = [(command, o) for command in COMMANDS for o in options_of(command).values() if o.refusal]


@pytest.mark.parametrize(("command", "option"), REFUSED, ids=lambda x: getattr(x, "name", ""))
def test_an_option_that_is_not_in_effect_is_refused_wherever_it_stands(
    command: Command, option: Option, monkeypatch: pytest.MonkeyPatch, toml: Toml
) -> None:
    words = [f"--{option.name}", *([] if option.is_flag else ["7"])]
    with pytest.raises(Misuse, match=f"^--{option.name} .*mDNS") as caught:
        settled(command, words)
    assert caught.value.remedy
    if command is not PRIVATE:
        with pytest.raises(Misuse, match=f"^{option.name} in the --config file"):
            settled(command, "", toml(f"{option.name} = {'true' if option.is_flag else '7'}"))
    monkeypatch.setenv(variable_of(option), "1")
    with pytest.raises(Misuse, match=f"^{variable_of(option)} "):
        settled(command)


def wrong(words: str = "", file: Path | None = None) -> str:
    """Where a value stands, and what is wrong with it."""
    with pytest.raises(click.BadParameter) as caught:
        context_of(NODE, words, file)
    error = caught.value
    assert error.ctx is not None and error.param is not None
    return f"{place_of(error.ctx, error.param)}: {error.message}"


def test_a_wrong_value_is_named_with_the_place_where_it_stands(
    monkeypatch: pytest.MonkeyPatch, toml: Toml
) -> None:
    assert wrong("--cpus x") == "--cpus: 'x' is not a whole number"
    assert wrong("", toml('cpus = "x"')) == "cpus in the --config file: 'x' is not a whole number"
    assert wrong("", toml("debug = 7")).startswith("debug in the --config file: '7'")
    for value in ("true", "[1]", "{a = 1}"):
        with pytest.raises(Misuse, match=r"^cpus in the --config file"):
            settled(NODE, "", toml(f"cpus = {value}"))
    monkeypatch.setenv("DISPYCOS_CPUS", "x")
    assert wrong() == "DISPYCOS_CPUS: 'x' is not a whole number"


def test_an_overridden_value_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPYCOS_CPUS", "x")
    assert settled(NODE, "--cpus 1") == NodeSettings(cpus=1)


def test_a_flag_of_the_file_can_be_taken_back_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, toml: Toml
) -> None:
    file = toml("debug = true")
    assert settled(NODE, "", file) == NodeSettings(debug=True)
    monkeypatch.setenv("DISPYCOS_DEBUG", "0")
    assert settled(NODE, "", file) == NodeSettings()


def test_the_secret_of_the_strongest_place_counts(monkeypatch: pytest.MonkeyPatch, toml: Toml) -> None:
    monkeypatch.setenv("DISPYCOS_SECRET", "sixteen letters!")
    assert settled(NODE, "--secret_file f") == NodeSettings(secret_file=Path("f"))
    assert settled(NODE, "--insecure") == NodeSettings(insecure=True)
    assert settled(NODE, "", toml('secret_file = "f"')) == NodeSettings(secret="sixteen letters!")
    with pytest.raises(Misuse, match="both given"):
        settled(NODE, "--secret_file f --insecure").check()


def test_what_is_saved_is_read_back_the_same_save_for_what_is_of_one_host(tmp_path: Path) -> None:
    own = ["--ip_addr", "127.0.0.1", "--name", "me", "--secret", "sixteen letters!"]
    others = (
        "--cpus -1 --tcp_ports 5-7 --tcp_ports 9 --peer [::1]:5 --peer a --min_pulse_interval 0.5 --daemon"
    )
    words = [*own, *others.split(), "--dest_path", '/tmp/"odd" \\ path', "--max_file_size", "1k"]
    file = tmp_path / "f"
    save_config(file, NODE, given(context_of(NODE, words)))
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    assert "letters" not in file.read_text() and "127.0.0.1" not in file.read_text()
    assert settled(NODE, own, file) == settled(NODE, words)


@hypothesis.given(st.text(st.characters(exclude_categories=["Cs"])))
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
        save_config(tmp_path / "none" / "c.toml", NODE, {})

"""The command as a user meets it: words, exit codes, and a quick start. Bodies are replaced by small ones."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from dispycos.cli.main import COMMANDS, WEB_REPLAY, Command, run
from dispycos.cli.options import Option
from dispycos.config import NodeSettings, NothingFound, SchedulerSettings, StatusSettings
from dispycos.values import HostPort, PortRange
from dispycos.version import RELEASE

Body = Callable[[object], int | None]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [n for n in os.environ if n.startswith("DISPYCOS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)


@pytest.fixture
def bodies(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Body], None]:
    def put(name: str, body: Body) -> None:
        module = types.ModuleType(f"dispycos.cli.{name}")
        module.__dict__["run"] = body
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return put


@pytest.fixture
def settings_of(bodies: Callable[[str, Body], None]) -> Callable[..., object]:
    def given(*arguments: str) -> object:
        seen: list[object] = []
        bodies(arguments[0], lambda settings: seen.append(settings))
        assert run(arguments) == 0
        return seen[0]

    return given


def test_options_become_typed_settings(settings_of: Callable[..., object]) -> None:
    assert settings_of("node", "-c", "-1", "--tcp_ports", "5-7", "--tcp_ports", "9", "-d") == NodeSettings(
        cpus=-1, tcp_ports=(PortRange(5, 7), PortRange(9, 9)), debug=True
    )
    assert settings_of("scheduler", "-t", "0", "--node", "a:5") == SchedulerSettings(
        tcp_port=0, node=(HostPort("a", 5),)
    )
    assert settings_of("status", "--json") == StatusSettings(json=True)


@pytest.mark.parametrize("name", ["--ip_addr", "--ip-addr", "--host", "-i"])
def test_dashes_underscores_and_later_names_mean_the_same(
    settings_of: Callable[..., object], name: str
) -> None:
    assert settings_of("node", name, "127.0.0.1") == NodeSettings(ip_addr=("127.0.0.1",))


@pytest.mark.parametrize(
    ("later", "spec"), [("--scheduler-port", "--tcp_port"), ("--ext_host", "--ext_ip_addr")]
)
def test_later_names_of_the_scheduler(settings_of: Callable[..., object], later: str, spec: str) -> None:
    assert (
        settings_of("scheduler", later, "55") == settings_of("scheduler", spec, "55")
        if "port" in spec
        else True
    )


def test_environment_and_file_count_and_a_file_is_written(
    settings_of: Callable[..., object], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "node.toml"
    assert run(["node", "--cpus", "3", "--max-file-size", "1k", "--save-config", str(file)]) == 0
    monkeypatch.setenv("DISPYCOS_CPUS", "2")
    expected = NodeSettings(cpus=2, max_file_size=1024)
    assert settings_of("node", "--config", str(file)) == expected
    monkeypatch.setenv("DISPYCOS_CONFIG", str(file))
    assert settings_of("node") == expected


MISUSES = [
    (["node", "--bogus"], "No such option", "dispycos node --help"),
    (["bogus"], "No such command", "dispycos --help"),
    (["secret", "bogus"], "No such command", "--help"),
    (["node", "extra"], "unexpected extra argument", "dispycos node --help"),
    (["node", "--cpus"], "requires an argument", "dispycos node --help"),
    (["node", "-u", "51347"], "mDNS", "--peer"),
    (["scheduler", "--ipv4_udp_multicast"], "mDNS", "--peer"),
    (
        ["node", "--service-start", "17:00"],
        "--service_start 17:00 is given without an end of the service",
        "give --service_stop HH:MM (no new tasks), --service_end",
    ),
    (["node", "--cpus", "many"], "--cpus: 'many' is not a whole number", ""),
    (["node", "-s", "short"], "--secret: 5 characters", ""),
    (["node", "--secret_file", "f", "--insecure"], "both given", "leave one of them out"),
    (["node", "--config", "/nowhere.toml"], "No such file", ""),
]


@pytest.mark.parametrize(
    ("arguments", "complaint", "remedy"), MISUSES, ids=lambda x: " ".join(x) if isinstance(x, list) else ""
)
def test_misuse_is_exit_2_and_at_most_two_lines_with_the_remedy(
    arguments: list[str], complaint: str, remedy: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    out, err = capfd.readouterr()
    assert out == "" and complaint in err and remedy in err and len(err.splitlines()) <= 2
    assert err.startswith(f"dispycos {arguments[0]}: " if arguments[0] != "bogus" else "dispycos: ")


# Of each option that takes a value one of no use, and what is said of it.
BAD_VALUES = {
    "cpus": ("two", "'two' is not a whole number"),
    "resource": ("gpu", "'gpu': give NAME=N"),
    "min_pulse_interval": ("soon", "'soon' is not a number of seconds (10, 0.5, 30s, 5m, 2h)"),
    "max_pulse_interval": ("-5", "'-5' is not a number of seconds"),
    "zombie_period": ("1d", "'1d' is not a number of seconds"),
    "tcp_ports": ("9-8", "'9-8' runs backwards"),
    "tcp_port": ("65536", "'65536' is not a port: 0 (any free one) to 65535"),
    "ip_addr": ("1.2.3", "'1.2.3' is not an IPv4 address"),
    "ext_ip_addr": ("a/b", "'a/b' is not a host name or an IP address"),
    "name": ("a/b", "'a/b' is not a name: no blank, / \\ : * or quote in it"),
    "dest_path": (" ", "' ' is not a path"),
    "web": ("99999", "'99999' is not a port"),
    "web_host": ("a/b", "'a/b' is not a name"),
    "web_certfile": ("~nobody-of-this-name/x", "there is no such user"),
    "web_keyfile": ("~nobody-of-this-name/x", "there is no such user"),
    "user": ("a b", "'a b' is not a name"),
    "group": ("", "'' is not a name"),
    "max_file_size": ("big", "'big' is not a size (1000, 64k, 10m, 2g, 1t)"),
    "secret": ("short", "5 characters are too easy to guess, use 16 or more"),
    "secret_file": ("", "'' is not a path"),
    "group_secret": ("", "'' is not a path"),
    "certfile": ("", "'' is not a path"),
    "keyfile": ("~nobody-of-this-name/x", "there is no such user, or the user has no home folder"),
    "serve": ("0", "give the number of clients to serve, or -1 for no limit"),
    "peer": ("host:0", "port 0 cannot be dialled"),
    "node": ("host:99999", "'99999' is not a port"),
    "service_start": ("24:00", "'24:00' is not a time of day: HH:MM, from 00:00 to 23:59"),
    "service_stop": ("7", "'7' is not a time of day"),
    "service_end": ("noon", "'noon' is not a time of day"),
    "timeout": ("x", "'x' is not a number of seconds"),
    "record": (" ", "' ' is not a path"),
    "watch": ("0.1", "'0.1' is too short: 0.2 s at least"),
    "function": (" ", "' ' names nothing"),
    "limit": ("-1", "'-1' is no number of tasks: 0 (all) or more"),
    "state": ("done", "'done' is not queued or running: other tasks have ended"),
    "replay": (" ", "' ' is not a path"),
    "port": ("65536", "'65536' is not a port"),
    "local": ("x", "'x' is not a whole number"),
    "location": ("host:99999", "'99999' is not a port"),
    "speed": ("-1", "'-1' is not a speed (1, 0.5, 60; 0 is its end at once)"),
}
OF_ONCE = (
    "function",
    "local",
    "location",
    "limit",
    "state",
    "watch",
    "replay",
    "speed",
)  # and --node of tasks
TAKING = [
    (str(command.name), str(option.name))
    for command in (*COMMANDS, WEB_REPLAY)
    for option in command.params
    if isinstance(option, Option) and not (option.is_flag or option.refusal or command.name == "private")
]


def places_of(command: str | None, option: str) -> list[str]:
    """Where a value of no use can stand."""
    of_once = option in OF_ONCE or (command, option) == ("tasks", "node")
    is_empty = not BAD_VALUES[option][0].strip()  # a variable that is empty is none
    takes = {"typed": True, "variable": not (of_once or is_empty), "file": command in ("node", "scheduler")}
    return [where for where, does in takes.items() if does]


@pytest.mark.parametrize(
    ("command", "option", "where"), [(*one, where) for one in TAKING for where in places_of(*one)]
)
def test_a_value_of_no_use_is_exit_2_and_named_with_the_place_where_it_stands(
    command: str,
    option: str,
    where: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    value, complaint = BAD_VALUES[option]
    words, place = [command, *(["c.1"] if command == "stack" else [])], f"--{option}"
    if where == "typed":
        words += [f"--{option}", value]
    elif where == "variable":
        monkeypatch.setenv(place := f"DISPYCOS_{option.upper()}", value)
    else:
        file = tmp_path / "c.toml"
        file.write_text(f"{option} = {value!r}")
        words, place = [*words, "--config", str(file)], f"{option} in the --config file"
    assert run(words) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith(f"dispycos {command}: {place}: ") and complaint in err
    assert len(err.splitlines()) <= 2


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            "--min_pulse_interval 0",
            "--min_pulse_interval 0 and --max_pulse_interval 100 leave no pulse interval",
        ),
        ("--min_pulse_interval 200", "leave no pulse interval"),
        (
            "--ip_addr 127.0.0.1 --ext_ip_addr a --ext_ip_addr b",
            "--ext_ip_addr is given 2 times, --ip_addr 1 times",
        ),
        ("--service_stop 07:00 --service_start 07:00", "start and stop are both 07:00"),
        (
            "--service_start 17:00 --service_stop 08:00 --service_end 07:00",
            "the end 07:00 comes before the stop 08:00",
        ),
        ("--service_start 17:00", "is given without an end of the service"),
        ("--certfile c.key", "--certfile is given without --keyfile"),
        ("--insecure --keyfile k", "--insecure and k are both given"),
        ("--insecure --group_secret g", "--insecure and a secret are both given"),
    ],
)
def test_values_that_do_not_go_together_are_exit_2(
    words: str, complaint: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(["node", *words.split()]) == 2
    assert complaint in capfd.readouterr().err


def fails(error: BaseException) -> Body:
    def body(settings: object) -> int:
        raise error

    return body


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (
            NothingFound("nobody is here", "start a node"),
            3,
            "dispycos status: nobody is here\nstart a node\n",
        ),
        (TimeoutError(), 124, "dispycos status: no answer in time\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            ZeroDivisionError("oh"),
            1,
            "dispycos status: ZeroDivisionError: oh\nthis should not happen; --debug shows where\n",
        ),
    ],
)
def test_failures_have_their_exit_codes_and_words(
    bodies: Callable[[str, Body], None],
    capfd: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    bodies("status", fails(error))
    assert run(["status"]) == code
    assert capfd.readouterr().err == said


def test_with_json_a_failure_is_json_too(
    bodies: Callable[[str, Body], None], capsys: pytest.CaptureFixture[str]
) -> None:
    bodies("status", fails(NothingFound("nobody is there", "start one")))
    assert run(["status", "--json"]) == 3
    told = capsys.readouterr()
    assert json.loads(told.out) == {"error": "nobody is there", "remedy": "start one", "code": 3}
    assert "nobody is there" in told.err
    assert run(["status", "--json", "--jsn"]) == 2
    assert json.loads(capsys.readouterr().out)["error"].startswith("No such option '--jsn'")
    assert run(["status"]) == 3
    assert capsys.readouterr().out == ""


def test_a_closed_standard_output_is_no_fault_of_ours(
    bodies: Callable[[str, Body], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bodies("status", lambda settings: print("to nobody", sys.stdout.isatty()))
    monkeypatch.setattr(sys, "stdout", None)
    assert run(["status"]) == 0


def test_a_traceback_is_shown_with_debug_only(
    bodies: Callable[[str, Body], None], capfd: pytest.CaptureFixture[str]
) -> None:
    bodies("status", fails(NothingFound("nobody is here")))
    assert run(["status", "--debug"]) == 3
    assert "Traceback" in capfd.readouterr().err


def test_the_exit_code_of_a_body_is_the_commands(bodies: Callable[[str, Body], None]) -> None:
    bodies("status", lambda settings: 3)
    assert run(["status"]) == 3


def python_m(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dispycos", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, **(env or {})},
    )


def test_secret_show_makes_the_secret_once_and_prints_nothing_else(tmp_path: Path) -> None:
    first, second = python_m("secret", "show"), python_m("secret", "show")
    assert first.stdout == second.stdout == (tmp_path / ".config/dispycos/secret").read_text()
    assert (first.returncode, first.stderr) == (0, "")


def test_secret_show_shows_that_of_the_environment_too(tmp_path: Path) -> None:
    assert python_m("secret", "show", env={"DISPYCOS_SECRET": "ab" * 32}).stdout == "ab" * 32 + "\n"
    assert not (tmp_path / ".config").exists()


def test_a_command_has_the_secret_of_the_environment_which_is_gone_from_there(
    bodies: Callable[[str, Body], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISPYCOS_SECRET", "sixteen characters")
    seen: list[object] = []
    bodies("node", lambda settings: seen.append((settings, os.environ.get("DISPYCOS_SECRET"))))
    assert run(["node"]) == 0
    assert seen == [(NodeSettings(secret="sixteen characters"), None)]


def test_a_passphrase_that_stays_in_sight_is_said_once_and_not_repeated(
    bodies: Callable[[str, Body], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    bodies("node", lambda settings: None)
    monkeypatch.setattr("dispycos.cli.main.take_out_of_sight", lambda passphrase: False)
    assert run(["node", "-s", "sixteen characters"]) == 0
    said = capsys.readouterr().err
    assert "the passphrase of --secret can be seen" in said and "sixteen" not in said


def test_a_secret_that_others_can_read_is_an_error_in_two_lines(tmp_path: Path) -> None:
    python_m("secret", "show")
    file = tmp_path / ".config/dispycos/secret"
    file.chmod(0o644)
    done = python_m("secret", "show")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"dispycos secret show: the secret file {file} can be read or changed by others (mode 644)",
        f"chmod 600 {file}",
    ]


def test_a_closed_pipe_is_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os, sys; os.close(1); sys.argv[1:] = ['secret', 'show'];"
         "from dispycos.cli.main import main; main()"],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed:
        process = subprocess.run(
            [sys.executable, "-m", "dispycos", "secret", "show"],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    assert (process.returncode, process.stderr) == (1, "")


def test_help_and_version_need_no_network_library() -> None:
    program = (
        "import sys; from dispycos.cli.main import run; code = run(['--help']);"
        "print([m for m in ('zmq', 'zeroconf', 'psutil', 'msgspec', 'dill') if m in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert done.stdout.splitlines()[-1] == "[] 0"
    assert all(name in done.stdout for name in ("node", "scheduler", "status", "secret"))
    assert "private" not in done.stdout
    assert python_m("--version").stdout == python_m("-V").stdout == f"dispycos {RELEASE}\n"
    assert "--ip_addr" in python_m("node", "--help").stdout


@pytest.mark.parametrize(
    ("command", "option"),
    [(c, o) for c in COMMANDS for o in c.params if isinstance(o, Option) and o.refusal],
    ids=lambda x: x.name,
)
def test_what_is_not_available_is_answered_and_not_shown(
    command: Command, option: Option, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([str(command.name), "--help"]) == 0
    name = f"--{option.name}"
    assert name not in capsys.readouterr().out.replace(f"{name}_", "")
    assert run([str(command.name), name, *([] if option.is_flag else ["1"])]) == 2
    assert option.refusal in capsys.readouterr().err


def test_what_is_not_available_is_not_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "--port", "1"]) == 2
    told = capsys.readouterr().err
    assert "--tcp_ports" in told and "udp_port" not in told


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["comp"], ["completion"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["secret", "export", "--f"], ["--force"]),
        (["cancel", "--state", "q"], ["queued"]),
        (["private", "--tcp"], ["--tcp_ports"]),
    ],
    ids=lambda words: " ".join(words),
)
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
def test_bash_is_told_how_a_line_goes_on(typed: list[str], offered: list[str], tmp_path: Path) -> None:
    """Bash itself has read what `dispycos completion bash` printed, and asks by it."""
    command = tmp_path / "dispycos"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m dispycos "$@"\n')
    command.chmod(0o755)
    words = " ".join(map(shlex.quote, ["dispycos", *typed]))
    script = f"""
        eval "$(dispycos completion bash)"
        COMP_WORDS=({words}) COMP_CWORD={len(typed)}
        _dispycos_completion dispycos
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    told = subprocess.run(
        ["bash", "-c", script],
        capture_output=True,
        text=True,
        timeout=30,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert (told.stdout.split(), told.stderr) == (offered, "")


@pytest.mark.parametrize(("option", "kind"), [("--secret_file", "file"), ("--dest_path", "dir")])
def test_paths_are_completed_by_the_shell(option: str, kind: str) -> None:
    asked = {
        "_DISPYCOS_COMPLETE": "bash_complete",
        "COMP_WORDS": f"dispycos node {option} /e",
        "COMP_CWORD": "3",
    }
    assert python_m(env=asked).stdout == f"{kind},/e\n"


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_are_told_too(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert f"_DISPYCOS_COMPLETE={shell}_complete" in capsys.readouterr().out


def test_a_shell_that_cannot_be_helped_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "csh"]) == 2
    assert capsys.readouterr().err.startswith(
        "dispycos completion: bash|zsh|fish: 'csh' is not bash, zsh or fish"
    )


def test_what_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["stack"]) == 2
    assert "Missing argument 'TASK'" in capsys.readouterr().err


def test_without_a_command_the_help_is_shown_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    told = capsys.readouterr().err
    assert told.startswith("Usage: dispycos") and "see:" not in told

"""Every option of the commands; a value stands on the command line, in DISPYCOS_*, in the --config file, or is the default."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import time
from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from dispycos.config import MAX_PULSE_INTERVAL, MIN_PULSE_INTERVAL, STATUS_TIMEOUT, ZOMBIE_PERIOD, Misuse
from dispycos.hours import parse_time_of_day
from dispycos.values import (
    Parser,
    parse_count,
    parse_host,
    parse_live,
    parse_name,
    parse_node_id,
    parse_passphrase,
    parse_path,
    parse_pause,
    parse_place,
    parse_port,
    parse_port_range,
    parse_resource,
    parse_seconds,
    parse_serve,
    parse_shell,
    parse_size,
    parse_speed,
    parse_text,
    parse_web,
    parse_whole,
)

CONFIG_BYTES_MAX = 1024 * 1024
PREFIX: Final = "DISPYCOS"
COMPLETE: Final = f"_{PREFIX}_COMPLETE"  # in which a shell says what it wants to be completed
PLACES: Final = (  # the strongest first
    ParameterSource.COMMANDLINE,
    ParameterSource.ENVIRONMENT,
    ParameterSource.DEFAULT_MAP,
)


class Text(click.ParamType):  # type: ignore[type-arg]
    """What a parser of dispycos.values makes of a text; `name` stands for it in --help."""

    def __init__(self, name: str, parse: Parser) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """A path the shell completes itself."""
        if self.name in ("FILE", "FOLDER"):
            return [CompletionItem(incomplete, type="file" if self.name == "FILE" else "dir")]
        words = self.name.split("|") if self.name.islower() else []
        return [CompletionItem(word) for word in words if word.startswith(incomplete)]

    def split_envvar_value(self, rv: str) -> list[str]:
        return rv.replace(",", " ").split()


class Option(click.Option):
    """One option, for all commands that have it; its default stands in their settings.

    Parameters
    ----------
    names: as they are typed; the first with two dashes is that of the setting.
    kind: of its value; None: it is a flag.
    is_shared: --save_config writes it, since it is the same for many nodes, and no secret.
    bare: the value of an option that is given without one.
    is_of_once: what is meant by one call only, so it is not taken from the environment.
    refusal: why it cannot be used, and `remedy`: what to do instead. Such an option is answered, and not shown.
    """

    def __init__(
        self,
        names: Sequence[str],
        kind: Text | None = None,
        help: str = "",
        *,
        multiple: bool = False,
        is_shared: bool = True,
        refusal: str = "",
        remedy: str = "leave it out",
        bare: str | None = None,
        is_of_once: bool = False,
    ) -> None:
        self.is_shared = is_shared
        self.refusal = refusal
        self._remedy = remedy
        super().__init__(
            names,
            type=kind,
            **_flag(kind is None, bare),
            multiple=multiple,
            help=help,
            allow_from_autoenv=not is_of_once,
            hidden=bool(refusal),
            expose_value=not refusal,
            callback=self._answer if refusal else None,
        )

    def _answer(self, context: click.Context, option: click.Parameter, value: object) -> None:
        if value not in (None, False):
            raise Misuse(f"{place_of(context, self)} {self.refusal}", self._remedy)


def _flag(is_flag: bool, bare: str | None) -> dict[str, Any]:
    if bare is not None:
        return {"is_flag": False, "flag_value": bare}
    return {"is_flag": True if is_flag else None}  # False: the value may be left out


def place_of(context: click.Context, option: click.Parameter) -> str:
    """How the user knows the place where the value of an option stands."""
    if isinstance(option, click.Argument):
        return option.make_metavar(context)
    source = context.get_parameter_source(option.name or "")
    if source is ParameterSource.ENVIRONMENT:
        return variable_of(option)
    if source is ParameterSource.DEFAULT_MAP:
        return f"{option.name} in the --config file"
    return f"--{option.name}"


def variable_of(option: click.Parameter) -> str:
    assert option.name is not None
    return f"{PREFIX}_{option.name.upper()}"


ADDRESS: Final = Text("ADDRESS", parse_host)
FILE: Final = Text("FILE", parse_path)
PLACE: Final = Text("HOST[:PORT]", parse_place)
PORT: Final = Text("PORT", parse_port)
SECONDS: Final = Text("SECONDS", parse_seconds)
TIME: Final = Text("HH:MM", parse_time_of_day)
ANY: Final = Text("VALUE", str)


MDNS: Final = "was for discovery by UDP broadcast, which mDNS (UDP port 5353) replaces"
MDNS_REMEDY: Final = "leave it out; hosts that mDNS does not reach are named with --peer HOST:PORT"
IP_ADDR: Final = Option(
    ["-i", "--ip_addr", "--host"],
    ADDRESS,
    "Use this address of this host only, mDNS included. Repeat it for several.",
    multiple=True,
    is_shared=False,
)
SECRET: Final = Option(
    ["-s", "--secret"],
    Text("PASSPHRASE", parse_passphrase),
    "Passphrase of the cluster, 16 characters at least. Others may see it here: prefer --secret_file.",
    is_shared=False,
)
SECRET_FILE: Final = Option(["--secret_file"], FILE, "File that holds the cluster's secret.")
GROUP_SECRET: Final = Option(
    ["--group_secret"], FILE, "The same, of a file that its group may read: users of one cluster share it."
)
CERTFILE: Final = Option(
    ["--certfile"],
    FILE,
    "Public CURVE key of all schedulers and nodes, in the place of the one made of the secret.",
)
KEYFILE: Final = Option(
    ["--keyfile"], FILE, "Secret CURVE key that belongs to it: schedulers and nodes need it."
)
DEBUG: Final = Option(["-d", "--debug"], help="Say more, and show tracebacks.")
JSON: Final = Option(["--json"], help="Print JSON.", is_shared=False)
COPY: Final = Option(["--copy"], Text("FOLDER", parse_path), "Copy them there.", is_shared=False)
PEER: Final = Option(
    ["--peer"], PLACE, "Dial this scheduler, where mDNS does not reach. May be repeated.", multiple=True
)
NODES: Final = Option(
    ["--node"], PLACE, "Dial this node, where mDNS does not reach. May be repeated.", multiple=True
)


def _zombie_period(what: str, default: float) -> Option:
    return Option(
        ["--zombie_period"],
        SECONDS,
        f"{what} that runs nothing for so long; 0 is never.  [default: {default:g}]",
    )


COMMON: Final = (
    IP_ADDR,
    Option(
        ["--ext_ip_addr", "--ext_host"],
        ADDRESS,
        "Address by which others reach this host (NAT, cloud). Belongs to the --ip_addr at its place.",
        multiple=True,
        is_shared=False,
    ),
    Option(
        ["-n", "--name"],
        Text("NAME", parse_name),
        "Name shown to others; the host's name if not given.",
        is_shared=False,
    ),
    Option(
        ["--dest_path"],
        Text("FOLDER", parse_path),
        "Where a node keeps files of clients, and a scheduler its records; private folders if not given.",
    ),
    Option(
        ["--max_file_size"],
        Text("SIZE", parse_size),
        "Largest file that nodes take (1000, 64k, 10m, 2g); of node and scheduler the lower one; 0 is no limit.",
    ),
    SECRET,
    SECRET_FILE,
    GROUP_SECRET,
    Option(["--insecure"], help="DANGER: no keys at all. Whoever reaches the port runs programs as you."),
    DEBUG,
    Option(["--daemon"], help="Do not read commands from the terminal."),
    CERTFILE,
    KEYFILE,
    Option(["-u", "--udp_port"], ANY, refusal=MDNS, remedy=MDNS_REMEDY),
    Option(["--ipv4_udp_multicast"], refusal=MDNS, remedy=MDNS_REMEDY),
)
RECORD: Final = Option(
    ["--record"],
    FILE,
    "Keep what the web monitor sees in FILE and FILE.1 (64 MiB), for dispycos web --replay.",
    is_shared=False,
)
WEB: Final = (
    Option(
        ["--web"],
        Text("[HOST:]PORT", parse_web),
        "Serve the web monitor; its URL is printed. This host only if no HOST is given.  [default port: 8181]",
        is_shared=False,
        bare="8181",
    ),
    Option(
        ["--web_host"],
        Text("NAME", parse_name),
        "A name by which browsers call this host, as that of a proxy. May be repeated.",
        multiple=True,
    ),
    Option(
        ["--web_certfile"], FILE, "Certificate (PEM) of the web monitor, for https; it may hold the key, too."
    ),
    Option(["--web_keyfile"], FILE, "Key that belongs to it."),
    RECORD,
)
NODE: Final = (
    Option(
        ["-c", "--cpus"],
        Text("N", parse_whole),
        "Servers to run, one per CPU. 0: all CPUs; negative: leave that many out.",
    ),
    Option(
        ["--resource"],
        Text("NAME=N", parse_resource),
        "It has N of what tasks may ask for by this name, as gpu=2. May be repeated.",
        multiple=True,
        is_shared=False,
    ),
    Option(
        ["--min_pulse_interval"],
        SECONDS,
        f"Shortest pulse interval that a client may ask for.  [default: {MIN_PULSE_INTERVAL:g}]",
    ),
    Option(
        ["--max_pulse_interval"],
        SECONDS,
        f"Longest pulse interval that a client may ask for.  [default: {MAX_PULSE_INTERVAL:g}]",
    ),
    Option(
        ["--tcp_ports", "--node_ports"],
        Text("N|N-M", parse_port_range),
        "Ports for the node and its servers, one more than servers; filled up beyond the highest. 0 is any.",
        multiple=True,
    ),
    *COMMON,
    Option(["--serve"], Text("N", parse_serve), "End after that many clients; -1 is no limit."),
    _zombie_period("End the lease of a client", 0),
    PEER,
    Option(
        ["--clean"],
        help="Kill what a node that was killed left running, and remove its files, of earlier starts of this host too.",
        is_shared=False,
    ),
    Option(["--service_start"], TIME, "Serve from this time of day on; the present one if not given."),
    Option(["--service_stop"], TIME, "Take nothing new from this time of day on; what runs goes on."),
    Option(["--service_end"], TIME, "Kill what runs at this time of day."),
)
SCHEDULER: Final = (
    Option(["-t", "--tcp_port", "--scheduler_port"], PORT, "Port to listen on; 0 is any."),
    NODES,
    *COMMON,
    _zombie_period("Take the cluster from a client", ZOMBIE_PERIOD),
    *WEB,
)
TASK_USER: Final = (
    Option(
        ["--user"],
        Text("USER", parse_name),
        "Run tasks as this user, who cannot touch the node's files; as root only.",
    ),
    Option(["--group"], Text("GROUP", parse_name), "Run tasks in this group; that of --user if not given."),
)
VIEW: Final = (
    JSON,
    IP_ADDR,
    PEER,
    SECRET,
    SECRET_FILE,
    GROUP_SECRET,
    CERTFILE,
    Option(["--timeout"], SECONDS, f"How long to look around.  [default: {STATUS_TIMEOUT:g}]"),
    DEBUG,
)
STATUS: Final = (
    Option(
        ["--watch"],
        Text("[SECONDS]", parse_pause),
        "Show it again and again, every 2 s if nothing else is given.",
        bare="2",
        is_of_once=True,
    ),
    *VIEW,
)
FUNCTION: Final = Option(
    ["--function"], Text("NAME", parse_text), "Only tasks of this function.", is_of_once=True
)
TASKS: Final = (
    Option(["--failed"], help="Only those that failed, or were lost with their server.", is_of_once=True),
    Option(["--running"], help="Only those that run.", is_of_once=True),
    Option(["--queued"], help="Only those that wait, and why.", is_of_once=True),
    FUNCTION,
    Option(
        ["--node"],
        Text("NAME", parse_node_id),
        "Only those of this node, NAME or NAME:PORT.",
        is_of_once=True,
    ),
    Option(
        ["--limit"],
        Text("N", parse_count),
        "The newest N; 0 is all that are kept.  [default: 40; 0 with --json]",
        is_of_once=True,
    ),
    *VIEW,
)
STACK: Final = (click.Argument(["task"], type=Text("TASK", parse_text)), *VIEW)
SHELL: Final = click.Argument(["shell"], metavar="bash|zsh|fish", type=Text("bash|zsh|fish", parse_shell))
CANCEL: Final = (
    click.Argument(["task"], type=Text("TASK", parse_text), nargs=-1),
    Option(["--function"], Text("NAME", parse_text), "All tasks of this function.", is_of_once=True),
    Option(
        ["--state"],
        Text("queued|running", parse_live),
        "Of that function only those in this state.",
        is_of_once=True,
    ),
    Option(["-y", "--yes"], help="Do not ask before several are ended.", is_of_once=True),
    *VIEW,
)
REPLAY: Final = (
    Option(["--replay"], FILE, "The recording; its FILE.1 is shown first, if it is there.", is_of_once=True),
    Option(["--port"], PORT, "Port to serve it at, on this host only; 0 is any.  [default: 0]"),
    Option(
        ["--speed"],
        Text("X", parse_speed),
        "So many times as fast as it was; 0 is its end at once.  [default: 1]",
        is_of_once=True,
    ),
    DEBUG,
)
RUN: Final = (
    click.Argument(["script"], type=FILE),
    click.Argument(["arguments"], type=click.UNPROCESSED, nargs=-1),
    Option(
        ["--local"],
        Text("N", parse_whole),
        "Use only N servers of its own on this host, whatever else there is.",
        is_of_once=True,
    ),
    Option(["--location"], PLACE, "The scheduler to use, if the script names none.", is_of_once=True),
    SECRET_FILE,
    GROUP_SECRET,
    DEBUG,
)


# --- what was given ---


def given(context: click.Context) -> dict[str, Any]:
    """The values of a command that stand somewhere, by the names of its settings."""
    places = {name: context.get_parameter_source(name) for name in context.params}
    values = {name: context.params[name] for name, place in places.items() if place in PLACES}
    strength = {
        name: PLACES.index(place)
        for name, place in places.items()
        if name in ("secret", "secret_file", "group_secret", "insecure") and place in PLACES and values[name]
    }
    for name, place in strength.items():  # these exclude each other: of different places the strongest counts
        if place > min(strength.values()):
            del values[name]
    return values


def _take_config(context: click.Context, option: click.Parameter, path: Path | None) -> None:
    if path is not None:
        context.default_map = read_config(path, context.command)


CONFIG: Final = (
    click.Option(
        ["--config"],
        type=FILE,
        is_eager=True,
        expose_value=False,
        callback=_take_config,
        help="Read options from this TOML file.",
    ),
    click.Option(
        ["--save_config"],
        type=FILE,
        allow_from_autoenv=False,
        help="Write the options given to FILE and exit.",
    ),
)


def canonical(name: str) -> str:
    return name.replace("-", "_")


def read_config(path: Path, command: click.Command) -> dict[str, str | list[str]]:
    """TOML, as texts by the names of options. Every key must be an option of the command, as it is typed or with dashes."""
    import tomllib

    try:
        with open(path, "rb") as file:
            found = tomllib.loads(file.read(CONFIG_BYTES_MAX).decode())
    except OSError as error:
        raise Misuse(f"--config {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misuse(f"--config {path} is not TOML: {error}", "--save_config writes such a file") from error
    known = {f"--{key}": option for option in command.params for key in _keys_of(option)}
    texts = {}
    for key, value in found.items():
        option = known.get(f"--{canonical(key)}")
        if option is None:
            raise Misuse(f"--config {path}: {key!r} is not an option of {command.name}")
        assert option.name is not None
        texts[option.name] = _texts(option, value)
    return texts


def _keys_of(option: click.Parameter) -> list[str]:
    return [name[2:] for name in option.opts if name.startswith("--")] if isinstance(option, Option) else []


def _texts(option: click.Parameter, value: object) -> str | list[str]:
    is_flag, several = getattr(option, "is_flag", False), option.multiple
    items = value if several and isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, str | int | float | time) or (isinstance(item, bool) and not is_flag):
            raise Misuse(f"{option.name} in the --config file: {item!r} is not a value for it")
    return [str(item) for item in items] if several else str(value)


def save_config(path: Path, command: click.Command, values: Mapping[str, object]) -> None:
    """What --config reads, but for what is of one host, or secret."""
    lines = [f"# options of dispycos {command.name}; --config FILE reads them"]
    for option in command.params:
        if isinstance(option, Option) and option.is_shared and option.name in values:
            lines.append(f"{option.name} = {toml_value(values[option.name])}")
    part = path.with_name(path.name + ".part")
    try:
        part.write_text("\n".join(lines) + "\n")
        part.replace(path)
    except OSError as error:
        raise Misuse(f"--save_config {path} cannot be written: {error.strerror}") from error


def toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if type(value) is tuple:
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")

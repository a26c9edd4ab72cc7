"""Every option of every command, and where its value stands: command line, DISPYCOS_*, --config, default."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Final

from dispycos.config import (
    Failure,
    Misuse,
    NodeSettings,
    Parser,
    PrivateSettings,
    SchedulerSettings,
    SecretSettings,
    Settings,
    StatusSettings,
    parse_flag,
    parse_host,
    parse_name,
    parse_passphrase,
    parse_path,
    parse_place,
    parse_port,
    parse_port_range,
    parse_seconds,
    parse_serve,
    parse_size,
    parse_time_of_day,
    parse_whole,
)

CONFIG_BYTES_MAX = 1024 * 1024
PREFIX = "DISPYCOS_"


@dataclass(frozen=True, slots=True)
class Option:
    """One option. Its default stands in the settings of each command that has it."""

    name: str
    parse: Parser
    metavar: str
    help: str
    short: str = ""
    aliases: tuple[str, ...] = ()
    is_flag: bool = False
    is_multiple: bool = False
    is_shared: bool = True  # --save_config writes it: the same for many nodes, and no secret
    refusal: str = ""  # why it cannot be used, ...
    remedy: str = ""  # ... and what to do instead

    @property
    def variable(self) -> str:
        return PREFIX + self.name.upper()


def _later(part: str) -> str:
    return f"is not available in this version ({part} come with a later one)"


MDNS: Final = "was for discovery by UDP broadcast, which mDNS (UDP port 5353) replaces"
MDNS_REMEDY: Final = "leave it out; hosts that mDNS does not reach are named with --peer HOST:PORT"
IP_ADDR = Option(
    "ip_addr",
    parse_host,
    "ADDRESS",
    "Use this address of this host only, mDNS included. Repeat it for several.",
    short="i",
    aliases=("host",),
    is_multiple=True,
    is_shared=False,
)
SECRET = Option(
    "secret",
    parse_passphrase,
    "PASSPHRASE",
    "Passphrase of the cluster, 16 characters at least. Others may see it here: prefer --secret_file.",
    short="s",
    is_shared=False,
)
SECRET_FILE = Option("secret_file", parse_path, "FILE", "File that holds the cluster's secret.")
DEBUG = Option("debug", parse_flag, "", "Say more, and show tracebacks.", short="d", is_flag=True)
JSON = Option("json", parse_flag, "", "Print JSON.", is_flag=True, is_shared=False)
PEER = Option(
    "peer",
    parse_place,
    "HOST[:PORT]",
    "Dial this scheduler, where mDNS does not reach. May be repeated.",
    is_multiple=True,
)

COMMON: Final = (
    IP_ADDR,
    Option(
        "ext_ip_addr",
        parse_host,
        "ADDRESS",
        "Address by which others reach this host (NAT, cloud). Belongs to the --ip_addr at its place.",
        aliases=("ext_host",),
        is_multiple=True,
        is_shared=False,
    ),
    Option(
        "name",
        parse_name,
        "NAME",
        "Name shown to others; the host's name if not given.",
        short="n",
        is_shared=False,
    ),
    Option(
        "dest_path", parse_path, "FOLDER", "Where files are kept; a private temporary folder if not given."
    ),
    Option(
        "max_file_size", parse_size, "SIZE", "Largest file that is taken (1000, 64k, 10m, 2g); 0 is no limit."
    ),
    SECRET,
    SECRET_FILE,
    Option(
        "insecure",
        parse_flag,
        "",
        "DANGER: no keys at all. Whoever reaches the port runs programs as you.",
        is_flag=True,
    ),
    Option("certfile", parse_path, "FILE", "Public key or certificate.", refusal=_later("own keys and TLS")),
    Option("keyfile", parse_path, "FILE", "Private key.", refusal=_later("own keys and TLS")),
    DEBUG,
    Option("daemon", parse_flag, "", "Do not read commands from the terminal.", is_flag=True),
    Option("udp_port", parse_port, "PORT", "", short="u", refusal=MDNS, remedy=MDNS_REMEDY, is_shared=False),
    Option(
        "ipv4_udp_multicast",
        parse_flag,
        "",
        "",
        is_flag=True,
        refusal=MDNS,
        remedy=MDNS_REMEDY,
        is_shared=False,
    ),
)
SERVING: Final = (
    Option(
        "cpus",
        parse_whole,
        "N",
        "Servers to run, one per CPU. 0: all CPUs; negative: leave that many out.",
        short="c",
    ),
    Option(
        "min_pulse_interval", parse_seconds, "SECONDS", "Shortest pulse interval that a client may ask for."
    ),
    Option(
        "max_pulse_interval", parse_seconds, "SECONDS", "Longest pulse interval that a client may ask for."
    ),
    Option(
        "zombie_period",
        parse_seconds,
        "SECONDS",
        "Close a client whose servers were idle that long; 0 is never.",
        refusal=_later("closing idle clients"),
    ),
    Option(
        "tcp_ports",
        parse_port_range,
        "N|N-M",
        "Ports for the node and its servers, one more than servers; filled up beyond the highest. 0 is any.",
        aliases=("node_ports",),
        is_multiple=True,
    ),
)
NODE: Final = (
    *SERVING,
    *COMMON,
    Option("serve", parse_serve, "N", "End after that many clients; -1 is no limit."),
    PEER,
    Option(
        "clean",
        parse_flag,
        "",
        "End server processes that an earlier node left behind.",
        is_flag=True,
        is_shared=False,
        refusal=_later("pid files"),
    ),
    Option(
        "service_start", parse_time_of_day, "HH:MM", "Serve from then on.", refusal=_later("service hours")
    ),
    Option(
        "service_stop",
        parse_time_of_day,
        "HH:MM",
        "Take no new tasks from then on.",
        refusal=_later("service hours"),
    ),
    Option(
        "service_end",
        parse_time_of_day,
        "HH:MM",
        "End all tasks at that time.",
        refusal=_later("service hours"),
    ),
)
NODES = Option(
    "node",
    parse_place,
    "HOST[:PORT]",
    "Dial this node, where mDNS does not reach. May be repeated.",
    is_multiple=True,
)
SCHEDULER: Final = (
    Option(
        "tcp_port", parse_port, "PORT", "Port to listen on; 0 is any.", short="t", aliases=("scheduler_port",)
    ),
    NODES,
    next(option for option in SERVING if option.name == "zombie_period"),
    *COMMON,
)
STATUS: Final = (
    JSON,
    IP_ADDR,
    PEER,
    SECRET,
    SECRET_FILE,
    Option("timeout", parse_seconds, "SECONDS", "How long to look around."),
    DEBUG,
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command: its options, the settings that they come to, and the module and function that runs it."""

    name: str
    help: str
    options: tuple[Option, ...]
    settings: type[Settings]
    runs: str
    has_config: bool = False
    is_hidden: bool = False

    def option(self, name: str) -> Option | None:
        """By name or alias, with dashes or underscores."""
        name = canonical(name)
        return next((o for o in self.options if name == o.name or name in o.aliases), None)


COMMANDS: Final = (
    Command(
        "node",
        "Run tasks of clients on this machine's CPUs.",
        NODE,
        NodeSettings,
        "dispycos.cli.node:run",
        True,
    ),
    Command(
        "scheduler",
        "Share nodes between clients.",
        SCHEDULER,
        SchedulerSettings,
        "dispycos.cli.scheduler:run",
        True,
    ),
    Command(
        "status",
        "Show schedulers, nodes, servers and tasks.",
        STATUS,
        StatusSettings,
        "dispycos.cli.status:run",
    ),
    Command(
        "private",
        "A scheduler and a node for the client that started it.",
        (*NODE, NODES),
        PrivateSettings,
        "dispycos.cli.private:run",
        is_hidden=True,
    ),
)
SECRET_SHOW: Final = Command(
    "show",
    "Print the cluster's secret; make it when there is none.",
    (SECRET_FILE, JSON, DEBUG),
    SecretSettings,
    "dispycos.cli.secret:run",
)


def canonical(name: str) -> str:
    return name.replace("-", "_")


Given = Mapping[str, str | bool | tuple[str, ...] | None]  # by option name, as click has it
Source = Callable[[Option], str]  # how the user knows the place where the value stands


@dataclass(frozen=True, slots=True)
class Settled:
    settings: Settings
    saved: str  # what --save_config writes


def settle(command: Command, given: Given, environ: Mapping[str, str], file: Mapping[str, object]) -> Settled:
    """The settings of a command. Raises Misuse naming the option, where it stands, and what is wrong."""
    values: dict[str, object] = {}
    for option in command.options:
        places = _places(command, option, given, environ, file)
        raw, where = next(((raw, where) for raw, where in places if raw is not None), (None, ""))
        if raw is not None:
            values[option.name] = _read(option, raw, where)
    _settle_secret(command, values, given, environ)
    settings = command.settings(**values)  # type: ignore[arg-type]
    settings.check()
    return Settled(settings, _toml(command, values))


def _places(
    command: Command, option: Option, given: Given, environ: Mapping[str, str], file: Mapping[str, object]
) -> Iterator[tuple[object, str]]:
    """Where a value may stand, the strongest first."""
    from_command_line = given.get(option.name)
    yield (None if from_command_line in (None, False, ()) else from_command_line), f"--{option.name}"
    yield (environ.get(option.variable) or None), option.variable
    names = [key for key in file if command.option(key) is option]
    yield (file[names[0]] if names else None), f"{names[0] if names else option.name} in the --config file"


def _read(option: Option, raw: object, where: str) -> object:
    """Checks the value first: then the user can trust what a refusal says of the option."""
    texts = _texts(option, raw, where)
    try:
        values = tuple(option.parse(text) for text in texts)
    except ValueError as error:
        raise Misuse(f"{where}: {error}") from None
    if option.refusal and values != (False,):
        raise Misuse(f"{where} {option.refusal}", option.remedy or "leave it out")
    return values if option.is_multiple else values[0]


def _texts(option: Option, raw: object, where: str) -> list[str]:
    if option.is_multiple and isinstance(raw, str):
        return raw.replace(",", " ").split() if where.startswith(PREFIX) else [raw]
    items = raw if isinstance(raw, list | tuple) and option.is_multiple else [raw]
    if not all(isinstance(item, str | int | float) for item in items):
        raise Misuse(f"{where}: {raw!r} is not a value for it")
    if any(isinstance(item, bool) and not option.is_flag for item in items):
        raise Misuse(f"{where}: give a value, not true or false")
    return [str(item) for item in items]


def _settle_secret(
    command: Command, values: dict[str, object], given: Given, environ: Mapping[str, str]
) -> None:
    """Of --secret, --secret_file and --insecure in different places, the strongest counts."""
    names = [o.name for o in (SECRET, SECRET_FILE) if o.name in values]
    names += ["insecure"] if values.get("insecure") else []

    def strength(name: str) -> int:
        option = command.option(name)
        assert option is not None
        if given.get(name) not in (None, False):
            return 2
        return 1 if environ.get(option.variable) else 0

    strongest = max(map(strength, names), default=0)
    for name in names:
        if strength(name) < strongest:
            del values[name]


def read_config(path: Path, command: Command) -> dict[str, object]:
    """TOML; every key must be an option of the command."""
    import tomllib

    try:
        with open(path, "rb") as file:
            found = tomllib.loads(file.read(CONFIG_BYTES_MAX).decode())
    except OSError as error:
        raise Misuse(f"--config {path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Misuse(f"--config {path} is not TOML: {error}", "--save_config writes such a file") from error
    for key in found:
        if command.option(key) is None:
            raise Misuse(f"--config {path}: {key!r} is not an option of {command.name}")
    return found


def write_config(path: Path, text: str) -> None:
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text)
        part.replace(path)
    except OSError as error:
        raise Failure(f"--save_config {path} cannot be written: {error.strerror}") from error


def _toml(command: Command, values: Mapping[str, object]) -> str:
    lines = [f"# options of dispycos {command.name}; --config FILE reads them"]
    for option in command.options:
        if option.name in values and option.is_shared:
            lines.append(f"{option.name} = {toml_value(values[option.name])}")
    return "\n".join(lines) + "\n"


def toml_value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(toml_value, value))}]"
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def default_of(command: Command, option: Option) -> object:
    """None where there is nothing worth showing in --help."""
    found = next((f.default for f in fields(command.settings) if f.name == option.name), None)
    return None if found is MISSING or found in (None, (), False) else found

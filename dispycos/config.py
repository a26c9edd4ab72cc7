"""The settings of the commands: their defaults, what goes together, and in which ways a command fails."""

from __future__ import annotations

from dataclasses import Field, FrozenInstanceError, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, NoReturn, TypeVar, dataclass_transform

from .hours import Hours, TimeOfDay
from .values import HostPort, PortRange

MIN_PULSE_INTERVAL = 10.0
MAX_PULSE_INTERVAL = 100.0
ZOMBIE_PERIOD = 10 * MAX_PULSE_INTERVAL
NODE_PORT = 9706
SCHEDULER_PORT = 9705
SECRET_VARIABLE = "DISPYCOS_SECRET"
STATUS_TIMEOUT = 2.0  # seconds


class Failure(Exception):
    """What ends a command: whose fault in the first line, the remedy in the second."""

    exit_code: ClassVar[int] = 1

    def __init__(self, text: str, remedy: str = "") -> None:
        super().__init__(text, remedy)
        self.text = text
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.text}\n{self.remedy}" if self.remedy else self.text


class Misuse(Failure):
    """A setting is wrong or missing."""

    exit_code = 2


class NothingFound(Failure):
    """No scheduler, node or client answered."""

    exit_code = 3


class Refused(Failure):
    """A place that was named does not let us in."""

    exit_code = 4


Kind = TypeVar("Kind", bound=type)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(field,))
def _settings(kind: Kind) -> Kind:
    """A frozen dataclass of keywords, whose methods are those of Settings: to have them written and compiled for each of 18 classes
    was a tenth of every start."""
    dataclass(init=False, repr=False, eq=False)(kind)
    return kind


@_settings
class Settings:
    """What every command is told."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init__(self, **given: Any) -> None:
        if unknown := given.keys() - {each.name for each in fields(self)}:
            raise TypeError(f"{type(self).__name__} has no setting {min(unknown)}")
        self.__dict__.update(given)  # of the others the defaults stand in the class

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise FrozenInstanceError(f"cannot assign to setting {name}")

    def __repr__(self) -> str:
        shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(getattr(self, each.name) == getattr(other, each.name) for each in fields(self))

    secret: str | None = field(default=None, repr=False)
    secret_file: Path | None = None
    group_secret: Path | None = None
    debug: bool = False

    def check(self) -> None:
        """Raises Misuse when settings that are fine each do not go together."""
        ways = {"secret": self.secret, "secret_file": self.secret_file, "group_secret": self.group_secret}
        given = [f"--{name}" for name, value in ways.items() if value is not None]
        if len(given) > 1:
            raise Misuse(f"{' and '.join(given)} are both given", "leave one of them out")


@_settings
class SecretSettings(Settings):
    """How `dispycos secret show` prints it."""

    json: bool = False


@_settings
class ExportSettings(SecretSettings):
    """Where `dispycos secret export` writes it; None or - is standard output."""

    file: Path | None = None
    force: bool = False


@_settings
class ImportSettings(SecretSettings):
    """Whence `dispycos secret import` takes it; None or - is standard input."""

    file: Path | None = None
    force: bool = False


@_settings
class DockerSettings(Settings):
    """Where `dispycos docker-files` copies them."""

    copy: Path | None = None
    json: bool = False


@_settings
class CompletionSettings(Settings):
    """For which shell `dispycos completion` prints."""

    shell: str = ""


@_settings
class ViewSettings(Settings):
    """How a command that only looks finds the cluster."""

    certfile: Path | None = None
    ip_addr: tuple[str, ...] = ()
    peer: tuple[HostPort, ...] = ()
    timeout: float = STATUS_TIMEOUT
    json: bool = False


@_settings
class StatusSettings(ViewSettings):
    """What `dispycos status` shows; again and again with `watch`, which is seconds."""

    watch: float | None = None


@_settings
class TasksSettings(ViewSettings):
    """Which tasks `dispycos tasks` lists; those of any state, if none is named."""

    failed: bool = False
    running: bool = False
    queued: bool = False
    function: str | None = None
    node: str | None = None
    limit: int | None = None


@_settings
class StackSettings(ViewSettings):
    """Of which task `dispycos stack` shows the stack."""

    task: str = ""


@_settings
class CancelSettings(ViewSettings):
    """Which tasks `dispycos cancel` ends."""

    task: tuple[str, ...] = ()
    function: str | None = None
    state: str | None = None
    yes: bool = False

    def check(self) -> None:
        super().check()
        if self.task and (self.function or self.state):
            raise Misuse("tasks and --function or --state are both given", "leave one of them out")
        if not self.task and self.function is None:
            raise Misuse(
                "no task is named", "give their ids, as dispycos tasks lists them, or --function NAME"
            )


@_settings
class ReplaySettings(Settings):
    """Which recording `dispycos web` shows, and how."""

    replay: Path | None = None
    port: int = 0
    speed: float = 1.0

    def check(self) -> None:
        super().check()
        if self.replay is None:
            raise Misuse(
                "no recording is named",
                "give --replay FILE; a cluster that runs is shown by dispycos scheduler --web, or dispycos node --web",
            )


@_settings
class RunSettings(Settings):
    """Which script `dispycos run` runs, and with what cluster."""

    script: Path | None = None
    arguments: tuple[str, ...] = ()
    local: int = 0
    location: HostPort | None = None

    def check(self) -> None:
        super().check()
        if self.script is None:
            raise Misuse("no script is named", "dispycos run SCRIPT [ARGUMENTS]")
        if self.local < 0:
            raise Misuse(f"--local {self.local} is no number of servers", "give 1 or more")
        if self.local and self.location is not None:
            raise Misuse("--local and --location are both given", "leave one of them out")


@_settings
class CommonSettings(Settings):
    """What every long-running process of a cluster is told."""

    listens: ClassVar[bool] = True
    ip_addr: tuple[str, ...] = ()
    ext_ip_addr: tuple[str, ...] = ()
    name: str | None = None
    dest_path: Path | None = None
    max_file_size: int = 0
    certfile: Path | None = None
    keyfile: Path | None = None
    insecure: bool = False
    daemon: bool = False

    def check(self) -> None:
        super().check()
        if self.insecure and (self.secret or self.secret_file or self.group_secret) is not None:
            raise Misuse("--insecure and a secret are both given", "leave one of them out")
        files = self.certfile or self.keyfile
        if self.insecure and files:
            raise Misuse(f"--insecure and {files} are both given", "leave one of them out")
        if self.listens and self.certfile and not self.keyfile:
            raise Misuse(
                "--certfile is given without --keyfile",
                "who listens needs the secret key too; the public one alone is for programs and `dispycos status`",
            )
        if self.ip_addr and len(self.ext_ip_addr) > len(self.ip_addr):
            raise Misuse(
                f"--ext_ip_addr is given {len(self.ext_ip_addr)} times, --ip_addr {len(self.ip_addr)} times",
                "each --ext_ip_addr belongs to the --ip_addr at its place",
            )


@_settings
class AgentSettings(CommonSettings):
    """What a node is told, also one that a client starts for itself."""

    cpus: int = 0
    resource: tuple[tuple[str, int], ...] = ()
    tcp_ports: tuple[PortRange, ...] = ()
    min_pulse_interval: float = MIN_PULSE_INTERVAL
    max_pulse_interval: float = MAX_PULSE_INTERVAL
    serve: int = -1
    zombie_period: float = 0.0
    peer: tuple[HostPort, ...] = ()
    clean: bool = False
    service_start: TimeOfDay | None = None
    service_stop: TimeOfDay | None = None
    service_end: TimeOfDay | None = None

    def check(self) -> None:
        super().check()
        if not 0 < self.min_pulse_interval <= self.max_pulse_interval:
            raise Misuse(
                f"--min_pulse_interval {self.min_pulse_interval:g} and --max_pulse_interval"
                f" {self.max_pulse_interval:g} leave no pulse interval",
                "the minimum must be above 0 and at most the maximum",
            )
        names = [name for name, _ in self.resource]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise Misuse(f"--resource {twice} is given several times", "give it once, with their number")
        if self.service_start is not None:
            self.hours(self.service_start)

    def hours(self, now: TimeOfDay) -> Hours | None:
        """The service hours, if there are any; without a start they begin now. Raises Misuse."""
        start, stop, end = self.service_start, self.service_stop, self.service_end
        if stop is None and end is None:
            if start is None:
                return None
            raise Misuse(
                f"--service_start {start} is given without an end of the service",
                "give --service_stop HH:MM (no new tasks), --service_end HH:MM (what runs is killed), or both",
            )
        try:
            return Hours(start or now, stop, end)
        except ValueError as error:
            since = "" if start else " (--service_start is not given, so it is the present time)"
            raise Misuse(f"service hours: {error}{since}", "they run from start to stop to end") from None


@_settings
class WebSettings(Settings):
    """Where a process serves the web monitor, if it does."""

    web: HostPort | None = None
    web_host: tuple[str, ...] = ()
    web_certfile: Path | None = None
    web_keyfile: Path | None = None
    record: Path | None = None

    def check(self) -> None:
        super().check()
        if self.record is not None and self.web is None:
            raise Misuse("--record is given without --web", "add --web: what it sees is recorded")


@_settings
class NodeSettings(AgentSettings, WebSettings):
    """The options of spec 6.2, and whom tasks run as (6.12)."""

    user: str | None = None
    group: str | None = None


@_settings
class SchedulerSettings(CommonSettings, WebSettings):
    """The options of spec 6.3.2."""

    tcp_port: int | None = None
    zombie_period: float = ZOMBIE_PERIOD
    node: tuple[HostPort, ...] = ()


@_settings
class PrivateSettings(AgentSettings):
    """A scheduler and a node in one process, for the client that started it."""

    listens = False
    node: tuple[HostPort, ...] = ()


def count_servers(cpus: int, available: int) -> tuple[int, str]:
    """How many servers -c asks for on a machine with that many CPUs, and a warning or ''."""
    if cpus < 0 and -cpus >= available:
        raise Misuse(f"--cpus {cpus} leaves none of {available} CPUs", f"leave at most {available - 1} out")
    if cpus <= 0:
        return available + cpus, ""
    if cpus > available:
        return cpus, f"{cpus} servers share {available} CPUs"
    return cpus, ""

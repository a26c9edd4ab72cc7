"""The command `dispycos`: its subcommands, and failures put into words and exit codes."""

from __future__ import annotations

import errno
import importlib
import json
import os
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import click
from click.shell_completion import shell_complete

from dispycos.config import (
    CancelSettings,
    CompletionSettings,
    DockerSettings,
    ExportSettings,
    Failure,
    ImportSettings,
    NodeSettings,
    PrivateSettings,
    ReplaySettings,
    RunSettings,
    SchedulerSettings,
    SecretSettings,
    Settings,
    StackSettings,
    StatusSettings,
    TasksSettings,
    ViewSettings,
)

from .options import (
    CANCEL,
    COMPLETE,
    CONFIG,
    COPY,
    DEBUG,
    FILE,
    GROUP_SECRET,
    JSON,
    NODE,
    NODES,
    PREFIX,
    REPLAY,
    RUN,
    SCHEDULER,
    SECRET_FILE,
    SHELL,
    STACK,
    STATUS,
    TASK_USER,
    TASKS,
    VIEW,
    WEB,
    canonical,
    given,
    place_of,
    save_config,
)
from .sight import take_out_of_sight

INTERRUPTED = 130
TIMED_OUT = 124
HELP: Final = {"help_option_names": ["-h", "--help"]}


@dataclass
class Invocation:
    """What is known of the call when it fails."""

    command: str = "dispycos"
    is_debug: bool = False
    is_json: bool = False
    begun: tuple[Any, ...] = ()  # for the command's module, beside its settings


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    if os.environ.get(COMPLETE):
        sys.exit(shell_complete(dispycos, {}, "dispycos", COMPLETE, os.environ[COMPLETE]))
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str], begun: tuple[Any, ...] = ()) -> int:
    """Runs a command line and returns the exit code; what goes wrong is one or two lines on stderr."""
    invocation = Invocation(begun=begun)
    if sys.stdout is None:  # closed, as by >&-
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    try:
        with dispycos.make_context("dispycos", list(arguments), obj=invocation) as context:
            code = dispycos.invoke(context)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except click.exceptions.Exit as end:  # --help and --version
        return end.exit_code
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nor complain again at the end
        return 1
    except Exception as error:
        return _explain(invocation, error)


def _explain(invocation: Invocation, error: Exception) -> int:
    if invocation.is_debug:
        traceback.print_exception(error)
    match error:
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message(), err=True)
            return error.exit_code
        case click.BadParameter(ctx=click.Context() as context, param=click.Parameter() as option) if (
            not isinstance(error, click.MissingParameter)
        ):
            text, code = f"{place_of(context, option)}: {error.message}", error.exit_code
        case click.ClickException():
            _suggest_what_is_shown(error)
            text, code = f"{error.format_message()}\nsee: {invocation.command} --help", error.exit_code
        case Failure():
            text, code = str(error), error.exit_code
        case OSError(errno=errno.ENOSPC):
            text, code = f"{error}: for what it writes, or prints", 1
        case TimeoutError():
            text, code = str(error) or "no answer in time", TIMED_OUT
        case _:
            text = f"{type(error).__name__}: {error}\nthis should not happen; --debug shows where"
            code = getattr(error, "exit_code", 1)
    click.echo(f"{invocation.command}: {text}", err=True)
    if invocation.is_json:
        first, _, rest = text.partition("\n")
        click.echo(json.dumps({"error": first, "remedy": rest, "code": code}))
    return code


def _suggest_what_is_shown(error: click.ClickException) -> None:
    if isinstance(error, click.NoSuchOption) and error.ctx is not None and error.possibilities:
        hidden = {
            name
            for option in error.ctx.command.params
            if getattr(option, "hidden", False)
            for name in option.opts
        }
        error.possibilities[:] = [name for name in error.possibilities if name not in hidden]


class _Named(click.Command):
    """Notes its name before its options are read: what is wrong with them is said in its name."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        invocation = ctx.find_object(Invocation)
        if invocation is not None:
            invocation.command = ctx.command_path
            invocation.is_json = JSON in self.params and "--json" in args
        return super().parse_args(ctx, args)


class _NamedGroup(_Named, click.Group):
    """Named like a command."""


class Command(_Named):
    """A command: its options come to settings, with which `run` of its module is called."""

    def __init__(
        self,
        name: str,
        help: str,
        options: Sequence[click.Parameter],
        settings: type[Settings],
        *,
        module: str = "",
        short: str | None = None,
        hidden: bool = False,
        ends_options: bool = False,
    ) -> None:
        super().__init__(
            name,
            params=list(options),
            help=help,
            short_help=short,
            hidden=hidden,
            context_settings={
                **HELP,
                "auto_envvar_prefix": PREFIX,
                "token_normalize_func": canonical,
                "max_content_width": 110,
                "allow_interspersed_args": not ends_options,
            },
        )
        self.settings = settings
        self._module = module or name

    def invoke(self, ctx: click.Context) -> int:
        invocation = ctx.find_object(Invocation) or Invocation()
        values = given(ctx)
        invocation.is_debug = bool(values.get("debug"))
        file = values.pop("save_config", None)
        settings: Any = self.settings(**values)
        settings.check()
        if file is not None:
            save_config(file, self, values)
            return 0
        _hide_secret(invocation, settings)
        module = importlib.import_module(f"dispycos.cli.{self._module}")  # now: --help must not wait for zmq
        return module.run(settings, *invocation.begun) or 0


def _hide_secret(invocation: Invocation, settings: Settings) -> None:
    """Before the command forks anything; `secret show` is there to show it."""
    if not isinstance(settings, SecretSettings) and not take_out_of_sight(settings.secret):
        text = "the passphrase of --secret can be seen in the list of processes; a secret file cannot"
        click.echo(f"{invocation.command}: {text}", err=True)


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from dispycos.version import RELEASE

        click.echo(f"dispycos {RELEASE}")
        context.exit()


COMMANDS: Final = (
    Command(
        "node",
        "Run tasks of clients on this machine's CPUs.",
        (*NODE, *TASK_USER, *WEB, *CONFIG),
        NodeSettings,
    ),
    Command("scheduler", "Share nodes between clients.", (*SCHEDULER, *CONFIG), SchedulerSettings),
    Command("doctor", "Look for what stops dispycos here, and say what to do.", VIEW, ViewSettings),
    Command(
        "run",
        "Run a script that was written for pycos or dispy, with the names of dispycos.",
        RUN,
        RunSettings,
        short="Run a script of pycos or dispy, unchanged.",
        ends_options=True,
    ),
    Command("status", "Show schedulers, nodes, servers and tasks.", STATUS, StatusSettings),
    Command("top", "Watch nodes and what they run.", VIEW, ViewSettings),
    Command("tasks", "List tasks that ended, run and wait; the newest at the end.", TASKS, TasksSettings),
    Command("stack", "Show where TASK is now, of those that run.", STACK, StackSettings),
    Command(
        "cancel",
        "End tasks: each TASK, or all of a function.",
        CANCEL,
        CancelSettings,
    ),
    Command(
        "private",
        "A scheduler and a node for the client that started it.",
        (*NODE, NODES),
        PrivateSettings,
        module="ahead",
        hidden=True,
    ),
)
FORCE: Final = click.Option(["--force"], is_flag=True, help="Overwrite a file that holds something else.")
SECRET_EXPORT: Final = Command(
    "export",
    "Write the cluster's secret to FILE, for another host; without one, or with -, to standard output.",
    (click.Argument(["file"], required=False, type=FILE), FORCE, SECRET_FILE, GROUP_SECRET, DEBUG),
    ExportSettings,
    module="secret",
)
SECRET_IMPORT: Final = Command(
    "import",
    "Take the cluster's secret from FILE, or from standard input: what another host exported or shows, or a passphrase.",
    (click.Argument(["file"], required=False, type=FILE), FORCE, SECRET_FILE, DEBUG),
    ImportSettings,
    module="secret",
)
SECRET_SHOW: Final = Command(
    "show",
    "Print the cluster's secret; make it when there is none.",
    (SECRET_FILE, GROUP_SECRET, JSON, DEBUG),
    SecretSettings,
    module="secret",
)
DOCKER_FILES: Final = Command(
    "docker-files",
    "Print where the Dockerfile and the compose file are.",
    (COPY, JSON, DEBUG),
    DockerSettings,
    module="docker_files",
)
COMPLETION: Final = Command(
    "completion",
    'Print what completes commands in a shell; in ~/.bashrc: eval "$(dispycos completion bash)".',
    (SHELL, DEBUG),
    CompletionSettings,
    short="Print what completes commands in bash, zsh or fish.",
)
WEB_REPLAY: Final = Command(
    "web", "Show a recording in the web monitor; its URL is printed.", REPLAY, ReplaySettings
)

dispycos = click.Group(
    "dispycos",
    commands=[
        *COMMANDS,
        WEB_REPLAY,
        DOCKER_FILES,
        COMPLETION,
        _NamedGroup(
            "secret",
            commands=[SECRET_SHOW, SECRET_EXPORT, SECRET_IMPORT],
            help="The secret by which processes of a cluster trust each other.",
            short_help="The secret of a cluster: show, export, import it.",
        ),
    ],
    help="Distributed communicating tasks. Run `dispycos node` on each machine, then a script anywhere.",
    params=[
        click.Option(
            ["-V", "--version"],
            is_flag=True,
            expose_value=False,
            is_eager=True,
            callback=_print_version,
            help="Show the version.",
        )
    ],
    context_settings=HELP,
)

"""The command `dispycos`: subcommands from the table of options; failures put into words and exit codes."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import click

from dispycos.config import Failure, Misuse, SecretSettings, Settings, parse_path

from .options import (
    COMMANDS,
    PREFIX,
    SECRET_SHOW,
    Command,
    Option,
    canonical,
    default_of,
    read_config,
    settle,
    write_config,
)
from .sight import take_out_of_sight

INTERRUPTED = 130
TIMED_OUT = 124


@dataclass
class Invocation:
    """What is known of the call when it fails."""

    command: str = "dispycos"
    is_debug: bool = False


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: Sequence[str]) -> int:
    """Runs a command line and returns the exit code; what goes wrong is one or two lines on stderr."""
    invocation = Invocation()
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
        case click.ClickException():
            _suggest_what_is_shown(error)
            text, code = f"{error.format_message()}\nsee: {invocation.command} --help", error.exit_code
        case Failure():
            text, code = str(error), error.exit_code
        case TimeoutError():
            text, code = str(error) or "no answer in time", TIMED_OUT
        case _:
            text = f"{type(error).__name__}: {error}\nthis should not happen; --debug shows where"
            code = getattr(error, "exit_code", 1)
    click.echo(f"{invocation.command}: {text}", err=True)
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


def _normalized(aliases: dict[str, str]) -> Callable[[str], str]:
    """Lets click take dashes for underscores, and later names for those of the spec."""
    return lambda name: aliases.get(canonical(name), canonical(name))


class _Named(click.Command):
    """Notes its name before its options are read: what is wrong with them is said in its name."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        invocation = parent.find_object(Invocation) if parent is not None else None
        if parent is not None and invocation is not None:
            invocation.command = f"{parent.command_path} {info_name}"
        return super().make_context(info_name, args, parent, **extra)


class _NamedGroup(_Named, click.Group):
    """Named like a command."""


def _build(command: Command) -> click.Command:
    aliases = {alias: option.name for option in command.options for alias in option.aliases}
    parameters: list[click.Parameter] = [_parameter(command, option) for option in command.options]
    if command.has_config:
        parameters += [
            click.Option(["--config"], metavar="FILE", help="Read options from this TOML file."),
            click.Option(["--save_config"], metavar="FILE", help="Write the options given to FILE and exit."),
        ]
    return _Named(
        command.name,
        params=parameters,
        callback=_callback(command),
        help=command.help,
        hidden=command.is_hidden,
        context_settings={
            "token_normalize_func": _normalized(aliases),
            "help_option_names": ["-h", "--help"],
            "max_content_width": 110,
        },
    )


def _parameter(command: Command, option: Option) -> click.Option:
    default = default_of(command, option)
    shown = f"  [default: {default:g}]" if isinstance(default, int | float) else ""
    # What is not available is answered if it is given, and not shown.
    hidden = bool(option.refusal) or not option.help
    names = [option.name, *([f"-{option.short}"] if option.short else []), f"--{option.name}"]
    if option.is_flag:
        return click.Option(names, is_flag=True, help=option.help, hidden=hidden)
    return click.Option(
        names,
        metavar=option.metavar,
        multiple=option.is_multiple,
        help=option.help + shown,
        hidden=hidden,
    )


def _callback(command: Command) -> Callable[..., int]:
    def call(**given: Any) -> int:
        invocation = click.get_current_context().find_object(Invocation) or Invocation()
        invocation.is_debug |= bool(given.get("debug"))
        settings = _settings(command, given)
        if settings is None:
            return 0
        invocation.is_debug = settings.debug
        _hide_secret(invocation, settings)
        return _body(command.runs)(settings) or 0

    return call


def _settings(command: Command, given: dict[str, Any]) -> Settings | None:
    """None when they were saved, which is all that was asked for."""
    config = given.pop("config", None) or (os.environ.get(f"{PREFIX}CONFIG") if command.has_config else None)
    save_config = given.pop("save_config", None)
    file = read_config(_path("--config", config), command) if config else {}
    settled = settle(command, given, os.environ, file)
    if save_config is None:
        return settled.settings
    write_config(_path("--save_config", save_config), settled.saved)
    return None


def _hide_secret(invocation: Invocation, settings: Settings) -> None:
    """Before the command forks anything; `secret show` is there to show it."""
    if not isinstance(settings, SecretSettings) and not take_out_of_sight(settings.secret):
        text = "the passphrase of --secret can be seen in the list of processes; a secret file cannot"
        click.echo(f"{invocation.command}: {text}", err=True)


def _path(option: str, text: str) -> Any:
    try:
        return parse_path(text)
    except ValueError as error:
        raise Misuse(f"{option}: {error}") from None


def _body(runs: str) -> Callable[[Settings], int | None]:
    """Imported only now: `dispycos --help` must not wait for zmq."""
    module, _, name = runs.partition(":")
    body: Callable[[Settings], int | None] = getattr(importlib.import_module(module), name)
    return body


def _print_version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from dispycos.version import RELEASE

        click.echo(f"dispycos {RELEASE}")
        context.exit()


def _group() -> click.Group:
    group = click.Group(
        "dispycos",
        help="Distributed communicating tasks. Run `dispycos node` on each machine, then a script anywhere.",
        params=[
            click.Option(
                ["--version"],
                is_flag=True,
                expose_value=False,
                is_eager=True,
                callback=_print_version,
                help="Show the version.",
            )
        ],
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for command in COMMANDS:
        group.add_command(_build(command))
    secret = _NamedGroup("secret", help="The secret that lets processes of a cluster trust each other.")
    secret.add_command(_build(SECRET_SHOW))
    group.add_command(secret)
    return group


dispycos = _group()

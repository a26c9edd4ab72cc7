"""`dispycos completion`: what a shell is told, so that it asks this command how a line goes on."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dispycos.config import CompletionSettings

from .options import COMPLETE


def run(settings: CompletionSettings) -> int:
    """click's own script for this shell, on standard output."""
    kind = get_completion_class(settings.shell)
    assert kind is not None
    commands = click.get_current_context().find_root().command
    print(kind(commands, {}, "dispycos", COMPLETE).source())
    return 0

"""The options that a program gives for a private scheduler: as texts, as they travel to it, and as settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from pathlib import PurePath
from typing import Any

from .config import PrivateSettings
from .habits import no_keyword
from .values import (
    HostPort,
    Parser,
    parse_flag,
    parse_host,
    parse_name,
    parse_nodes,
    parse_path,
    parse_resource,
    parse_seconds,
    parse_size,
    parse_whole,
)

PRIVATE_OPTIONS: dict[str, Parser] = {
    "nodes": lambda text: HostPort(*parse_nodes(text)),
    "ip_addr": parse_host,
    "ext_ip_addr": parse_host,
    "name": parse_name,
    "cpus": parse_whole,
    "resource": parse_resource,
    "dest_path": parse_path,
    "max_file_size": parse_size,
    "min_pulse_interval": parse_seconds,
    "max_pulse_interval": parse_seconds,
    "zombie_period": parse_seconds,
    "secret_file": parse_path,
    "debug": parse_flag,
}
SEVERAL = ("nodes", "ip_addr", "ext_ip_addr", "resource")  # those that may be lists

ALIASES = {
    "node": "ip_addr",
    "host": "ip_addr",
    "ext_host": "ext_ip_addr",
}  # as scripts written for pycos call them


def texts_of(options: Mapping[str, object]) -> dict[str, list[str]]:
    """Values that a program gives for a private scheduler, as one would type them. Raises TypeError naming the option."""
    texts = {}
    for given, value in options.items():
        name = ALIASES.get(given, given)
        if name not in PRIVATE_OPTIONS:
            raise TypeError(
                no_keyword(f"Scheduler() has no option {name}", name, PRIVATE_OPTIONS)
                + ". Others are options of the commands `dispycos scheduler` and `dispycos node`"
            )
        if value is not None:
            items = value if name in SEVERAL and isinstance(value, list | tuple) else [value]
            texts[name] = [_text_of(name, item) for item in items]
    return texts


def _text_of(name: str, value: object) -> str:
    if isinstance(value, bool) != (name == "debug") or not isinstance(value, str | Real | PurePath):
        raise TypeError(f"Scheduler(): {name} cannot be {value!r}")
    return str(value)


def private_settings(base: PrivateSettings, texts: Mapping[str, Sequence[str]]) -> PrivateSettings:
    """The settings of a private scheduler. Raises ValueError naming the option."""
    changes: dict[str, Any] = {}
    for name, given in texts.items():
        try:
            values = tuple(PRIVATE_OPTIONS[name](text) for text in given)
        except ValueError as error:
            raise ValueError(f"Scheduler(): {name}: {error}") from None
        changes["node" if name == "nodes" else name] = values if name in SEVERAL else values[0]
    settings = replace(base, **changes)
    settings.check()
    return settings

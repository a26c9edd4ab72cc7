"""`dispycos doctor`: looks at what dispycos needs of this machine and its network, and says that it is well, or what to do."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Final

from rich.table import Table
from rich.text import Text

from dispycos.config import Failure, ViewSettings
from dispycos.notices import counted

from .findings import Finding, of_failure
from .tables import make_console, print_bare

CHECK_S: Final = 4.0  # a check ends within this ...
LOOK_S: Final = 3.0  # ... and what it waits for on the network within that
STYLES: Final = {"ok": "green", "warning": "yellow", "error": "red"}

log = logging.getLogger("dispycos")

Check = Callable[[], "list[Finding] | Awaitable[list[Finding]]"]


def run(settings: ViewSettings) -> int:
    """Exit code 1 if something would stop dispycos."""
    logging.basicConfig(level=logging.DEBUG if settings.debug else logging.ERROR)
    log.setLevel(logging.DEBUG if settings.debug else logging.ERROR)
    found = examine(checks(settings))
    if settings.json:
        print(json.dumps({"findings": [asdict(one) for one in found]}, indent=2))
    else:
        show(found)
    return 1 if any(one.level == "error" for one in found) else 0


def checks(settings: ViewSettings) -> dict[str, Check]:
    """By what they look at, in the order in which they are shown."""
    from . import host_checks as host

    looks: dict[str, Check] = {
        "libraries": host.look_at_installation,
        "cpus": host.look_at_machine,
        "limits": host.look_at_limits,
        "folders": host.look_at_folders,
        "clock": host.look_at_clock,
        "secret": lambda: host.look_at_secret(settings),
    }
    try:
        from . import network_checks as network
    except ImportError as error:  # of a library, which is named above
        missing = Finding("network", "error", f"it cannot be looked at: {error}")
        return {**looks, "network": lambda: [missing]}
    return {
        **looks,
        "addresses": lambda: network.look_at_interfaces(settings),
        "multicast": lambda: network.look_at_multicast(settings),
        "ports": lambda: network.look_at_ports(settings),
        "peer": lambda: network.look_at_peers(settings),
        "cluster": lambda: network.look_at_cluster(settings),
    }


def examine(checks: dict[str, Check], patience: float = CHECK_S) -> list[Finding]:
    """All at the same time. One that does not end is named, and left: its thread does not hold up the end of the program."""
    found: dict[str, list[Finding]] = {}
    threads = []
    for name, check in checks.items():
        thread = threading.Thread(target=_carry_out, args=(name, check, found), daemon=True, name=name)
        try:
            thread.start()
        except RuntimeError as error:
            found[name] = [
                Finding(name, "error", f"not looked at: {error}", "raise what limits it: ulimit -u, pids.max")
            ]
        else:
            threads.append(thread)
    until = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = [
        Finding(name, "error", f"no answer within {patience:g} s: it hangs")
        for name in checks
        if name not in found
    ]
    return [one for name in checks for one in found.get(name, ())] + late


def _carry_out(name: str, check: Check, found: dict[str, list[Finding]]) -> None:
    try:
        made = check()
        found[name] = made if isinstance(made, list) else asyncio.run(_wait(made))
    except Failure as failure:
        found[name] = [of_failure(name, failure)]
    except Exception as error:  # what a broken host raises is a finding, too
        log.debug("%s", name, exc_info=True)
        found[name] = [Finding(name, "error", f"{type(error).__name__}: {error}")]


async def _wait(made: Awaitable[list[Finding]]) -> list[Finding]:
    async with asyncio.timeout(LOOK_S):
        return await made


def show(found: Sequence[Finding]) -> None:
    """A line each, and what to do below it."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for column in ("level", "check"):
        table.add_column(column, no_wrap=True)
    table.add_column("text", overflow="fold")
    for one in found:
        table.add_row(Text(one.level, style=STYLES[one.level]), Text(one.check), Text(one.text))
        if one.remedy:
            table.add_row("", "", Text(f"-> {one.remedy}"))
    print_bare(make_console(), table)
    print(summary(found))


def summary(found: Sequence[Finding]) -> str:
    counts = [
        counted(number, level)
        for level in ("error", "warning")
        if (number := sum(one.level == level for one in found))
    ]
    return ", ".join(counts) if counts else "all is well"

"""`dispycos cancel`: has clients end tasks of theirs, by ids or all of a function."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Final

import click

from dispycos.actors.web.desk import Done
from dispycos.config import CancelSettings, Misuse, NothingFound
from dispycos.notices import counted

from .viewing import Viewing, viewing

NAMES: Final = frozenset(("tasks", "functions"))
WAYS: Final = ("running", "queued")


def run(settings: CancelSettings) -> int:
    """Exit code 3 if there was nothing to end, 1 if the answer was no."""
    return asyncio.run(_run(settings))


async def _run(settings: CancelSettings) -> int:
    async with viewing(settings, "cancel") as view:
        await view.look(NAMES)
        ids = list(dict.fromkeys(map(view.task_named, settings.task)))
        asked = question(view, settings, ids)
        if asked and not settings.yes and not confirm(asked):
            print("nothing was ended", file=sys.stderr)
            return 1
        if ids:
            done = await view.monitor.act("terminate", ids, {})
        else:
            chosen = {"function": settings.function, "state": settings.state or ""}
            done = await view.monitor.act("terminate_where", [], {"filter": chosen})
        return tell(done, settings)


def question(view: Viewing, settings: CancelSettings, ids: list[str]) -> str:
    """What is asked before several are ended; of one nothing is asked. Raises NothingFound if there is none."""
    if settings.function is None:
        return f"End {len(ids)} tasks?" if len(ids) > 1 else ""
    row = view.tables.rows("functions").get(settings.function, {})
    ways = WAYS if settings.state is None else (settings.state,)
    counts = {way: int(row.get(way, 0)) for way in ways}
    number = sum(counts.values())
    if not number:
        raise NothingFound(
            f"no task of {settings.function} is {' or '.join(ways)}",
            "dispycos tasks lists those that there are",
        )
    parts = ", ".join(f"{count:,} {way}" for way, count in counts.items() if count)
    return f"End {counted(number, 'task')} of {settings.function} ({parts})?" if number > 1 else ""


def confirm(asked: str) -> bool:
    """Raises Misuse where nobody can be asked."""
    if not sys.stdin.isatty():
        raise Misuse(f"{asked} Nobody can be asked here", "give --yes")
    return click.confirm(asked, err=True)


def tell(done: Done, settings: CancelSettings) -> int:
    """The exit code."""
    if settings.json:
        print(json.dumps({"done": done.done, "refused": done.refused, "text": done.text}, indent=2))
    else:
        for task, why in done.refused:
            print(f"{task}: {why}", file=sys.stderr)
        was = "was" if done.done == 1 else "were"
        print(f"{counted(done.done, 'task')} {was} told to end")
    return 0 if done.done else NothingFound.exit_code

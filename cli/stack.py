"""`dispycos stack`: where a task is that runs now."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from dispycos.config import NothingFound, StackSettings

from .viewing import viewing

NAMES: Final = frozenset(("tasks",))


def run(settings: StackSettings) -> int:
    """Exit code 3 if it does not run."""
    return asyncio.run(_run(settings))


async def _run(settings: StackSettings) -> int:
    async with viewing(settings, "stack") as view:
        await view.look(NAMES)
        try:
            stack = await view.monitor.stack(view.task_named(settings.task))
        except LookupError as error:
            raise NothingFound(str(error.args[0]), "dispycos tasks --running lists those that run") from None
        print(json.dumps(stack, indent=2) if settings.json else "\n".join(lines_of(stack)))
    return 0


def lines_of(stack: Mapping[str, Any]) -> list[str]:
    """The call that it is in stands at the end, as in a traceback."""
    lines = [f"task {stack['task']}, {stack['function']}, at {stack['server']} of {stack['node']}"]
    for frame in stack["frames"]:
        lines.append(f"  {frame['file']}:{frame['line']} in {frame['function']}")
        if frame["code"]:
            lines.append(f"      {frame['code'].strip()}")
    return [*lines, stack["text"]] if stack["text"] else lines

"""`dispycos private` begins: it asks its network who is there, and imports all else while answers come.

The template goes on with imports of its own on another CPU.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import IO

from dispycos.config import PrivateSettings
from dispycos.transport.addresses import AddressError, find_addresses
from dispycos.transport.question import Question


def run(settings: PrivateSettings) -> int:
    """Until its standard input ends. The first line there says at which addresses it may ask."""
    with open(0, "rb", buffering=0, closefd=False) as orders:
        question = _ask(settings, orders)
        from .template import fork_template

        template = fork_template()
        from . import private

        return private.run(settings, template, question, orders)


def _ask(settings: PrivateSettings, orders: IO[bytes]) -> Question | None:
    told = json.loads(orders.readline() or b"{}")
    with suppress(AddressError, OSError):  # which is said later
        return Question(find_addresses(tuple(told.get("ip_addr", ())) or settings.ip_addr).own)
    return None

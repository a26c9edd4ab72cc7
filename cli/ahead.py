"""`dispycos private` begins: it asks its network who is there, and imports all else while answers come.

The template goes on with imports of its own on another CPU.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import IO, TYPE_CHECKING, NoReturn

from dispycos.transport.addresses import AddressError, find_addresses
from dispycos.transport.question import Question

if TYPE_CHECKING:
    from dispycos.config import PrivateSettings

ADDRESSES_VARIABLE = "DISPYCOS_IP_ADDR"


def main() -> NoReturn:
    """Asks before the command line is read: click takes longer to import than an answer takes to come."""
    begun = _begin()
    from .main import run as run_command

    sys.exit(run_command(["private"], begun))


def run(settings: PrivateSettings, orders: IO[bytes] | None = None, question: Question | None = None) -> int:
    """Until its standard input ends."""
    if orders is None:
        orders, question = _begin()
    from .template import fork_template

    template = fork_template()
    from . import private

    return private.run(settings, template, question, orders)


def _begin() -> tuple[IO[bytes], Question | None]:
    """The first line of its orders says at which addresses it may ask. If its settings do it asks later: they are not known yet."""
    orders = open(0, "rb", buffering=0, closefd=False)  # noqa: SIM115
    chosen = tuple(json.loads(orders.readline() or b"{}").get("ip_addr", ()))
    if chosen or ADDRESSES_VARIABLE not in os.environ:
        with suppress(AddressError, OSError):  # which is said later
            return orders, Question(find_addresses(chosen).own)
    return orders, None

"""Asks a place by plain TCP what listens there, for an error in words where ZeroMQ has only silence."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

ZMTP = b"\xff"  # what a listener of ZeroMQ says first, at once, however busy its program is
SHOWN_MAX = 40  # bytes of a stranger's banner


async def stranger_at(addresses: Iterable[str], port: int, patience_s: float) -> str:
    """Why no process of a cluster is to be expected at any of these addresses; '' if one may be there.

    An address that does not answer at all tells nothing: the way to it may be slow.
    """
    found = await asyncio.gather(*(_look(address, port, patience_s) for address in addresses))
    return "" if "" in found else next(iter(found), "")


async def _look(address: str, port: int, patience_s: float) -> str:
    try:
        async with asyncio.timeout(patience_s):
            reader, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return "nobody listens there"
    except OSError as error:  # TimeoutError is one
        return "" if isinstance(error, TimeoutError) else f"it cannot be reached: {error.strerror}"
    try:
        async with asyncio.timeout(patience_s):
            said = await reader.read(SHOWN_MAX)
    except TimeoutError:
        return "what listens there says nothing: it is another program, or it is stopped"
    except OSError:
        said = b""
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
    if said.startswith(ZMTP):
        return ""
    return f"another program listens there, which says {said!r}" if said else "it hangs up at once"

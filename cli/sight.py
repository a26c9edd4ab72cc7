"""Takes the cluster's passphrase out of what others can see of this process: its command line and the environment it began with.

Both lie in its memory, where `ps` and /proc read them for as long as it lives, and each fork has a copy of them. So it is done
before the first fork, by overwriting them; what Python has of them is changed beside.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from contextlib import suppress

from .options import SECRET, variable_of

# The fields of proc(5)'s stat with the address of the first byte; the next has the end.
_ARGUMENTS, _ENVIRONMENT = 48, 50


def take_out_of_sight(passphrase: str | None) -> bool:
    """False if the command line goes on showing the passphrase: it can be overwritten on Linux only."""
    variable = variable_of(SECRET)
    os.environ.pop(variable, None)  # first: nothing points to what is overwritten then
    _overwrite(_ENVIRONMENT, rb"(?<![^\0])" + variable.encode() + rb"=[^\0]*")
    if not passphrase:
        return True
    is_shown = any(passphrase in word for word in sys.argv)
    for words in (sys.argv, sys.orig_argv):
        words[:] = [word.replace(passphrase, "*" * len(passphrase)) for word in words]
    return _overwrite(_ARGUMENTS, re.escape(os.fsencode(passphrase))) or not is_shown


def _overwrite(field: int, pattern: bytes) -> bool:
    """Stars for all that matches; False if nothing does."""
    start, end = _addresses(field)
    found = [match.span() for match in re.finditer(pattern, ctypes.string_at(start, end - start))]
    for first, last in found:
        ctypes.memset(start + first, ord("*"), last - first)
    return bool(found)


def _addresses(field: int) -> tuple[int, int]:
    """Of the first byte and of the one after the last; equal where they are not known."""
    with suppress(OSError), open("/proc/self/stat", "rb") as file:
        fields = file.read().rsplit(b")", 1)[1].split()  # from the third on
        start, end = int(fields[field - 3]), int(fields[field - 2])
        if 0 < start < end:
            return start, end
    return 0, 0


def forbid_core_files() -> None:
    """Of this process and of all that it will start: they would hold the cluster's keys, and users' data."""
    with suppress(ImportError):  # Windows has none
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

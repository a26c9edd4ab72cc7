"""What this build is, as peers are told it."""

from __future__ import annotations

import pickle
import platform
import sys
from functools import cache
from importlib import metadata

from .protocol.envelope import About

PROTOCOL = (1, 1)  # the oldest and the newest wire format spoken here


@cache
def release() -> str:
    """The installed version of dispycos."""
    try:
        return metadata.version("dispycos")
    except metadata.PackageNotFoundError:
        return "0+checkout"

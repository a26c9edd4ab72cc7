"""What this build is, as peers are told it."""

from __future__ import annotations

import os
import sys

from .protocol.control import PROTOCOL
from .protocol.envelope import About

RELEASE = "0.1.0"  # setup.cfg reads it here: asking the installed package costs every process 15 ms
PYTHON = (sys.version_info[0], sys.version_info[1])  # bytecode of another one crashes the interpreter


def about(name: str) -> About:
    """What a runtime of this build tells of itself."""
    return About(PROTOCOL, RELEASE, name, os.getpid())

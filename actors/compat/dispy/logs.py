"""dispy.logger."""

from __future__ import annotations

import logging
from typing import Any

from ..logger import Logger

logger = Logger("dispy")

__all__ = ["Logger", "logger"]


def set_level(level: Any) -> None:
    """As a cluster is told; scripts give ``logging.info``, a function, and dispy says nothing."""
    try:
        logger.setLevel(level)
    except (TypeError, ValueError) as error:
        logging.getLogger("dispycos").warning("loglevel: %s", error)

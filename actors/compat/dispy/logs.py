"""dispy.logger."""

from __future__ import annotations

from ..logger import Logger

logger = Logger("dispy")

__all__ = ["Logger", "logger"]

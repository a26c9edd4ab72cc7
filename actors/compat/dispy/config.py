"""The names of dispy.config: numbers that scripts read. To set them has no effect."""

from typing import Any

DispyPort = NodePort = ClientPort = SchedulerPort = 9700
HTTPServerPort = 8181
MsgTimeout = 10
MaxFileSize = 0


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"dispy.config has no {name!r} here: docs/compat.md of dispycos lists what its scripts can use"
    )

"""dispycos: distributed communicating tasks. Everything that users import, looked up when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dispycos.actors.client import Client as Client
    from dispycos.actors.cluster import DispycosNodeAllocate as DispycosNodeAllocate
    from dispycos.actors.cluster import DispycosNodeAvailInfo as DispycosNodeAvailInfo
    from dispycos.actors.cluster import DispycosNodeInfo as DispycosNodeInfo
    from dispycos.actors.cluster import DispycosStatus as DispycosStatus
    from dispycos.actors.cluster import TaskInfo as TaskInfo
    from dispycos.actors.host.cells import current_client as current_client
    from dispycos.actors.program import run as run
    from dispycos.actors.shipping.settings import SETTING_CALLS as SETTING_CALLS
    from dispycos.actors.shipping.words import NotPicklable as NotPicklable
    from dispycos.actors.task import Location as Location
    from dispycos.actors.task import MonitorStatus as MonitorStatus
    from dispycos.actors.task import Task as Task
    from dispycos.actors.task import Usage as Usage
    from dispycos.brokers.local import Scheduler as Scheduler
    from dispycos.config import MAX_PULSE_INTERVAL, MIN_PULSE_INTERVAL
    from dispycos.errors import DispycosError as DispycosError
    from dispycos.errors import NotScheduled as NotScheduled
    from dispycos.errors import RemoteError as RemoteError
    from dispycos.errors import ScheduleError as ScheduleError
    from dispycos.errors import TaskLost as TaskLost
    from dispycos.errors import TaskRefused as TaskRefused
    from dispycos.errors import TaskTerminated as TaskTerminated

    MaxPulseInterval = MAX_PULSE_INTERVAL
    MinPulseInterval = MIN_PULSE_INTERVAL

_PLACES = {
    "Client": "actors.client",
    "DispycosError": "errors",
    "DispycosNodeAllocate": "actors.cluster",
    "DispycosNodeAvailInfo": "actors.cluster",
    "DispycosNodeInfo": "actors.cluster",
    "DispycosStatus": "actors.cluster",
    "Location": "actors.task",
    "MaxPulseInterval": "config:MAX_PULSE_INTERVAL",
    "MinPulseInterval": "config:MIN_PULSE_INTERVAL",
    "MonitorStatus": "actors.task",
    "NotPicklable": "actors.shipping.words",
    "NotScheduled": "errors",
    "RemoteError": "errors",
    "SETTING_CALLS": "actors.shipping.settings",
    "ScheduleError": "errors",
    "Scheduler": "brokers.local",
    "Task": "actors.task",
    "TaskInfo": "actors.cluster",
    "TaskLost": "errors",
    "TaskRefused": "errors",
    "TaskTerminated": "errors",
    "Usage": "actors.task",
    "current_client": "actors.host.cells",
    "run": "actors.program",
}

__all__ = sorted(_PLACES)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module 'dispycos' has no attribute {name!r}")
    module, _, attribute = place.partition(":")
    value = getattr(import_module(f"dispycos.{module}"), attribute or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__

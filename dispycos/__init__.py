"""dispycos: distributed communicating tasks. Everything that users import, looked up when it is first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dispycos.actors.client.client import Client as Client
    from dispycos.actors.client.http_server import HTTPServer as HTTPServer
    from dispycos.actors.client.program import run as run
    from dispycos.actors.client.status import DispycosNodeAllocate as DispycosNodeAllocate
    from dispycos.actors.client.status import DispycosNodeAvailInfo as DispycosNodeAvailInfo
    from dispycos.actors.client.status import DispycosNodeInfo as DispycosNodeInfo
    from dispycos.actors.client.status import DispycosStatus as DispycosStatus
    from dispycos.actors.client.status import TaskInfo as TaskInfo
    from dispycos.actors.client.sync_client import SyncClient as SyncClient
    from dispycos.actors.client.sync_map import SyncMap as SyncMap
    from dispycos.actors.client.sync_task import SyncTask as SyncTask
    from dispycos.actors.pool.executor import Executor as Executor
    from dispycos.actors.pool.joblib import register_joblib as register_joblib
    from dispycos.actors.server.wishes import dispycos_close_node as dispycos_close_node
    from dispycos.actors.server.wishes import dispycos_close_server as dispycos_close_server
    from dispycos.actors.server.wishes import dispycos_server_quit as dispycos_server_quit
    from dispycos.actors.sharing.channel import Channel as Channel
    from dispycos.actors.sharing.locks import Condition as Condition
    from dispycos.actors.sharing.locks import Event as Event
    from dispycos.actors.sharing.locks import Lock as Lock
    from dispycos.actors.sharing.locks import RLock as RLock
    from dispycos.actors.sharing.locks import Semaphore as Semaphore
    from dispycos.actors.sharing.peers import PeerStatus as PeerStatus
    from dispycos.actors.sharing.sharing import peer_status as peer_status
    from dispycos.actors.shipping.settings import SETTING_CALLS as SETTING_CALLS
    from dispycos.actors.tasks.host import current_client as current_client
    from dispycos.actors.tasks.host import current_task as current_task
    from dispycos.actors.tasks.keeping import MailboxState as MailboxState
    from dispycos.actors.tasks.map import Map as Map
    from dispycos.actors.tasks.record import Usage as Usage
    from dispycos.actors.tasks.submitting import MonitorStatus as MonitorStatus
    from dispycos.actors.tasks.submitting import Submits as Submits
    from dispycos.actors.tasks.submitting import Task as Task
    from dispycos.brokers.local import Scheduler as Scheduler
    from dispycos.config import MAX_PULSE_INTERVAL, MIN_PULSE_INTERVAL
    from dispycos.errors import ArgumentFailed as ArgumentFailed
    from dispycos.errors import ChannelClosed as ChannelClosed
    from dispycos.errors import DispycosError as DispycosError
    from dispycos.errors import FileNotSent as FileNotSent
    from dispycos.errors import HotSwapException as HotSwapException
    from dispycos.errors import InitializerFailed as InitializerFailed
    from dispycos.errors import MailboxFull as MailboxFull
    from dispycos.errors import NameTaken as NameTaken
    from dispycos.errors import NotPicklable as NotPicklable
    from dispycos.errors import NotScheduled as NotScheduled
    from dispycos.errors import RemoteError as RemoteError
    from dispycos.errors import ScheduleError as ScheduleError
    from dispycos.errors import TaskLost as TaskLost
    from dispycos.errors import TaskRefused as TaskRefused
    from dispycos.errors import TaskTerminated as TaskTerminated
    from dispycos.errors import TaskTimeout as TaskTimeout
    from dispycos.protocol.addresses import Location as Location
    from dispycos.version import RELEASE

    __version__ = RELEASE
    MaxPulseInterval = MAX_PULSE_INTERVAL
    MinPulseInterval = MIN_PULSE_INTERVAL
else:  # type checkers would take it for a sign that there is any name

    def __getattr__(name: str) -> Any:
        place = _PLACES.get(name)
        if place is None:
            from dispycos.habits import MODULE, hint

            raise AttributeError(f"module 'dispycos' has no attribute {name!r}{hint(MODULE, name)}")
        module, _, attribute = place.partition(":")
        value = getattr(import_module(f"dispycos.{module}"), attribute or name)
        globals()[name] = value
        return value


_PLACES = {
    "ArgumentFailed": "errors",
    "Channel": "actors.sharing.channel",
    "ChannelClosed": "errors",
    "Client": "actors.client.client",
    "Condition": "actors.sharing.locks",
    "DispycosError": "errors",
    "DispycosNodeAllocate": "actors.client.status",
    "DispycosNodeAvailInfo": "actors.client.status",
    "DispycosNodeInfo": "actors.client.status",
    "DispycosStatus": "actors.client.status",
    "Event": "actors.sharing.locks",
    "Executor": "actors.pool.executor",
    "FileNotSent": "errors",
    "HTTPServer": "actors.client.http_server",
    "HotSwapException": "errors",
    "InitializerFailed": "errors",
    "Location": "protocol.addresses",
    "Lock": "actors.sharing.locks",
    "MailboxFull": "errors",
    "MailboxState": "actors.tasks.keeping",
    "Map": "actors.tasks.map",
    "MaxPulseInterval": "config:MAX_PULSE_INTERVAL",
    "MinPulseInterval": "config:MIN_PULSE_INTERVAL",
    "MonitorStatus": "actors.tasks.submitting",
    "NameTaken": "errors",
    "NotPicklable": "errors",
    "NotScheduled": "errors",
    "PeerStatus": "actors.sharing.peers",
    "RLock": "actors.sharing.locks",
    "RemoteError": "errors",
    "SETTING_CALLS": "actors.shipping.settings",
    "ScheduleError": "errors",
    "Scheduler": "brokers.local",
    "Semaphore": "actors.sharing.locks",
    "Submits": "actors.tasks.submitting",
    "SyncClient": "actors.client.sync_client",
    "SyncMap": "actors.client.sync_map",
    "SyncTask": "actors.client.sync_task",
    "Task": "actors.tasks.submitting",
    "TaskInfo": "actors.client.status",
    "TaskLost": "errors",
    "TaskRefused": "errors",
    "TaskTerminated": "errors",
    "TaskTimeout": "errors",
    "Usage": "actors.tasks.record",
    "__version__": "version:RELEASE",
    "current_client": "actors.tasks.host",
    "current_task": "actors.tasks.host",
    "dispycos_close_node": "actors.server.wishes",
    "dispycos_close_server": "actors.server.wishes",
    "dispycos_server_quit": "actors.server.wishes",
    "peer_status": "actors.sharing.sharing",
    "register_joblib": "actors.pool.joblib",
    "run": "actors.client.program",
}

__all__ = sorted(name for name in _PLACES if not name.startswith("_"))  # noqa: PLE0605


def __dir__() -> list[str]:
    return __all__

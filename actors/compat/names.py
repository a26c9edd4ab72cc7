"""The names of the modules of pycos and dispy, and in which of ours each is."""

from __future__ import annotations

import re
from importlib import import_module
from types import ModuleType
from typing import Any, Final

DOCS: Final = "docs/compat.md"
PYTHON_2: Final = {
    "raw_input",
    "xrange",
    "unicode",
    "unichr",
    "long",
    "basestring",
    "reduce",
    "reload",
    "execfile",
}
REMEDY_2: Final = "this is Python 2, which 2to3 (up to Python 3.12) or python-modernize translate"
LACKS: Final = f"{DOCS} of dispycos lists what its scripts can use"

TASKS: Final = {
    "Task": "tasks",
    "MonitorStatus": "tasks",
    "HotSwapException": "=dispycos.errors",
    "Channel": "channels",
    "CategorizeMessages": "categories",
    "Location": "locations",
    "Lock": "locks",
    "RLock": "locks",
    "Condition": "locks",
    "Event": "locks",
    "Semaphore": "locks",
    "AsyncSocket": "sockets",
    "AsyncThreadPool": "threads",
    "AsyncDBCursor": "threads",
    "Pycos": "pycos",
    "PeerStatus": "=dispycos.actors.sharing.peers",
    "RPS": "services",
    "RTI": "services",
    "SysTask": "tasks:Task",
    "Singleton": "small",
    "Struct": "small",
    "serialize": "small",
    "deserialize": "small",
    "unserialize": "small:deserialize",
    "Logger": "logger",
    "logger": "logger",
    "cur_task": "tasks",
    "AsynCoro": "pycos:Pycos",
    "Coro": "tasks:Task",
}
DISPYCOS: Final = {
    "Client": "clients",
    "Computation": "clients",
    "Scheduler": "clients",
    "DispycosStatus": "=dispycos.actors.client.status",
    "DispycosTaskInfo": "=dispycos.actors.client.status:TaskInfo",
    "TaskInfo": "=dispycos.actors.client.status",
    "DispycosNodeInfo": "=dispycos.actors.client.status",
    "DispycosNodeAvailInfo": "=dispycos.actors.client.status",
    "DispycosNodeAllocate": "=dispycos.actors.client.status",
    "MinPulseInterval": "=dispycos.config:MIN_PULSE_INTERVAL",
    "MaxPulseInterval": "=dispycos.config:MAX_PULSE_INTERVAL",
    "dispycos_close_server": "=dispycos.actors.server.wishes",
    "dispycos_close_node": "=dispycos.actors.server.wishes",
    "dispycos_server_quit": "=dispycos.actors.server.wishes",
}
ASYNCFILE: Final = {"AsyncFile": "files", "AsyncPipe": "files", "Popen": "files", "pipe": "files"}
HTTPD: Final = {"HTTPServer": "httpd:HTTPServer"}
DISPY: Final = {
    "JobCluster": "dispy.clusters",
    "SharedJobCluster": "dispy.clusters",
    "DispyJob": "dispy.jobs",
    "DispyNode": "dispy.jobs",
    "NodeAllocate": "dispy.given",
    "DispyNodeAvailInfo": "dispy.jobs",
    "ClusterStatus": "dispy.jobs",
    "recover_jobs": "dispy.journal",
    "fault_recover_jobs": "dispy.journal:recover_jobs",
    "logger": "dispy.logs",
    "Logger": "dispy.logs",
}
DISPY_HTTPD: Final = {"DispyHTTPServer": "dispy.httpd"}


def look_up(names: dict[str, str], module: str, name: str) -> Any:
    """What it is. Raises AttributeError that says where is written what there is."""
    place = names.get(name)
    if place is None:
        raise AttributeError(f"{module} has no {name!r} here: {LACKS}")
    path, _, attribute = place.partition(":")
    home = path[1:] if path.startswith("=") else f"{__package__}.{path}"
    return getattr(import_module(home), attribute or name)


def explain(error: BaseException) -> None:
    """To what a script lacks here, say where is written what there is."""
    note = ""
    if isinstance(error, ImportError):
        ours = error.name == f"{__package__}.config" or str(error.name).split(".")[0] in ("pycos", "dispy")
        note = LACKS if ours else ""
    elif isinstance(error, TypeError) and "got an unexpected keyword argument" in str(error):
        note = (
            LACKS if re.split(r"[.(]", str(error))[0] in {**TASKS, **DISPYCOS, **ASYNCFILE, **DISPY} else ""
        )
    elif isinstance(error, AttributeError):
        kind = error.obj if isinstance(error.obj, type) else type(error.obj)
        note = LACKS if kind.__module__.startswith("dispycos.") else ""
    elif isinstance(error, NameError) and error.name in PYTHON_2:
        note = REMEDY_2
    if note and note not in str(error):
        error.add_note(note)


class Names(ModuleType):
    """One of their modules: each name is looked up when it is first used."""

    def __init__(self, name: str, file: str, names: dict[str, str], doc: str) -> None:
        super().__init__(name, doc)
        self.__file__ = file
        self._names = names
        self.__all__ = sorted(names)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        value = look_up(self._names, self.__name__, name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self._names})

"""What a program says to nodes and servers: closing, suspending, setting up, and files that it sends there."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dispycos.protocol.addresses import Location
from dispycos.values import flag as _flag

from ..tasks.ends import brief, plain
from ..tasks.submitting import Task
from .places import nodes_at, server_at

if TYPE_CHECKING:
    from .lease import ClientLease
    from .status import DispycosNodeAllocate


class ClusterCalls(ABC):
    """Of a Client; those of the sync style are made of these."""

    @abstractmethod
    def _cluster(self) -> ClientLease:
        """Raises NotScheduled if there is none."""

    # --- nodes and servers ---

    @plain
    def enable_node(self, where: str | Location, /, *setup_args: Any) -> int:
        """With ``disable_nodes``: have this node set up, by ``node_setup(*setup_args)``, and its servers started. Returns 0.

        `where` is a name, an address (all nodes there are meant) or a Location, as NodeDiscovered tells it. The node is set up by
        these arguments also when it is set up anew.

        Raises
        ------
        TaskRefused: there is no such node; the text says which there are. NotPicklable: naming what in the arguments is not.
        """
        lease = self._cluster()
        call = lease.setup_call("node_setup", setup_args)
        with lease.changing() as ledger:
            for epoch in nodes_at(where, ledger.nodes):
                ledger.members.setups.enable_node(epoch, call, lease.runtime.clock())
        return 0

    @plain
    def enable_server(self, location: Location, /, *setup_args: Any) -> int:
        """With ``disable_servers``: have this server set up, by ``server_setup(*setup_args)``, and take tasks. Returns 0.

        The arguments count for those that are started in its place, too.

        Raises
        ------
        TaskRefused: there is no such server; the text says which there are. NotPicklable: naming what in the arguments is not.
        """
        lease = self._cluster()
        call = lease.setup_call("server_setup", setup_args)
        with lease.changing() as ledger:
            setups = ledger.members.setups
            spot, _ = server_at(location, [(spot, 0) for spot in setups.known_servers()])
            setups.enable_server(spot, call, lease.runtime.clock())
        return 0

    @plain
    def suspend_server(self, location: Location, /) -> int:
        """Give this server no more tasks, nor those that are started in its place; what it runs goes on. Returns 0.

        A task that names it waits until resume_server(). What is there and has not begun goes elsewhere.

        Raises
        ------
        TaskRefused: there is no such server; the text says which there are. TypeError: it is no Location.
        """
        return self._suspend_server(location, suspended=True)

    @plain
    def resume_server(self, location: Location, /) -> int:
        """End suspend_server(). Returns 0; raises as that does."""
        return self._suspend_server(location, suspended=False)

    def _suspend_server(self, location: Location, *, suspended: bool) -> int:
        with self._cluster().changing() as ledger:
            control = ledger.members.control
            control.suspend_server(*server_at(location, control.servers()), suspended=suspended)
        return 0

    @plain
    def suspend_node(self, where: str | Location, /) -> int:
        """Give the servers of this node no more tasks; what they run goes on. Returns 0.

        `where` is a name, an address (all nodes there are meant) or a Location. A task that names it waits until resume_node().

        Raises
        ------
        TaskRefused: there is no such node; the text says which there are. TypeError: it is no place.
        """
        return self._suspend_node(where, suspended=True)

    @plain
    def resume_node(self, where: str | Location, /) -> int:
        """End suspend_node(). Returns 0; raises as that does."""
        return self._suspend_node(where, suspended=False)

    def _suspend_node(self, where: str | Location, *, suspended: bool) -> int:
        with self._cluster().changing() as ledger:
            for epoch in nodes_at(where, ledger.nodes):
                ledger.members.control.suspend_node(epoch, suspended=suspended)
        return 0

    @plain
    def close_server(self, location: Location, terminate: bool = False, restart: bool = False) -> int:
        """End this server when its CPU tasks have ended; from now on it gets none. Returns 0 at once.

        Io tasks get their KeyboardInterrupt then, and have about 5 s. What waits for this very server is refused.

        Parameters
        ----------
        terminate: do not wait for CPU tasks: they, too, get their KeyboardInterrupt, now.
        restart: start a new process in its place. Else it stays closed, until restart_server().

        Raises
        ------
        TaskRefused: there is no such server; the text says which there are. TypeError: a parameter of the wrong type.
        """
        terminate, restart = _flag(terminate, "terminate"), _flag(restart, "restart")
        with self._cluster().changing() as ledger:
            control = ledger.members.control
            control.close_server(*server_at(location, control.servers()), terminate=terminate, again=restart)
        return 0

    @plain
    def restart_server(self, location: Location, terminate: bool = False) -> int:
        """As close_server(restart=True): a new process in the place of this server, also of a closed one. Returns 0 at once."""
        return self.close_server(location, terminate, restart=True)

    @plain
    def close_node(self, where: str | Location, /, terminate: bool = False) -> int:
        """Give this node back when its CPU tasks have ended; from now on it gets none. Returns 0 at once.

        Io tasks get their KeyboardInterrupt then, and have about 5 s. The node is not this client's again before node_allocate()
        names it. What names this node alone is refused.

        Parameters
        ----------
        where: a name, an address (all nodes there are meant) or a Location.
        terminate: do not wait for CPU tasks: they, too, get their KeyboardInterrupt, now.

        Raises
        ------
        TaskRefused: there is no such node; the text says which there are. TypeError: a parameter of the wrong type.
        """
        terminate = _flag(terminate, "terminate")
        with self._cluster().changing() as ledger:
            for epoch in nodes_at(where, ledger.nodes):
                ledger.members.control.close_node(epoch, terminate=terminate, again=False)
        return 0

    @plain
    def restart_node(self, where: str | Location, terminate: bool = False, *setup_args: Any) -> int:
        """As close_node(), but keep the node: it is set up anew, and its servers are started again. Returns 0 at once.

        node_setup gets `setup_args`; without any it gets those of the last time. That the node is discovered and initialized is
        not told again.

        Raises
        ------
        TaskRefused, TypeError: as close_node(). NotPicklable: naming what in the arguments is not.
        """
        terminate, lease = _flag(terminate, "terminate"), self._cluster()
        call = lease.setup_call("node_setup", setup_args)
        with lease.changing() as ledger:
            for epoch in nodes_at(where, ledger.nodes):
                if setup_args:
                    ledger.members.setups.nodes.calls[epoch] = call
                ledger.members.control.close_node(epoch, terminate=terminate, again=True)
        return 0

    @plain
    def abandon_zombie(self, where: str | Location, flag: bool, /) -> int:
        """For one node another rule than `abandon_zombie_nodes`. Returns 0.

        Parameters
        ----------
        where: a name, an address (all nodes there are meant) or a Location.
        flag: True: give it up when it was silent for 5 pulses, or now if it was; its tasks are lost. False: wait for it.

        Raises
        ------
        TaskRefused: there is no such node; the text says which there are. TypeError: `flag` is no bool, or `where` no place.
        """
        abandon = _flag(flag, "flag")
        with self._cluster().changing() as ledger:
            for epoch in nodes_at(where, ledger.nodes):
                ledger.members.control.abandon_zombie(epoch, abandon=abandon)
        return 0

    @plain
    def node_allocate(self, allocation: DispycosNodeAllocate | str | Location) -> int:
        """Use what this allocation matches, too: it stands behind those of ``Client(nodes=...)``. Returns 0 at once.

        A host that is named is dialled. A node that close_node() gave back is used again if it matches.

        Raises
        ------
        TypeError, ValueError: it is of no use; the text says why.
        """
        from .status import allocations

        lease = self._cluster()
        for one in allocations([allocation]):
            lease.allocate(one)
        return 0

    # --- files ---

    @brief
    async def send_file(
        self,
        where: str | Location | Task,
        path: str | bytes | os.PathLike[Any],
        dir: str | bytes | os.PathLike[Any] | None = None,
        overwrite: bool = False,
        timeout: float | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> int:
        """Send a file to a node, below the folder of its servers, ``../name`` for tasks; or to a server. Returns 0.

        It is there under its own name when this returns, whole. One that is there already is not sent again if it is the same.

        Parameters
        ----------
        where: name, address (all nodes there) or Location of a node; Location of a server, or a task there: the file is in the
            server's own folder then, where tasks run unless the client has a `cwd`. A status_task may send as soon as it hears
            of a node or server, thus before they are set up.
        path: of the file here.
        dir: folder below, made if it is missing; neither absolute nor with ``..``.
        overwrite: replace another file of that name.
        timeout: seconds; None: as long as it takes.
        progress: called as ``progress(done, size)``, in bytes, for each MiB that is there; in the sync style in dispycos's own
            thread.

        Raises
        ------
        FileExistsError: another file of that name is there. FileNotSent: it is larger than the receiver's ``max_file_size``
            (before it travels), there is no room, it changed meanwhile, the receiver is gone ...; nothing is left of it there.
        TimeoutError, OSError (the file cannot be read), ValueError (`dir`), TaskRefused (no such node or server).
        """
        files = self._cluster().files
        return await files.send(where, path, dir, overwrite, timeout, progress)

    @brief
    async def del_file(
        self,
        where: str | Location | Task,
        name: str | bytes | os.PathLike[Any],
        dir: str | bytes | os.PathLike[Any] | None = None,
        timeout: float | None = None,
    ) -> int:
        """Delete a file where send_file(where, path, dir) puts it. Returns 0.

        Parameters
        ----------
        where, dir, timeout: as for send_file. name: of the file, without folders.

        Raises
        ------
        FileNotFoundError: it is not there. Others as for send_file.
        """
        return await self._cluster().files.delete(where, name, dir, timeout)

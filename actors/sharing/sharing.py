"""What the tasks of one process use among each other and with those of other processes: made with its TaskHost."""

from __future__ import annotations

from functools import partial

from dispycos.protocol import messages
from dispycos.protocol.addresses import CLIENT, Address
from dispycos.protocol.envelope import Envelope

from ..tasks.host import TaskHost
from ..tasks.streams import say
from ..tasks.submitting import Task
from .channel import Channels
from .names import Names


def peer_status(task: Task, on: bool = True) -> int:
    """Have this task of this process sent a PeerStatus for each client, node and server of its program: of those that are
    there now, and of all that come and go, until `on` is False or the task ends. Returns 0.

    Raises
    ------
    TypeError: it is no task of this process.
    """
    if not isinstance(task, Task):
        raise TypeError(f"peer_status() needs a Task, not {type(task).__name__}")
    sharing: Sharing = task._host.sharing
    sharing.names.watch_peers(task, on=on)
    return 0


class Sharing:
    """`book`: where the client's book of names is."""

    def __init__(self, host: TaskHost, book: Address) -> None:
        self._host = host
        self.names = Names(host, book)
        self.channels = Channels(host)

    def warn(self, text: str) -> None:
        """A line at the client's terminal. From any thread."""
        runtime = self._host.runtime
        client = self.names.book.epoch
        if client == runtime.epoch:
            runtime.defer(partial(say, text, "warning"))
        else:
            notice = messages.Notice(text, "warning")
            runtime.send(Envelope(Address(client, CLIENT), self._host.address, notice))

"""What users catch: each error says whose fault it is, and whether the task had started."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor


class DispycosError(Exception):
    """Base of all errors that dispycos raises about the cluster."""


class ScheduleError(DispycosError):
    """The cluster cannot be had: the scheduler refused, or is not there. The text says why and what to do."""


class NotScheduled(DispycosError):
    """A method that needs the cluster was called before schedule() or after close()."""


class NotPicklable(DispycosError, TypeError):
    """A value cannot be pickled; the text names the culprit. Nothing was sent."""


class InitializerFailed(DispycosError, BrokenExecutor):
    """The initializer of an Executor raised on a server, or ended it; this Executor takes no more calls.

    Its ``__cause__`` is what the initializer raised.
    """


class TaskTerminated(DispycosError):
    """The task was ended by terminate(), or with its server or client; it had its KeyboardInterrupt."""


class TaskTimeout(TaskTerminated, TimeoutError):
    """The task was ended since it ran for longer than ``options(timeout=)`` allows; it had its KeyboardInterrupt."""


class TaskLost(DispycosError):
    """The server or node that had the task is gone.

    Attributes
    ----------
    started: whether the task had started, so that it may have had effects. A task with `started=False` can be run again.
    """

    def __init__(self, text: str, started: bool = True) -> None:
        super().__init__(text)
        self.started = started

    def __reduce__(self) -> tuple[type[TaskLost], tuple[str, bool]]:
        return type(self), (str(self), self.started)


class TaskRefused(DispycosError):
    """The task cannot be run: no such server or node, no server can be started, or its code cannot be had there."""


class ArgumentFailed(TaskRefused):
    """The task did not run: it was to get the value of another task, by its handle, and that one failed or was ended.

    The text names the tasks from that one to this; the `__cause__` is what awaiting that one raises.
    """


class MailboxFull(DispycosError):
    """The task does not take its messages, and 16 MiB of them wait in the process that sends. This message was not sent.

    ``await task.deliver(message)`` waits for room instead.
    """


class FileNotSent(DispycosError):
    """A file did not arrive, or was not deleted: it is too large, there is no room, its receiver is gone, or it changed
    meanwhile; the text says which. Nothing of it was left behind."""


class RemoteError(DispycosError):
    """A remote task raised something that cannot be rebuilt here, or its value cannot.

    Attributes
    ----------
    type_name: qualified name of the original exception's or value's class.
    """

    def __init__(self, text: str, type_name: str = "") -> None:
        super().__init__(text)
        self.type_name = type_name

    def __reduce__(self) -> tuple[type[RemoteError], tuple[str, str]]:
        return type(self), (str(self), self.type_name)


class HotSwapException(Exception):
    """Raised where a task is suspended that has said hot_swappable(): `args[0]` is the function that is to take its place.

    That happens if this leaves the task's function. One that catches it goes on as before.
    """


class NameTaken(DispycosError):
    """Another task or channel of this process has the name. The text says which."""


class ChannelClosed(DispycosError):
    """The channel was closed, or the process in which it was made has ended."""


class RemoteTraceback(Exception):
    """The `__cause__` of an exception that a remote task raised: its text is the traceback over there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}" if self.args else ""

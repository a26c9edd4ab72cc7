"""What a task may ask for its own server or node: that it is closed (spec 6.4)."""

from __future__ import annotations

import builtins

from dispycos.protocol import messages
from dispycos.values import flag

from ..tasks.current import current_cell
from ..tasks.ends import plain
from .nested import NestedTasks


@plain
def dispycos_close_server(terminate: bool = False, restart: bool = False) -> int:
    """End the server on which this task runs when its CPU tasks have ended, this one among them. Returns 0 at once.

    Io tasks get their KeyboardInterrupt then, and have about 5 s. From now on the server gets no tasks, and those that it was given
    ahead run elsewhere.

    Parameters
    ----------
    terminate: do not wait for CPU tasks: all tasks there, this one too, get their KeyboardInterrupt now.
    restart: start a new process in its place, as with ``Client(restart_servers=True)``. Else it stays closed.

    Raises
    ------
    RuntimeError: no remote task runs here. TypeError: a parameter is no bool.
    """
    again = flag(restart, "restart")
    return _want("dispycos_close_server", messages.CloseWanted(False, flag(terminate, "terminate"), again))


@plain
def dispycos_server_quit(terminate: bool = False, restart: bool = False) -> int:
    """Another name of dispycos_close_server(): end the server on which this task runs. Returns 0."""
    return dispycos_close_server(terminate, restart)


@plain
def dispycos_close_node(terminate: bool = False) -> int:
    """Give the node on which this task runs back when the CPU tasks of its servers have ended. Returns 0 at once.

    Io tasks get their KeyboardInterrupt then, and have about 5 s. From now on its servers get no tasks.

    Parameters
    ----------
    terminate: do not wait for CPU tasks: all tasks there, this one too, get their KeyboardInterrupt now.

    Raises
    ------
    RuntimeError: no remote task runs here. TypeError: terminate is no bool.
    """
    return _want("dispycos_close_node", messages.CloseWanted(True, flag(terminate, "terminate")))


def _want(what: str, word: messages.CloseWanted) -> int:
    cell = current_cell()
    tasks = cell.host.records if cell is not None else None
    if not isinstance(tasks, NestedTasks):
        method = what.removeprefix("dispycos_")
        raise RuntimeError(
            f"{what}() is for remote tasks, and none runs here; a program has client.{method}(where)"
        )
    tasks.want_close(word)
    return 0


def offer_names() -> None:
    """Scripts use these without an import: whatever their own modules and `__main__` have of these names comes first."""
    for function in (dispycos_close_server, dispycos_server_quit, dispycos_close_node):
        if not hasattr(builtins, function.__name__):
            setattr(builtins, function.__name__, function)

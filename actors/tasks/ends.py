"""How a user's function ended, and what is thrown into one that has not."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, TypeVar, cast

import msgspec

from dispycos.habits import no_keyword

# The very type, not what it is made of: of an `async def` no Coroutine, which is no context manager for pyright.
MethodT = TypeVar("MethodT", bound=Callable[..., Any])
AsyncMethodT = TypeVar("AsyncMethodT", bound=Callable[..., Coroutine[Any, Any, Any]])


class Returned(msgspec.Struct, frozen=True):
    """The function returned this."""

    value: Any


class Raised(msgspec.Struct, frozen=True):
    """The function ended by this exception, of whatever kind; its traceback begins in the user's code."""

    error: BaseException


Outcome = Returned | Raised
Due = type[BaseException] | BaseException  # what is to be thrown in: one to be made then, or this very one


def raised(error: BaseException) -> Raised:
    return Raised(without_our_frames(error))


def without_our_frames(error: BaseException) -> BaseException:
    """The same, and nothing of dispycos in its traceback, nor in those of its causes and parts.

    Users have no use for our frames; DISPYCOS_DEBUG=1 keeps them. A bare `raise` that follows adds none.
    """
    if os.environ.get("DISPYCOS_DEBUG", "0").lower() not in ("", "0", "false", "no", "off"):
        return error
    known: set[int] = set()
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or id(each) in known:
            continue
        known.add(id(each))
        each.with_traceback(_of_users(each.__traceback__))
        left += (each.__cause__, each.__context__)
        if isinstance(each, BaseExceptionGroup):
            left += each.exceptions
    return error


WAITS = ("threading", "concurrent.futures._base")  # what we wait by

# classes, as their users know them
PUBLIC = {
    "Together": "Client",
    "Maps": "Client",
    "Submits": "Client",
    "EitherStyle": "Client",
    "ClusterCalls": "Client",
    "SyncSubmits": "SyncClient",
    "SyncTogether": "SyncClient",
    "Handle": "Task",
    "TaskFuture": "Task",
    "Actor": "Task",
}


def _name_for_users(method: Callable[..., Any]) -> None:
    """Python says by it which method got too many arguments, or was never awaited."""
    owner, dot, name = method.__qualname__.rpartition(".")
    method.__qualname__ = f"{PUBLIC.get(owner, owner)}{dot}{name}"


def plain(method: MethodT) -> MethodT:
    """A method that users call: what it raises begins in their own code."""
    _name_for_users(method)

    @functools.wraps(method)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except BaseException as error:
            _explain_keyword(error, method, kwargs)
            without_our_frames(error)
            raise  # alone it adds no line to the traceback

    return cast(MethodT, called)


def brief(method: AsyncMethodT) -> AsyncMethodT:
    """A coroutine method that users await: what it raises, at Ctrl-C or in an interrupted cell too, begins in their own code."""

    _name_for_users(method)

    @functools.wraps(method)
    async def awaited(*args: Any, **kwargs: Any) -> Any:
        try:
            return await method(*args, **kwargs)
        except BaseException as error:
            _explain_keyword(error, method, kwargs)
            without_our_frames(error)
            raise  # alone it adds no line to the traceback

    return cast(AsyncMethodT, awaited)


def _explain_keyword(error: BaseException, method: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Python has refused the call: what is meant by a name that others use, and which there are."""
    frame = error.__traceback__
    if not (given and isinstance(error, TypeError) and frame is not None and frame.tb_next is None):
        return
    parameters = inspect.signature(method).parameters.values()
    known = [
        each.name for each in parameters if each.kind is not each.POSITIONAL_ONLY and each.name != "self"
    ]
    unknown = next((name for name in given if name not in known), None)
    if unknown is not None:
        text = str(error).replace(".__init__()", "()")
        error.args = (no_keyword(text, unknown, known),)


def is_ours(names: Mapping[str, Any]) -> bool:
    """Whether code with these globals is dispycos's own."""
    module = names.get("__name__")
    return isinstance(module, str) and module.partition(".")[0] == _OURS


def _of_users(traceback: TracebackType | None) -> TracebackType | None:
    kept, is_below_ours = [], False
    while traceback is not None:
        names = traceback.tb_frame.f_globals
        if is_ours(names):
            is_below_ours = True
        elif not (is_below_ours and names.get("__name__") in WAITS):
            kept.append(traceback)
            is_below_ours = False
        traceback = traceback.tb_next
    first = None
    for each in reversed(kept):
        each.tb_next, first = first, each
    return first


def add_note(error: BaseException, text: str) -> None:
    """As its own add_note(), which an exception that is a frozen dataclass does not bear."""
    notes = getattr(error, "__notes__", None)
    BaseException.__setattr__(error, "__notes__", [*(notes if isinstance(notes, list) else ()), text])


def explain_what_differs(error: BaseException) -> None:
    """Note on it what goes otherwise in a server than in the program itself."""
    if type(error).__name__ == "BdbQuit":
        add_note(
            error,
            "a server has no terminal for a debugger: Client(local=True), or DISPYCOS_LOCAL=1, runs tasks in the program",
        )
    elif type(error) is EOFError and str(error) == "EOF when reading a line":
        add_note(error, "a server has no keyboard: ask in the program, and give the answer as an argument")
    elif type(error) is TypeError and "'Task'" in str(error):
        add_note(
            error,
            "if that is the handle of a task: it stands for its value only as an argument of its own, submit(f, *handles); in a "
            "list it arrives as a handle",
        )


def made(due: Due) -> BaseException:
    return due if isinstance(due, BaseException) else due()


_OURS = __name__.partition(".")[0]

"""How a user's function ended, and what is thrown into one that has not."""

from __future__ import annotations

from asyncio import Future
from typing import Any

import msgspec


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
    """The same, with a traceback that begins in the user's code: users have no use for what is above."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_globals.get("__name__") in _OWN_MODULES:
        traceback = traceback.tb_next
    return error.with_traceback(traceback)


def made(due: Due) -> BaseException:
    return due if isinstance(due, BaseException) else due()


def outcome_of(future: Future[Any]) -> Outcome:
    try:
        return Returned(future.result())
    except BaseException as error:  # whatever the future carries is the user's
        return Raised(error)


_OWN_MODULES = tuple(f"{__package__}.{name}" for name in ("execution", "stepper", "subtasks", "interrupts"))

"""What client.map takes and gives, in the async style; how it is done is in mapping.py."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from html import escape
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Unpack, overload

from dispycos.habits import no_keyword
from dispycos.values import flag, positive_seconds

from .calling import name_of
from .chunks import runs_alone
from .either_style import EitherStyle, OptionedT, TaskT, must_be_callable
from .ends import plain, without_our_frames
from .items import items_of, total_of
from .mapping import Failure, Wanted, Work
from .options import OF_OPTIONS, count
from .passing import has_handles
from .styles import AsyncOneByOne, OneByOne

if TYPE_CHECKING:
    from .signatures import A, B, Begins1, Begins2, Begins3, C, Co, Gen, Opts, OptsAll, P, R, S, Y

ItemT = TypeVar("ItemT")
ValueT = TypeVar("ValueT")

OPTIONS = ("ordered", "return_exceptions", "chunksize", "retries", "timeout", "progress", "kwargs")


class Mapped(OneByOne):
    """What is to be seen of a map, in either style."""

    _work: Work

    @property
    def failures(self) -> list[Failure]:
        """The first 1,000 items whose calls raised, each with its error, as (item, error)."""
        return self._work.failures

    def _was_refused(self) -> None:
        self._work.is_told = True

    def __len__(self) -> int:
        if self._work.wanted.total is None:
            raise TypeError("this map has no len(): its iterable has none")
        return self._work.wanted.total

    def __bool__(self) -> bool:
        return True  # also without a len(), and over nothing

    def __repr__(self) -> str:
        return f"<Map of {self._work.name}: {self._work.in_words()}>"

    def _repr_html_(self) -> str:
        """For a notebook."""
        return (
            f"<span>Map of <strong>{escape(self._work.name)}</strong>: {escape(self._work.in_words())}</span>"
        )


class Map(Mapped, AsyncOneByOne[tuple[ItemT, ValueT]], Generic[ItemT, ValueT]):
    """The values of ``client.map``: ``async for item, value in client.map(function, items)``.

    ``len()`` is the number of items where the iterables tell it. ``await values.aclose()`` ends what has not ended, as leaving
    the loop does. ``failures`` are the items whose calls raised.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        super().__init__(_give(work), "client.map(...)", "x, value")

    async def aclose(self) -> None:
        """End what has not ended. There are no values after that."""
        await super().aclose()
        self._work.close()


async def _give(work: Work) -> AsyncGenerator[tuple[Any, Any], None]:
    """It knows nothing of the Map: who drops that, or leaves the loop, drops this, and asyncio then ends it."""
    try:
        while batch := await work.batch():
            for pair in batch:
                yield pair
    except BaseException as error:
        without_our_frames(error)
        raise  # alone it adds no line to the traceback
    finally:
        work.close()


class Maps(EitherStyle[TaskT, OptionedT]):
    """What has the async map."""

    # fmt: off
    @overload
    def map(self, f: Begins1[A, P, Co[R]], a: Iterable[A], /, **o: Unpack[Opts]) -> Map[A, R]: ...
    @overload
    def map(self, f: Begins1[A, P, Gen[Y, S, R]], a: Iterable[A], /, **o: Unpack[Opts]) -> Map[A, R]: ...
    @overload
    def map(self, f: Begins1[A, P, R], a: Iterable[A], /, **o: Unpack[Opts]) -> Map[A, R]: ...
    @overload
    def map(self, f: Begins2[A, B, P, Co[R]], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Opts]) -> Map[tuple[A, B], R]: ...
    @overload
    def map(self, f: Begins2[A, B, P, Gen[Y, S, R]], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Opts]) -> Map[tuple[A, B], R]: ...  # noqa: E501
    @overload
    def map(self, f: Begins2[A, B, P, R], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Opts]) -> Map[tuple[A, B], R]: ...
    @overload
    def map(self, f: Begins3[A, B, C, P, Co[R]], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Opts]) -> Map[tuple[A, B, C], R]: ...  # noqa: E501
    @overload
    def map(self, f: Begins3[A, B, C, P, Gen[Y, S, R]], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Opts]) -> Map[tuple[A, B, C], R]: ...  # noqa: E501
    @overload
    def map(self, f: Begins3[A, B, C, P, R], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Opts]) -> Map[tuple[A, B, C], R]: ...  # noqa: E501
    @overload
    def map(self, f: Begins1[A, P, Co[R]], a: Iterable[A], /, **o: Unpack[OptsAll]) -> Map[A, R | Exception]: ...
    @overload
    def map(self, f: Begins1[A, P, Gen[Y, S, R]], a: Iterable[A], /, **o: Unpack[OptsAll]) -> Map[A, R | Exception]: ...
    @overload
    def map(self, f: Begins1[A, P, R], a: Iterable[A], /, **o: Unpack[OptsAll]) -> Map[A, R | Exception]: ...
    @overload
    def map(self, f: Begins2[A, B, P, Co[R]], a: Iterable[A], b: Iterable[B], /, **o: Unpack[OptsAll]) -> Map[tuple[A, B], R | Exception]: ...  # noqa: E501
    @overload
    def map(self, f: Begins2[A, B, P, Gen[Y, S, R]], a: Iterable[A], b: Iterable[B], /, **o: Unpack[OptsAll]) -> Map[tuple[A, B], R | Exception]: ...  # noqa: E501
    @overload
    def map(self, f: Begins2[A, B, P, R], a: Iterable[A], b: Iterable[B], /, **o: Unpack[OptsAll]) -> Map[tuple[A, B], R | Exception]: ...  # noqa: E501
    @overload
    def map(self, f: Begins3[A, B, C, P, Co[R]], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[OptsAll]) -> Map[tuple[A, B, C], R | Exception]: ...  # noqa: E501
    @overload
    def map(self, f: Begins3[A, B, C, P, Gen[Y, S, R]], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[OptsAll]) -> Map[tuple[A, B, C], R | Exception]: ...  # noqa: E501
    @overload
    def map(self, f: Begins3[A, B, C, P, R], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[OptsAll]) -> Map[tuple[A, B, C], R | Exception]: ...  # noqa: E501
    @overload
    def map(self, f: Callable[..., Any], a: Iterable[Any], b: Iterable[Any], c: Iterable[Any], d: Iterable[Any], /, *e: Iterable[Any], **o: Any) -> Map[Any, Any]: ...  # noqa: E501
    # fmt: on
    @plain
    def map(
        self,
        function: Callable[..., Any],
        /,
        *iterables: Iterable[Any],
        ordered: bool = False,
        return_exceptions: bool = False,
        chunksize: int | str = "auto",
        retries: int = 0,
        timeout: float | None = None,
        progress: bool = False,
        kwargs: Mapping[str, Any] | None = None,
        **unknown: Any,
    ) -> Map[Any, Any]:
        """Run function(x) for every x of an iterable: ``async for x, value in client.map(function, xs)`` gets them as they end.

        With several iterables the function is called with an item of each, and x is a tuple of these.

        The iterables are read as the values are taken, at most 4,096 items ahead, or 32,768 short ones, so they may be endless.
        When the loop is left, what has not ended is terminated. Items of a plain function that take less than some
        milliseconds go to servers together, some 10 ms of them in one task, ``map(function)``. Each has a value or an error
        of its own; what was not begun by then is given back. They share a process with others of their task, and its
        fate: see `retries`. A function that suspends, or has a parameter `task`, runs in a task for each item.

        Parameters
        ----------
        ordered: give values in the order of the items, not as they end. One that takes long holds up those behind it.
        return_exceptions: an item that raises has the exception as its value. False: the first one is raised here, with a
            note that names the item, and ends the rest. In any case ``failures`` of what this returns has (item, error).
        chunksize: so many items at most go together, whatever they take. "auto": by their run time, which is measured.
        retries: how often an item may be run again that was lost with its server. Without, a lost server takes along all
            items of the task that it ran, also those that had ended there: each is a TaskLost.
        timeout: seconds, from when the first value is asked for, until the last; then TimeoutError, and the rest is ended.
        progress: show how far it is, on standard error: a bar in a terminal, a line under a notebook's cell, else a line
            each 10 s. The total is what ``len()`` of the iterables says.
        kwargs: keyword arguments of each call.

        Raises
        ------
        TypeError, ValueError: there is nothing to call, or nothing to call it with, or a parameter is of no use.
        While values are taken: what an item raised; NotPicklable, naming the argument; what an iterable raised, with a note
        that says so; TimeoutError.
        """
        self._here()
        must_be_callable(function)
        if unknown:
            _refuse(list(unknown))
        if not iterables:
            raise TypeError("map() needs an iterable beside the function")
        named = {} if kwargs is None else _keywords(kwargs)
        # A timeout is for each item.
        size = 1 if chunksize == "auto" and self._options.timeout else _chunksize(chunksize)
        if has_handles((), named) or runs_alone(function, (None,) * len(iterables), named):
            if size not in (None, 1):
                raise ValueError(
                    f"chunksize={size}: {name_of(function)} suspends, or gets its task or a handle: each call is a task of its own"
                )
            size = 1
        wanted = Wanted(
            named,
            len(iterables) > 1,
            total_of(iterables),
            flag(ordered, "ordered"),
            flag(return_exceptions, "return_exceptions"),
            size,
            count(retries) or self._options.retries,
            None if timeout is None else positive_seconds(timeout, "timeout"),
            flag(progress, "progress"),
        )
        return Map(Work(self._submit, function, items_of(iterables), wanted))


def _refuse(unknown: list[str]) -> None:
    first = unknown[0]
    of_tasks = f"client.options({first}=...).map has that, and " if first in OF_OPTIONS else ""
    text = no_keyword(f"map() has no option {', '.join(unknown)}", first, OPTIONS)
    raise TypeError(
        f"{text}; {of_tasks}arguments of the function itself are given as kwargs={{{first!r}: ...}}"
    )


def _keywords(kwargs: object) -> dict[str, Any]:
    if isinstance(kwargs, Mapping) and all(isinstance(name, str) for name in kwargs):
        return dict(kwargs)
    raise TypeError(f"kwargs must be a dict of keyword arguments, as {{'name': value}}, not {kwargs!r}")


def _chunksize(chunksize: object) -> int | None:
    """None: by run time."""
    if chunksize == "auto":
        return None
    if not isinstance(chunksize, int) or isinstance(chunksize, bool):
        raise TypeError(f"chunksize must be a number of items (int), or 'auto', not {chunksize!r}")
    if chunksize < 1:
        raise ValueError(f"chunksize must be at least 1, not {chunksize}")
    return chunksize

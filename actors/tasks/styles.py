"""Values that come one by one, in one of the two styles, sync or async; used as one of the other they say what to write.

Python's own words would be of a type that nobody has heard of: 'Map' object is not iterable.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from dispycos.habits import VALUES

from .ends import plain

V = TypeVar("V")


class OneByOne:
    """What neither style has."""

    def __init__(self, instead: str) -> None:
        self._instead = instead  # what to write, a sentence

    def _was_refused(self) -> None:
        """It was used as one of the other style, and that was said."""

    @plain
    def _refuse(self, *what: Any) -> NoReturn:
        self._was_refused()
        raise TypeError(self._instead)

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"cannot pickle {type(self).__name__}: its values are taken here; pass them in a list"
        )

    if not TYPE_CHECKING:
        __await__ = __getitem__ = _refuse

        @plain
        def __getattr__(self, name: str) -> NoReturn:
            text = f"{type(self).__name__!r} object has no attribute {name!r}"
            if name in VALUES:
                self._was_refused()
                text = f"{text}: {self._instead}"
            raise AttributeError(text, name=name, obj=self)


class AsyncOneByOne(OneByOne, AsyncIterator[V]):
    """For `async for`."""

    def __init__(self, values: AsyncGenerator[V, None], called: str, each: str) -> None:
        super().__init__(
            f"{called} is of the async style, and gives its values one by one: `async for {each} in {called}`, or in a list "
            f"`[one async for one in {called}]`; without await: `with dispycos.Client() as client`"
        )
        self._giving = values

    def __aiter__(self) -> AsyncIterator[V]:
        return self._giving  # an `async for` takes its values without a call of ours for each

    def __anext__(self) -> Any:
        return self._giving.__anext__()

    async def aclose(self) -> None:
        """There are no values after that."""
        await self._giving.aclose()

    if not TYPE_CHECKING:
        __iter__ = __next__ = OneByOne._refuse


class SyncOneByOne(OneByOne, Iterator[V]):
    """For `for`."""

    def __init__(self, values: Generator[V, None, None], called: str, each: str) -> None:
        super().__init__(
            f"{called} is of the sync style (`with dispycos.Client()`), and gives its values one by one: "
            f"`for {each} in {called}`, or list({called}); with await: `async with dispycos.Client() as client`"
        )
        self._giving = values

    def __iter__(self) -> Iterator[V]:
        return self._giving

    def __next__(self) -> V:
        return next(self._giving)

    def close(self) -> None:
        """There are no values after that."""
        self._giving.close()

    if not TYPE_CHECKING:
        __aiter__ = __anext__ = OneByOne._refuse

"""What type checkers know of calls of the sync style, as tasks/submitting.py has it for the async one; never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from typing import Any, Protocol, TypeAlias, Unpack, overload

from dispycos.protocol.addresses import Location

from ..tasks.submitting import (
    A,
    B,
    Begins1,
    Begins2,
    Begins3,
    C,
    Co,
    It,
    Kept,
    Method,
    Opts,
    Or,
    P,
    R,
    Tasked,
    Tasked1,
    Tasked2,
    Ts,
    Valued,
)
from .sync_map import SyncMap
from .sync_task import SyncTask

Susp: TypeAlias = Coroutine[Any, Any, R] | Generator[Any, Any, R]
Map2: TypeAlias = SyncMap[tuple[A, B], R]
Map3: TypeAlias = SyncMap[tuple[A, B, C], R]


class Submit(Protocol):
    """submit, io_submit, rtask, io_rtask."""

    @overload
    def __call__(
        self, f: Callable[P, Coroutine[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncTask[R]: ...
    @overload
    def __call__(
        self, f: Callable[P, Generator[Any, Any, R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked[R], /, **more: Any) -> SyncTask[Any]: ...
    @overload
    def __call__(self, f: Tasked1[A, R], a: A, /, **more: Any) -> SyncTask[Any]: ...
    @overload
    def __call__(self, f: Tasked2[A, B, R], a: A, b: B, /, **more: Any) -> SyncTask[Any]: ...
    @overload
    def __call__(self, f: Callable[[*Ts], R], /, *args: *Ts, retries: int) -> SyncTask[R]: ...
    # fmt: off
    @overload
    def __call__(self, f: Begins1[A, Co[R]], a: Valued[A], /, *args: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins1[A, R], a: Valued[A], /, *args: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins2[A, B, Co[R]], a: A, b: Valued[B], /, *args: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins2[A, B, R], a: A, b: Valued[B], /, *args: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins3[A, B, C, Co[R]], a: A, b: B, c: Valued[C], /, *args: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins3[A, B, C, R], a: A, b: B, c: Valued[C], /, *args: Any, **more: Any) -> SyncTask[R]: ...
    # fmt: on


class SubmitAt(Protocol):
    """rtask_at, io_rtask_at."""

    @overload
    def __call__(
        self,
        w: str | Location,
        f: Callable[P, Coroutine[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> SyncTask[R]: ...
    @overload
    def __call__(
        self,
        w: str | Location,
        f: Callable[P, Generator[Any, Any, R]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> SyncTask[R]: ...
    @overload
    def __call__(
        self, w: str | Location, f: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs
    ) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: str | Location, f: Tasked[R], /, **more: Any) -> SyncTask[Any]: ...
    @overload
    def __call__(self, w: str | Location, f: Tasked1[A, R], a: A, /, **more: Any) -> SyncTask[Any]: ...


# fmt: off
class MapCall(Protocol):
    @overload
    def __call__(self, f: Begins1[A, Susp[R]], a: It[A], /, **o: Unpack[Opts]) -> SyncMap[A, R]: ...
    @overload
    def __call__(self, f: Begins1[A, R], a: It[A], /, **o: Unpack[Opts]) -> SyncMap[A, R]: ...
    @overload
    def __call__(self, f: Begins2[A, B, Susp[R]], a: It[A], b: It[B], /, **o: Unpack[Opts]) -> Map2[A, B, R]: ...
    @overload
    def __call__(self, f: Begins2[A, B, R], a: It[A], b: It[B], /, **o: Unpack[Opts]) -> Map2[A, B, R]: ...
    @overload
    def __call__(self, f: Begins3[A, B, C, Susp[R]], a: It[A], b: It[B], c: It[C], /, **o: Unpack[Opts]) -> Map3[A, B, C, R]: ...
    @overload
    def __call__(self, f: Begins3[A, B, C, R], a: It[A], b: It[B], c: It[C], /, **o: Unpack[Opts]) -> Map3[A, B, C, R]: ...
    @overload
    def __call__(self, f: Begins1[A, Susp[R]], a: It[A], /, **o: Unpack[Kept]) -> SyncMap[A, Or[R]]: ...
    @overload
    def __call__(self, f: Begins1[A, R], a: It[A], /, **o: Unpack[Kept]) -> SyncMap[A, Or[R]]: ...
    @overload
    def __call__(self, f: Begins2[A, B, Susp[R]], a: It[A], b: It[B], /, **o: Unpack[Kept]) -> Map2[A, B, Or[R]]: ...
    @overload
    def __call__(self, f: Begins2[A, B, R], a: It[A], b: It[B], /, **o: Unpack[Kept]) -> Map2[A, B, Or[R]]: ...
    @overload
    def __call__(self, f: Begins3[A, B, C, R], a: It[A], b: It[B], c: It[C], /, **o: Unpack[Kept]) -> Map3[A, B, C, Any]: ...
    @overload
    def __call__(self, f: Callable[..., R], a: It[Any], b: It[Any], c: It[Any], d: It[Any], /, *e: It[Any], **o: Unpack[Opts]) -> SyncMap[Any, R]: ...  # noqa: E501
# fmt: on


submits: Callable[[Callable[..., SyncTask[Any]]], Method[Submit]]
submits_at: Callable[[Callable[..., SyncTask[Any]]], Method[SubmitAt]]
maps: Callable[[Callable[..., SyncMap[Any, Any]]], Method[MapCall]]

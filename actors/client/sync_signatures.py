"""What type checkers know of calls of the sync style: what tasks/submitting.py says of the async one, for SyncTask; never run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, Unpack, overload

from ..tasks.submitting import (
    A,
    At,
    B,
    Begins1,
    Begins2,
    Begins3,
    C,
    Co,
    D,
    Gen,
    Kept,
    Method,
    Opts,
    P,
    R,
    S,
    Tasked,
    Tasked1,
    Tasked2,
    Tasked3,
    Tasked4,
    Ts,
    Valued,
    Y,
)
from .sync_map import SyncMap
from .sync_task import SyncTask


# fmt: off
class Submit(Protocol):
    """submit, io_submit, rtask and io_rtask."""

    @overload
    def __call__(self, f: Callable[P, Co[R]], /, *args: P.args, **kwargs: P.kwargs) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Callable[P, Gen[Y, S, R]], /, *args: P.args, **kwargs: P.kwargs) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked[Co[R]], /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked[Gen[Y, S, R]], /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked[R], /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked1[A, Co[R]], a: A, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked1[A, Gen[Y, S, R]], a: A, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked1[A, R], a: A, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked2[A, B, Co[R]], a: A, b: B, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked2[A, B, Gen[Y, S, R]], a: A, b: B, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked2[A, B, R], a: A, b: B, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked3[A, B, C, Co[R]], a: A, b: B, c: C, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked3[A, B, C, Gen[Y, S, R]], a: A, b: B, c: C, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked3[A, B, C, R], a: A, b: B, c: C, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked4[A, B, C, D, Co[R]], a: A, b: B, c: C, d: D, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked4[A, B, C, D, Gen[Y, S, R]], a: A, b: B, c: C, d: D, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Tasked4[A, B, C, D, R], a: A, b: B, c: C, d: D, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Callable[[*Ts], Co[R]], /, *args: *Ts, retries: int, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Callable[[*Ts], Gen[Y, S, R]], /, *args: *Ts, retries: int, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Callable[[*Ts], R], /, *args: *Ts, retries: int, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins1[A, P, Co[R]], a: Valued[A], /, *e: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins1[A, P, Gen[Y, S, R]], a: Valued[A], /, *e: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins1[A, P, R], a: Valued[A], /, *e: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins2[A, B, P, Co[R]], a: A, b: Valued[B], /, *e: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins2[A, B, P, Gen[Y, S, R]], a: A, b: Valued[B], /, *e: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins2[A, B, P, R], a: A, b: Valued[B], /, *e: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins3[A, B, C, P, Co[R]], a: A, b: B, c: Valued[C], /, *e: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins3[A, B, C, P, Gen[Y, S, R]], a: A, b: B, c: Valued[C], /, *e: Any, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, f: Begins3[A, B, C, P, R], a: A, b: B, c: Valued[C], /, *e: Any, **more: Any) -> SyncTask[R]: ...


class SubmitAt(Protocol):
    """rtask_at and io_rtask_at."""

    @overload
    def __call__(self, w: At, f: Callable[P, Co[R]], /, *args: P.args, **kwargs: P.kwargs) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Callable[P, Gen[Y, S, R]], /, *args: P.args, **kwargs: P.kwargs) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked[Co[R]], /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked[Gen[Y, S, R]], /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked[R], /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked1[A, Co[R]], a: A, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked1[A, Gen[Y, S, R]], a: A, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked1[A, R], a: A, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked2[A, B, Co[R]], a: A, b: B, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked2[A, B, Gen[Y, S, R]], a: A, b: B, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked2[A, B, R], a: A, b: B, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked3[A, B, C, Co[R]], a: A, b: B, c: C, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked3[A, B, C, Gen[Y, S, R]], a: A, b: B, c: C, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked3[A, B, C, R], a: A, b: B, c: C, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked4[A, B, C, D, Co[R]], a: A, b: B, c: C, d: D, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked4[A, B, C, D, Gen[Y, S, R]], a: A, b: B, c: C, d: D, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Tasked4[A, B, C, D, R], a: A, b: B, c: C, d: D, /, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Callable[[*Ts], Co[R]], /, *args: *Ts, retries: int, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Callable[[*Ts], Gen[Y, S, R]], /, *args: *Ts, retries: int, **more: Any) -> SyncTask[R]: ...
    @overload
    def __call__(self, w: At, f: Callable[[*Ts], R], /, *args: *Ts, retries: int, **more: Any) -> SyncTask[R]: ...


class MapCall(Protocol):
    @overload
    def __call__(self, f: Begins1[A, P, Co[R]], a: Iterable[A], /, **o: Unpack[Opts]) -> SyncMap[A, R]: ...
    @overload
    def __call__(self, f: Begins1[A, P, Gen[Y, S, R]], a: Iterable[A], /, **o: Unpack[Opts]) -> SyncMap[A, R]: ...
    @overload
    def __call__(self, f: Begins1[A, P, R], a: Iterable[A], /, **o: Unpack[Opts]) -> SyncMap[A, R]: ...
    @overload
    def __call__(self, f: Begins2[A, B, P, Co[R]], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Opts]) -> SyncMap[tuple[A, B], R]: ...  # noqa: E501
    @overload
    def __call__(self, f: Begins2[A, B, P, Gen[Y, S, R]], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Opts]) -> SyncMap[tuple[A, B], R]: ...  # noqa: E501
    @overload
    def __call__(self, f: Begins2[A, B, P, R], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Opts]) -> SyncMap[tuple[A, B], R]: ...
    @overload
    def __call__(self, f: Begins3[A, B, C, P, Co[R]], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Opts]) -> SyncMap[tuple[A, B, C], R]: ...  # noqa: E501
    @overload
    def __call__(self, f: Begins3[A, B, C, P, Gen[Y, S, R]], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Opts]) -> SyncMap[tuple[A, B, C], R]: ...  # noqa: E501
    @overload
    def __call__(self, f: Begins3[A, B, C, P, R], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Opts]) -> SyncMap[tuple[A, B, C], R]: ...  # noqa: E501
    @overload
    def __call__(self, f: Begins1[A, P, Co[R]], a: Iterable[A], /, **o: Unpack[Kept]) -> SyncMap[A, R | Exception]: ...
    @overload
    def __call__(self, f: Begins1[A, P, Gen[Y, S, R]], a: Iterable[A], /, **o: Unpack[Kept]) -> SyncMap[A, R | Exception]: ...
    @overload
    def __call__(self, f: Begins1[A, P, R], a: Iterable[A], /, **o: Unpack[Kept]) -> SyncMap[A, R | Exception]: ...
    @overload
    def __call__(self, f: Begins2[A, B, P, Co[R]], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Kept]) -> SyncMap[tuple[A, B], R | Exception]: ...  # noqa: E501
    @overload
    def __call__(self, f: Begins2[A, B, P, Gen[Y, S, R]], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Kept]) -> SyncMap[tuple[A, B], R | Exception]: ...  # noqa: E501
    @overload
    def __call__(self, f: Begins2[A, B, P, R], a: Iterable[A], b: Iterable[B], /, **o: Unpack[Kept]) -> SyncMap[tuple[A, B], R | Exception]: ...  # noqa: E501
    @overload
    def __call__(self, f: Begins3[A, B, C, P, Co[R]], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Kept]) -> SyncMap[tuple[A, B, C], R | Exception]: ...  # noqa: E501
    @overload
    def __call__(self, f: Begins3[A, B, C, P, Gen[Y, S, R]], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Kept]) -> SyncMap[tuple[A, B, C], R | Exception]: ...  # noqa: E501
    @overload
    def __call__(self, f: Begins3[A, B, C, P, R], a: Iterable[A], b: Iterable[B], c: Iterable[C], /, **o: Unpack[Kept]) -> SyncMap[tuple[A, B, C], R | Exception]: ...  # noqa: E501
    @overload
    def __call__(self, f: Callable[..., Any], a: Iterable[Any], b: Iterable[Any], c: Iterable[Any], d: Iterable[Any], /, *e: Iterable[Any], **o: Any) -> SyncMap[Any, Any]: ...  # noqa: E501
# fmt: on


submits: Callable[[Callable[..., SyncTask[Any]]], Method[Submit]]
submits_at: Callable[[Callable[..., SyncTask[Any]]], Method[SubmitAt]]
maps: Callable[[Callable[..., SyncMap[Any, Any]]], Method[MapCall]]

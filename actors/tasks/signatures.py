"""What type checkers know of functions and their arguments, in whatever style they are called; never run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Mapping
from typing import Any, Concatenate, Literal, ParamSpec, Protocol, TypeAlias, TypedDict, TypeVar, TypeVarTuple

from dispycos.protocol.addresses import Location

A = TypeVar("A")
B = TypeVar("B")
C = TypeVar("C")
D = TypeVar("D")
R = TypeVar("R")
Y = TypeVar("Y")
S = TypeVar("S")
P = ParamSpec("P")
Ts = TypeVarTuple("Ts")
A_in = TypeVar("A_in", contravariant=True)
B_in = TypeVar("B_in", contravariant=True)
C_in = TypeVar("C_in", contravariant=True)
D_in = TypeVar("D_in", contravariant=True)
R_out = TypeVar("R_out", covariant=True)


class Valued(Protocol[R_out]):
    """A handle."""

    def result(self) -> R_out: ...
    def terminate(self) -> int: ...


At: TypeAlias = str | Location
Begins1: TypeAlias = Callable[
    Concatenate[A, P], R
]  # for `...` mypy infers neither lambdas nor generic functions
Begins2: TypeAlias = Callable[Concatenate[A, B, P], R]
Begins3: TypeAlias = Callable[Concatenate[A, B, C, P], R]
Co: TypeAlias = Coroutine[Any, Any, R]
Gen: TypeAlias = Generator[Y, S, R]


class AnyMap(TypedDict, total=False):
    """Of map, but not `return_exceptions`, on which the type of its values depends."""

    ordered: bool
    chunksize: int | Literal["auto"]
    retries: int
    timeout: float | None
    progress: bool
    kwargs: Mapping[str, Any] | None


class Opts(AnyMap, total=False):
    return_exceptions: Literal[False]


class OptsAll(AnyMap):
    """An exception is a value, too."""

    return_exceptions: bool


class Method(Protocol[R_out]):
    def __get__(self, client: object, kind: type | None = None) -> R_out: ...

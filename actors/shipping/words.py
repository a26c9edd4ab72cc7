"""The words of code shipping: what a server asks for, and what the client answers."""

from typing import Any

from msgspec import Struct


class MainInfo(Struct, array_like=True, frozen=True):
    """What the server's `__main__` looks like from outside."""

    kind: str = "none"
    file: str | None = None
    package: str | None = None
    spec_name: str | None = None
    argv0: str = ""
    local_names: list[str] = []  # top-level modules that the client would import from its own folders


class Statement(Struct, array_like=True, frozen=True):
    """One top-level statement, with the place it came from; names are those it binds."""

    names: list[str]
    source: str
    first_line: int
    hash: bytes
    order: int
    file: str
    flags: int = 0


class Value(Struct, array_like=True, frozen=True):
    """One pickled global; as contents it is poured into the container that a statement made."""

    name: str
    data: bytes
    hash: bytes
    order: int
    contents: bool = False


class ModuleSource(Struct, array_like=True, frozen=True):
    """One local module of the client."""

    name: str
    path: str
    package: bool
    source: str
    hash: bytes


class CodeRequest(Struct, array_like=True, frozen=True):
    """Names of `__main__` and modules wanted; `have` is what the asker has, by hash."""

    number: int = 0
    names: list[str] = []
    modules: list[str] = []
    have: list[bytes] = []
    main_version: int = 0


class CodeBundle(Struct, array_like=True, frozen=True):
    """The answer: what was asked for with all that it needs, less what the asker has."""

    answers: int = 0  # number of the request; 0 when sent unasked
    main_version: int = 0
    since: int = 0  # all that changed after this version is in it; 0: nothing that changed
    statements: list[Statement] = []
    values: list[Value] = []
    modules: list[ModuleSource] = []
    made_of: list[tuple[str, list[bytes]]] = []  # every name in the answer: the hashes it rests on
    absent: list[str] = []  # needed names that the client does not have (yet)
    versions: list[tuple[str, str]] = []  # of installed modules that the statements import
    main: MainInfo = MainInfo()
    errors: list[tuple[str, str]] = []  # names and modules that cannot be sent, and why


class ShippingError(Exception):
    """Code or data cannot travel; nothing was sent or installed."""


class NotPicklable(ShippingError, TypeError):
    """A value cannot be pickled; the text names the culprit. The caller's mistake."""


class CodeUnavailable(ShippingError):
    """The client answered that it cannot send a name or module; the text says why."""


class InstallFailed(ShippingError):
    """A statement or value of the client failed at the server; the cause is its exception."""


class MissingCode(BaseException):
    """A load touched code that is not here yet: send `request` to the client, install, load again.

    Not an Exception, so that `except Exception` in a module that is being imported does not swallow it.
    """

    def __init__(self, request: CodeRequest) -> None:
        super().__init__(request)
        self.request = request

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.request,)

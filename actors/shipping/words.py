"""The words of code shipping: what a server asks for, and what the client answers."""

from msgspec import Struct

FIRST = ("dispycos.compat",)  # importing it changes what the process has: other names can be imported then


class MainInfo(Struct, array_like=True, frozen=True):
    """What the server's `__main__` looks like from outside."""

    file: str | None = None
    package: str | None = None
    spec_name: str | None = None
    argv: list[bytes] = []  # UTF-8 with surrogates passed: the words of a command line may be any bytes
    local_names: list[str] = []  # top-level modules that the client would import from its own folders
    first: list[str] = []  # of FIRST, what is to be imported before any of its code
    authkey: bytes = b""  # of multiprocessing, if the client uses it: its managers and listeners ask for that


class Statement(Struct, array_like=True, frozen=True, tag=0):
    """One top-level statement, with the place it came from; names are those it binds."""

    names: list[str]
    code: bytes  # as marshal has it: only servers of the client's minor version are used
    hash: bytes
    file: str
    first_line: int
    source: str  # its lines, for tracebacks
    setting: bool = False  # it sets something in what it imports, or is an import for that: without it there is nothing to set


class Value(Struct, array_like=True, frozen=True, tag=1):
    """One pickled global; as contents it is poured into the container that a statement made."""

    name: str
    data: bytes
    hash: bytes
    contents: bool = False


class ModuleSource(Struct, array_like=True, frozen=True):
    """One local module of the client."""

    name: str
    path: str  # "" for a namespace package
    package: bool
    source: str | None  # None: it cannot travel, but may be imported where its path is the same file
    hash: bytes
    folders: list[str] = []  # a package's `__path__` at the client


class PackageData(Struct, array_like=True, frozen=True):
    """A file or folder beside a local module's source: its bytes, or its entries (folders end in "/"); else it is not there."""

    module: str
    path: str  # "/" between parts; "" is the folder of the module itself
    data: bytes | None = None
    entries: list[str] | None = None
    error: str = ""  # it is there, but does not travel


class CodeRequest(Struct, array_like=True, frozen=True):
    """Names of `__main__`, modules and package data wanted; `have` is what the asker has, by hash."""

    names: list[str] = []
    modules: list[str] = []
    have: list[bytes] = []
    main_version: int = 0  # 0: the asker starts, and has nothing of the program yet
    data: list[tuple[str, str]] = []  # module, path


class CodeBundle(Struct, array_like=True, frozen=True):
    """The answer: what was asked for with all that it needs, less what the asker has."""

    main_version: int = 0
    since: int = 0  # all that changed after this version is in it; 0: nothing that changed
    steps: list[Statement | Value] = []  # in the order in which they can be made
    modules: list[ModuleSource] = []
    made_of: list[tuple[str, list[bytes]]] = []  # every name in the answer: the hashes it rests on
    absent: list[str] = []  # needed names that the client does not have (yet)
    versions: list[tuple[str, str]] = []  # of installed modules that the statements import
    main: MainInfo | None = None  # for an asker that starts
    errors: list[tuple[str, str]] = []  # names, and modules with a dot after them, that cannot be sent: why
    data: list[PackageData] = []


class NodeSetup(Struct, array_like=True, frozen=True):
    """What a node is given for a lease: behind it follow the data of the files, then the pickled call of node_setup."""

    bundle: CodeBundle  # of the named code; and what the program is, which a server has to know before its first call
    files: list[str]  # paths below the node's folder
    function: str = ""  # name of node_setup; "": there is none


class ServerSetup(Struct, array_like=True, frozen=True):
    """What a new server is given beside that: behind it follows the pickled call of server_setup."""

    bundle: CodeBundle  # what has changed since its node was given its own
    at_once: bool  # code was named, so it is made before the first call comes
    levels: bytes  # what the client's loggers let pass (logs.py)
    program_folder: bytes  # where the client runs, as the file system has it
    cwd: bytes  # the folder in which tasks are to run; b"": the server's own
    function: str = ""  # name of server_setup; "": there is none


class ShippingError(Exception):
    """Code or data cannot travel; nothing was sent or installed."""


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

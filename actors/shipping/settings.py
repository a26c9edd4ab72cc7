"""Decides which top-level statements of `__main__` that bind no name are carried out at servers: those that set something.

Assignments to attributes and items of what is imported (`decimal.getcontext().prec = 50`, `os.environ["X"] = "1"`) are, and
calls from a list. Any other call is not: it may print, wait, or start the program once more.
"""

import ast
import builtins
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator
from copy import copy, deepcopy
from fnmatch import fnmatchcase
from types import FunctionType, ModuleType
from typing import Any

from .imports import OWN_PACKAGE
from .items import BUILTINS, NOTHING
from .statements import Unit, codes_in, imported_as

log = logging.getLogger(__name__)

Definers = Callable[[str], list[Unit]]


def _words(text: str) -> set[str]:
    return set(text.split())


SETTING_CALLS = _words("""*.register *.register_* copyreg.* csv.field_size_limit cv2.setNumThreads decimal.setcontext
    jax.config.update locale.setlocale matplotlib*.rc matplotlib*.rcParams.update matplotlib*.style.use
    mimetypes.add_type mkl.set_num_threads numba.set_num_threads numexpr.set_num_threads numpy.set*
    os.environ.setdefault os.environ.update os.putenv os.unsetenv pandas.reset_option pandas.set_option
    pyarrow.set_cpu_count pyarrow.set_io_thread_count seaborn.set* sklearn.set_config socket.setdefaulttimeout
    sys.set_int_max_str_digits sys.setrecursionlimit sys.setswitchinterval threading.stack_size time.tzset torch.set_*
    torch.use_deterministic_algorithms warnings.filterwarnings warnings.resetwarnings warnings.simplefilter
    xarray.set_options""")
NEVER = _words("atexit.* signal.* faulthandler.* webbrowser.* multiprocessing.*") | {f"{OWN_PACKAGE}.*"}

# What the server is and where it writes; log records are handled at the client.
OF_THE_SERVER = {"sys", "logging", OWN_PACKAGE}
BUT = {"sys.dont_write_bytecode", "sys.tracebacklimit", "sys.displayhook"}
OWN_VARIABLES = "DISPYCOS_"  # the secret is among them

# What starts processes and threads, opens files and connections, or reads standard input; but for what follows.
REACHING_OUT = _words("""_io.* _socket.* _sqlite3.* _thread.* asyncio.* concurrent.* ctypes.* ftplib.* getpass.* glob.*
    http.* httpx.* io.* multiprocessing.* nt.* os.* posix.* pty.* requests.* runpy.* shelve.* shutil.* signal.* smtplib.*
    socket.* sqlite3.* subprocess.* tempfile.* threading.* urllib.* urllib3.* webbrowser.* _sitebuiltins.*
    builtins.input builtins.exec builtins.eval builtins.compile builtins.breakpoint builtins.print builtins.__import__
    *.read* *.load* *.open* *.fetch* *.download* *.connect* *.from_pretrained""") | {f"{OWN_PACKAGE}.*"}
HARMLESS = _words("""os.path.* posixpath.* os.environ.* os.getenv os.cpu_count os.fspath os.getcwd urllib.parse.*
    io.StringIO io.BytesIO""")
# A function with these names in its code may do such things; that is no proof, and none is possible.
WORDS_OF_REACHING_OUT = _words("""open input breakpoint __import__ print Popen system popen fork urlopen getpass
    read_text read_bytes check_output check_call""")

COMPOUND = ast.If | ast.Try | ast.TryStar | ast.With | ast.For
BLOCKS = ("body", "orelse", "finalbody")
KEPT = ast.Import | ast.ImportFrom | ast.Pass | ast.Break | ast.Continue


class Settings:
    """Tells the statements apart by what their names are bound to now."""

    def __init__(self, main: ModuleType, definers: Definers) -> None:
        self._main = main
        self._definers = definers
        self._looked_at: set[bytes] = set()
        self._said: set[bytes] = set()

    def fresh(self, units: Iterable[Unit]) -> list[Unit]:
        """Of the statements executed since this was asked last; that others are left out is said."""
        found: list[Unit] = []
        for unit in units:
            if unit.hash not in self._looked_at:
                self._looked_at.add(unit.hash)
                setting = self.of(unit)
                if setting is not None:
                    found.append(setting)
                else:
                    self.say(unit, *self._why_not(unit))
        return found

    def why_stale(self, unit: Unit) -> str:
        """Why it might do something else now than when it was executed."""
        live = vars(self._main)
        for name in sorted(unit.needs_now - unit.names - BUILTINS):
            if name not in live:
                return f"{name} is gone"
            is_constant = isinstance(live[name], ModuleType | FunctionType | type)
            if len(self._definers(name)) > 1 and not is_constant:
                return f"{name} was perhaps bound to something else then"
        return ""

    def say(self, unit: Unit, level: int, why: str) -> None:
        """Once."""
        if why and unit.hash not in self._said:
            self._said.add(unit.hash)
            log.log(level, "%s:%d is not carried out at servers: %s", unit.file, unit.first_line, why)

    def of(self, unit: Unit) -> Unit | None:
        """What of the statement is carried out: all, or what sets something inside an `if`, `try`, `with` or `for`."""
        if unit.in_guard:
            return None
        unit = self._unaliased(unit)
        if isinstance(unit.node, COMPOUND):
            kept = self._reduced(unit.node)
            return None if kept is None else unit.changed(kept)
        return unit if self._sets(unit.node) and unit.code is not None else None

    def _why_not(self, unit: Unit) -> tuple[int, str]:
        """Of a statement that is not carried out: at which level to say what of it."""
        call = unit.node.value if isinstance(unit.node, ast.Expr) else None
        if unit.in_guard:
            return 0, ""
        if isinstance(call, ast.Call) and not unit.extends:
            is_ours = any(name.startswith(f"{OWN_PACKAGE}.") for name in self._names_of(call.func))
            return logging.DEBUG, "" if is_ours else "its call is not in the list of those that set something"
        if self._is_setting(unit.node):
            return logging.WARNING, "what it calls may open files, start processes or wait for input"
        return 0, ""

    # --- single statements ---

    def _sets(self, node: ast.stmt) -> bool:
        texts = (str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant))
        if any(text.startswith(OWN_VARIABLES) for text in texts):
            return False
        if not isinstance(node, ast.Expr):
            return self._is_setting(node) and self._is_quiet(node)
        call = node.value
        return isinstance(call, ast.Call) and self._is_listed(call) and self._is_quiet(node, call)

    def _is_setting(self, node: ast.stmt) -> bool:
        inner = [target for target in _targets(node) if not isinstance(target, ast.Name)]
        return bool(inner) and all(map(self._is_settable, inner))

    def _is_settable(self, target: ast.expr) -> bool:
        root = _root_of(target)
        if root is None or not self._imports_of(root.id):
            return False
        return self._path_of(target) in BUT or _top(self._path_of(root)) not in OF_THE_SERVER

    def _is_listed(self, call: ast.Call) -> bool:
        root = _root_of(call.func)
        if (
            root is None
            or not isinstance(call.func, ast.Attribute | ast.Name)
            or not self._imports_of(root.id)
        ):
            return False
        names = self._names_of(call.func)
        return _match(names, SETTING_CALLS) and not _match(names, NEVER)

    def _unaliased(self, unit: Unit) -> Unit:
        """`context = getcontext(); context.prec = 50` in one: at a server the name alone may be bound to a copy."""
        roots = [name for target in _targets(unit.node) if (name := _root_of(target)) not in (None, target)]
        meant = {(n.lineno, n.col_offset): found for n in roots if n and (found := self._meant_by(n.id))}
        return unit.changed(_Replacing(meant).visit(deepcopy(unit.node))) if meant else unit

    def _meant_by(self, name: str) -> ast.expr | None:
        """The expression that the name stands for, if it is one for something imported and gives the same each time."""
        node = definers[0].node if len(definers := self._definers(name)) == 1 else None
        if not isinstance(node, ast.Assign | ast.AnnAssign) or node.value is None:
            return None
        root = _root_of(node.value)
        calls = [part for part in _evaluated(node.value) if isinstance(part, ast.Call)]
        gets = all(self._path_of(call.func).rpartition(".")[2].startswith("get") for call in calls)
        is_imported = root is not None and bool(self._imports_of(root.id))
        return node.value if is_imported and gets and self._is_quiet(node.value) else None

    # --- what a statement calls ---

    def _is_quiet(self, node: ast.AST, but: ast.Call | None = None) -> bool:
        """It calls nothing that reaches out of the program; what stands in a lambda is not called now."""
        calls = (part for part in _evaluated(node) if isinstance(part, ast.Call) and part is not but)
        return all(self._is_harmless(call.func) for call in calls) and not any(
            isinstance(part, ast.Await | ast.Yield | ast.YieldFrom) for part in _evaluated(node)
        )

    def _is_harmless(self, function: ast.expr) -> bool:
        live = self._resolve(function)
        names = self._names_of(function)
        if live is NOTHING or (_match(names, REACHING_OUT) and not _match(names, HARMLESS)):
            return False
        return not WORDS_OF_REACHING_OUT & set(_words_in(live))

    def _resolve(self, node: ast.expr) -> Any:
        """What the expression is now, if that can be told without running code."""
        if isinstance(node, ast.Name):
            return vars(self._main).get(node.id, getattr(builtins, node.id, NOTHING))
        if isinstance(node, ast.Constant):
            return node.value
        if isinstance(node, ast.JoinedStr):
            return ""
        if isinstance(node, ast.Attribute):
            owner = self._resolve(node.value)
            if owner is NOTHING:
                return NOTHING
            if isinstance(owner, ModuleType):
                return vars(owner).get(node.attr, NOTHING)
            return inspect.getattr_static(owner, node.attr, NOTHING)
        return NOTHING

    def _names_of(self, function: ast.expr) -> set[str]:
        """By which it is known: as it is reached, and as it calls itself."""
        live = self._resolve(function)
        owner = getattr(live, "__objclass__", live)
        own = f"{getattr(owner, '__module__', None)}.{getattr(live, '__qualname__', '')}"
        return {self._path_of(function), own} - {""}

    def _path_of(self, node: ast.expr) -> str:
        """`np.random.seed` -> numpy.random.seed; parts that are no names are left out."""
        root, path = _dotted(node)
        first = (self._imports_of(root.id) or [root.id])[-1:] if isinstance(root, ast.Name) else []
        return ".".join([*first, *path])

    def _imports_of(self, name: str) -> list[str]:
        """What the imports that bind the name import."""
        imports = (inner for unit in self._definers(name) for inner in ast.walk(unit.node))
        return [path for inner in imports for bound, path in imported_as(inner) if bound == name]

    # --- compound statements ---

    def _reduced(self, node: ast.stmt) -> ast.stmt | None:
        """The same, with `pass` for what is not carried out; None if nothing in it sets something."""
        if not all(map(self._is_quiet, _headers(node))):
            return None
        made: Any = copy(node)
        made.handlers = [copy(handler) for handler in getattr(node, "handlers", ())]
        found = False
        for part in (made, *made.handlers):
            for block in BLOCKS:
                kept = [(inner, self._kept(inner)) for inner in getattr(part, block, ())]
                found = found or any(some is not None for _, some in kept)
                setattr(part, block, [some or _or_pass(inner) for inner, some in kept])
        return made if found else None

    def _kept(self, node: ast.stmt) -> ast.stmt | None:
        if isinstance(node, COMPOUND):
            return self._reduced(node)
        return node if self._sets(node) else None


class _Replacing(ast.NodeTransformer):
    """Puts expressions for the names at these lines and columns."""

    def __init__(self, meant: dict[tuple[int, int], ast.expr]) -> None:
        self._meant = meant

    def visit_Name(self, name: ast.Name) -> ast.expr:
        found = deepcopy(self._meant.get((name.lineno, name.col_offset)))
        for node in () if found is None else ast.walk(found):
            ast.copy_location(node, name)
        return found or name


def _or_pass(node: ast.stmt) -> ast.stmt:
    return node if isinstance(node, KEPT) else ast.copy_location(ast.Pass(), node)


def _targets(node: ast.stmt) -> Iterator[ast.expr]:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign | ast.Delete):
        targets = list(node.targets)
    elif isinstance(node, ast.AugAssign) or (isinstance(node, ast.AnnAssign) and node.value is not None):
        targets = [node.target]
    while targets:
        target = targets.pop()
        if isinstance(target, ast.Tuple | ast.List):
            targets += target.elts
        else:
            yield target.value if isinstance(target, ast.Starred) else target


def _root_of(node: ast.expr) -> ast.Name | None:
    """The name that it begins with."""
    root, _ = _dotted(node)
    return root if isinstance(root, ast.Name) else None


def _dotted(node: ast.expr) -> tuple[ast.expr, list[str]]:
    """What it begins with, and the attributes that follow; calls and items are passed over."""
    path: list[str] = []
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        if isinstance(node, ast.Attribute):
            path.insert(0, node.attr)
        node = node.func if isinstance(node, ast.Call) else node.value
    return node, path


def _evaluated(node: ast.AST) -> Iterator[ast.AST]:
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.Lambda):
            yield from _evaluated(child)


def _headers(node: ast.stmt) -> Iterator[ast.AST]:
    return (part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr | ast.withitem))


def _words_in(thing: Any) -> Iterator[str]:
    """The names that a function's code uses; a class's are those of its making."""
    if isinstance(thing, type):
        thing = vars(thing).get("__init__") or vars(thing).get("__new__")
    thing = inspect.unwrap(getattr(thing, "__func__", thing)) if thing is not None else None
    for code in codes_in(thing.__code__) if isinstance(thing, FunctionType) else ():
        yield from code.co_names


def _match(names: set[str], patterns: set[str]) -> bool:
    return any(
        _may_match(name, pattern) and fnmatchcase(name, pattern) for name in names for pattern in patterns
    )


def _may_match(name: str, pattern: str) -> bool:
    """False where it surely does not: to compile them all takes a program a tenth of its start."""
    return "?" in pattern or "[" in pattern or all(piece in name for piece in pattern.split("*"))


def _top(name: str) -> str:
    return name.split(".")[0]

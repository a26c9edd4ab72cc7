"""The arguments of a task as text for people. The user's `__repr__` runs here: in a thread that may be given up.

Nothing is kept. Arguments are looked for where they are alive anyway, and of big ones only what is shown is written out.
"""

from __future__ import annotations

import dataclasses
import inspect
import sys
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterable
from itertools import islice
from reprlib import Repr
from types import FrameType
from typing import Any, Final

from dispycos.protocol.texts import cut

from ..tasks.cell import Cell
from ..tasks.ends import is_ours
from .stacks import frame_of

TEXT_MAX: Final = 200  # characters
ITEMS_MAX: Final = 6  # of a list, a dict ...
WORDS_MAX: Final = 80  # characters of one string, or of what another __repr__ gives
BITS_MAX: Final = 1000  # of a number that is written out
DICTS: Final = (dict.__repr__, OrderedDict.__repr__, defaultdict.__repr__)
LISTS: Final = (list.__repr__, tuple.__repr__)
SETS: Final = (set.__repr__, frozenset.__repr__)


class GivenUp(BaseException):
    """Raised in a `__repr__` that does not end, from outside."""


class Writing:
    """The text of one task's arguments, as far as it is written: another thread may look."""

    def __init__(self, cell: Cell) -> None:
        self._cell = cell
        self._left: deque[tuple[str, Any]] = deque()
        self._label = ""  # "name=" of the one that is being written
        self._repr = _Short()
        self._pieces: list[str] = []

    def write(self) -> str | None:
        """None: there are none any more."""
        found = _arguments_of(self._cell)
        if found is None:
            return None
        self._left += found
        del found
        while self._left and sum(map(len, self._pieces)) <= TEXT_MAX:
            self._label, value = self._left.popleft()
            self._pieces.append(f"{self._label}{self._repr.repr(value)}")
            del value
        self._left.clear()
        return self._text()

    def give_up(self) -> str:
        """`write` hangs: what there is. Only what it hangs in is still held."""
        self._left.clear()
        self._pieces.append(f"{self._label}<{self._repr.at}: its __repr__ takes too long>")
        return self._text()

    def _text(self) -> str:
        text = ", ".join(self._pieces)
        text = text if len(text) <= TEXT_MAX else f"{text[: TEXT_MAX - 3]}..."
        return cut(text, TEXT_MAX)


def _arguments_of(cell: Cell) -> list[tuple[str, Any]] | None:
    """Each with its name and `=`, or without: as they were given while that call lasts, then the parameters as they are now."""
    call = cell.call
    if call is not None:
        _, args, kwargs = call
        return [*(("", value) for value in args), *((f"{name}=", kwargs[name]) for name in kwargs)]
    execution = cell.execution
    frame = frame_of(execution.suspended()[0]) if execution is not None else None
    if frame is None or is_ours(frame.f_globals):
        return None
    own = cell.own_handle
    return [(label, value) for label, value in _parameters(frame) if own is None or value is not own]


def _parameters(frame: FrameType) -> list[tuple[str, Any]]:
    code, values = frame.f_code, frame.f_locals
    count = code.co_argcount + code.co_kwonlyargcount
    found = [(f"{name}=", values[name]) for name in code.co_varnames[:count] if name in values]
    if code.co_flags & inspect.CO_VARARGS:
        name = code.co_varnames[count]
        if name in values and (type(values[name]) is not tuple or values[name]):
            found.append((f"*{name}=", values[name]))
        count += 1
    if code.co_flags & inspect.CO_VARKEYWORDS:
        rest = values.get(code.co_varnames[count])
        found += [(f"{name}=", value) for name, value in rest.copy().items()] if type(rest) is dict else []
    if sys.version_info < (3, 13) and sys.getrefcount(values) <= 3:
        values.clear()  # a copy that the frame would keep, and its values with it; who asks again gets a new one
    return found


class _Short(Repr):
    """What fails is named, and of what lasts it is known what it is."""

    def __init__(self) -> None:
        super().__init__()
        self.at = ""  # the type of what is being written
        self.maxlist = self.maxtuple = self.maxdeque = self.maxarray = ITEMS_MAX
        self.maxstring = self.maxother = self.maxlong = WORDS_MAX

    def repr1(self, x: Any, level: int) -> str:
        self.at = name = type(x).__name__
        try:
            return super().repr1(x, level)
        except GivenUp:
            raise
        except BaseException as error:  # the edge of user code: SystemExit of a __repr__ is one of its errors
            return f"<{name}: its __repr__ raised {type(error).__name__}>"

    def repr_int(self, x: int, level: int) -> str:
        bits = x.bit_length()
        return super().repr_int(x, level) if bits <= BITS_MAX else f"<int of {bits:,} bits>"

    def repr_bytes(self, x: bytes | bytearray | memoryview, level: int) -> str:
        size = x.nbytes if isinstance(x, memoryview) else len(x)
        text = repr(bytes(x[:WORDS_MAX]) if size > WORDS_MAX else x)
        return text if size <= WORDS_MAX else f"<{type(x).__name__} of {size:,} bytes: {text[:WORDS_MAX]}...>"

    repr_bytearray = repr_memoryview = repr_bytes

    # As they are ordered: to sort a big one, as Repr does, takes long.

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        pieces = [] if level <= 0 else list(islice(dict.items(x), ITEMS_MAX))
        texts = [f"{self.repr1(key, level - 1)}: {self.repr1(value, level - 1)}" for key, value in pieces]
        return f"{{{self._joined(texts, dict.__len__(x))}}}"

    def repr_set(self, x: set[Any] | frozenset[Any], level: int) -> str:
        if not x:
            return f"{type(x).__name__}()"
        pieces = [] if level <= 0 else list(islice(x, ITEMS_MAX))
        text = self._joined([self.repr1(each, level - 1) for each in pieces], len(x))
        return f"{{{text}}}" if type(x) is set else f"{type(x).__name__}({{{text}}})"

    repr_frozenset = repr_set

    def _joined(self, texts: Iterable[str], size: int) -> str:
        shown = list(texts)
        return ", ".join([*shown, "..."] if len(shown) < size else shown)

    def repr_instance(self, x: Any, level: int) -> str:
        """Classes that are written as those they derive from, and data classes, without all that is in a big one."""
        kind = type(x)
        written: Any = kind.__repr__
        if written in DICTS:
            return f"{kind.__name__}({self.repr_dict(x, level)})"
        if written in LISTS:
            plain = list(x[: ITEMS_MAX + 1])
            return f"{kind.__name__}({self.repr_list(plain, level)})"
        if written in SETS:
            return self.repr_set(x, level)
        if dataclasses.is_dataclass(x) and hasattr(written, "__wrapped__"):  # it is not the user's own
            named = [field.name for field in dataclasses.fields(x) if field.repr] if level > 0 else ["..."]
            shown = [f"{name}={self.repr1(getattr(x, name), level - 1)}" for name in named[:ITEMS_MAX]]
            return f"{kind.__qualname__}({self._joined(shown, len(named))})"
        text = str.__str__(repr(x))
        return text if len(text) <= WORDS_MAX else f"{text[:WORDS_MAX]}..."

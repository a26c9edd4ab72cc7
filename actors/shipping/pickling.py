"""Turns values into payloads; which part of a value cannot be pickled is found out in culprits.py.

Three ways, each tried when the one before fails: plain C pickle (2 us); C pickle that finds names for lambdas
and other things bound to globals; by value (by_value.py: dill), where what has a name goes by reference.
"""

import copyreg
import io
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

from dispycos.protocol.codec import BUFFERS_MAX

from .rebuild import make_view

PROTOCOL = 5
OUT_OF_BAND_MIN = 16 << 10
OUT_OF_BAND_MAX = BUFFERS_MAX - 1  # buffers, beside the stream

Frame: TypeAlias = bytes | pickle.PickleBuffer
Payload: TypeAlias = bytes | list[Frame]  # a list: the pickle stream, then its out-of-band buffers
BufferCallback: TypeAlias = Callable[[pickle.PickleBuffer], bool]


def dumps(value: Any, what: str = "the value") -> Payload:
    """Raises NotPicklable naming the culprit; `what` is the value's name in that text."""
    try:
        return _dumps(value)
    except Exception as error:  # user code (__reduce__, __getstate__) raises what it likes
        refused = error
    from .culprits import explained  # it pickles too; most programs never need it

    raise explained(value, what, refused)


def dumps_call(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, by_name: bool = False
) -> Payload:
    """The payload of (function, args, kwargs), or of (None, args, kwargs) `by_name`; an error names the argument."""
    try:
        return _dumps((None if by_name else function, args, kwargs))
    except Exception as error:  # user code, as above
        refused = error
    from .culprits import explained_call

    raise explained_call(function, args, kwargs, refused)


def loads(stream: Any, buffers: Sequence[Any] = ()) -> Any:
    """What was pickled. Whoever gets an array may write into it: frames of bytes are copied, chunks were put together here."""
    own = (
        [frame if isinstance(frame, bytearray) else bytearray(frame) for frame in buffers] if buffers else ()
    )
    try:
        return pickle.loads(stream, buffers=own)
    except TypeError:
        from .exceptions import Rebuilder  # an exception in it, perhaps, that is not to be made from its args

        try:
            return Rebuilder(io.BytesIO(stream), buffers=own).load()
        except Exception:  # edge of user code: the first error tells
            pass
        raise


def _dumps(value: Any) -> Payload:
    buffers: list[pickle.PickleBuffer] = []
    try:
        stream = pickle.dumps(value, PROTOCOL, buffer_callback=buffers.append)
        return stream if not buffers else _with_large_buffers(value)
    except Exception:  # the slow ways tell
        pass
    return _dumps_slowly(value)


def _with_large_buffers(value: Any) -> Payload:
    """Pickled again, with small buffers in the stream; nothing was copied the first time."""
    large = LargeBuffers()
    return large.payload(pickle.dumps(value, PROTOCOL, buffer_callback=large))


class LargeBuffers(list[pickle.PickleBuffer]):
    """Keeps buffers that are worth a frame of their own; smaller ones stay in the stream."""

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        try:
            if len(self) >= OUT_OF_BAND_MAX or buffer.raw().nbytes < OUT_OF_BAND_MIN:
                return True
        except BufferError:
            return True  # not contiguous
        self.append(buffer)
        return False

    def payload(self, stream: bytes) -> Payload:
        return [stream, *self] if self else stream


class Names:
    """The names by which the live objects of `__main__` can be referred to, and those that were."""

    def __init__(self, main: ModuleType) -> None:
        self.main = main
        self.used: set[str] = set()
        self.looked_up: set[str] = set()  # by functions that travel by value, when they are called
        self.modules: set[str] = set()
        self._bound: dict[int, str] | None = None

    def name_of(self, thing: Any) -> str | None:
        """Its qualified name in `__main__`, or else a global that it is bound to."""
        qualified = getattr(thing, "__qualname__", None)
        if isinstance(qualified, str) and "<" not in qualified and self._find(qualified) is thing:
            return qualified
        if self._bound is None:
            self._bound = {id(live): name for name, live in list(vars(self.main).items()) if callable(live)}
        return self._bound.get(id(thing))

    def home_of(self, thing: Any) -> str | None:
        """The global that it is defined under, or is an attribute of."""
        qualified = getattr(thing, "__qualname__", None)
        if getattr(thing, "__module__", None) != "__main__" or not isinstance(qualified, str):
            return None
        return qualified.split(".")[0] if self._find(qualified) is thing else None

    def reference(self, thing: Any) -> str | None:
        """The name to write for a function or class, which is noted; None when it has none."""
        if getattr(thing, "__module__", None) == "__main__":
            name = self.name_of(thing)
            if name is not None:
                self.used.add(name.split(".")[0])
            return name
        return self.reference_by(thing, getattr(thing, "__qualname__", None))

    def reference_by(self, thing: Any, qualified: Any) -> str | None:
        """The name, if the thing is found by it in its module."""
        module = getattr(thing, "__module__", None)
        if not isinstance(module, str) or not isinstance(qualified, str):
            return None
        if _find(sys.modules.get(module), qualified) is not thing:
            return None
        self._note_named(thing, qualified)
        return qualified

    def reduce(self, thing: Any) -> Any:
        """As reducer_override has it: a name, a reduction or NotImplemented."""
        if isinstance(thing, FunctionType | type):
            return self.reference(thing) or NotImplemented
        if isinstance(thing, memoryview):
            return reduced_view(thing)
        if getattr(thing, "__module__", None) == "__main__" and callable(thing):
            name = self.name_of(thing)
            if name is not None and not isinstance(thing, type) and _is_definition_like(thing):
                self.used.add(name.split(".")[0])
                return name
        reducer = copyreg.dispatch_table.get(type(thing))
        reduced = reducer(thing) if reducer is not None else thing.__reduce_ex__(PROTOCOL)
        if isinstance(reduced, str):
            self._note_named(thing, reduced)
        return reduced

    def _note_named(self, thing: Any, name: str) -> None:
        module = getattr(thing, "__module__", None)
        if module == "__main__":
            self.used.add(name.split(".")[0])
        elif isinstance(module, str):
            self.modules.add(module)

    def _find(self, qualified: str) -> Any:
        return _find(self.main, qualified)


class NamingPickler(pickle.Pickler):
    """C pickle that knows the names of lambdas and notes which names it wrote."""

    def __init__(self, file: io.BytesIO, names: Names, buffer_callback: BufferCallback | None = None) -> None:
        super().__init__(file, PROTOCOL, buffer_callback=buffer_callback)
        self._names = names

    def reducer_override(self, thing: Any) -> Any:
        return self._names.reduce(thing)


def dumps_naming(value: Any, names: Names, buffers: BufferCallback | None = None) -> bytes:
    """Plain pickle, noting the names used; raises what pickle raises."""
    file = io.BytesIO()
    NamingPickler(file, names, buffers).dump(value)
    return file.getvalue()


def dumps_by_value(
    value: Any, names: Names, force: Any = None, buffers: BufferCallback | None = None
) -> bytes:
    """Functions and classes without a name travel whole; `force` does although it has one."""
    from .by_value import ByValuePickler  # dill takes 40 ms to import; most programs never need it

    file = io.BytesIO()
    ByValuePickler(file, names, force, buffers).dump(value)
    return file.getvalue()


def _dumps_slowly(value: Any) -> Payload:
    main = sys.modules["__main__"]
    large = LargeBuffers()
    try:
        return large.payload(dumps_naming(value, Names(main), large))
    except Exception as error:  # edge of user code
        named = error.with_traceback(
            None
        )  # with this frame it would be a cycle, and keep the callers' objects
    large = LargeBuffers()
    try:
        return large.payload(dumps_by_value(value, Names(main), buffers=large))
    except Exception as error:
        raise reason(error, named) from None


def reason(by_value: Exception, named: Exception) -> Exception:
    """Of the errors of the two slow ways the one that tells why.

    By value goes further, so its error is the one, unless it is about that way itself: it is written in Python, and nests
    less deeply than the others. Then what stopped the other way is why, unless that was a thing without a name.
    """
    is_limit = isinstance(by_value, RecursionError | pickle.PicklingError)
    if is_limit and not isinstance(named, RecursionError | pickle.PicklingError | AttributeError):
        named.__context__ = None
        return named
    by_value.__context__ = None
    return by_value


def reduced_view(view: memoryview) -> tuple[Any, ...]:
    """What it shows travels, and can be written into as here."""
    return make_view, (pickle.PickleBuffer(view), view.format, view.shape)


def _find(module: Any, qualified: str) -> Any:
    found = module
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found


def _is_definition_like(thing: Any) -> bool:
    """A decorated function that is no function any more (functools.lru_cache, singledispatch objects)."""
    return hasattr(thing, "__wrapped__") and hasattr(thing, "__qualname__")

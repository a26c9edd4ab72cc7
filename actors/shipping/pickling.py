"""Turns values into payloads and back; says which part of a value cannot be pickled.

Three ways, each tried when the one before fails: plain C pickle (2 us); C pickle that finds names for lambdas
and other things bound to globals; by value (by_value.py: dill), where what has a name goes by reference.
"""

import copyreg
import inspect
import io
import pickle
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType, ModuleType
from typing import Any, TypeAlias

from .words import NotPicklable

PROTOCOL = 5
OUT_OF_BAND_MIN = 16 << 10
CULPRIT_DEPTH_MAX = 20
CULPRIT_WIDTH_MAX = 1000

Frame: TypeAlias = bytes | pickle.PickleBuffer
Payload: TypeAlias = bytes | list[Frame]  # a list: the pickle stream, then its out-of-band buffers
BufferCallback: TypeAlias = Callable[[pickle.PickleBuffer], bool]


def dumps(value: Any, what: str = "the value") -> Payload:
    """Raises NotPicklable naming the culprit; `what` is the value's name in that text."""
    return _dumps(value, lambda error: explained(value, what, error))


def dumps_call(function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Payload:
    """The payload of (function, args, kwargs); an error names the argument."""
    return _dumps((function, args, kwargs), lambda error: _explain_call(function, args, kwargs, error))


def _dumps(value: Any, explain: Callable[[Exception], NotPicklable]) -> Payload:
    buffers: list[pickle.PickleBuffer] = []
    try:
        stream = pickle.dumps(value, PROTOCOL, buffer_callback=buffers.append)
        return stream if not buffers else _with_large_buffers(value)
    except Exception:  # user code (__reduce__, __getstate__) raises what it likes; the slow way tells
        return _dumps_slowly(value, explain)


def _with_large_buffers(value: Any) -> Payload:
    """Pickled again, with small buffers in the stream; nothing was copied the first time."""
    large = LargeBuffers()
    return large.payload(pickle.dumps(value, PROTOCOL, buffer_callback=large))


class LargeBuffers(list[pickle.PickleBuffer]):
    """Keeps buffers that are worth a frame of their own; smaller ones stay in the stream."""

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        try:
            if buffer.raw().nbytes < OUT_OF_BAND_MIN:
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
        module = getattr(thing, "__module__", None)
        if module == "__main__":
            name = self.name_of(thing)
            if name is not None:
                self.used.add(name.split(".")[0])
            return name
        qualified = getattr(thing, "__qualname__", None)
        if not isinstance(module, str) or not isinstance(qualified, str):
            return None
        if _find(sys.modules.get(module), qualified) is not thing:
            return None
        self.modules.add(module)
        return qualified

    def reduce(self, thing: Any) -> Any:
        """As reducer_override has it: a name, a reduction or NotImplemented."""
        if isinstance(thing, FunctionType | type):
            return self.reference(thing) or NotImplemented
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


def _dumps_slowly(value: Any, explain: Callable[[Exception], NotPicklable]) -> Payload:
    main = sys.modules["__main__"]
    try:
        large = LargeBuffers()
        return large.payload(dumps_naming(value, Names(main), large))
    except Exception:  # edge of user code: the last way tells the error
        pass
    try:
        large = LargeBuffers()
        return large.payload(dumps_by_value(value, Names(main), buffers=large))
    except Exception as error:
        raise explain(error) from error


def _find(module: Any, qualified: str) -> Any:
    found = module
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return found


def _is_definition_like(thing: Any) -> bool:
    """A decorated function that is no function any more (functools.lru_cache, singledispatch objects)."""
    return hasattr(thing, "__wrapped__") and hasattr(thing, "__qualname__")


# What cannot be pickled, and where it hides.


def _explain_call(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: Exception
) -> NotPicklable:
    called = getattr(function, "__qualname__", None) or type(function).__qualname__
    if _failure(function) is not None:
        return explained(function, f"the function {called}", error)
    try:
        parameters = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        parameters = []
    for index, value in enumerate(args):
        if (failure := _failure(value)) is not None:
            name = f" ({parameters[index]!r})" if index < len(parameters) else ""
            return explained(value, f"argument {index + 1}{name} of {called}", failure)
    for key, value in kwargs.items():
        if (failure := _failure(value)) is not None:
            return explained(value, f"argument {key!r} of {called}", failure)
    return NotPicklable(f"the call of {called}: {error}")


def explained(value: Any, what: str, error: Exception) -> NotPicklable:
    """The error of pickling the value, which `what` names, with the place of the part that fails."""
    path, culprit_error = _culprit(value, error)
    where = f": {', '.join(reversed(path))}" if path else ""
    return NotPicklable(f"{what}: {_text(culprit_error)}{where}")


def _text(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply to be pickled"
    return str(error) or type(error).__name__


def _culprit(value: Any, error: Exception) -> tuple[list[str], Exception]:
    """The steps from the value to the innermost part that fails by itself, and that part's error."""
    path: list[str] = []
    seen: set[int] = set()
    while len(path) < CULPRIT_DEPTH_MAX and id(value) not in seen:
        seen.add(id(value))
        for step, part in _bounded(_parts(value)):
            failure = _failure(part)
            if failure is not None:
                path.append(step)
                value, error = part, failure
                break
        else:
            break
    return path, error


def _failure(value: Any) -> Exception | None:
    try:
        dumps_by_value(value, Names(sys.modules["__main__"]))
    except Exception as error:  # edge of user code
        return error
    return None


def _bounded(parts: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    for count, part in enumerate(parts):
        if count == CULPRIT_WIDTH_MAX:
            return
        yield part


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    kind = type(value).__qualname__
    if isinstance(value, Mapping):
        for key, item in list(value.items()):
            yield f"key {_short(key)} of {kind}", key
            yield f"item {_short(key)} of {kind}", item
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(list(value)):
            yield f"item {index} of {kind}", item
    elif isinstance(value, FunctionType):
        yield from _function_parts(value)
    elif inspect.ismethod(value):
        yield f"the object of method {value.__func__.__qualname__}", value.__self__
    for name, attribute in _attributes(value):
        yield f"attribute {name!r} of {kind}", attribute


def _function_parts(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield f"variable {name!r} of {function.__qualname__}", cell.cell_contents
        except ValueError:
            continue  # not bound yet
    for index, default in enumerate(function.__defaults__ or ()):
        yield f"default {index} of {function.__qualname__}", default


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, type | ModuleType):
        return
    yield from list(getattr(value, "__dict__", {}).items())
    for base in type(value).__mro__:
        slots = vars(base).get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if name not in ("__dict__", "__weakref__") and hasattr(value, name):
                yield name, getattr(value, name)


def _short(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 40 else text[:37] + "..."

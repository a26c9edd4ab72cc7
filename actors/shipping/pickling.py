"""Values, and what tasks raise, to payloads and back. Three ways for a value, each tried when the one before fails.

Plain C pickle (2 us); C pickle that asks by_value.py how each thing is to go; dill, which tells the culprit (culprits.py).
"""

import copyreg
import io
import logging
import pickle
import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

from dispycos.errors import RemoteError
from dispycos.protocol.codec import BUFFERS_MAX, TRANSFER_MAX
from dispycos.protocol.envelope import Payload, bytes_of

from .by_value import PROTOCOL, BufferCallback, Names
from .words import MissingCode, ShippingError

OUT_OF_BAND_MIN = 16 << 10
OUT_OF_BAND_MAX = BUFFERS_MAX - 1  # buffers, beside the stream
COPIED_MAX = 1 << 20  # bytes of a call up to which its buffers are copied when it is submitted
DRAWS = b"\x06Random", b"numpy.random._pickle"  # in the pickle of a generator of random numbers
LINKS = ("__cause__", "__context__", "__suppress_context__", "__notes__")
log = logging.getLogger(__name__)
LINKED_MAX = 100  # errors of a chain: pickling nests with each


def dumps(value: Any, what: str = "the value") -> Payload:
    """Raises NotPicklable naming the culprit; `what` is the value's name in that text."""
    return _bounded(_dumps(value, what), what)


def dumps_call(
    function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], *, by_name: bool = False
) -> Payload:
    """The payload of (function, args, kwargs), or of (None, args, kwargs) `by_name`; an error names the argument."""
    return _bounded(_dumps((None if by_name else function, args, kwargs), function), "the call")


def loads(payload: Payload) -> Any:
    """What was pickled. Whoever gets an array may write into it: frames of bytes are copied, chunks were put together here."""
    stream: Any = payload or b""
    own: Any = ()
    if isinstance(payload, list):
        stream = payload[0]
        own = [frame if isinstance(frame, bytearray) else bytearray(frame) for frame in payload[1:]]
    try:
        return pickle.loads(stream, buffers=own)
    except AttributeError as error:
        why = error.__context__  # Python 3.14 raises its own error for whatever stops it in a dotted name
        if isinstance(why, MissingCode | ShippingError):
            raise why from None
        raise
    except TypeError:
        try:  # an exception in it, perhaps, that is not to be made from its args
            return Rebuilder(io.BytesIO(stream), buffers=own).load()
        except Exception:  # edge of user code: the first error tells
            pass
        raise


def kept_as_it_is(call: Payload, *, whole: bool) -> Payload:
    """A call that may be sent again is to be the same then: its buffers are copied, large ones only if `whole`."""
    if not isinstance(call, list):
        return call
    is_large = bytes_of(call) > COPIED_MAX
    return call if is_large and not whole else [bytes(buffer) for buffer in call]


def _bounded(payload: Payload, what: str) -> Payload:
    size = bytes_of(payload)
    if size > TRANSFER_MAX:
        raise ValueError(f"{what} has {size:,} bytes; a message takes at most {TRANSFER_MAX:,}")
    return payload


def _dumps(value: Any, what: Any) -> Payload:
    buffers: list[pickle.PickleBuffer] = []
    try:
        stream = pickle.dumps(value, PROTOCOL, buffer_callback=buffers.append)
        if isinstance(what, str) or not any(mark in stream for mark in DRAWS):
            return stream if not buffers else _with_large_buffers(value)
    except Exception:  # edge of user code (__reduce__, __getstate__): the slow ways tell
        pass
    large, names = LargeBuffers(), Names(sys.modules["__main__"])
    payload = large.payload(dumps_slowly(value, names, what, large))
    if not isinstance(what, str):
        for generator in names.generators:
            repeated.look_at(generator, what)
    return payload


class Repeated:
    """Tells, once, of a generator of random numbers that goes to several calls as it is: Python's own map() would use it up."""

    def __init__(self) -> None:
        self._last: Any = None
        self._state: Any = None
        self._is_told = False

    def look_at(self, generator: Any, function: Any) -> None:
        if self._is_told:
            return
        last, before = self._last, self._state
        self._last, self._state = generator, pickle.dumps(generator, PROTOCOL)
        if generator is last and self._state == before:
            self._is_told, self._last, self._state = True, None, None
            log.warning(
                "calls of %s get copies of one generator of random numbers (%s), and draw the same: "
                "give each call a seed of its own (numpy: rng.spawn(n))",
                getattr(function, "__name__", type(function).__name__),
                type(generator).__name__,
            )


repeated = Repeated()


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
        return [stream, *(buffer.raw() for buffer in self)] if self else stream


class NamingPickler(pickle.Pickler):
    """C pickle that finds names, and takes apart what has none."""

    def __init__(self, file: io.BytesIO, names: Names, buffers: BufferCallback | None = None) -> None:
        super().__init__(file, PROTOCOL, buffer_callback=buffers)
        self._names = names

    def reducer_override(self, thing: Any) -> Any:
        return self._names.reduce(thing)


def dumps_naming(value: Any, names: Names, buffers: BufferCallback | None = None) -> bytes:
    """What it makes use of is noted in names; raises what pickle and user code raise."""
    file = io.BytesIO()
    NamingPickler(file, names, buffers).dump(value)
    return file.getvalue()


def dumps_slowly(value: Any, names: Names, what: Any, large: LargeBuffers | None = None) -> bytes:
    """Raises NotPicklable; `what` is the value's name, or the function of which it is a call."""
    try:
        return dumps_naming(value, names, large)
    except Exception as error:  # edge of user code
        refused = error.with_traceback(None)  # this frame in it were a cycle, and kept the callers' objects
    from .culprits import dumps_by_dill

    if large:
        large.clear()  # it is all pickled again
    return dumps_by_dill(value, names, refused, what, large)


# --- exceptions ---
# Python pickles an exception as its class and its `args`, which are what its constructor gave to Exception's and not what it
# was called with: made again so, it fails, or says things twice. Here the constructor is left out, as object.__reduce_ex__
# leaves it out for all other objects. Who has a __reduce__ is asked.


class Travelling:
    """Stands for an exception while it is pickled; what is unpickled is the exception.

    Its causes, the parts of a group and other exceptions in it come along in the same way. `spare` gives what travels for
    one of those that cannot. Attributes that are not `fit` stay where they are, and a note says so.
    """

    def __init__(
        self,
        error: BaseException,
        spare: Callable[[BaseException], BaseException] | None = None,
        known: dict[int, "Travelling"] | None = None,
        fit: Callable[[Any], bool] | None = None,
    ) -> None:
        self.error = error
        self._spare = spare
        self._fit = fit
        self._known = {} if known is None else known
        self._known[id(error)] = self

    def __reduce__(self) -> tuple[Any, ...]:
        error = self.error
        reducer = copyreg.dispatch_table.get(type(error))
        told = reducer(error) if reducer is not None else error.__reduce_ex__(PROTOCOL)
        make, args, state, items, pairs, setter = (*told, None, None, None, None)[:6]
        slots: dict[str, Any] = {}
        if reducer is None and is_built_otherwise(type(error)):
            make, args = make_bare, (type(error), error.args, _native_args(error, args))
            slots = _slots_of(error)
        are_many = len(self._known) > LINKED_MAX
        links = (
            {}
            if are_many
            else {n: self._with(v) for n in LINKS if (v := getattr(error, n, None)) is not None}
        )
        if isinstance(state, dict):
            state, left = self._light(state)
            if left:
                links["__notes__"] = [
                    *links.get("__notes__", ()),
                    f"without {', '.join(left)}, which cannot be pickled",
                ]
        return make, tuple(map(self._with, args)), (state, slots, setter, links), items, pairs, fill_error

    def _light(self, state: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """What of its attributes travels, and the names of the others."""
        kept = {name: self._with(value) for name, value in state.items() if name not in LINKS}
        fit = self._fit or (lambda _: True)
        left = [name for name, value in kept.items() if value is state[name] and not fit(value)]
        return {name: value for name, value in kept.items() if name not in left}, left

    def _with(self, value: Any) -> Any:
        """The same, with exceptions in it travelling as this one does."""
        if isinstance(value, BaseException):
            return self._known.get(id(value)) or self._other(value)
        if type(value) in (list, tuple) and any(
            isinstance(item, BaseException | list | tuple) for item in value
        ):
            return type(value)(map(self._with, value))
        return value

    def _other(self, error: BaseException) -> Any:
        if self._spare is not None:
            error = self._spare(error)
        return Travelling(error, self._spare, self._known, self._fit)


def is_built_otherwise(kind: type) -> bool:
    """Its constructor is the user's, and it does not say how it is to be made."""
    if not issubclass(kind, BaseException) or _is_python(kind, "__reduce__", "__reduce_ex__"):
        return False
    return _is_python(kind, "__init__", "__new__")


def _is_python(kind: type, *methods: str) -> bool:
    own = (vars(base).get(method) for base in kind.__mro__ for method in methods)
    return any(isinstance(method, FunctionType | staticmethod) for method in own)


def _native_args(error: BaseException, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """What the class written in C, on which it rests, was called with."""
    if isinstance(error, BaseExceptionGroup):
        return error.message, error.exceptions
    return args


def _slots_of(error: BaseException) -> dict[str, Any]:
    state = object.__getstate__(error)
    return state[1] if isinstance(state, tuple) else {}


def make_bare(
    kind: type[BaseException], args: tuple[Any, ...], native_args: tuple[Any, ...]
) -> BaseException:
    if isinstance(kind, partial):  # a second try: see ErrorRebuilder
        made: BaseException = kind(*native_args)
        return made
    native: Any = kind
    while not isinstance(vars(native).get("__new__"), BuiltinFunctionType):
        native = native.__base__
    error: BaseException = native.__new__(kind, *native_args)
    native.__init__(error, *native_args)
    object.__setattr__(error, "args", args)
    return error


def fill_error(error: BaseException, filling: tuple[Any, dict[str, Any], Any, dict[str, Any]]) -> None:
    """Not by setattr(): a dataclass may be frozen."""
    state, slots, setter, links = filling
    if setter is not None:
        setter(error, state)
    elif state is not None and _is_python(type(error), "__setstate__"):
        error.__setstate__(state)
    else:
        slots = {**(state or {}), **slots}
    for name, value in (slots | links).items():
        object.__setattr__(error, name, value)


class Unfound(RemoteError):
    """Stands for an exception whose class is not here, where it belongs to one whose class is."""


class Rebuilder(pickle.Unpickler):
    """For values whose exceptions could not be made again by their constructors."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        return partial(_bare, found) if isinstance(found, type) and is_built_otherwise(found) else found


class ErrorRebuilder(Rebuilder):
    """For exceptions, some of whose causes or parts are of classes that are not here."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return partial(_unfound, f"{module}.{name}")


def _bare(kind: type[BaseException], *args: Any) -> BaseException:
    return make_bare(kind, args, args)


def _unfound(kind: str, *args: Any) -> Unfound:
    return Unfound(f"{kind}: {', '.join(map(repr, args))} (it cannot be rebuilt here)", kind)
